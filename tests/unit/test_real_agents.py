from __future__ import annotations

from typing import Any

import pytest

from local.real.agents import READY, SILENT, Change, said, settled


def endpoint(state: str, *labels: str) -> dict[str, Any]:
    return {"id": 1, "status": {"state": state, "identity": {"labels": list(labels)}}}


HOST = endpoint("ready", "reserved:host")


def health(mode: str) -> dict[str, Any]:
    return {"kube-proxy-replacement": {"mode": mode}}


@pytest.mark.parametrize(
    ("endpoints", "state"),
    [
        ([HOST, endpoint("ready", "k8s:app=web")], READY),
        ([HOST, endpoint("restoring"), endpoint("regenerating", "k8s:app=web")], "2 endpoints not ready"),
        ([endpoint("ready", "k8s:app=web")], "no endpoint for the node itself"),
        ([], "no endpoint for the node itself"),
    ],
)
def test_an_agent_is_ready_when_every_endpoint_is_the_nodes_own_too(endpoints: list[Any], state: str) -> None:
    assert said(health("True"), endpoints) == ("True", state)


def change(instant: float, node: str, mode: str, state: str = READY) -> Change:
    return Change(instant, node, mode, state)


BEFORE = [change(1, "a", "False"), change(1, "b", "False")]


def test_each_node_counts_from_the_start_to_its_own_agent() -> None:
    changes = [
        *BEFORE,
        change(20, "a", "", SILENT),
        change(25, "a", "True", "3 endpoints not ready"),
        change(31, "a", "True"),
        change(40, "b", "", SILENT),
        change(52, "b", "True"),
    ]
    assert settled(changes, "True", 10, 60) == {"a": 21, "b": 42}


def test_an_agent_that_ends_again_counts_anew() -> None:
    changes = [*BEFORE, change(20, "a", "True"), change(30, "a", "", SILENT), change(45, "a", "True")]
    assert settled(changes, "True", 10, 60)["a"] == 35
    assert settled(changes[:-1], "True", 10, 60)["a"] is None


def test_endpoints_that_are_made_anew_later_are_no_step_back() -> None:
    changes = [
        *BEFORE,
        change(20, "a", "True"),
        change(30, "a", "True", "1 endpoints not ready"),
        change(31, "a", "True"),
    ]
    assert settled(changes, "True", 10, 60)["a"] == 10


def test_a_node_that_never_gets_there_has_none() -> None:
    changes = [*BEFORE, change(20, "a", "True", "3 endpoints not ready"), change(70, "a", "True")]
    assert settled(changes, "True", 10, 60) == {"a": None, "b": None}
