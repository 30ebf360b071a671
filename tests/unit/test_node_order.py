from __future__ import annotations

import pytest

from kube_proxy_replacement.cluster import nodes
from kube_proxy_replacement.cluster.errors import ApiError, ProcedureError
from kube_proxy_replacement.cluster.node_order import Queue, count, queue
from kube_proxy_replacement.cluster.told import NodeByNode

from .fakes import FakeApi, forbidden, node

CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
MASTER = "node-role.kubernetes.io/master"


@pytest.fixture
def api() -> FakeApi:
    return FakeApi().put(
        node("a1", labels={CONTROL_PLANE: ""}),
        node("a2", labels={MASTER: ""}),
        node("w3", labels={"zone": "b"}),
        node("w2", labels={"zone": "a", "disk": "ssd"}),
        node("w1", labels={"zone": "b", "disk": "ssd"}),
        node("w4"),
    )


def order(api: FakeApi, **wanted: object) -> tuple[list[str], list[str]]:
    found: Queue = queue(api, nodes.read(api).all, NodeByNode(**wanted))  # type: ignore[arg-type]
    return [its.name for its in found.canaries], [its.name for its in found.rest]


def test_by_name_and_the_control_plane_last(api: FakeApi) -> None:
    assert order(api) == ([], ["w1", "w2", "w3", "w4", "a1", "a2"])


def test_the_first_selector_that_matches_counts_and_what_none_matches_comes_after(api: FakeApi) -> None:
    assert order(api, order=("zone=a", "zone in (a,b)"))[1] == ["w2", "w1", "w3", "w4", "a1", "a2"]
    assert order(api, order=("zone=b", "disk"))[1] == ["w1", "w3", "w2", "w4", "a1", "a2"]


def test_a_control_plane_that_a_selector_names_has_its_turn(api: FakeApi) -> None:
    assert order(api, order=(CONTROL_PLANE, "disk=ssd"))[1] == ["a1", "w1", "w2", "w3", "w4", "a2"]
    assert order(api, order=("zone!=b",))[1] == ["a1", "a2", "w2", "w4", "w1", "w3"]


def test_canaries_come_apart_in_the_same_order(api: FakeApi) -> None:
    assert order(api, canaries="disk=ssd", order=("zone=a",)) == (["w2", "w1"], ["w3", "w4", "a1", "a2"])


def test_a_selector_may_match_nodes_that_the_run_leaves_out(api: FakeApi) -> None:
    api.put(node("win", os="windows", labels={"zone": "a"}))
    assert order(api, order=("zone=a",))[1][0] == "w2"


def test_canaries_that_match_no_node_are_refused(api: FakeApi) -> None:
    api.put(node("win", os="windows", labels={"zone": "c"}))
    for selector in ("zone=x", "zone=c"):
        with pytest.raises(ProcedureError, match=r"nodeByNode.canaries: .*none of the 6 nodes.*Nothing was changed"):
            order(api, canaries=selector)


@pytest.mark.parametrize(
    ("wanted", "setting"),
    [({"order": ("zone=a", "zone in (a")}, r"nodeByNode.order\[1\]"), ({"canaries": "(x"}, "nodeByNode.canaries")],
)
def test_what_is_no_selector_is_named_with_its_setting(api: FakeApi, wanted: dict[str, object], setting: str) -> None:
    with pytest.raises(ProcedureError, match=rf"^{setting}: .*400.*Nothing was changed"):
        order(api, **wanted)


def test_another_error_is_no_wrong_selector(api: FakeApi) -> None:
    known = nodes.read(api).all
    api.errors["LIST", nodes.LIST] = forbidden(nodes.LIST)
    with pytest.raises(ApiError, match="403"):
        queue(api, known, NodeByNode(order=("zone=a",)))


@pytest.mark.parametrize(
    ("text", "of", "nodes"),
    [
        ("1", 37, 1),
        ("5", 37, 5),
        ("10%", 37, 4),
        ("10%", 40, 4),
        ("10%", 41, 5),
        ("1%", 3, 1),
        ("100%", 37, 37),
        ("10%", 0, 1),
    ],
)
def test_a_share_is_rounded_up_and_never_none(text: str, of: int, nodes: int) -> None:
    assert count(text, of) == nodes
