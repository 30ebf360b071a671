"""The lock on a cluster: of two runs at once one is told who holds the cluster, and what is left of a dead one stops.

One stack's life on one cluster, disturbed by a second one with a backend of its own, and by runs that are killed. Each
act is a fixture that keeps what was seen; the tests below it are its promises.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from tests.engine.acts import Act, act, condition, is_kubelets, rules
from tests.engine.conftest import NewStack
from tests.engine.cut_off import ENGINE, PROGRAM, Begun
from tests.engine.harness import (
    AGENTS,
    CONFIGMAP,
    DAEMONSET,
    FOUND,
    Cluster,
    Object,
    Run,
    Stack,
    changes_by_person,
    compared,
    wait_until,
)

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-proxy-replacement"
EVE = "eve@elsewhere, run other/prod/0123456789ab"
"""Somebody whose run the tests play."""

AWAY = 18
"""Seconds for which the API server is away: longer than a Lease lasts that isn't renewed."""

PATIENCE = 240
"""The setting timeoutSeconds: a run waits for an agent while another one's preview and up go on."""

STEPS = "kube_proxy_replacement.run"
RUN = "KUBE_PROXY_REPLACEMENT_RUN"
WAIT = "agents 2/3 replacing"
"""Said while an agent's endpoints aren't ready: a run that waits there changes nothing."""


@pytest.fixture(scope="module")
def stack(cluster: Cluster, new_stack: NewStack) -> Stack:
    return new_stack(cluster, mode="replace", timeoutSeconds=PATIENCE)


@pytest.fixture(scope="module")
def other(cluster: Cluster, new_stack: NewStack) -> Stack:
    """Another stack in another backend, for the same release on the same cluster."""
    return new_stack(cluster, mode="replace", timeoutSeconds=PATIENCE)


# 1. Two runs at once, and an API server that is away for longer than the Lease lasts


@dataclass(frozen=True)
class Both:
    """One run, and another stack's preview and up in the middle of it.

    Attributes:
        holder: who held the Lease then, and since when.
        changes: what anybody with the person's credentials changed from the other's beginning to its end.
        left: the Lease after the first one's end.
    """

    first: Run
    preview: Run
    refused: Run
    holder: tuple[str, str]
    changes: list[str]
    left: Object


@pytest.fixture(scope="module")
def both(cluster: Cluster, stack: Stack, other: Stack) -> Both:
    cluster.annotate("node-1", "endpoints-stuck")
    begun = Begun(cluster, stack, "up")
    begun.until("it waits for an agent", lambda its: WAIT in its.text)
    spec, mark = cluster.get(LEASE)["spec"], cluster.mark()
    preview, refused = other.preview(), other.up(fails=True)
    changes = changes_by_person(cluster.audit(mark))
    cluster.annotate("node-1", "endpoint-delay", str(2 * AWAY))
    cluster.annotate("node-1", "endpoints-stuck", None)
    restart_agent(cluster, "node-1")
    assert "agents 3/3" not in begun.text, "it waits no longer"
    cluster.without_api_server(AWAY)
    first = begun.ended()
    cluster.annotate("node-1", "endpoint-delay", None)
    return Both(first, preview, refused, (spec["holderIdentity"], spec["acquireTime"]), changes, cluster.get(LEASE))


def test_the_second_of_two_runs_is_told_who_holds_the_cluster_and_since_when(both: Both, stack: Stack) -> None:
    holder, since = both.holder
    assert re.fullmatch(rf"\S+@\S+, run kube-proxy-replacement/{stack.name}/\w+", holder)
    said = both.refused.errors()
    assert holder in said
    assert f"since {since[:10]} {since[11:19]} UTC" in said
    assert "Nothing was changed" in said
    assert "Traceback" not in both.refused.text


def test_the_second_of_two_runs_changes_nothing(both: Both) -> None:
    assert both.changes == []
    assert {step.resource for step in both.refused.steps if step.ended} & {DAEMONSET, CONFIGMAP, AGENTS} == set()


def test_a_preview_meanwhile_says_that_another_run_holds_the_cluster(both: Both) -> None:
    assert f"another run holds the lock on this cluster: {both.holder[0]}" in both.preview.notes()


def test_a_run_whose_api_server_was_away_for_longer_than_the_lock_lasts_goes_on(both: Both) -> None:
    assert both.first.ok, both.first.text
    assert "taken over" not in both.first.text


def test_a_run_that_has_ended_gives_the_cluster_up(both: Both) -> None:
    assert "holderIdentity" not in both.left["spec"]


def test_a_run_that_changes_nothing_does_not_touch_the_lock(both: Both, cluster: Cluster, stack: Stack) -> None:
    before = cluster.get(LEASE)
    run = stack.up()
    assert run.changes == {}
    assert cluster.get(LEASE) == before


# 2. What is left over from a run that was killed


@dataclass(frozen=True)
class LeftOver:
    """A Command whose engine and program were killed, and another one that begins late.

    Attributes:
        changes: what was changed from the kill until both had ended.
        late: what the late one said, after its exit code.
        kernels: iptables-save by node, after their end.
    """

    changes: list[str]
    late: tuple[int, str]
    kernels: dict[str, str]


@pytest.fixture(scope="module")
def left_over(cluster: Cluster, stack: Stack, both: Both) -> LeftOver:
    """It waits for an agent; when that is switched, it would clean. Meanwhile somebody has taken the cluster over."""
    stack.config("mode", "coexist")
    stack.up()
    stack.config("mode", "replace")
    cluster.annotate("node-1", "endpoints-stuck")
    begun = Begun(cluster, stack, "up")
    begun.until("it waits for an agent", lambda its: WAIT in its.text)
    late = environment(stack, AGENTS)
    mark = cluster.mark()
    begun.kill(ENGINE, PROGRAM)
    left = begun.running(STEPS)
    assert left, "nothing is left over"
    hold(cluster)
    cluster.annotate("node-1", "endpoints-stuck", None)
    restart_agent(cluster, "node-1")
    wait_until("what was left over has ended", lambda: not left & begun.running(STEPS), 60)
    done = subprocess.run(
        [sys.executable, "-m", STEPS, "agents", "update"],
        env=stack.environ() | late,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    changes = changes_by_person(cluster.audit(mark))
    begun.kill()
    assert stack.run(["cancel", "--yes", "--stack", stack.name]).ok
    return LeftOver(changes, (done.returncode, done.stderr), cluster.kernels())


def test_what_is_left_over_from_a_dead_run_changes_nothing_any_more(left_over: LeftOver) -> None:
    assert left_over.changes == []
    for node, text in left_over.kernels.items():
        assert with_proxys_rules(text), f"{node} was cleaned"


def test_a_step_that_begins_when_its_run_is_over_says_why_it_stops(left_over: LeftOver) -> None:
    exit_code, said = left_over.late
    assert exit_code == 1
    assert f"{EVE}, since 2026-01-02 03:04:05 UTC" in said
    assert "has changed nothing" in said


@pytest.fixture(scope="module")
def taken_over(cluster: Cluster, stack: Stack, left_over: LeftOver) -> Act:
    return act(cluster, stack, "up")


def test_a_lock_that_nobody_renews_is_taken_over_in_the_open(taken_over: Act) -> None:
    assert "was taken over, as nobody renewed it for 15 s" in taken_over.run.notes()
    assert EVE in taken_over.run.notes()


def test_after_a_take_over_the_run_ends_where_the_first_would_have(taken_over: Act) -> None:
    assert taken_over.outputs["agents"]["switched"] == 3
    assert [node for node, text in taken_over.kernels.items() if with_proxys_rules(text)] == []


# 3. A state of the time before there was a lock


@pytest.fixture(scope="module")
def older(cluster: Cluster, stack: Stack, taken_over: Act) -> Act:
    state = stack.state()
    for resource in state["deployment"]["resources"]:
        for side in ("inputs", "outputs"):
            resource.get(side, {}).get("environment", {}).pop(RUN, None)
    assert stack.run(["stack", "import", "--stack", stack.name], told=json.dumps(state)).ok
    return act(cluster, stack, "up")


def test_where_the_commands_change_but_nothing_in_the_cluster_they_take_the_lock_themselves(
    older: Act, cluster: Cluster, stack: Stack
) -> None:
    assert older.run.changes.keys() >= {DAEMONSET, CONFIGMAP, AGENTS}
    assert FOUND not in older.run.changes
    assert "holderIdentity" not in cluster.get(LEASE)["spec"]
    assert stack.preview().changes == {}


# 4. The way out


@pytest.fixture(scope="module")
def kept_out(cluster: Cluster, stack: Stack, older: Act) -> Act:
    with renewed(cluster):
        return act(cluster, stack, "destroy", fails=True)


def test_a_destroy_while_another_run_is_at_work_is_told_so(kept_out: Act) -> None:
    assert f"{EVE}, since 2026-01-02 03:04:05 UTC" in kept_out.run.errors()


def test_a_destroy_while_another_run_is_at_work_changes_nothing(kept_out: Act) -> None:
    assert changes_by_person(kept_out.audit) == []
    assert compared(kept_out.before, kept_out.after) == {}


@dataclass(frozen=True)
class Destroyed:
    """A destroy, and who was seen to hold the Lease meanwhile."""

    run: Run
    holders: set[str]


@pytest.fixture(scope="module")
def destroyed(cluster: Cluster, stack: Stack, kept_out: Act) -> Destroyed:
    give_up(cluster)
    holders: set[str] = set()

    def gone(_: Begun) -> bool:
        lease = cluster.find(LEASE)
        holders.add((lease or {"spec": {}})["spec"].get("holderIdentity") or "")
        return lease is None

    begun = Begun(cluster, stack, "destroy")
    begun.until("the Lease is gone", gone)
    return Destroyed(begun.ended(), holders)


def test_in_a_destroy_the_deletes_hold_the_cluster_one_after_the_other(destroyed: Destroyed, stack: Stack) -> None:
    assert destroyed.run.ok, destroyed.run.text
    (holder,) = destroyed.holders - {""}
    assert re.fullmatch(rf"\S+@\S+, run kube-proxy-replacement/{stack.name}/\w+, process \d+", holder)


def test_the_last_delete_takes_the_lock_away(destroyed: Destroyed, cluster: Cluster) -> None:
    assert cluster.find(LEASE) is None


# What is looked for, and done


def with_proxys_rules(text: str) -> list[str]:
    return [line for line in rules(text) if not is_kubelets(line)]


def environment(stack: Stack, command: str) -> dict[str, str]:
    """What a Command is told, as its state has it."""
    resources = stack.state()["deployment"]["resources"]
    inputs: dict[str, str] = next(
        its["inputs"]["environment"] for its in resources if its["urn"].endswith(f"::{command}")
    )
    return inputs


def restart_agent(cluster: Cluster, node: str) -> None:
    pod = f"/api/v1/namespaces/kube-system/pods/{cluster.pods('k8s-app=cilium')[node]['metadata']['name']}"
    cluster.delete(pod)
    wait_until(f"the agent of {node} is gone", lambda: cluster.find(pod) is None)
    wait_until("there is another one", lambda: ready(cluster, node))


def ready(cluster: Cluster, node: str) -> bool:
    pod = cluster.pods("k8s-app=cilium").get(node)
    return pod is not None and condition(pod, "Ready")["status"] == "True"


def hold(cluster: Cluster) -> None:
    """Eve holds the cluster from now on, however she came to it; since when is said by her own clock."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    since = "2026-01-02T03:04:05.000000Z"
    cluster.merge(LEASE, {"spec": {"holderIdentity": EVE, "acquireTime": since, "renewTime": now}})


def give_up(cluster: Cluster) -> None:
    cluster.merge(LEASE, {"spec": {"holderIdentity": None}})


@contextmanager
def renewed(cluster: Cluster) -> Iterator[None]:
    """Eve is at work, and renews her Lease."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(1):
            hold(cluster)

    hold(cluster)
    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
