"""What the step does with its queue: canaries, pauses, and nodes that fail."""

from __future__ import annotations

from typing import Any

import pytest

from kube_proxy_replacement import handing_over
from kube_proxy_replacement.cluster import draining, hand_over, record, routing, waiting
from kube_proxy_replacement.cluster.errors import ProcedureError
from kube_proxy_replacement.cluster.hand_over import TO_CILIUM, HandOver
from kube_proxy_replacement.cluster.node_order import Queue
from kube_proxy_replacement.cluster.nodes import Node, read
from kube_proxy_replacement.cluster.record import Record
from kube_proxy_replacement.cluster.told import NodeByNode, Order

from .fakes import Clock
from .test_hand_over import World


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (hand_over, waiting):
        monkeypatch.setattr(module, "time", clock)
    return clock


def order(*, keep: bool = False, **by_node: Any) -> Order:
    return Order(
        *("uid-a", "replace", "kube-system", "cilium", "192.0.2.1", 6443, "", 60),
        keep=keep,
        node_by_node=NodeByNode(**by_node),
    )


def run(api: World, its_order: Order, canaries: str = "", *, size: int = 1, drain: bool = False) -> HandOver:
    """One run of the step over the cluster as it is now; `canaries`: their names, a letter each."""
    nodes = read(api).ready
    queue = Queue(
        tuple(node for node in nodes if node.name in canaries),
        tuple(node for node in nodes if node.name not in canaries),
    )
    over = HandOver(api, TO_CILIUM, "kube-system", size, lambda _: None, 60.0, drain=drain, total=len(nodes))
    handing_over._turns(over, its_order, queue)
    return over


class TestPauses:
    def test_each_run_goes_on_where_the_one_before_it_stopped(self) -> None:
        api, its = World("a", "b", "c"), order(pause_after="1")
        for count, last in (("1", "a"), ("2", "b")):
            with pytest.raises(ProcedureError, match=rf"nodeByNode\.pauseAfter says: {count} of 3 nodes"):
                run(api, its)
            assert api.restarts[-1] == last
        assert run(api, its).done == ["a", "b", "c"]
        assert api.restarts == ["a", "b", "c"]

    def test_canaries_come_first_and_no_other_until_it_may_go_on(self) -> None:
        api = World("a", "b", "c")
        for _ in range(2):
            with pytest.raises(ProcedureError, match=r"nodeByNode\.canaries says: 1 of 3 nodes .*\(b\)"):
                run(api, order(canaries="x=y"), "b")
            assert api.restarts == ["b"]
        assert run(api, order(canaries="x=y", go_on=True), "b").done == ["b", "a", "c"]

    def test_canaries_alone_are_no_reason_to_stop(self) -> None:
        api = World("a")
        assert run(api, order(canaries="x=y"), "a").done == ["a"]

    def test_a_node_is_drained_before_its_turn_and_not_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        api, drained = World("a", "b"), []
        monkeypatch.setattr(draining, "cordon", lambda _, node: drained.append((node.name, routing.labelled(api))))
        monkeypatch.setattr(draining, "evict", lambda *_, **__: None)
        monkeypatch.setattr(draining, "uncordon", lambda *_: None)
        with pytest.raises(ProcedureError):
            run(api, order(pause_after="1"), drain=True)
        run(api, order(pause_after="1"), drain=True)
        assert drained == [("a", {}), ("b", {"a": "cilium"})]


class TestNodesThatFail:
    @pytest.fixture
    def gone_back(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        gone_back: list[str] = []

        def go_back(_: HandOver, node: Node, *, patience: float) -> None:
            if node.name == "b" and patience == 60:
                raise ProcedureError("b: kube-proxy doesn't route there")
            gone_back.append(node.name)

        monkeypatch.setattr(hand_over, "go_back", go_back)
        return gone_back

    def test_each_goes_back_and_is_told_of(self, gone_back: list[str]) -> None:
        api = World("a", "b", "c")
        api.broken = {"b", "c"}
        record.write(api, Record("uid-a", "kube-system/cilium"))
        with pytest.raises(ProcedureError) as raised:
            run(api, order(), size=3)
        assert gone_back == ["c"]
        for words in ("b can't be handed over: its agent", "c can't be handed over: its agent"):
            assert words in raised.value.what
        for words in (
            "b couldn't go back either: b: kube-proxy doesn't route there",
            "c has gone back alone, and is as it was before.",
            "1 of 3 nodes are handed over and stay so; no other one was begun. Mend b, c, then",
        ):
            assert words in str(raised.value)
        kept = record.read(api)
        assert kept and kept.failed and "b can't be handed over" in kept.failed.reason

    def test_or_is_left_for_a_look(self, gone_back: list[str]) -> None:
        api = World("a")
        api.broken = {"a"}
        with pytest.raises(ProcedureError, match="a was left as it is, for a look"):
            run(api, order(keep=True))
        assert gone_back == []

    def test_one_that_cannot_be_drained_is_as_it_was(
        self, gone_back: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(*_: Any, **__: Any) -> None:
            raise ProcedureError("shop/web: The disruption budget all")

        monkeypatch.setattr(draining, "cordon", lambda *_: True)
        monkeypatch.setattr(draining, "uncordon", lambda *_: True)
        monkeypatch.setattr(draining, "evict", refused)
        with pytest.raises(ProcedureError, match=r"Nothing was changed on a\."):
            run(World("a"), order(), drain=True)
        assert gone_back == []
