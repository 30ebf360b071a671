from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from kube_proxy_replacement.cluster.told import NodeByNode, Order

ORDER = Order(
    cluster="uid-a",
    mode="replace",
    namespace="network",
    release="mesh",
    host="fd00::1",
    port=6443,
    image="quay.io/cilium/cilium:v1.18.6@sha256:abc",
    timeout=600,
    restart=("uid-1", "uid-2"),
    server="https://192.0.2.10:6443",
    keep=True,
    adopted=True,
    owner="0123456789abcdef",
    chart="./charts/cilium",
    version="1.18.6",
    strategy="node-by-node",
)
BESIDE = {"values", "mark", "node_by_node"}
"""The fields that don't travel in the JSON: a value may be a secret."""
FIRST = {"cluster", "mode", "namespace", "release", "host", "port", "image", "timeout"}
"""The fields that there were from the first; states hold orders without any other."""


def written(**changes: Any) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(ORDER.to_json()) | changes
    return parsed


def test_there_and_back() -> None:
    assert Order.from_json(ORDER.to_json()) == ORDER


def test_every_field_travels() -> None:
    assert set(written()) == {field.name for field in fields(Order)} - BESIDE


def test_what_may_be_a_secret_travels_beside_it() -> None:
    order = replace(ORDER, values={"a": {"b": None, "c": 2**60}}, mark="0123456789ab")
    read = Order.from_json(order.to_json(), values=json.dumps(order.values), mark=order.mark)
    assert (read, order.to_json()) == (order, ORDER.to_json())


def test_what_came_later_does_not_change_the_text_of_an_order_that_does_not_need_it() -> None:
    # the text is in states: a changed one is an update of every Command
    first = replace(ORDER, keep=False, adopted=False, owner="", chart="", version="", strategy="")
    assert set(json.loads(first.to_json())) == FIRST | {"restart", "server"}


def test_text_that_a_shell_or_json_would_take_for_its_own() -> None:
    order = replace(ORDER, image="'; $(reboot) \"«é»\\\n", restart=())
    assert Order.from_json(order.to_json()) == order


def test_the_same_order_is_the_same_text() -> None:
    # a Command runs again when its text changes
    assert ORDER.to_json() == Order.from_json(json.dumps(dict(reversed(written().items())))).to_json()
    assert list(written()) == sorted(written())


def test_what_a_newer_version_added_is_left_out() -> None:
    assert Order.from_json(json.dumps(written(later={"a": 1}, newest="x"))) == ORDER


@pytest.mark.parametrize("field", sorted({field.name for field in fields(Order)} - FIRST - BESIDE))
def test_an_order_from_before_a_field_was_there_is_read(field: str) -> None:
    told = written()
    del told[field]
    order = Order.from_json(json.dumps(told))
    assert not getattr(order, field)
    assert replace(order, **{field: getattr(ORDER, field)}) == ORDER


def test_an_order_with_the_first_fields_alone_is_read() -> None:
    order = Order.from_json(json.dumps({key: value for key, value in written().items() if key in FIRST}))
    assert order == replace(
        ORDER, restart=(), server="", keep=False, adopted=False, owner="", chart="", version="", strategy=""
    )


def test_a_null_for_the_agents_to_restart_is_none_of_them() -> None:
    assert Order.from_json(json.dumps(written(restart=None))).restart == ()


@pytest.mark.parametrize("port", [6443.0, "6443"])
def test_a_port_is_a_whole_number_whatever_pulumi_made_of_it(port: Any) -> None:
    read = Order.from_json(json.dumps(written(port=port))).port
    assert (read, type(read)) == (6443, int)


class TestNodeByNode:
    ALL = NodeByNode("10%", ("zone=a", "'; $(reboot)"), 5, "canary", True, "7", True)

    def test_there_and_back(self) -> None:
        assert NodeByNode.from_json(self.ALL.to_json()) == self.ALL
        assert set(json.loads(self.ALL.to_json())) == {field.name for field in fields(NodeByNode)}

    def test_the_defaults_are_no_text(self) -> None:
        assert NodeByNode().to_json() == ""
        assert NodeByNode.from_json("") == NodeByNode()

    @pytest.mark.parametrize("field", [field.name for field in fields(NodeByNode)])
    def test_what_is_as_by_default_is_left_out(self, field: str) -> None:
        its = getattr(self.ALL, field)
        said = replace(NodeByNode(), **{field: its})
        assert json.loads(said.to_json()) == {field: list(its) if isinstance(its, tuple) else its}
        assert NodeByNode.from_json(said.to_json()) == said

    def test_what_a_newer_version_added_is_left_out(self) -> None:
        assert NodeByNode.from_json(json.dumps({"batch_size": "2", "later": [1]})) == NodeByNode("2")
