"""The page docs/when-something-goes-wrong.md: each of its commands is run here, where somebody would run it.

One stack's life on one cluster. Each act is a fixture that keeps what was seen; the tests below it are its promises.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from local.toolchain import Toolchain
from tests.engine.acts import Act, act, but_for_proxies_pods, pods_of
from tests.engine.conftest import NewStack
from tests.engine.cut_off import HELM_BEGINS, Begun, Left, Life, beside, nothing_to_do, switched
from tests.engine.harness import RECORD, Cluster, Run, compared, picked, wait_until
from tests.engine.page import Reader, blocks

PATIENCE = 8
"""The setting timeoutSeconds: how long a run waits that is to fail by waiting."""


@pytest.fixture(scope="module")
def life(cluster: Cluster, new_stack: NewStack) -> Iterator[Life]:
    its = Life(cluster, new_stack(cluster, mode="replace", timeoutSeconds=PATIENCE))
    yield its
    its.close()


@pytest.fixture(scope="module")
def reader(cluster: Cluster, toolchain: Toolchain, life: Life) -> Reader:
    return Reader(toolchain, cluster, life.stack)


# 1. A run that was killed, its lock on the backend, its lock on the cluster, what it had begun


@dataclass(frozen=True)
class Killed:
    """Attributes:
    locked: what the engine says while the backend holds the dead run's lock.
    lease: the lock on the cluster, as kubectl shows it.
    pending: what the state says that dead runs had begun, before and after it was told to forget it.
    """

    locked: Run
    lease: Run
    after: Act
    pending: tuple[int, int]


@pytest.fixture(scope="module")
def killed(life: Life, reader: Reader) -> Killed:
    begun = life.begin("up")
    begun.until("the first install has begun", HELM_BEGINS)
    begun.kill()
    locked = life.stack.up(fails=True)
    (lease,) = reader.does("Another run holds the cluster")
    reader.does("Another run holds the cluster", 1)
    _, up = reader.does("The run was killed")
    before = pending(life)
    reader.does("The run was killed", 1)
    return Killed(locked, lease, life.seen(up), (before, pending(life)))


def pending(life: Life) -> int:
    return len(life.stack.state()["deployment"].get("pending_operations") or [])


def test_the_engine_says_which_command_takes_a_dead_runs_lock_away(killed: Killed) -> None:
    assert "the stack is currently locked" in killed.locked.text
    assert "`pulumi cancel`" in killed.locked.text


def test_the_lease_says_who_holds_the_cluster_since_when(killed: Killed) -> None:
    spec = yaml.safe_load(killed.lease.text)["spec"]
    assert ", run " in spec["holderIdentity"]
    assert spec["acquireTime"]


def test_after_a_killed_run_two_commands_end_where_it_would_have(killed: Killed) -> None:
    switched(killed.after)


def test_what_dead_runs_had_begun_is_forgotten_by_one_command(killed: Killed, life: Life) -> None:
    before, after = killed.pending
    assert before > 0
    assert after == 0
    nothing_to_do(life.stack)


# 2. Looks at a cluster that is as wanted


@pytest.fixture(scope="module")
def looked(reader: Reader, killed: Killed) -> dict[str, list[Run]]:
    headings = (
        "It says no",
        "The API server, and the way to it",
        "The wrong cluster",
        "Leftover rules",
        "Something changes it",
    )
    return {heading: reader.does(heading) for heading in headings}


def test_which_cluster_it_is_is_told_by_kubectl_and_by_the_stack_in_the_same_words(
    looked: dict[str, list[Run]],
) -> None:
    kubectls, stacks = looked["The wrong cluster"]
    assert kubectls.text.strip() == stacks.text.strip()


def test_who_changed_an_object_stands_in_it(looked: dict[str, list[Run]]) -> None:
    assert "manager: pulumi-" in looked["Something changes it"][0].text


# 3. kube-proxy restored by hand, where the program can't be run


@pytest.fixture(scope="module")
def by_hand(life: Life, reader: Reader, looked: dict[str, list[Run]]) -> Act:
    def routes() -> bool:
        (said,) = reader.does("By hand", 1)
        return [int(count) > 0 for count in said.text.split()] == [True] * 3

    reader.does("By hand")
    wait_until("every pod has a number that isn't 0", routes)
    reader.does("By hand", 2)
    reader.does("By hand", 3)
    return act(life.cluster, life.stack, "preview")


def test_done_by_hand_kube_proxy_is_as_it_was_and_no_agent_replaces_it(by_hand: Act, life: Life) -> None:
    for key, part in (("DaemonSet.apps", "spec"), ("ConfigMap", "data")):
        name = f"{key} kube-system/kube-proxy"
        assert by_hand.after[name][part] == life.found[name][part]
    for node in life.cluster.node_names:
        assert f"{node}: its agent says KubeProxyReplacement: False" in by_hand.run.notes()


@pytest.fixture(scope="module")
def taken(life: Life, by_hand: Act) -> Act:
    return life.to("coexist")


def test_mode_coexist_takes_what_was_done_by_hand_as_it_is(taken: Act, life: Life) -> None:
    beside(taken, life)


# 4. Helm cut off, and the backup's copy deleted


@pytest.fixture(scope="module")
def pending_release(life: Life, reader: Reader, taken: Act) -> tuple[Run, Act]:
    life.stack.config("mode", "replace")
    life.cut("up", "Helm is at work", HELM_BEGINS)
    shown, up = reader.does("Helm was cut off")
    return shown, life.seen(up)


def test_a_release_that_was_cut_off_is_shown_and_recovered(pending_release: tuple[Run, Act]) -> None:
    shown, after = pending_release
    assert "pending-upgrade" in shown.text
    switched(after)


@pytest.fixture(scope="module")
def edited_backup(cluster: Cluster, life: Life, reader: Reader, pending_release: tuple[Run, Act]) -> Run:
    path = f"/api/v1/namespaces/kube-system/configmaps/{RECORD}"
    cluster.merge(path, {"data": {"daemonset.json": "null"}})
    refused = life.stack.preview(fails=True)
    reader.does("The backup")
    return refused


def test_a_backup_that_was_edited_is_replaced_by_the_states(edited_backup: Run, life: Life) -> None:
    assert "its checksum is wrong" in edited_backup.errors()
    assert life.safe()


# 5. kube-proxy that doesn't come


@pytest.fixture(scope="module")
def ruleless(cluster: Cluster, life: Life, reader: Reader, edited_backup: Run) -> Act:
    cluster.annotate("node-1", "kube-proxy-writes-no-rules")
    life.stack.config("mode", "coexist")
    failed = act(cluster, life.stack, "up", fails=True)
    assert "node-1: " in failed.run.errors()
    cluster.annotate("node-1", "kube-proxy-writes-no-rules", None)
    reader.does("kube-proxy doesn't come, or doesn't go", NODE="node-1")
    return act(cluster, life.stack, "up")


def test_a_kube_proxy_that_hangs_is_restarted_and_routes(ruleless: Act, life: Life) -> None:
    beside(ruleless, life)


# 6. A switch-over that failed: rolled back (the first time killed in that), then kept


@pytest.fixture(scope="module")
def rolling(cluster: Cluster, life: Life, ruleless: Act) -> Left:
    cluster.annotate("node-3", "agent-keeps-config")
    life.stack.config("mode", "replace")
    return life.cut("up", "Helm rolls back", rolls_back)


def rolls_back(its: Begun) -> bool:
    """One revision was the upgrade's."""
    revisions = picked(its.asked, "create", "secrets", "sh.helm.release.*")
    return "rolled back" in its.text and len(revisions) > 1


def test_a_rollback_that_is_killed_leaves_the_release_pending_and_kube_proxy_back(rolling: Left) -> None:
    assert rolling.release == "pending-rollback"
    assert rolling.safe


@pytest.fixture(scope="module")
def rolled_back(cluster: Cluster, life: Life, reader: Reader, rolling: Left) -> Act:
    failed = act(cluster, life.stack, "up", fails=True)
    assert "It was rolled back" in failed.run.errors()
    cluster.annotate("node-3", "agent-keeps-config", None)
    *_, up = reader.does("A switch-over that failed")
    return life.seen(up)


def test_after_a_rollback_one_goes_back_for_good(rolled_back: Act, life: Life) -> None:
    beside(rolled_back, life)


@pytest.fixture(scope="module")
def kept(cluster: Cluster, life: Life, reader: Reader, rolled_back: Act) -> tuple[list[Run], Act]:
    cluster.annotate("node-2", "agent-stuck")
    life.stack.config("mode", "replace")
    life.stack.config("onFailure", "keep")
    failed = act(cluster, life.stack, "up", fails=True)
    assert "was left as it is" in failed.run.errors()
    stuck = pods_of(failed.after, "cilium")["node-2"]["metadata"]["uid"]
    looks = reader.does("A switch-over that failed", 1, NODE="node-2")
    cluster.annotate("node-2", "agent-stuck", None)
    reader.does("A switch-over that failed", 2, NODE="node-2")
    assert cluster.pods("k8s-app=cilium").get("node-2", {}).get("metadata", {}).get("uid") != stuck
    return looks, act(cluster, life.stack, "up")


def test_a_kept_failure_can_be_looked_at(kept: tuple[list[Run], Act]) -> None:
    _, described, noted = kept[0]
    assert "node-2" in described.text
    assert "node-2" in noted.text, "the reason, as the record has it"


def test_after_a_look_the_next_up_goes_on(kept: tuple[list[Run], Act]) -> None:
    switched(kept[1])


# 7. Lost: credentials, then the state, then the cluster


@dataclass(frozen=True)
class Lost:
    """Attributes:
    refused: a run with credentials that aren't accepted.
    uninstalled: a preview and a destroy, when one was killed that the state doesn't know to have uninstalled Cilium.
    found: after the state was lost, and a new stack has taken everything over.
    """

    refused: Run
    found: Act
    uninstalled: tuple[Run, Run]
    gone: Act


@pytest.fixture(scope="module")
def lost(cluster: Cluster, life: Life, reader: Reader, kept: tuple[list[Run], Act]) -> Lost:
    stack = life.stack
    stack.kubeconfig = expired(cluster.kubeconfig, stack.folder / "expired")
    refused = stack.up(fails=True)
    reader.does("Lost", FILE=str(cluster.kubeconfig))
    for file in (stack.backend / ".pulumi" / "stacks").rglob(f"{stack.name}.json*"):
        file.unlink()
    *_, up = reader.does("Lost", 1, STACK=stack.name)
    stack.name = "again"
    found = life.seen(up)
    life.cut_when_uninstalled()
    uninstalled = (stack.preview(fails=True), stack.destroy(fails=True))
    (destroyed,) = reader.does("The run was killed", 2)
    gone = life.settled(life.seen(destroyed))
    reader.does("Lost", 2)
    return Lost(refused, found, uninstalled, gone)


def expired(kubeconfig: Path, to: Path) -> Path:
    """The same cluster, by a token that it doesn't know."""
    shutil.copyfile(kubeconfig, to)
    content = yaml.safe_load(to.read_text())
    content["users"][0]["user"] = {"token": "expired"}
    to.write_text(yaml.safe_dump(content))
    return to


def test_credentials_that_expired_are_called_that(lost: Lost) -> None:
    assert "aren't accepted" in lost.refused.errors()


def test_after_a_lost_state_a_new_stack_takes_everything_over(lost: Lost) -> None:
    switched(lost.found)
    assert lost.found.outputs["release"]["name"] == "cilium"


def test_a_release_that_helm_has_uninstalled_and_the_state_still_has_is_named_with_what_to_do(lost: Lost) -> None:
    preview, destroy = lost.uninstalled
    assert "gone from the cluster, uninstalled by a `destroy` that was cut off" in preview.errors()
    assert "`pulumi up --refresh`" in preview.errors()
    assert "uninstall: Release not loaded: cilium: release: not found" in destroy.errors()


def test_and_destroys_it_as_the_lost_one_would_have(lost: Lost, life: Life) -> None:
    left = but_for_proxies_pods(compared(life.found, lost.gone.after))
    assert left == {
        "ConfigMap kube-system/kube-proxy": "made anew",
        "ConfigMap kube-system/kubeadm-config": "data.ClusterConfiguration",  # what was set by hand is its owner's
        "DaemonSet.apps kube-system/kube-proxy": "made anew",
    }


# All of it


def test_every_command_of_the_page_was_run(reader: Reader, lost: Lost) -> None:
    assert sorted(blocks().keys() - reader.done) == []
