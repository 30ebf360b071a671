"""kube-proxy as it is on the cluster: its DaemonSet and its ConfigMap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import yaml

from .api import Api, Object
from .errors import ProcedureError

NAMESPACE = "kube-system"
NAME = "kube-proxy"
DAEMONSET = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/{NAME}"
CONFIGMAP = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{NAME}"

ProxyMode = Literal["iptables", "ipvs", "nftables"]


@dataclass(frozen=True)
class KubeProxy:
    """What is there of kube-proxy; both None on a cluster without it.

    Attributes:
        daemonset, configmap: the objects `kube-system/kube-proxy`, or None.
    """

    daemonset: Object | None
    configmap: Object | None

    @property
    def present(self) -> bool:
        return self.daemonset is not None or self.configmap is not None

    @property
    def mode(self) -> ProxyMode:
        return mode_of(self.daemonset, self.configmap)


class StaticPodsError(ProcedureError):
    """kube-proxy runs from files on the nodes."""


def find(api: Api) -> KubeProxy:
    """Raises ProcedureError where what runs isn't one DaemonSet `kube-system/kube-proxy`; for static pods
    StaticPodsError.
    """
    daemonsets = [item for item in api.list("/apis/apps/v1/daemonsets") if _runs_kube_proxy(item)]
    own = next((d for d in daemonsets if _name(d) == f"{NAMESPACE}/{NAME}"), None)
    others = [_name(d) for d in daemonsets if d is not own]
    if own and others:
        raise ProcedureError(
            f"There are two kube-proxies: DaemonSet {NAMESPACE}/{NAME} and {', '.join(others)}. Which of them "
            "routes Services can't be told from here. Nothing was changed. Remove the one that isn't used, then "
            "run again."
        )
    if others:
        raise ProcedureError(
            f"kube-proxy runs under another name: DaemonSet {', '.join(others)}. This program removes and restores "
            f"{NAMESPACE}/{NAME} only, and has changed nothing."
        )
    static = [
        _name(pod)
        for selector in ("k8s-app=kube-proxy", "component=kube-proxy")
        for pod in api.list(f"/api/v1/namespaces/{NAMESPACE}/pods", labelSelector=selector)
        if "kubernetes.io/config.mirror" in (pod["metadata"].get("annotations") or {})
    ]
    if static:
        raise StaticPodsError(
            f"kube-proxy runs as static pods ({', '.join(sorted(set(static))[:5])}), from files on the nodes: it "
            "can't be removed through the API. Nothing was changed. Switch it off in the distribution's own "
            "configuration."
        )
    # read alone: the items of a list don't say their kind, and a backup without it can't be created again
    return KubeProxy(daemonset=api.find(DAEMONSET) if own else None, configmap=api.find(CONFIGMAP))


def mode_of(daemonset: Object | None, configmap: Object | None) -> ProxyMode:
    """From the DaemonSet's `--proxy-mode`, which wins, else the configuration's `mode`; "" is iptables on Linux."""
    mode = _flag(daemonset, "--proxy-mode") or str(configuration(configmap).get("mode") or "")
    if mode == "ipvs":
        return "ipvs"
    return "nftables" if mode == "nftables" else "iptables"


def excluded_cidrs(daemonset: Object | None, configmap: Object | None) -> list[str]:
    """Where kube-proxy in mode ipvs leaves others' virtual servers alone; [] says that it deletes them all."""
    said = (configuration(configmap).get("ipvs") or {}).get("excludeCIDRs") or []
    return [*map(str, said), *filter(None, _flag(daemonset, "--ipvs-exclude-cidrs").split(","))]


def configuration(configmap: Object | None) -> Object:
    """The KubeProxyConfiguration in the ConfigMap, {} where there is none that can be read."""
    for text in ((configmap or {}).get("data") or {}).values():
        try:
            parsed = yaml.safe_load(text)
        except yaml.YAMLError:
            continue
        if isinstance(parsed, dict) and parsed.get("kind") == "KubeProxyConfiguration":
            return parsed
    return {}


def container(daemonset: Object) -> Object:
    """kube-proxy's own container in its DaemonSet."""
    containers = daemonset["spec"]["template"]["spec"]["containers"]
    return next((dict(c) for c in containers if c.get("name") == NAME), dict(containers[0]))


def _flag(daemonset: Object | None, name: str) -> str:
    if daemonset is None:
        return ""
    its = container(daemonset)
    words = [str(word) for word in [*(its.get("command") or []), *(its.get("args") or [])]]
    for position, word in enumerate(words):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name and position + 1 < len(words):
            return words[position + 1]
    return ""


def _runs_kube_proxy(daemonset: Object) -> bool:
    template = daemonset["spec"]["template"]
    selector = template["spec"].get("nodeSelector") or {}
    if selector.get("kubernetes.io/os") == "windows":
        return False
    if _name(daemonset) == f"{NAMESPACE}/{NAME}":
        return True
    if (template["metadata"].get("labels") or {}).get("k8s-app") == NAME:
        return True
    return any(
        str(word).rsplit("/", 1)[-1] == NAME
        for its in template["spec"]["containers"]
        for word in (its.get("command") or [])[:1]
    )


def _name(item: Object) -> str:
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"
