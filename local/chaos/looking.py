"""What is looked at when a run has come to rest: the cluster is as the command wanted it, and nothing is lost."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import yaml

from local.chaos.owner import Owner
from local.chaos.plan import Where
from local.cluster.api import Api, Object

_SYSTEM: Final = "/api/v1/namespaces/kube-system"
_PROXY: Final = "kube-system/kube-proxy"
_LEASE: Final = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-proxy-replacement"
_AGENTS: Final = "/apis/apps/v1/namespaces/kube-system/daemonsets/cilium"
_NODE_CONFIGS: Final = "/apis/cilium.io/v2/namespaces/kube-system/ciliumnodeconfigs"
_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.5
_EXEC_SECONDS: Final = 20.0

_PASSING: Final = (
    "Event ",
    "Event.events.k8s.io ",
    "Lease.coordination.k8s.io ",
    "ComponentStatus ",
    "IPAddress.networking.k8s.io ",
    "Pod ",
    "Endpoints ",
    "EndpointSlice.discovery.k8s.io ",
    "ReplicaSet.apps ",
    "ControllerRevision.apps ",
)
"""What a living cluster makes and removes by itself."""
_MADE_ANEW: Final = tuple(
    f"Secret kube-system/{name}" for name in ("cilium-ca", "hubble-server-certs", "hubble-relay-client-certs")
)
"""Certificates that the chart makes anew in each upgrade."""
_STATUS_MOVES: Final = ("Node ", "DaemonSet.apps ", "Deployment.apps ")
_COUNTERS: Final = ("deprecated.daemonset.template.generation", "deployment.kubernetes.io/revision")
_SERVER_SIDE: Final = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink")

Objects = dict[str, Object]
"""By «KIND NAMESPACE/NAME»."""


def objects(api: Api) -> Objects:
    """Every object that stays, with what somebody has written in it."""
    found: Objects = {}
    for path, kind in _collections(api):
        if f"{kind} " in _PASSING:
            continue
        for item in api.get(path)["items"]:
            metadata = item["metadata"]
            found[f"{kind} {metadata.get('namespace', '')}/{metadata['name']}"] = _content(kind, item)
    return found


class Looker:
    """Looks at one cluster.

    Args:
        owner: who ran Cilium before, None where nobody.
        nodes: the names of its nodes.
    """

    def __init__(self, api: Api, kubectl: Path, kubeconfig: Path, nodes: frozenset[str], owner: Owner | None) -> None:
        self._api = api
        self._kubectl = [str(kubectl), f"--kubeconfig={kubeconfig}", f"--cache-dir={kubeconfig.parent / 'kubectl'}"]
        self._owner = owner
        self._before = objects(api)
        self._nodes = nodes

    def problems(self, where: Where) -> list[str]:
        """What isn't so, in words; [] where all is. What needs a moment (pods that end) is given it."""
        deadline = time.monotonic() + _SECONDS
        while True:
            found = [*self._agents(where), *self._objects(where), *self._left_over(where)]
            if not found:
                found = self._kernels(where)
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(_POLL_SECONDS)

    def _objects(self, where: Where) -> Iterator[str]:
        """Nothing of others' is lost or changed, and kube-proxy is there or gone as the mode says."""
        before, now = self._lasting(where, self._before), self._lasting(where, objects(self._api))
        gone = {f"DaemonSet.apps {_PROXY}", f"ConfigMap {_PROXY}"} if where == "replace" else set()
        for key in sorted(before.keys() - now.keys() - gone):
            yield f"{key} is gone"
        for key in sorted(gone & now.keys()):
            yield f"{key} is there"
        for key in sorted(now.keys() - before.keys()):
            yield f"{key} has come"
        for key in sorted(now.keys() & before.keys()):
            was, its = before[key], now[key]
            if where == "replace" and key == "ConfigMap kube-system/kubeadm-config":
                was, its = _without_proxy(was), _without_proxy(its)
                if not _disabled(now[key]):
                    yield "kubeadm-config doesn't say proxy.disabled"
            if was != its:
                yield f"{key} isn't as it was: {', '.join(_paths(was, its))}"

    def _lasting(self, where: Where, its: Objects) -> Objects:
        return {key: item for key, item in its.items() if not self._passes(where, key, item)}

    def _passes(self, where: Where, key: str, item: Object) -> bool:
        """Whether an object isn't looked at: Cilium's own, but where it is to be as its owner had it."""
        if _is_api(key):
            return True
        if where != "fresh":
            return _is_ciliums(key, item)
        helms = (item["metadata"].get("labels") or {}).get("owner") == "helm"
        return self._owner is not None and (helms or key in _MADE_ANEW)

    def _agents(self, where: Where) -> Iterator[str]:
        if self._owner:
            yield from self._owner.problems(put_back=where == "fresh")
        if where == "fresh":
            return
        config = (self._api.find(f"{_SYSTEM}/configmaps/cilium-config") or {}).get("data") or {}
        wanted = "true" if where == "replace" else "false"
        if config.get("kube-proxy-replacement") != wanted:
            yield f"cilium-config says kube-proxy-replacement: {config.get('kube-proxy-replacement')}"
        newest = max(self._releases(), default=(0, "none"))
        if newest[1] != "deployed":
            yield f"the newest revision of the release is {newest[1]} (revision {newest[0]})"
        ready = {node for node, pod in self._pods("cilium").items() if _is_ready(pod)}
        if left := self._nodes - ready:
            yield f"no ready agent on {', '.join(sorted(left))}"

    def _releases(self) -> list[tuple[int, str]]:
        items = self._api.get(f"{_SYSTEM}/secrets?labelSelector=owner%3Dhelm%2Cname%3Dcilium")["items"]
        return [(int(its["metadata"]["labels"]["version"]), its["metadata"]["labels"]["status"]) for its in items]

    def _left_over(self, where: Where) -> Iterator[str]:
        lease = self._api.find(_LEASE)
        if lease and (where == "fresh" or lease["spec"].get("holderIdentity")):
            yield f"the lock is there: {lease['spec'].get('holderIdentity') or 'given up'}"
        for pod in self._api.get(f"{_SYSTEM}/pods?labelSelector=kube-proxy-replacement%2Ftask")["items"]:
            yield f"pod {pod['metadata']['name']} is left over"
        for config in (self._api.find(_NODE_CONFIGS) or {}).get("items") or []:
            yield f"CiliumNodeConfig {config['metadata']['name']} is left over"
        daemonset = self._api.find(_AGENTS)
        if daemonset and (held := daemonset["spec"]["updateStrategy"]["type"]) != "RollingUpdate":
            yield f"the agents' update strategy is {held}"

    def _kernels(self, where: Where) -> list[str]:
        """On every node, kube-proxy's rules are there or gone, and the agent says whether it replaces it."""
        readers = self._pods("kube-proxy" if where == "fresh" else "cilium")

        def look(node: str) -> list[str]:
            pod = readers[node]["metadata"]["name"]
            rules = self._said(pod, "iptables-save")
            found = []
            if ("KUBE-SVC-" in rules) is (where == "replace"):
                found.append(f"{node}: kube-proxy's rules are {'still ' if where == 'replace' else 'not '}there")
            if where != "fresh":
                status = self._said(pod, "cilium-dbg", "status")
                words = next((line.split() for line in status.splitlines() if "KubeProxyReplacement:" in line), [])
                if words[1:2] != [str(where == "replace")]:
                    found.append(f"{node}: its agent says «{' '.join(words)}»")
            return found

        if missing := self._nodes - readers.keys():
            return [f"no pod to look into on {', '.join(sorted(missing))}"]
        with ThreadPoolExecutor(len(self._nodes)) as pool:
            return [line for lines in pool.map(look, sorted(self._nodes)) for line in lines]

    def _pods(self, app: str) -> dict[str, Object]:
        items = self._api.get(f"{_SYSTEM}/pods?labelSelector=k8s-app%3D{app}")["items"]
        return {pod["spec"].get("nodeName", ""): pod for pod in items if "deletionTimestamp" not in pod["metadata"]}

    def _said(self, pod: str, *command: str) -> str:
        done = subprocess.run(
            [*self._kubectl, "--namespace=kube-system", "exec", pod, "--", *command],
            capture_output=True,
            text=True,
            timeout=_EXEC_SECONDS,
            check=False,
        )
        return done.stdout if done.returncode == 0 else f"(exit code {done.returncode}: {done.stderr.strip()[:200]})"


def _collections(api: Api) -> Iterator[tuple[str, str]]:
    """The path and the kind of everything that can be listed, in each group's preferred version."""
    roots = ["/api/v1"]
    roots += [f"/apis/{group['preferredVersion']['groupVersion']}" for group in api.get("/apis")["groups"]]
    for root in roots:
        group = root.removeprefix("/apis/").rpartition("/")[0] if root.startswith("/apis/") else ""
        for resource in api.get(root)["resources"]:
            if "list" in resource["verbs"]:
                yield f"{root}/{resource['name']}", f"{resource['kind']}.{group}" if group else resource["kind"]


def _content(kind: str, item: Object) -> Object:
    metadata = {name: value for name, value in item["metadata"].items() if name not in _SERVER_SIDE}
    annotations = metadata.pop("annotations", {})
    metadata["annotations"] = {name: value for name, value in annotations.items() if name not in _COUNTERS}
    left_out = ("metadata", "status") if f"{kind} " in _STATUS_MOVES else ("metadata",)
    return {name: value for name, value in item.items() if name not in left_out} | {"metadata": metadata}


def _is_api(key: str) -> bool:
    """Of Cilium's CustomResourceDefinitions: its operator makes them, and no uninstall takes them away."""
    kind, _, name = key.partition(" ")
    return kind.partition(".")[0] in ("CustomResourceDefinition", "APIService") and name.endswith(".cilium.io")


def _is_ciliums(key: str, item: Object) -> bool:
    """What the release has installed, Helm's own Secrets, and the program's record."""
    notes: dict[str, str] = item["metadata"].get("annotations") or {}
    labels: dict[str, str] = item["metadata"].get("labels") or {}
    return (
        notes.get("meta.helm.sh/release-name") == "cilium"
        or labels.get("owner") == "helm"
        or key.partition(" ")[2] == "kube-system/kube-proxy-replacement"
        or "cilium" in key
        or "hubble" in key
    )


def _cluster_configuration(item: Object) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((item.get("data") or {}).get("ClusterConfiguration") or "{}")
    return parsed


def _disabled(item: Object) -> bool:
    return (_cluster_configuration(item).get("proxy") or {}).get("disabled") is True


def _without_proxy(item: Object) -> Object:
    configuration = {key: value for key, value in _cluster_configuration(item).items() if key != "proxy"}
    return item | {"data": item.get("data", {}) | {"ClusterConfiguration": configuration}}


def _paths(old: Any, new: Any, at: str = "") -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from _paths(old.get(key), new.get(key), f"{at}.{key}" if at else str(key))
    elif old != new:
        yield at


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(its["type"] == "Ready" and its["status"] == "True" for its in conditions)
