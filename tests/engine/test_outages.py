"""Outages midway: of kube-proxy on a node, of the API server, of the whole cluster's power, of the backup.

One stack's life on one cluster. Each act is a fixture that keeps what was seen; the tests below it are its promises.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.engine.acts import Act, act, helms_changes, pods, pods_of
from tests.engine.conftest import NewStack
from tests.engine.cut_off import HELM_BEGINS, Instant, Life, asked, beside, says, switched
from tests.engine.harness import RECORD, Cluster

PATIENCE = 120
"""The setting timeoutSeconds: longer than controllers and nodes take to come back to an API server that was away."""
IMPATIENCE = 6
"""The same, where a run is to fail by waiting."""
RECORDED = 30
"""The same, as a run has left it in the state that a destroy then fails by waiting for: its Commands have no other."""
AWAY = 3.0
"""Seconds without an API server; some more pass until it has started again."""

DAEMONSET_GONE = asked("delete", "daemonsets", "kube-proxy")
AGENTS_AWAITED = says("/3 replacing, ")
CLEANING = asked("create", "pods", "*-clean-*")
DAEMONSET_BACK = asked("create", "daemonsets", "kube-proxy")
LETTING_GO = asked("patch", "configmaps", "cilium-config")

_BACKUP = f"/api/v1/namespaces/kube-system/configmaps/{RECORD}"


@pytest.fixture(scope="module")
def life(cluster: Cluster, new_stack: NewStack) -> Iterator[Life]:
    its = Life(cluster, new_stack(cluster, mode="replace", timeoutSeconds=PATIENCE))
    yield its
    its.close()


# 1. An API server that is away again and again on the way there


@pytest.fixture(scope="module")
def patient(life: Life) -> Act:
    assert life.to("coexist").run.ok
    life.stack.config("mode", "replace")
    return life.through(
        "up",
        ("kube-proxy's pods are awaited", DAEMONSET_GONE),
        ("agents are awaited", AGENTS_AWAITED),
        ("nodes are cleaned", CLEANING),
        seconds=AWAY,
    )


def test_an_api_server_that_is_away_for_a_while_does_not_fail_a_switch_over(patient: Act) -> None:
    assert patient.run.ok, patient.run.report()
    switched(patient)


# 2. Killed where nodes have no rules any more, and a kube-proxy that comes back and writes none


@dataclass(frozen=True)
class Held:
    """What fails while kube-proxy doesn't route on a node, and the run after that."""

    coexist: Act
    destroy: Act
    last: Act


@pytest.fixture(scope="module")
def held(cluster: Cluster, life: Life, patient: Act) -> Held:
    assert life.to("coexist").run.ok
    life.stack.config("mode", "replace")
    life.stack.config("timeoutSeconds", RECORDED)
    life.cut("up", "the rules are gone", is_cleaned("node-1"))
    cluster.annotate("node-1", "kube-proxy-writes-no-rules")
    life.stack.config("mode", "coexist")
    life.stack.config("timeoutSeconds", IMPATIENCE)
    coexist = act(cluster, life.stack, "up", fails=True)
    destroy = act(cluster, life.stack, "destroy", fails=True)
    cluster.annotate("node-1", "kube-proxy-writes-no-rules", None)
    idle = pods_of(destroy.after, "kube-proxy")["node-1"]["metadata"]["name"]
    cluster.delete(f"/api/v1/namespaces/kube-system/pods/{idle}")
    life.stack.config("timeoutSeconds", PATIENCE)
    return Held(coexist, destroy, act(cluster, life.stack, "up"))


def is_cleaned(node: str) -> Instant:
    return says(f"{node}: cleaned, no leftover rules")


@pytest.mark.parametrize("way", ["coexist", "destroy"])
def test_half_way_cilium_stays_while_kube_proxy_does_not_route_on_every_node(way: str, held: Held) -> None:
    its: Act = getattr(held, way)
    assert "node-1: " in its.run.errors()
    assert "Cilium was not touched" in its.run.errors()
    assert helms_changes(its.audit) == []
    assert pods(its.after, "cilium") == pods(its.before, "cilium")
    config = "ConfigMap kube-system/cilium-config"
    assert its.after[config]["data"] == its.before[config]["data"]


def test_half_way_the_next_run_goes_the_rest_of_the_way_back(held: Held, life: Life) -> None:
    beside(held.last, life)


# 3. The cluster's power, and the machine's that runs Pulumi, in the middle of each way


@pytest.fixture(scope="module")
def dark(life: Life, held: Held) -> dict[str, Act]:
    done = {}
    for what, mode, instant in (
        ("there", "replace", DAEMONSET_GONE),
        ("back", "coexist", DAEMONSET_BACK),
        ("Helm", "replace", HELM_BEGINS),
    ):
        life.stack.config("mode", mode)
        begun = life.begin("up")
        begun.until(what, instant)
        begun.kill()
        life.cluster.power_cut()
        life.cancel()
        assert life.safe(), what
        done[what] = act(life.cluster, life.stack, "up")
    return done


@pytest.mark.parametrize("what", ["there", "Helm"])
def test_after_a_power_cut_the_next_run_goes_the_rest_of_the_way_there(what: str, dark: dict[str, Act]) -> None:
    switched(dark[what])


def test_after_a_power_cut_the_next_run_goes_the_rest_of_the_way_back(dark: dict[str, Act], life: Life) -> None:
    beside(dark["back"], life)


# 4. The backup's copy in the cluster is deleted, in each mode and half-way


@pytest.fixture(scope="module")
def without(life: Life, dark: dict[str, Act]) -> dict[str, Act]:
    done = {}
    life.cluster.delete(_BACKUP)
    done["destroy"] = act(life.cluster, life.stack, "destroy", fails=True)
    done["on the way back"] = life.to("coexist")
    life.cluster.delete(_BACKUP)
    done["beside"] = act(life.cluster, life.stack, "up")
    life.stack.config("mode", "replace")
    life.cut("up", "the DaemonSet is deleted", DAEMONSET_GONE)
    life.cluster.delete(_BACKUP)
    done["on the way there"] = act(life.cluster, life.stack, "up")
    return done


def test_destroy_without_a_backup_says_that_the_state_has_one(without: dict[str, Act]) -> None:
    its = without["destroy"]
    assert "The next `pulumi up` brings the backup back from the stack's state" in its.run.errors()
    assert pods(its.after, "cilium") == pods(its.before, "cilium")


def test_a_backup_that_was_deleted_comes_back_from_the_state(without: dict[str, Act], life: Life) -> None:
    beside(without["on the way back"], life)
    beside(without["beside"], life)
    switched(without["on the way there"])
    for its in (without["beside"], without["on the way there"]):
        assert f"ConfigMap kube-system/{RECORD}" in its.after
    assert life.safe()


# 5. An API server that is away again and again in destroy


@pytest.fixture(scope="module")
def gone(life: Life, without: dict[str, Act]) -> Act:
    done = life.through(
        "destroy",
        ("kube-proxy is restored", DAEMONSET_BACK),
        ("Cilium lets go", LETTING_GO),
        seconds=AWAY,
    )
    return life.settled(done)


def test_an_api_server_that_is_away_for_a_while_does_not_fail_a_destroy(gone: Act, life: Life) -> None:
    assert gone.run.ok, gone.run.report()
    life.as_found(gone)
