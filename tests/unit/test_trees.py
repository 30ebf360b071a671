from __future__ import annotations

from typing import Any

import pytest
import yaml

from kube_proxy_replacement.cluster.trees import ABSENT, Change, as_yaml, at, changed, changes, leaves, same, touches

TREE: dict[str, Any] = {"a": {"b": 1, "c": None}, "d": [], "e": {}, "f": "x"}


def test_the_same_tree_has_no_changes() -> None:
    assert changes(TREE, {**TREE, "a": dict(TREE["a"])}) == []


@pytest.mark.parametrize(
    ("after", "change"),
    [
        ({**TREE, "f": "y"}, Change(("f",), "x", "y")),
        ({**TREE, "a": {"b": 1}}, Change(("a", "c"), None, ABSENT)),
        ({**TREE, "a": {"b": None, "c": None}}, Change(("a", "b"), 1, None)),
        ({**TREE, "d": {}}, Change(("d",), [], {})),
        ({**TREE, "d": [None]}, Change(("d",), [], [None])),
        ({**TREE, "e": {"g": {"h": 1}}}, Change(("e",), {}, {"g": {"h": 1}})),
        ({**TREE, "a": {}}, Change(("a",), {"b": 1, "c": None}, {})),
        ({**TREE, "a": 5}, Change(("a",), {"b": 1, "c": None}, 5)),
        ({**TREE, "n": {}}, Change(("n",), ABSENT, {})),
        ({**TREE, "f": True}, Change(("f",), "x", True)),
    ],
)
def test_one_change_is_found_and_made(after: dict[str, Any], change: Change) -> None:
    assert changes(TREE, after) == [change]
    assert changed(TREE, [change]) == after


def test_a_map_that_came_or_went_is_told_value_by_value() -> None:
    under = {"x": {"y": {"z": 1, "e": {}}, "n": None}}
    came = [(change.path, change.after) for change in changes({}, under)]
    assert came == [(("x", "n"), None), (("x", "y", "e"), {}), (("x", "y", "z"), 1)]
    assert changed({}, changes({}, under)) == under
    assert changed(under, changes(under, {})) == {}


def test_a_change_leaves_the_tree_that_it_is_made_in_as_it_was() -> None:
    before = {"a": {"b": {"c": 1}}}
    changed(before, [Change(("a", "b", "c"), 1, 2), Change(("a", "d"), ABSENT, 3)])
    assert before == {"a": {"b": {"c": 1}}}


@pytest.mark.parametrize(
    ("one", "other", "they_are"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        ("1", 1, False),
        (None, False, False),
        ([], {}, False),
        ({}, None, False),
        (2**53, 2**53 + 1, False),
        ([1, {"a": True}], [1.0, {"a": 1}], False),
        ({"a": [None]}, {"a": [None]}, True),
    ],
)
def test_what_is_the_same(one: Any, other: Any, *, they_are: bool) -> None:
    assert same(one, other) is they_are


def test_leaves_and_what_stands_at_a_path() -> None:
    assert set(leaves(TREE)) == {("a", "b"), ("a", "c"), ("d",), ("e",), ("f",)}
    assert at(TREE, ("a", "c")) is None
    assert at(TREE, ("a", "x")) is ABSENT
    assert at(TREE, ("f", "x")) is ABSENT


@pytest.mark.parametrize(
    ("path", "touched"), [(("a",), True), (("a", "b"), True), (("a", "b", "c"), True), (("a", "c"), False)]
)
def test_a_path_touches_what_lies_above_and_below_it(path: tuple[str, ...], *, touched: bool) -> None:
    assert touches(path, [("a", "b")]) is touched


def test_a_file_for_helm_says_every_value_exactly() -> None:
    tree = {
        "null": None,
        "big": 2**63 - 1,
        "bigger": 2**64 + 1,
        "small": -1,
        "fraction": 0.1,
        "text": "line\nline: # \u2028\u0085\ufeff «é» 🜁 \x7f",
        "number": "0123",
        "yes": "yes",
        "empty": [{}, [], "", None],
    }
    assert yaml.safe_load(as_yaml(tree)) == tree
