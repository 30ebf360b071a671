"""The Helm values: the cluster's pod addresses, the user's own values over them, the procedure's over all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import chart
from .cluster.trees import merged
from .settings import Settings

HEALTH_PORT = 10256
"""kube-proxy's health port, which cloud load balancers ask; in replace mode the agents answer there."""

_HOST_NAMESPACE_ONLY = ("socketLB", "hostNamespaceOnly")

_IMAGE_KEYS = ("override", "repository", "tag", "digest", "useDigest")


def helm_values(settings: Settings, host: str, port: int, pod_addresses: Mapping[str, Any]) -> dict[str, Any]:
    """All values of the Release.

    Args:
        host, port: the API server's address that agents are given.
        pod_addresses: Helm values for the pod addresses that the cluster already uses, {} where Cilium
            was there before.
    """
    return merged(merged(pod_addresses, settings.values), own_values(settings, host, port))


def own_values(settings: Settings, host: str, port: int, owner: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the procedure itself sets, in either mode; a user's value may not contradict it.

    Args:
        owner: an adopted release's values as its owner has set them; None where the release is this program's own.
    """
    replace = settings.mode == "replace"
    values: dict[str, Any] = {
        # text, not a boolean: Cilium 1.15 knows more words than two
        "kubeProxyReplacement": "true" if replace else "false",
        "k8sServiceHost": host,
        "k8sServicePort": str(port),
        # a changed ConfigMap reaches an agent only by a restart
        "rollOutCiliumPods": True,
        "operator": {"rollOutPods": True},
        "envoy": {"rollOutPods": True},
    }
    if owner is None or settings.hubble is not None:
        values["hubble"] = {"enabled": settings.hubble is not False}
    if replace:
        address = f"[::]:{HEALTH_PORT}" if ":" in host else f"0.0.0.0:{HEALTH_PORT}"
        values["kubeProxyReplacementHealthzBindAddr"] = address
        balancer = {key: value for key, value in settings.load_balancer.items() if key != "sessionAffinity"}
        if balancer:
            values["loadBalancer"] = balancer
        if "sessionAffinity" in settings.load_balancer:
            values["sessionAffinity"] = settings.load_balancer["sessionAffinity"]
        kept = _kept(settings, owner or {})
        if kept is not None:
            values["socketLB"] = {"hostNamespaceOnly": kept}
    elif owner and owner.get("kubeProxyReplacementHealthzBindAddr"):
        values["kubeProxyReplacementHealthzBindAddr"] = ""  # kube-proxy's, while it is there
    return values


def _kept(settings: Settings, owner: Mapping[str, Any]) -> bool | None:
    """What the procedure makes of `socketLB.hostNamespaceOnly`; None leaves it as it is."""
    if chart.switch(settings.values, *_HOST_NAMESPACE_ONLY) is not None:
        return None  # one who says it past the chart's values (extraConfig) would have it twice in cilium-config
    said = chart.switch(owner, *_HOST_NAMESPACE_ONLY)
    if settings.keep_connections is None:
        # turned on under agents that replace kube-proxy already, it breaks what it is to keep
        replaces = chart.truth(owner.get("kubeProxyReplacement")) is True
        return True if said is None and not replaces else None
    if settings.keep_connections:
        return None if said is True else True
    return False if said is True else None


def keeps_connections(settings: Settings, defaults: Mapping[str, Any], owner: Mapping[str, Any] | None = None) -> bool:
    """Whether agents that replace kube-proxy leave pods' calls to ClusterIPs to be translated packet by packet.

    As in `coexist`, so pods' open connections live through the change. With eBPF at the pods' sockets (the chart's
    default) an address is translated once, when a connection is made: one that was made before is translated no more.

    Args:
        defaults: the chart's own values; owner: as for `own_values`.
    """
    for said in (
        chart.switch(settings.values, *_HOST_NAMESPACE_ONLY),
        _kept(settings, owner or {}),
        chart.switch(owner or {}, *_HOST_NAMESPACE_ONLY),
    ):
        if said is not None:
            return said
    return bool(chart.switch(defaults, *_HOST_NAMESPACE_ONLY))


def agent_image(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """The agent's image as the chart's template `cilium.image` writes it."""
    image = merged(defaults.get("image") or {}, values.get("image") or {})
    override, repository, tag, digest, use_digest = (image.get(key) for key in _IMAGE_KEYS)
    if override:
        return str(override)
    return f"{repository}{f':{tag}' if tag else ''}{f'@{digest}' if use_digest and digest else ''}"
