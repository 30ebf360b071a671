"""Who asks what, and how often: the streams of traffic, and the pods that send them."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from local.cluster import network
from local.cluster.api import Object
from local.real import objects
from local.real.carried import CONTROL_PORT, NAMESPACE, SERVICES, Backends, Carried, Kind, daemon_set

Way = Literal["tcp", "dns", "http", "long"]
"""How something is asked: a new connection, a datagram, a request, or a connection that is kept."""

TIMEOUT: Final = 3.0
"""Seconds; a lost SYN is sent again after one."""
HEALTH: Final = "health"
CONTROL: Final = "control"

_BYTES: Final = 10
_HEALTH: Final = 2
_CONTROL: Final = 10
# New connections (for dns: queries) a second, from each sender to each address.
_OUTSIDE: Final[dict[Kind, int]] = {
    "cluster": 10, "local": 10, "external": 5, "balancer": 5, "sticky": 2, "dns": 5, "ports": 2, "moving": 5,
}  # fmt: skip
_INSIDE: Final[dict[Kind, int]] = {"cluster": 10, "internal": 5, "sticky": 2, "dns": 5, "ports": 2, "moving": 5}
# Ordinary pods' calls to ClusterIPs are Cilium's already, as long as it is their CNI.
_ORDINARY: Final[dict[Kind, int]] = {"cluster": 3, "internal": 1, "dns": 1}
_KEPT_OUTSIDE: Final[tuple[Kind, ...]] = ("cluster", "local", "external", "balancer", "sticky")
_KEPT_INSIDE: Final[tuple[Kind, ...]] = ("cluster", "internal")


@dataclass(frozen=True)
class Stream:
    """One question, asked so many times a second."""

    name: str
    """What is asked, `TARGET[@NODE]`: a Service, with /2 for its second port and /long for a kept connection, and the
    node that is asked, if it's one in particular."""
    kind: Way
    address: str
    rate: int
    client: str = ""
    """The address that it's asked from, where it's a certain one."""


@dataclass(frozen=True)
class Sender:
    """A DaemonSet of senders."""

    name: str
    source: str
    """What its streams' names begin with; $(NODE) stands for the node's."""
    host_network: bool
    streams: tuple[Stream, ...]

    @property
    def file(self) -> str:
        """Where a pod of it writes its outcomes, by its node's name for $(NODE)."""
        return f"{self.name}-$(NODE).txt"

    def objects(self, program: Path, results: Path, until: float, seconds: float) -> list[Object]:
        """The DaemonSet and its ConfigMap; outcomes go to a folder of this machine's. For the bounds, see `spec`."""
        daemon = daemon_set(
            self.name,
            program,
            ["probe", "-source", self.source, f"/results/{self.file}", "/spec/spec.json"],
            host_network=self.host_network,
        )
        pod = daemon["spec"]["template"]["spec"]
        pod["containers"][0]["volumeMounts"] += [
            {"name": "results", "mountPath": "/results"},
            {"name": "spec", "mountPath": "/spec", "readOnly": True},
        ]
        pod["volumes"] += [
            {"name": "results", "hostPath": {"path": str(results), "type": "Directory"}},
            {"name": "spec", "configMap": {"name": self.name}},
        ]
        metadata = {"name": self.name, "namespace": NAMESPACE}
        data = {"spec.json": spec(self.streams, until, seconds)}
        return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}, daemon]


def spec(streams: Iterable[Stream], until: float, seconds: float) -> str:
    """What `traffic probe` reads: no more questions than so many seconds have room for, and none after an instant."""
    asked = [
        {
            "name": its.name,
            "kind": its.kind,
            "address": its.address,
            "from": its.client,
            "rate": its.rate,
            "count": math.ceil(its.rate * seconds),
            "timeout": TIMEOUT,
        }
        for its in streams
    ]
    return json.dumps({"until": until, "streams": asked})


def watched(nodes: Sequence[int]) -> list[Stream]:
    """From outside, past every Service: kube-proxy's health port, as a cloud's load balancer asks it but twice a
    second, and the servers themselves."""
    found = []
    for node in nodes:
        name, address = objects.node_name(node), network.node_address(node)
        found.append(Stream(f"{HEALTH}@{name}", "http", f"{address}:10256/healthz", _HEALTH))
        found.append(Stream(f"{CONTROL}@{name}", "tcp", f"{address}:{CONTROL_PORT}", _CONTROL))
    return found


def outside(nodes: Sequence[int], backends: Backends) -> list[Stream]:
    """From a client outside to every node."""
    found = []
    for node in nodes:
        name = objects.node_name(node)
        for its in _of(backends, _OUTSIDE):
            rate = _OUTSIDE[its.kind]
            for place in range(len(its.ports)):
                target = f"{_target(its, place)}@{name}"
                found.append(Stream(target, _way(its), its.from_outside(node, place), rate, its.client(place)))
            if its.kind in _KEPT_OUTSIDE:
                kept = f"{its.name}/long@{name}"
                found.append(Stream(kept, "long", its.from_outside(node), _BYTES, its.client(kept=True)))
    return found


def senders(backends: Backends) -> list[Sender]:
    """From pods on every node to ClusterIPs; ordinary pods only once the servers may be such, too."""
    found = [Sender(f"sender-host-{backends}", "host/$(NODE)", True, tuple(_inside(backends, _INSIDE)))]
    if backends == "pod":
        both = (*_inside("host", _ORDINARY), *_inside("pod", _ORDINARY))
        found.append(Sender("sender-pod", "pod/$(NODE)", False, both))
    return found


def _inside(backends: Backends, rates: dict[Kind, int]) -> list[Stream]:
    found = []
    for its in _of(backends, rates):
        found += [
            Stream(_target(its, place), _way(its), its.from_inside(place), rates[its.kind])
            for place in range(len(its.ports))
        ]
        if its.kind in _KEPT_INSIDE:
            found.append(Stream(f"{its.name}/long", "long", its.from_inside(), _BYTES))
    return found


def _of(backends: Backends, rates: dict[Kind, int]) -> list[Carried]:
    return [its for its in SERVICES if its.backends == backends and its.kind in rates]


def _target(its: Carried, place: int) -> str:
    return its.name if place == 0 else f"{its.name}/{place + 1}"


def _way(its: Carried) -> Way:
    return "dns" if its.protocol == "UDP" else "tcp"
