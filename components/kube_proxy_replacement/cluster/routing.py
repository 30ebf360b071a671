"""Who routes Services on a node while nodes are handed over one after the other: a label on the node.

kube-proxy's parked DaemonSet (see `parking`) and the agents' CiliumNodeConfigs (see `node_config`) go by it. It is
there only during such a way.
"""

from __future__ import annotations

from . import nodes
from .api import Api

LABEL = "kube-proxy-replacement/routing"

CILIUM = "cilium"
"""kube-proxy is parked there, and its agent replaces it from its next start on."""

BOTH = "both"
"""kube-proxy runs there again, and its agent replaces it still: the moment of a node's going back."""

KUBE_PROXY = "kube-proxy"
"""On the way back: its agent doesn't replace kube-proxy from its next start on, though cilium-config says so."""


def write(api: Api, node: str, value: str) -> None:
    """Labels a node; "" takes the label off."""
    api.merge(f"{nodes.LIST}/{node}", {"metadata": {"labels": {LABEL: value or None}}})


def labelled(api: Api) -> dict[str, str]:
    """The label's value of every node that has it, by the node's name."""
    found = api.list(nodes.LIST, labelSelector=LABEL)
    return {item["metadata"]["name"]: item["metadata"]["labels"][LABEL] for item in found}
