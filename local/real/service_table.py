"""Each agent's service table against what the API says: every address of every Service, and the endpoints behind it.

Expected is worked out from the API's objects alone, by Kubernetes' rules for Services; actual is what lies in the
node's eBPF maps (`cilium-dbg bpf lb list`), which is what packets meet.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from local.real.cluster import RealCluster

Object = dict[str, Any]

OUTSIDE: Final = "from outside"
INSIDE: Final = "from inside"

_OTHER_PROXY: Final = "service.kubernetes.io/service-proxy-name"
_SERVICE: Final = "kubernetes.io/service-name"
_SURROGATES: Final = ("0.0.0.0", "::")  # noqa: S104 - no socket: for Cilium it stands for each of the node's addresses
_WILDCARD: Final = "ANY"  # 1.19 and newer: one for each address, for the ports that no Service has

# «10.10.0.11:30082/TCP/i (2)   10.244.2.131:8080/TCP (21) (2)», and in slot 0 the traits: «[NodePort, Local]»
_LINE: Final = re.compile(r"(\S+):(\d+)/(\w+)(/i)? \((\d+)\) +(\S+):(\d+)(?:/\w+)? \(\d+\) \(\d+\)(?: \[(.*)\])?")


class Frontend(NamedTuple):
    """Where a Service is called.

    Attributes:
        scope: who is meant: OUTSIDE, or INSIDE (the cluster's own pods and nodes) where the two are told apart.
    """

    address: str
    port: int
    protocol: str
    scope: str = OUTSIDE

    def __str__(self) -> str:
        where = f"[{self.address}]" if ":" in self.address else self.address
        return f"{where}:{self.port}/{self.protocol}{'' if self.scope == OUTSIDE else ', from inside'}"


@dataclass(frozen=True)
class Entry:
    """What is behind a frontend.

    Attributes:
        kind: "ClusterIP", "NodePort", "ExternalIPs", "LoadBalancer" or "HostPort".
        backends: `ip:port` of each.
        affinity: whether a client's connections go to one backend.
        ranges: whether only some sources may call it (`loadBalancerSourceRanges`).
        owner: "NAMESPACE/NAME" of the Service or pod; "" where it isn't known.
    """

    kind: str
    backends: frozenset[str]
    affinity: bool = False
    ranges: bool = False
    owner: str = ""


Table = Mapping[Frontend, Entry]


def compared(cluster: RealCluster) -> list[str]:
    """How each node's table differs from what the API says now; [] where none does."""
    api = cluster.api
    services, pods, nodes = (api.get(f"/api/v1/{what}")["items"] for what in ("services", "pods", "nodes"))
    slices = api.get("/apis/discovery.k8s.io/v1/endpointslices")["items"]
    found = []
    for node in nodes:
        name = node["metadata"]["name"]
        agents = [pod for pod in pods if pod["spec"].get("nodeName") == name and _label(pod, "k8s-app") == "cilium"]
        if not agents:
            found.append(f"{name}: it has no agent")
            continue
        pod = agents[0]["metadata"]
        command = ["exec", "-n", pod["namespace"], pod["name"], "-c", "cilium-agent", "--", "cilium-dbg"]
        said = cluster.kubectl(*command, "bpf", "lb", "list")
        if said.returncode:
            found.append(f"{name}: its table can't be read: {said.stderr.strip()[-300:]}")
            continue
        wanted = expected(node, services, slices, pods)
        found += differences(name, wanted, actual(said.stdout))
    return found


def expected(node: Object, services: Iterable[Object], slices: Iterable[Object], pods: Iterable[Object]) -> Table:
    """What a node's table must hold in mode replace."""
    slices = list(slices)
    addresses = [its["address"] for its in node["status"]["addresses"] if its["type"] == "InternalIP"]
    table: dict[Frontend, Entry] = {}
    for service in services:
        own = [its for its in slices if _service_of(its) == _name(service)]
        table |= _of_service(service, own, node["metadata"]["name"], addresses)
    for pod in pods:
        if pod["spec"].get("nodeName") == node["metadata"]["name"]:
            table |= dict(_of_pod(pod, addresses))
    return table


def actual(text: str) -> Table:
    """What a node's table holds, from `cilium-dbg bpf lb list`. ValueError for a line that isn't understood.

    Left out: the surrogates (0.0.0.0 for each of the node's addresses) and the wildcards, at which no packet ends.
    """
    traits: dict[Frontend, list[str]] = {}
    backends: dict[Frontend, set[str]] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("SERVICE ADDRESS"):
            continue
        found = _LINE.match(line)
        if found is None:
            raise ValueError(f"cilium-dbg bpf lb list: {line!r}")
        address, port, protocol, inside, slot, ip, number, words = found.groups()
        address = address.strip("[]")
        if address in _SURROGATES or protocol == _WILDCARD:
            continue
        frontend = Frontend(address, int(port), protocol, INSIDE if inside else OUTSIDE)
        if slot == "0":
            traits[frontend] = [word.strip() for word in (words or "").split(",")]
        else:
            backends.setdefault(frontend, set()).add(f"{ip}:{number}")
    return {
        frontend: Entry(
            words[0],
            frozenset(backends.get(frontend, ())),
            affinity="sessionAffinity" in words,
            ranges="check source-range" in words,
        )
        for frontend, words in traits.items()
    }


def differences(node: str, wanted: Table, found: Table) -> list[str]:
    """Each as a line that names the node, the Service, and what."""
    lines = []
    for frontend, entry in sorted(wanted.items()):
        where = f"{node}: {entry.owner}, {entry.kind} {frontend}"
        its = found.get(frontend)
        if its is None:
            lines.append(f"{where}: isn't there")
            continue
        if its.kind != entry.kind:
            lines.append(f"{where}: is there as {its.kind}")
        if absent := sorted(entry.backends - its.backends):
            lines.append(f"{where}: no way to {', '.join(absent)}")
        if stale := sorted(its.backends - entry.backends):
            lines.append(f"{where}: leads to {', '.join(stale)}, which is no endpoint for it")
        if its.affinity != entry.affinity:
            lines.append(f"{where}: session affinity is {'on' if its.affinity else 'off'}")
        if its.ranges != entry.ranges:
            lines.append(f"{where}: source ranges are {'checked' if its.ranges else 'not checked'}")
    for frontend, its in sorted(found.items()):
        if frontend not in wanted:
            lines.append(f"{node}: {its.kind} {frontend}: belongs to no Service and no pod")
    return lines


def _of_service(service: Object, slices: list[Object], node: str, addresses: list[str]) -> dict[Frontend, Entry]:
    spec = service["spec"]
    if spec.get("type") == "ExternalName" or spec.get("clusterIP") == "None" or _label(service, _OTHER_PROXY):
        return {}
    balancers = [its["ip"] for its in service["status"].get("loadBalancer", {}).get("ingress") or [] if its.get("ip")]
    internal, external = (spec.get(f"{which}TrafficPolicy") == "Local" for which in ("internal", "external"))
    table = {}
    for port in spec["ports"]:
        kinds = [("ClusterIP", address, port["port"]) for address in spec["clusterIPs"]]
        kinds += [("ExternalIPs", address, port["port"]) for address in spec.get("externalIPs") or []]
        kinds += [("LoadBalancer", address, port["port"]) for address in balancers]
        kinds += [("NodePort", address, port["nodePort"]) for address in addresses if port.get("nodePort")]
        for kind, address, number in kinds:
            # Only ways in from outside know both policies; where these are alike, there is nothing to tell apart.
            scopes = {OUTSIDE: internal} if kind == "ClusterIP" else {OUTSIDE: external}
            if kind != "ClusterIP" and internal != external:
                scopes[INSIDE] = internal
            for scope, local in scopes.items():
                table[Frontend(address, number, port["protocol"], scope)] = Entry(
                    kind,
                    _endpoints(slices, port, "IPv6" if ":" in address else "IPv4", node if local else None),
                    affinity=spec.get("sessionAffinity") == "ClientIP",
                    ranges=kind == "LoadBalancer" and bool(spec.get("loadBalancerSourceRanges")),
                    owner=_name(service),
                )
    return table


def _endpoints(slices: list[Object], port: Object, family: str, node: str | None) -> frozenset[str]:
    """`ip:port` of the endpoints of a Service's port, of all nodes or of one; where none is ready, those that still
    serve while they end."""
    ready, ending = set(), set()
    for its in slices:
        for number in its.get("ports") or []:
            same = (number.get("name") or "", number["protocol"]) == (port.get("name") or "", port["protocol"])
            if its["addressType"] != family or not same:
                continue
            for endpoint in its.get("endpoints") or []:
                if node is not None and endpoint.get("nodeName") != node:
                    continue
                address = endpoint["addresses"][0]
                where = f"[{address}]:{number['port']}" if ":" in address else f"{address}:{number['port']}"
                conditions = endpoint.get("conditions") or {}
                if conditions.get("ready", True):
                    ready.add(where)
                elif conditions.get("serving") and conditions.get("terminating"):
                    ending.add(where)
    return frozenset(ready or ending)


def _of_pod(pod: Object, addresses: list[str]) -> Iterator[tuple[Frontend, Entry]]:
    if pod["spec"].get("hostNetwork") or pod["status"].get("phase") != "Running":
        return
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or []:
            given = port.get("hostIP") or ""
            for address in addresses if given in ("", *_SURROGATES) else [given]:
                if port.get("hostPort"):
                    yield (
                        Frontend(address, port["hostPort"], port.get("protocol", "TCP")),
                        Entry(
                            "HostPort",
                            frozenset({f"{pod['status']['podIP']}:{port['containerPort']}"}),
                            owner=_name(pod),
                        ),
                    )


def _name(item: Object) -> str:
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


def _service_of(its: Object) -> str:
    return f"{its['metadata']['namespace']}/{_label(its, _SERVICE)}"


def _label(item: Object, name: str) -> str:
    return str((item["metadata"].get("labels") or {}).get(name, ""))
