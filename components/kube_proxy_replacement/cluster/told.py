"""What the steps of the procedure are told. Apart from them: the program that declares needs no client of the API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

OURS = "by kube-proxy-replacement"
"""What the description of every revision of the Helm release begins with that this program makes."""

PUT_BACK = f"{OURS}: its owner's values are put back"


@dataclass(frozen=True)
class NodeByNode:
    """How the strategy `node-by-node` goes about it, as the setting `nodeByNode` says.

    Attributes:
        batch_size: how many nodes are handed over at a time: "3", or "10%" of them.
        order: label selectors, the first one's nodes first; (): by name, the control plane last.
        settle_seconds: seconds for which a node must have been as wanted before the next one's turn.
        canaries: a label selector of the nodes that come first; "": none.
        go_on: goes on after the canaries and after a pause; the setting's `continue`.
        pause_after: after how many nodes it stops: "5", or "25%"; "": never.
        drain: whether a node is cordoned and its pods are evicted first.
    """

    batch_size: str = "1"
    order: tuple[str, ...] = ()
    settle_seconds: int = 0
    canaries: str = ""
    go_on: bool = False
    pause_after: str = ""
    drain: bool = False

    def to_json(self) -> str:
        """Without what is as by default; "" where everything is."""
        said = {key: value for key, value in asdict(self).items() if value != self.__dataclass_fields__[key].default}
        return json.dumps(said, sort_keys=True) if said else ""

    @classmethod
    def from_json(cls, text: str) -> NodeByNode:
        """Fields that this version doesn't know are left out; "" is the defaults."""
        parsed = json.loads(text or "{}")
        known = {key: parsed[key] for key in cls.__dataclass_fields__ if key in parsed}
        return cls(**known | {"order": tuple(parsed.get("order") or ())})


_LATER = ("keep", "adopted", "owner", "chart", "version", "strategy")


@dataclass(frozen=True)
class Order:
    """What every step needs to know; it travels as JSON, so that a recorded one can be read years later.

    Attributes:
        cluster: UID of the cluster that the stack belongs to; server: the API server's URL when that was found.
        mode: `coexist` or `replace`.
        namespace, release: the Helm release.
        host, port: the API server's address as the agents get it.
        image: the agent's image, for the pods that ask for the API server where no agent runs yet.
        timeout: seconds without progress.
        restart: UIDs of agents to restart by name.
        keep: whether a switch-over that fails is left as it is; else it is rolled back.
        adopted: the release was its owner's before it was ours to change; owner: a digest of his values, so that a
            change of them is an update.
        chart, version: where an adopted release's chart comes from, as the settings say; "" is the one that Helm has.
        values, mark: what an adopted release is given on top of its owner's, and the repair mark. They travel beside
            the JSON: a value may be a secret. A hand-over is given the values of a release of our own too.
        strategy: `node-by-node`, or "" for all at once; node_by_node: its settings, beside the JSON.
    """

    cluster: str
    mode: str
    namespace: str
    release: str
    host: str
    port: int
    image: str
    timeout: int
    restart: tuple[str, ...] = ()
    server: str = ""
    keep: bool = False
    adopted: bool = False
    owner: str = ""
    chart: str = ""
    version: str = ""
    strategy: str = ""
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    mark: str = ""
    node_by_node: NodeByNode = field(default_factory=NodeByNode)

    def to_json(self) -> str:
        """What came later is left out where it isn't set: an order that says the same stays the same text."""
        told = {key: value for key, value in asdict(self).items() if value or key not in _LATER}
        del told["values"], told["mark"], told["node_by_node"]
        return json.dumps(told, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, *, values: str = "", mark: str = "", node_by_node: str = "") -> Order:
        """Fields that this version doesn't know are left out: an older state may be newer than this program.

        Args:
            values, node_by_node: JSON of what travels beside it; mark: as it is.
        """
        beside = {
            "values": json.loads(values or "{}"),
            "mark": mark,
            "node_by_node": NodeByNode.from_json(node_by_node),
        }
        parsed = json.loads(text) | beside
        known = {key: parsed[key] for key in cls.__dataclass_fields__ if key in parsed}
        return cls(**known | {"restart": tuple(parsed.get("restart") or ()), "port": int(parsed["port"])})
