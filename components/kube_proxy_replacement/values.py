"""The Helm values: the cluster's pod addresses, the user's own values over them, the procedure's over all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import chart
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


def own_values(settings: Settings, host: str, port: int) -> dict[str, Any]:
    """What the procedure itself sets, in either mode; a user's value may not contradict it."""
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
        "hubble": {"enabled": settings.hubble},
    }
    if replace:
        address = f"[::]:{HEALTH_PORT}" if ":" in host else f"0.0.0.0:{HEALTH_PORT}"
        values["kubeProxyReplacementHealthzBindAddr"] = address
        balancer = {key: value for key, value in settings.load_balancer.items() if key != "sessionAffinity"}
        if balancer:
            values["loadBalancer"] = balancer
        if "sessionAffinity" in settings.load_balancer:
            values["sessionAffinity"] = settings.load_balancer["sessionAffinity"]
        if settings.keep_connections is not False and chart.switch(settings.values, *_HOST_NAMESPACE_ONLY) is None:
            # an owner who says it past the chart's values (extraConfig) would have it twice in cilium-config
            values["socketLB"] = {"hostNamespaceOnly": True}
    return values


def keeps_connections(settings: Settings, defaults: Mapping[str, Any]) -> bool:
    """Whether agents that replace kube-proxy leave pods' calls to ClusterIPs to be translated packet by packet.

    As in `coexist`, so pods' open connections live through the change. With eBPF at the pods' sockets (the chart's
    default) an address is translated once, when a connection is made: one that was made before is translated no more.

    Args:
        defaults: the chart's own values.
    """
    said = chart.switch(settings.values, *_HOST_NAMESPACE_ONLY)
    if said is None:
        return settings.keep_connections is not False or bool(chart.switch(defaults, *_HOST_NAMESPACE_ONLY))
    return said


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two trees of values, as Helm merges them: maps key by key, anything else replaced."""
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def agent_image(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """The agent's image as the chart's template `cilium.image` writes it."""
    image = merged(defaults.get("image") or {}, values.get("image") or {})
    override, repository, tag, digest, use_digest = (image.get(key) for key in _IMAGE_KEYS)
    if override:
        return str(override)
    return f"{repository}{f':{tag}' if tag else ''}{f'@{digest}' if use_digest and digest else ''}"
