"""Pods' open connections to ClusterIPs: kept through the switch-over, and never broken later without a word of it."""

from __future__ import annotations

import pytest

from tests.engine.acts import Act, act
from tests.engine.conftest import NewStack
from tests.engine.harness import Cluster, Run, Stack, changes_by_person

OPTION = "bpf-lb-sock-hostns-only"
OFF = {"socketLB": {"hostNamespaceOnly": False}}


def configuration(after: Act) -> dict[str, str]:
    data: dict[str, str] = after.after["ConfigMap kube-system/cilium-config"]["data"]
    return data


def telling(run: Run, words: str) -> list[str]:
    return [line for line in run.notes().splitlines() if words in line]


@pytest.fixture(scope="module")
def stack(cluster: Cluster, new_stack: NewStack) -> Stack:
    return new_stack(cluster, mode="coexist")


@pytest.fixture(scope="module")
def beside(cluster: Cluster, stack: Stack) -> Act:
    return act(cluster, stack, "up")


def test_beside_kube_proxy_the_agents_are_told_nothing_of_it(beside: Act) -> None:
    config = configuration(beside)
    assert config["kube-proxy-replacement"] == "false"
    assert OPTION not in config


@pytest.fixture(scope="module")
def foreseen(cluster: Cluster, stack: Stack, beside: Act) -> Act:
    stack.config("mode", "replace")
    return act(cluster, stack, "preview")


def test_the_preview_of_the_switch_over_says_which_connections_live(foreseen: Act) -> None:
    assert telling(foreseen.run, "pods' to ClusterIPs live")
    (outside,) = telling(foreseen.run, "externalTrafficPolicy Cluster")
    assert "shop/web-public" in outside
    assert "are reset" in outside


@pytest.fixture(scope="module")
def switched(cluster: Cluster, stack: Stack, foreseen: Act) -> Act:
    return act(cluster, stack, "up")


def test_replacing_agents_leave_pods_sockets_alone(switched: Act) -> None:
    config = configuration(switched)
    assert config["kube-proxy-replacement"] == "true"
    assert config[OPTION] == "true"


@pytest.fixture(scope="module")
def refused(cluster: Cluster, stack: Stack, switched: Act) -> Act:
    """An owner's value that would hang them, with nothing else said."""
    stack.config("values", OFF)
    return act(cluster, stack, "preview", fails=True)


def test_turning_it_off_is_refused_before_anything_is_changed(refused: Act) -> None:
    assert "keepConnections" in refused.run.errors()
    assert "hangs" in refused.run.errors()
    assert changes_by_person(refused.audit) == []


def test_a_contradiction_is_refused_with_both_names(cluster: Cluster, stack: Stack, refused: Act) -> None:
    stack.config("keepConnections", True)
    said = act(cluster, stack, "preview", fails=True).run.errors()
    assert "values.socketLB.hostNamespaceOnly: false" in said
    assert "keepConnections: true" in said


def test_said_by_the_setting_it_is_told_and_done(cluster: Cluster, stack: Stack, refused: Act) -> None:
    stack.config("keepConnections", False)
    assert telling(act(cluster, stack, "preview").run, "hangs")
    done = act(cluster, stack, "up")
    assert configuration(done)[OPTION] == "false"
    seen = act(cluster, stack, "preview")
    assert seen.run.changes == {}
    assert telling(seen.run, "hangs") == []


def test_turning_it_on_again_is_refused_where_it_is_not_said(cluster: Cluster, stack: Stack, refused: Act) -> None:
    stack.config("values", None)
    stack.config("keepConnections", None)
    said = act(cluster, stack, "preview", fails=True)
    assert "no answer from ClusterIPs" in said.run.errors()
    assert changes_by_person(said.audit) == []
