"""What each value would do to the switch-over, or to what another setting says.

What an option does is from Cilium's own source (chart templates; pkg/kpr, daemon/cmd and
pkg/kpr/initializer of the agent), versions 1.16 to 1.20.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from . import versions
from .address import split
from .sightings import truth

Mode: TypeAlias = Literal["coexist", "replace"]
Path: TypeAlias = tuple[str, ...]

HEALTH_PORT = 10256
"""Where load balancers ask a node for its health: kube-proxy's port, and the agent's in `replace`."""


@dataclass(frozen=True)
class Settings:
    """What values are judged against; the fields are described at `conflicts.contradictions`."""

    mode: Mode
    base: Mapping[str, Any]
    values: Mapping[str, Any]
    version: str | None
    api_server_host: str | None
    api_server_port: int | None
    load_balancer: Mapping[str, Any]
    hubble: bool | None
    keep_connections: bool | None
    namespace: str

    def effective(self, *path: str) -> Any:
        """What applies: the user's value, else the one below it; None where neither says anything."""
        for values in (self.values, self.base):
            found: Any = values
            for name in path:
                found = found.get(name) if isinstance(found, Mapping) else None
            if found is not None:
                return found
        return None

    def older_than(self, major: int, minor: int) -> bool:
        """Whether the chart is known to be older than a minor version."""
        key = versions.order(self.version or "")
        return key is not None and key[:2] < (major, minor)


Rule: TypeAlias = Callable[[Any, Settings], str | None]
"""Takes a value; gives the rest of a message that begins with it, or None where it may stand."""


def literal(value: Any) -> str:
    """A value as messages show it, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 120 else f"{text[:120]}…"


def _blank(value: Any) -> bool:
    return value is None or value == ""


def _replacement(value: Any, settings: Settings) -> str | None:
    wanted = settings.mode == "replace"
    given = False if _blank(value) else truth(value)
    if given is wanted:
        return None
    return (
        f'contradicts mode: {settings.mode}, which makes it "{str(wanted).lower()}". Leave it out, and '
        "choose with the setting mode (coexist or replace)."
    )


def _health(value: Any, settings: Settings) -> str | None:
    if settings.mode == "coexist":
        if _blank(value):
            return None
        return (
            f"contradicts mode: coexist: kube-proxy answers on port {HEALTH_PORT} there, and an agent that "
            "finds its port taken crashes or never serves it. Leave it out: in replace it is set, when "
            "kube-proxy is gone."
        )
    host, _, port = str(value).rpartition(":")
    if port == str(HEALTH_PORT) and host.strip("[]") in ("", "0.0.0.0", "::"):  # noqa: S104
        return None
    return (
        "contradicts mode: replace, in which agents answer load balancers on every address, port "
        f"{HEALTH_PORT}, where kube-proxy did. Leave it out."
    )


def _roll_out(what: str) -> Rule:
    def rule(value: Any, settings: Settings) -> str | None:
        if truth(value):
            return None
        return (
            f"contradicts mode: {settings.mode}: {what} would go on with the old configuration until somebody restarts "
            "it. Leave it out."
        )

    return rule


def _host(value: Any, settings: Settings) -> str | None:
    known = settings.api_server_host
    if known is not None and str(value).lower() == known.lower():
        return None
    why = (
        ": `auto` is looked up by Helm, and fails in several versions of the chart"
        if value == "auto"
        else f", which is {known}"
        if known
        else ""
    )
    return (
        "contradicts the API server's address that every node is checked to reach" + why + ". Leave it out, and "
        "set apiServerHost where another address is to be used than the one that is found."
    )


def _port(value: Any, settings: Settings) -> str | None:
    known = settings.api_server_port
    if known is not None and str(value) == str(known):
        return None
    return (
        "contradicts the API server's port that every node is checked to reach"
        + (f", which is {known}" if known else "")
        + ". Leave it out, and set apiServerPort where another one is to be used than the one that is found."
    )


def _other_address(what: str) -> Rule:
    def rule(value: Any, _: Settings) -> str | None:
        if _blank(value):
            return None
        return (
            f"contradicts the API server's address that every node is checked to reach: agents would take it "
            f"from {what}, unchecked. Leave it out, and set apiServerHost and apiServerPort."
        )

    return rule


def _urls(value: Any, settings: Settings) -> str | None:
    if _blank(value) or all(_is_api_server(url, settings) for url in str(value).split()):
        return None
    return (
        "contradicts the API server's address that every node is checked to reach: agents would use these, "
        "unchecked. Leave it out, and set apiServerHost and apiServerPort to an address that stands for all "
        "API servers (a DNS name, a virtual IP, a proxy on each node)."
    )


def _is_api_server(url: str, settings: Settings) -> bool:
    parts = split(url)
    if parts is None or settings.api_server_host is None or settings.api_server_port is None:
        return False
    same_host = (parts.hostname or "").lower() == settings.api_server_host.lower().strip("[]")
    return same_host and (parts.port or 443) == settings.api_server_port


def _never(wanted: bool, why: str) -> Rule:
    """A switch that must stand one way in both modes."""

    def rule(value: Any, settings: Settings) -> str | None:
        return f"contradicts mode: {settings.mode}: {why}" if truth(value) is (not wanted) else None

    return rule


def _wait_for_kube_proxy(value: Any, settings: Settings) -> str | None:
    if settings.mode == "coexist" or truth(value) is not True:
        return None
    return "contradicts mode: replace: agents would wait for the rules of a kube-proxy that is gone. Leave it out."


def _update_type(what: str) -> Rule:
    def rule(value: Any, settings: Settings) -> str | None:
        if value != "OnDelete":
            return None
        return (
            f"contradicts mode: {settings.mode}: {what} would be restarted on no node, and the old configuration "
            "would stay. Leave it out, or write RollingUpdate."
        )

    return rule


def _max_unavailable(value: Any, settings: Settings) -> str | None:
    surge = settings.effective("updateStrategy", "rollingUpdate", "maxSurge")
    if str(value) not in ("0", "0%") or str(surge) not in ("None", "0", "0%"):
        return None
    return (
        f"contradicts mode: {settings.mode}: no agent may be restarted, and the API server refuses such a "
        'DaemonSet. Write how many nodes may be without an agent at a time: 2, or "10%".'
    )


def _implied(what: str) -> Rule:
    def rule(value: Any, settings: Settings) -> str | None:
        if settings.mode != "replace" or truth(value) is not False:
            return None
        return (
            f"contradicts mode: replace: kube-proxy is gone, and Cilium serves {what}, whatever is said "
            "here. Leave it out."
        )

    return rule


def _node_port(value: Any, settings: Settings) -> str | None:
    if settings.mode == "coexist" and truth(value) is True:
        return (
            "contradicts mode: coexist, in which kube-proxy serves NodePorts: both would. Leave it out, and "
            "set mode to replace when Cilium is to serve them."
        )
    return _implied("NodePort and LoadBalancer Services")(value, settings)


def _against_setting(setting: str, key: str | None = None) -> Rule:
    """A value of the chart that a setting has, too."""

    def rule(value: Any, settings: Settings) -> str | None:
        said = settings.hubble if key is None else settings.load_balancer.get(key)
        if _blank(said) or _same(value, said):
            return None
        return f"contradicts the setting {setting}, which is {literal(said)}. Say it in the setting only."

    return rule


def _same(value: Any, said: Any) -> bool:
    if isinstance(said, bool):
        return truth(value) is said
    return str(value).lower() == str(said).lower()


def _session_affinity(value: Any, settings: Settings) -> str | None:
    problem = _against_setting("loadBalancer.sessionAffinity", "sessionAffinity")(value, settings)
    return problem or _implied("session affinity")(value, settings)


def _host_namespace_only(value: Any, settings: Settings) -> str | None:
    if settings.mode != "replace" or settings.keep_connections is not True or truth(value) is not False:
        return None
    return (
        "contradicts the setting keepConnections: true, which needs it to be true: without it every open "
        "connection of a pod to a ClusterIP breaks. Leave it out, or set keepConnections to false."
    )


def _namespace(value: Any, settings: Settings) -> str | None:
    if _blank(value) or value == settings.namespace:
        return None
    return (
        f"contradicts the setting namespace, which is {settings.namespace}: agents would run where nobody "
        "looks for them. Leave it out, and set namespace."
    )


def _masquerade(value: Any, settings: Settings) -> str | None:
    served = truth(settings.effective("nodePort", "enabled")) is True
    if settings.mode != "coexist" or truth(value) is not True or served or not settings.older_than(1, 19):
        return None
    return (
        "contradicts mode: coexist: before version 1.19, agents that don't replace kube-proxy refuse to "
        "start with it. Leave it out until mode is replace, or take ciliumVersion 1.19 or newer."
    )


def _only_when_replacing(*refused: Any) -> Rule:
    def rule(value: Any, settings: Settings) -> str | None:
        given = value if truth(value) is None else truth(value)
        if settings.mode != "coexist" or given not in refused:
            return None
        return (
            "contradicts mode: coexist: agents that don't replace kube-proxy refuse to start with it. "
            "Leave it out until mode is replace."
        )

    return rule


def _dns_policy(value: Any, settings: Settings) -> str | None:
    host = settings.api_server_host
    if value != "ClusterFirstWithHostNet" or settings.mode != "replace" or host is None or _is_ip(host):
        return None
    return (
        f"contradicts mode: replace with the API server's address {host}: that name would be asked of the "
        "cluster's DNS, which answers only when agents run. Leave it out, or set apiServerHost to an IP "
        "address."
    )


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


_CLEAN = (
    "every agent would drop its state on every start, and with it all open connections and the service table "
    "that a restart keeps. Leave it out; to clean one node, remove its state there by hand."
)

RULES: dict[Path, Rule] = {
    ("agent",): _never(True, "without agents nothing is replaced, and pods lose their network. Leave it out."),
    ("bpf", "datapathMode"): _only_when_replacing("netkit", "netkit-l2"),
    ("bpf", "masquerade"): _masquerade,
    ("cleanBpfState",): _never(False, _CLEAN),
    ("cleanState",): _never(False, _CLEAN),
    ("dnsPolicy",): _dns_policy,
    ("envoy", "rollOutPods"): _roll_out("Envoy"),
    ("envoy", "updateStrategy", "type"): _update_type("Envoy"),
    ("externalIPs", "enabled"): _implied("external IPs"),
    ("hostPort", "enabled"): _implied("host ports"),
    ("hubble", "enabled"): _against_setting("hubble"),
    ("installNoConntrackIptablesRules",): _only_when_replacing(True),
    ("k8s", "apiServerURLs"): _urls,
    ("k8sServiceHost",): _host,
    ("k8sServiceHostRef", "key"): _other_address("a ConfigMap"),
    ("k8sServiceHostRef", "name"): _other_address("a ConfigMap"),
    ("k8sServicePort",): _port,
    ("kubeConfigPath",): _other_address("a file on the node"),
    ("kubeProxyReplacement",): _replacement,
    ("kubeProxyReplacementHealthzBindAddr",): _health,
    ("loadBalancer", "acceleration"): _against_setting("loadBalancer.acceleration", "acceleration"),
    ("loadBalancer", "algorithm"): _against_setting("loadBalancer.algorithm", "algorithm"),
    ("loadBalancer", "mode"): _against_setting("loadBalancer.mode", "mode"),
    ("namespaceOverride",): _namespace,
    ("nodePort", "enabled"): _node_port,
    ("operator", "rollOutPods"): _roll_out("the operator"),
    ("rollOutCiliumPods",): _roll_out("every agent"),
    ("sessionAffinity",): _session_affinity,
    ("sleepAfterInit",): _never(False, "agents would sleep instead of working, and look ready. Leave it out."),
    ("socketLB", "enabled"): _implied("what the nodes themselves call"),
    ("socketLB", "hostNamespaceOnly"): _host_namespace_only,
    ("updateStrategy", "rollingUpdate", "maxUnavailable"): _max_unavailable,
    ("updateStrategy", "type"): _update_type("the agent"),
    ("waitForKubeProxy",): _wait_for_kube_proxy,
}
