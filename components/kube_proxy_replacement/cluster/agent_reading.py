"""What one agent says of itself: pure parsing of two commands' output.

`cilium-dbg status -o json` and `cilium-dbg endpoint list -o json`, both with exit code 0 also where the
agent isn't well. Keys as in cilium/cilium api/v1/models, 1.15 to 1.20.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .errors import ProcedureError

Features: TypeAlias = dict[str, str | bool]

# Up to 1.15 the mode had six values (cilium/cilium api/v1/models); «probe» left it to the kernel what was replaced.
_MODES = {
    "true": "True",
    "strict": "True",
    "false": "False",
    "disabled": "False",
    "partial": "Partial",
    "probe": "Partial",
}
_VERSION = re.compile(r"\d+\.\d+\.\d+\S*")
_HOST = "reserved:host"

NO_ENDPOINTS = "[]"
"""For an agent whose endpoints weren't asked for; even its own node's is missing, so it isn't *switched*."""


@dataclass(frozen=True)
class AgentReading:
    """One agent at one moment; two readings of an unchanged agent are equal.

    Attributes:
        kube_proxy_replacement: "True", "False" or "Partial": the agent's configuration, not yet a proof
            that the kernel routes.
        version: "1.20.2", or "" where the agent doesn't say (until its first probes are done).
        devices: names of the network devices with Cilium's programs, sorted.
        features: of service routing: bools `nodePort`, `hostPort`, `externalIPs`, `sessionAffinity`,
            `socketLB`, `hostNamespaceOnly` (socket LB for the host alone); where nodePort is on also the
            strings `nodePortMode` (SNAT, DSR, Hybrid), `nodePortAlgorithm` (Random, Maglev) and
            `nodePortAcceleration` (Disabled, Native, Best-Effort, …), as the agent writes them.
        ok: the agent calls itself and its way to Kubernetes well.
        not_ready_endpoints: "WHICH: STATE" of every endpoint that isn't ready, sorted, such as
            "reserved:host: regenerating" or "default/web-0: restoring"; "reserved:host: missing" where the
            agent has no endpoint for its own node.
    """

    kube_proxy_replacement: str
    version: str
    devices: tuple[str, ...]
    ok: bool
    features: Features = field(default_factory=dict)
    not_ready_endpoints: tuple[str, ...] = ()

    @property
    def replacing(self) -> bool:
        return self.kube_proxy_replacement == "True"

    @property
    def switched(self) -> bool:
        """Replacing, and every endpoint, the node's own too, is ready: the kernel has the programs.

        The flag and the pod's readiness come up to half a minute earlier, measured on real nodes with 1.20.2.
        """
        return self.replacing and not self.not_ready_endpoints


def parse(status: str, endpoints: str) -> AgentReading:
    """Args:
        status: standard output of `cilium-dbg status -o json`.
        endpoints: standard output of `cilium-dbg endpoint list -o json`.

    Raises ProcedureError with what can't be understood: no JSON, not the shape, an unknown mode.
    """
    body = _object(_json(status, "cilium-dbg status -o json"), "cilium-dbg status -o json")
    replacement = _object(body.get("kube-proxy-replacement"), "kube-proxy-replacement in the agent's status")
    mode = str(replacement.get("mode") or "")
    if mode.lower() not in _MODES:
        raise ProcedureError(f"the agent's status has an unknown kube-proxy-replacement.mode: {mode!r}")
    agent = _object(body.get("cilium"), "cilium in the agent's status")
    version = _VERSION.match(str(agent.get("msg") or ""))
    return AgentReading(
        kube_proxy_replacement=_MODES[mode.lower()],
        version=version[0] if version else "",
        devices=_devices(replacement),
        ok=_well(agent) and _well(body.get("kubernetes")),
        features=_features(replacement.get("features")),
        not_ready_endpoints=_not_ready(endpoints),
    )


def _devices(replacement: dict[str, Any]) -> tuple[str, ...]:
    names = replacement.get("devices") or []
    if not isinstance(names, list):
        raise ProcedureError("kube-proxy-replacement.devices in the agent's status is no list")
    # older agents put the addresses behind the name: «eth0 10.0.0.4»
    return tuple(sorted({str(name).split()[0] for name in names if str(name).strip()}))


def _well(part: Any) -> bool:
    """A part that is switched off or not there is no complaint."""
    return not isinstance(part, dict) or part.get("state") in (None, "Ok", "Disabled")


def _features(features: Any) -> Features:
    parts = _map(features)

    def enabled(name: str) -> bool:  # a missing key is false (omitempty)
        return bool(_map(parts.get(name)).get("enabled"))

    result: Features = {
        name: enabled(name) for name in ("nodePort", "hostPort", "externalIPs", "sessionAffinity", "socketLB")
    }
    result["hostNamespaceOnly"] = bool(parts.get("bpfSocketLBHostnsOnly"))
    if result["nodePort"]:
        node_port = parts["nodePort"]
        for name in ("mode", "algorithm", "acceleration"):
            result[f"nodePort{name.capitalize()}"] = str(node_port.get(name) or "")
    return dict(sorted(result.items()))


def _not_ready(endpoints: str) -> tuple[str, ...]:
    found = _json(endpoints, "cilium-dbg endpoint list -o json")
    if not isinstance(found, list | None):
        raise ProcedureError("cilium-dbg endpoint list -o json printed no list")
    states = []
    host = False
    for position, item in enumerate(found or []):
        status = _object(
            item.get("status") if isinstance(item, dict) else None,
            f"status of the agent's endpoint {position}",
        )
        labels = [str(label) for label in _map(status.get("identity")).get("labels") or ()]
        host = host or _HOST in labels
        state = str(status.get("state") or "unknown")
        if state != "ready":
            states.append(f"{_which(item, status, labels)}: {state}")
    if not host:
        states.append(f"{_HOST}: missing")
    return tuple(sorted(states))


def _which(item: dict[str, Any], status: dict[str, Any], labels: list[str]) -> str:
    for label in sorted(labels):
        if label.startswith("reserved:"):
            return label
    names = _map(status.get("external-identifiers"))
    if names.get("pod-name"):
        return str(names["pod-name"])
    # an endpoint that is being restored doesn't know its pod yet
    return f"endpoint {item.get('id')}"


def _json(text: str, command: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        start = " ".join(text.split())[:120]
        raise ProcedureError(f"{command} printed no JSON, but: {start or 'nothing'}") from None


def _object(part: Any, what: str) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise ProcedureError(f"{what} is missing or no object")
    return part


def _map(part: Any) -> dict[str, Any]:
    """Parts that older and newer agents leave out."""
    return part if isinstance(part, dict) else {}
