"""Where the user's values stand, and which value of the chart each of them comes to.

The agent's options can be given past the chart's own values, by `extraConfig`, `extraArgs` and
`extraEnv`: what contradicts the mode as a value contradicts it there as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from .known import dotted

Path: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Sighting:
    """A value where the user wrote it, and the value of the chart that it comes to.

    Attributes:
        shown: where it was written, dotted: «extraConfig.kube-proxy-replacement».
        path: which value of the chart it comes to: ("kubeProxyReplacement",).
        value: what it makes of that.
        written: what the user wrote there: a whole argument or variable, or the value itself.
    """

    shown: str
    path: Path
    value: Any
    written: Any


_OPTIONS: dict[str, Path] = {
    "bpf-lb-acceleration": ("loadBalancer", "acceleration"),
    "bpf-lb-algorithm": ("loadBalancer", "algorithm"),
    "bpf-lb-mode": ("loadBalancer", "mode"),
    "bpf-lb-sock": ("socketLB", "enabled"),
    "bpf-lb-sock-hostns-only": ("socketLB", "hostNamespaceOnly"),
    "clean-cilium-bpf-state": ("cleanBpfState",),
    "clean-cilium-state": ("cleanState",),
    "datapath-mode": ("bpf", "datapathMode"),
    "enable-bpf-masquerade": ("bpf", "masquerade"),
    "enable-external-ips": ("externalIPs", "enabled"),
    "enable-host-port": ("hostPort", "enabled"),
    "enable-hubble": ("hubble", "enabled"),
    "enable-node-port": ("nodePort", "enabled"),
    "enable-session-affinity": ("sessionAffinity",),
    "install-no-conntrack-iptables-rules": ("installNoConntrackIptablesRules",),
    "k8s-api-server": ("k8s", "apiServerURLs"),
    "k8s-api-server-urls": ("k8s", "apiServerURLs"),
    "k8s-kubeconfig-path": ("kubeConfigPath",),
    "kube-proxy-replacement": ("kubeProxyReplacement",),
    "kube-proxy-replacement-healthz-bind-address": ("kubeProxyReplacementHealthzBindAddr",),
}
"""The agent's options (`extraConfig`, `extraArgs`) that say the same as a value of the chart."""

_VARIABLES: dict[str, Path] = {
    "KUBERNETES_SERVICE_HOST": ("k8sServiceHost",),
    "KUBERNETES_SERVICE_PORT": ("k8sServicePort",),
}


def sightings(values: Mapping[str, Any], above: Path = ()) -> Iterator[Sighting]:
    """Every single value of the setting `values`, in its order."""
    for key, value in values.items():
        path = (*above, str(key))
        if isinstance(value, Mapping) and value:
            yield from sightings(value, path)
        elif path == ("extraArgs",):
            yield from _arguments(value)
        elif path == ("extraEnv",):
            yield from _environment(value)
        else:
            meant = _OPTIONS.get(path[1], path) if len(path) == 2 and path[0] == "extraConfig" else path
            yield Sighting(dotted(path), meant, value, value)


def switch(values: Mapping[str, Any], *path: str) -> bool | None:
    """What the setting `values` makes of a switch of the chart, wherever it says so; None where it says nothing."""
    said = [truth(its.value) for its in sightings(values) if its.path == path]
    return said[-1] if said else None


def truth(value: Any) -> bool | None:
    """A switch, as a bool or as text; None for anything else."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else None


def _arguments(value: Any) -> Iterator[Sighting]:
    for argument in value if isinstance(value, list) else ():
        name, given, text = str(argument).removeprefix("--").partition("=")
        if name in _OPTIONS:
            yield Sighting("extraArgs", _OPTIONS[name], text if given else "true", argument)


def _environment(value: Any) -> Iterator[Sighting]:
    for variable in value if isinstance(value, list) else ():
        name = variable.get("name") if isinstance(variable, Mapping) else None
        if isinstance(name, str) and name in _VARIABLES:
            yield Sighting("extraEnv", _VARIABLES[name], variable.get("value"), variable)
