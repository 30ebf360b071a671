"""Which node comes when, where nodes are handed over one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import nodes as cluster_nodes
from .api import Api
from .errors import ApiError, ProcedureError
from .nodes import Node
from .told import NodeByNode

_CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
"""Kubernetes' own label of a control plane node, and kubeadm's up to 1.23."""


@dataclass(frozen=True)
class Queue:
    """Nodes in the order of their turns.

    Attributes:
        canaries: those that come before all others.
        rest: all others.
    """

    canaries: tuple[Node, ...]
    rest: tuple[Node, ...]


def queue(api: Api, nodes: Sequence[Node], wanted: NodeByNode) -> Queue:
    """The nodes in their order: by the first selector of `order` that matches, then those that none matches, the
    control plane last among these; by name otherwise.

    The API server itself says which nodes a selector matches.

    Args:
        nodes: all that the run deals with, those that are done too: canaries that aren't among them are an error.

    Raises ProcedureError where a selector is invalid, or no node is a canary.
    """
    ranks = dict.fromkeys((node.name for node in nodes), len(wanted.order))
    for rank, selector in reversed([*enumerate(wanted.order)]):
        ranks |= dict.fromkeys(_matching(api, selector, f"nodeByNode.order[{rank}]"), rank)

    def turn(node: Node) -> tuple[int, bool, str]:
        rank = ranks[node.name]
        unnamed = rank == len(wanted.order)
        return rank, unnamed and any(label in node.labels for label in _CONTROL_PLANE), node.name

    ordered = sorted(nodes, key=turn)
    first = _matching(api, wanted.canaries, "nodeByNode.canaries") if wanted.canaries else frozenset()
    canaries = tuple(node for node in ordered if node.name in first)
    if wanted.canaries and not canaries:
        raise ProcedureError(
            f"nodeByNode.canaries: {wanted.canaries!r} matches none of the {len(ordered)} nodes that this run deals "
            "with (Linux nodes that are Ready). Nothing was changed. Label a node so, or write another selector, or "
            "leave canaries out."
        )
    return Queue(canaries, tuple(node for node in ordered if node.name not in first))


def count(text: str, of: int) -> int:
    """How many nodes "3", or "10%" of so many, are: rounded up, at least 1."""
    if text.endswith("%"):
        return max(1, -(-int(text.removesuffix("%")) * of // 100))
    return max(1, int(text))


def _matching(api: Api, selector: str, setting: str) -> frozenset[str]:
    """The names of the nodes that a selector matches."""
    try:
        return frozenset(item["metadata"]["name"] for item in api.list(cluster_nodes.LIST, labelSelector=selector))
    except ApiError as error:
        if error.status != 400:
            raise
        raise ProcedureError(
            f"{setting}: {selector!r} is no label selector, the API server says ({error}). Nothing was changed. Write "
            "one as for `kubectl get nodes -l`, such as topology.kubernetes.io/zone=a."
        ) from None
