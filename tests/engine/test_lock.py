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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.engine.acts import Act, act, is_kubelets, rules
from tests.engine.conftest import NewStack
from tests.engine.cut_off import COMMANDS, ENGINE, PROGRAM, Begun
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
    meanwhile,
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
    """A Command that was left over from a killed run, and another one like it, whose words can be heard.

    Attributes:
        changes: what was changed from the take-over until both had ended.
        heard: the other one's exit code, and what it said at its end.
        kernels: iptables-save by node, after their end.
    """

    changes: list[str]
    heard: tuple[int, str]
    kernels: dict[str, str]


@pytest.fixture(scope="module")
def left_over(cluster: Cluster, stack: Stack, both: Both) -> LeftOver:
    """They wait for an agent; when that is switched, they would clean. Meanwhile another run takes the cluster over.

    The plugin is killed before the engine: it would end its Command as the engine's connection breaks. And the engine
    is halted meanwhile: it would end the program, which then gives the lock up.
    """
    stack.config("mode", "coexist")
    stack.up()
    stack.config("mode", "replace")
    cluster.annotate("node-1", "endpoints-stuck")
    begun = Begun(cluster, stack, "up")
    begun.until("it waits for an agent", lambda its: WAIT in its.text)
    (left,) = begun.running(STEPS)
    told = environment(left)
    begun.halt()
    begun.kill(COMMANDS, PROGRAM)
    begun.kill(ENGINE)
    with renewed(cluster, cluster.get(LEASE)["spec"]["holderIdentity"]):
        heard = Heard(told)
        heard.until(WAIT)
    assert begun.running(STEPS) == {left}
    hold(cluster, EVE)
    mark = cluster.mark()
    cluster.annotate("node-1", "endpoints-stuck", None)
    restart_agent(cluster, "node-1")
    last = heard.ended()
    wait_until("what was left over has ended", lambda: not begun.running(STEPS), 60)
    changes = changes_by_person(cluster.audit(mark))
    begun.kill()
    assert stack.run(["cancel", "--yes", "--stack", stack.name]).ok
    return LeftOver(changes, last, cluster.kernels())


def test_what_is_left_over_from_a_dead_run_changes_nothing_any_more(left_over: LeftOver) -> None:
    assert left_over.changes == []
    for node, text in left_over.kernels.items():
        assert with_proxys_rules(text), f"{node} was cleaned"


def test_what_is_left_over_from_a_dead_run_says_why_it_stops(left_over: LeftOver) -> None:
    exit_code, said = left_over.heard
    assert exit_code == 1
    assert f"{EVE}, since 2026-01-02 03:04:05 UTC" in said
    assert "stopped before its next change" in said


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
    with renewed(cluster, EVE):
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


def environment(pid: int) -> dict[str, str]:
    """What a process was told."""
    words = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(word.split("=", 1) for word in words if word)


class Heard:
    """A step as the command plugin starts it, whose words somebody hears."""

    def __init__(self, told: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-m", STEPS, "agents", "update"],
            env=told,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._said: list[str] = []
        self._listening = threading.Thread(target=self._listen)
        self._listening.start()

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._said.append(line)

    def until(self, words: str) -> None:
        wait_until(words, lambda: any(words in line for line in self._said), 60)

    def ended(self) -> tuple[int, str]:
        """Its exit code, and all that it said."""
        exit_code = self._process.wait(60)
        self._listening.join()
        return exit_code, "".join(self._said)


def restart_agent(cluster: Cluster, node: str) -> None:
    pod = f"/api/v1/namespaces/kube-system/pods/{cluster.pods('k8s-app=cilium')[node]['metadata']['name']}"
    cluster.delete(pod)
    wait_until(f"the agent of {node} is gone", lambda: cluster.find(pod) is None)
    wait_until("there is another one", lambda: ready(cluster, node))


def ready(cluster: Cluster, node: str) -> bool:
    pod = cluster.pods("k8s-app=cilium").get(node)
    conditions = ((pod or {}).get("status") or {}).get("conditions") or []
    return any(its["type"] == "Ready" and its["status"] == "True" for its in conditions)


def hold(cluster: Cluster, holder: str) -> None:
    """Somebody holds the cluster from now on, however it came to that; since when is said by a clock of its own."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    since = "2026-01-02T03:04:05.000000Z"
    cluster.merge(LEASE, {"spec": {"holderIdentity": holder, "acquireTime": since, "renewTime": now}})


def give_up(cluster: Cluster) -> None:
    cluster.merge(LEASE, {"spec": {"holderIdentity": None}})


@contextmanager
def renewed(cluster: Cluster, holder: str) -> Iterator[None]:
    """The holder is at work, and renews its Lease."""

    def renew(over: threading.Event) -> None:
        while not over.wait(1):
            hold(cluster, holder)

    hold(cluster, holder)
    with meanwhile(renew):
        yield
