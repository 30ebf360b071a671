"""The nodes that a run deals with: Linux, real, and Ready when the run starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .api import Api, Object

LIST = "/api/v1/nodes"


@dataclass(frozen=True)
class Taint:
    """A taint of a node: key, value ("" where it has none) and effect, `NoSchedule` for one."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True)
class Node:
    """A node as the API server has it.

    Attributes:
        name, uid: its metadata's.
        ready: its Ready condition is True, or False for want of a network plugin only: Cilium is to be that plugin, and
            pods on the host's network run there already.
        labels: its labels.
        pod_cidrs: `spec.podCIDRs`, often one IPv4 and perhaps one IPv6 range.
        taints: `spec.taints`.
    """

    name: str
    uid: str
    ready: bool
    labels: dict[str, str]
    pod_cidrs: tuple[str, ...]
    taints: tuple[Taint, ...] = ()


@dataclass(frozen=True)
class Nodes:
    """All Linux nodes that can run an agent; Windows and virtual nodes are left out."""

    all: tuple[Node, ...]

    @property
    def ready(self) -> tuple[Node, ...]:
        return tuple(node for node in self.all if node.ready)

    @property
    def left_out(self) -> tuple[Node, ...]:
        """Not Ready: listed, not waited for, and finished by the first run after they are back."""
        return tuple(node for node in self.all if not node.ready)


def read(api: Api, name: str = "") -> Nodes:
    """Every Linux node, sorted by name; only the one of this name where one is given."""
    return among(api.list(LIST, **({"fieldSelector": f"metadata.name={name}"} if name else {})))


def on(name: str) -> dict[str, str]:
    """A query for the pods on one node; for all of them where the name is "". The API server has them by node."""
    return {"fieldSelector": f"spec.nodeName={name}"} if name else {}


def among(items: Iterable[Object]) -> Nodes:
    """The Linux nodes among what the API server sent for `LIST`, sorted by name."""
    found = [_node(item) for item in items if _runs_agents(item)]
    return Nodes(tuple(sorted(found, key=lambda node: node.name)))


def _is_ready(condition: Object) -> bool:
    if condition.get("type") != "Ready":
        return False
    # the kubelet's own words, «container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady»
    waits = condition.get("status") == "False" and "NetworkReady=false" in str(condition.get("message"))
    return condition.get("status") == "True" or waits


def _runs_agents(item: Object) -> bool:
    labels = item["metadata"].get("labels") or {}
    # virtual-kubelet's own label; its nodes have no kernel that kube-proxy or an agent could program
    virtual = labels.get("type") == "virtual-kubelet" or labels.get("kubernetes.azure.com/role") == "virtual"
    return labels.get("kubernetes.io/os", "linux") == "linux" and not virtual


def _node(item: Object) -> Node:
    conditions = item.get("status", {}).get("conditions") or []
    spec = item.get("spec") or {}
    cidrs = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    return Node(
        name=item["metadata"]["name"],
        uid=item["metadata"]["uid"],
        ready=any(_is_ready(condition) for condition in conditions),
        labels=dict(item["metadata"].get("labels") or {}),
        pod_cidrs=tuple(cidrs),
        taints=tuple(Taint(t["key"], t.get("value") or "", t["effect"]) for t in spec.get("taints") or []),
    )
