"""Runs that are cut off: the next one ends where the first would have, and there is a way back from wherever it was.

One stack's life on one cluster. Each act is a fixture that keeps what was seen; the tests below it are its promises.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.engine.acts import Act, act
from tests.engine.conftest import NewStack
from tests.engine.cut_off import (
    COMMANDS,
    DYNAMIC,
    ENGINE,
    HELM,
    HELM_BEGINS,
    PROGRAM,
    Left,
    Life,
    asked,
    begins,
    beside,
    nothing_to_do,
    says,
    switched,
)
from tests.engine.harness import AGENTS, CILIUM, RECORD, STATUS, Cluster

PATIENCE = 40
"""The setting timeoutSeconds: longer than the API server is away."""

LONG = "10"
"""Seconds that the endpoints of an agent take, so that there is time to cut off the run that waits for it."""

AWAY = 3.0
"""Seconds without an API server; some more pass until it has started again."""

THERE = {
    "the DaemonSet": asked("delete", "daemonsets", "kube-proxy"),
    "the Helm release": HELM_BEGINS,
    "the agents": says("/3 replacing, "),
}
"""How far a switch-over has come when it is killed."""


@pytest.fixture(scope="module")
def life(cluster: Cluster, new_stack: NewStack) -> Iterator[Life]:
    its = Life(cluster, new_stack(cluster, mode="replace", timeoutSeconds=PATIENCE))
    yield its
    its.close()


# 1. There: killed again and again, each time further, on a cluster that has no Cilium yet


@dataclass(frozen=True)
class Survived:
    """Runs that were cut off, by what they were cut off in, and one that wasn't."""

    left: dict[str, Left]
    last: Act


@pytest.fixture(scope="module")
def there(cluster: Cluster, life: Life) -> Survived:
    cluster.annotate("node-3", "endpoint-delay", LONG)
    left = {
        "looking": life.cut("up", "nodes show the address", asked("create", "pods", "*-reach-*")),
        "removing": life.cut("up", "the DaemonSet is deleted", THERE["the DaemonSet"], ENGINE),
        "Helm": life.cut("up", "Helm begins", HELM_BEGINS),
        "Helm's plugin": life.cut("up", "Helm begins again", HELM_BEGINS, HELM),
        "the commands' plugin": life.cut("up", "agents are awaited", says("agents 2/3"), COMMANDS),
        "the program": life.cut("up", "agents are awaited again", begins(AGENTS), PROGRAM),
        "the dynamic provider": life.cut("up", "agents are read", begins(STATUS), DYNAMIC),
    }
    cluster.annotate("node-3", "endpoint-delay", None)
    return Survived(left, act(cluster, life.stack, "up"))


def test_wherever_a_run_there_is_killed_kube_proxy_is_there_or_its_backup(there: Survived) -> None:
    assert [what for what, its in there.left.items() if not its.safe] == []


def test_killed_in_the_middle_of_helms_work_the_release_is_left_pending(there: Survived) -> None:
    """Else it isn't its recovery that is tested here."""
    assert there.left["Helm"].release == "pending-install"


def test_after_killed_runs_there_the_next_ends_where_the_first_would_have(there: Survived, life: Life) -> None:
    switched(there.last)
    nothing_to_do(life.stack)


# 2. Destroy: killed again and again


@pytest.fixture(scope="module")
def away(life: Life, there: Survived) -> Survived:
    left = {
        "restoring": life.cut("destroy", "the DaemonSet is back", asked("create", "daemonsets", "kube-proxy")),
        "letting go": life.cut("destroy", "Cilium lets go", asked("patch", "configmaps", "cilium-config"), COMMANDS),
        "uninstalling": life.cut("destroy", "Helm deletes", asked("delete", "daemonsets", "cilium"), HELM),
        "uninstalling again": life.cut("destroy", "Helm is at work", begins(CILIUM)),
        "forgetting": life.cut("destroy", "the backup is removed", asked("delete", "configmaps", RECORD)),
    }
    return Survived(left, life.destroyed())


def test_wherever_a_destroy_is_killed_kube_proxy_is_there(away: Survived) -> None:
    assert [what for what, its in away.left.items() if not its.safe] == []


def test_killed_in_the_middle_of_an_uninstall_the_release_is_left_uninstalling(away: Survived) -> None:
    assert away.left["uninstalling"].release == "uninstalling"


def test_after_killed_destroys_the_next_leaves_the_cluster_as_it_was_found(away: Survived, life: Life) -> None:
    life.as_found(away.last)


# 3. Destroy from wherever a first run was killed: what was killed then is in no state


@pytest.fixture(scope="module")
def undone(life: Life, away: Survived) -> dict[str, Act]:
    done = {}
    for what, instant in THERE.items():
        life.cut("up", what, instant)
        done[what] = life.destroyed()
    return done


@pytest.mark.parametrize("what", THERE)
def test_destroy_after_a_first_run_that_was_killed_leaves_the_cluster_as_it_was_found(
    what: str, undone: dict[str, Act], life: Life
) -> None:
    life.as_found(undone[what])


# 4. Up from an uninstall that was killed, and Helm without an API server


@pytest.fixture(scope="module")
def again(life: Life, undone: dict[str, Act]) -> Act:
    life.stack.config("mode", "coexist")
    life.through("up", ("Helm begins", HELM_BEGINS), seconds=AWAY)  # Helm may fail, or go on
    life.stack.up()
    life.cut("destroy", "Helm deletes", asked("delete", "daemonsets", "cilium"))
    return act(life.cluster, life.stack, "up")


def test_up_after_an_uninstall_that_was_killed_installs_again(again: Act, life: Life) -> None:
    beside(again, life)


@pytest.fixture(scope="module")
def refreshed(life: Life, again: Act) -> tuple[Act, Act]:
    """The state has a release that Helm doesn't have: an up to the other mode, and one with a refresh."""
    life.cut_when_uninstalled()
    life.stack.config("mode", "replace")
    refused = act(life.cluster, life.stack, "up", fails=True)
    life.stack.config("mode", "coexist")
    return refused, life.seen(life.stack.up("--refresh"))


def test_where_helms_release_is_gone_nothing_is_changed_before_helm_would_fail(refreshed: tuple[Act, Act]) -> None:
    refused, _ = refreshed
    assert "Nothing was changed" in refused.run.errors()
    assert [entry for entry in refused.audit if entry.by_person and entry.changes] == []


def test_with_a_refresh_it_is_installed_again(refreshed: tuple[Act, Act], life: Life) -> None:
    beside(refreshed[1], life)
    nothing_to_do(life.stack)


# 5. Back beside kube-proxy from wherever a switch-over was killed


BACK: dict[str, tuple[str, ...]] = {"the DaemonSet": (), "the Helm release": (ENGINE,), "the agents": ()}
"""And what is killed then; Helm goes on where it is the engine alone."""


@pytest.fixture(scope="module")
def back(life: Life, refreshed: tuple[Act, Act]) -> dict[str, Act]:
    done = {}
    for what, parts in BACK.items():
        life.stack.config("mode", "replace")
        life.cut("up", what, THERE[what], *parts)
        done[what] = life.to("coexist")
    return done


@pytest.mark.parametrize("what", BACK)
def test_mode_coexist_after_a_switch_over_that_was_killed_is_beside_kube_proxy(
    what: str, back: dict[str, Act], life: Life
) -> None:
    beside(back[what], life)
