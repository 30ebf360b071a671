"""Nodes handed over one after the other, and back: who is restarted when, what a failing one leaves, what is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.engine.acts import Act, act, cleaning, pods, pods_of
from tests.engine.conftest import NewStack
from tests.engine.cut_off import Left, Life, asked, beside, says, switched
from tests.engine.harness import RECORD, Cluster, Entry, Object, Run, in_order, picked

LABEL = "kube-proxy-replacement/routing"
BEFORE = "kube-proxy-replacement/update-strategy"
CONFIGS = "/apis/cilium.io/v2/namespaces/kube-system/ciliumnodeconfigs"
NODES = ["node-2", "node-3", "node-1"]
"""In the order of their turns: the first one is of the control plane."""

PATIENCE = 12
"""The setting timeoutSeconds: a node that doesn't get on is given up soon."""


@pytest.fixture(scope="module")
def life(cluster: Cluster, new_stack: NewStack) -> Iterator[Life]:
    its = Life(cluster, new_stack(cluster, mode="coexist", strategy="node-by-node", timeoutSeconds=PATIENCE))
    its.stack.up()
    yield its
    its.close()


# 1. There


@pytest.fixture(scope="module")
def there(cluster: Cluster, life: Life) -> Act:
    life.stack.config("mode", "replace")
    return act(cluster, life.stack, "up")


def test_it_is_switched_as_by_the_other_strategy(there: Act) -> None:
    switched(there)


def test_one_node_after_the_other_has_its_turn(there: Act) -> None:
    """Label, its kube-proxy's end, its agent's restart, its cleaning: all before the next node's label."""
    acts: list[tuple[str, list[Entry]]] = []
    for node in NODES:
        acts += [
            (f"{node} is labelled", picked(there.audit, "patch", "nodes", node)[:1]),
            (f"{node}'s kube-proxy ends", ended(there, "kube-proxy", node)),
            (f"{node}'s agent ends", ended(there, "cilium", node)),
        ]
    in_order(*acts, ("kube-proxy's DaemonSet is deleted", picked(there.audit, "delete", "daemonsets", "kube-proxy")))


def test_each_agent_is_restarted_once_and_no_kube_proxy_but_for_its_end(there: Act) -> None:
    assert pods(there.before, "cilium").keys().isdisjoint(pods(there.after, "cilium"))
    assert restarted(there) == 3
    its = {entry.name for entry in gone(there) if entry.name.startswith("kube-proxy-")}
    assert {name for name in its if not name.startswith(f"{RECORD}-")} == pods(there.before, "kube-proxy").keys()


def test_each_node_is_cleaned_once(there: Act) -> None:
    # its deletion may be in the log twice: the kubelet asks for it too, and the API server says yes to both
    created = [entry.name for entry in cleaning(there.audit) if entry.verb == "create"]
    assert len(created) == len(set(created)) == 3


def test_the_backup_is_of_kube_proxy_as_its_owner_has_it(there: Act) -> None:
    kept = json.loads(there.after[f"ConfigMap kube-system/{RECORD}"]["data"]["daemonset.json"])
    its = there.before["DaemonSet.apps kube-system/kube-proxy"]
    assert kept["spec"] == its["spec"]
    assert BEFORE not in (kept["metadata"].get("annotations") or {})


def test_nothing_is_left_of_the_way(there: Act, cluster: Cluster) -> None:
    nothing_left(there.after, cluster)


def test_it_shows_how_far_it_is(there: Act) -> None:
    assert "handed over 3/3" in there.run.notes()
    assert "handed over 1/3, now: node-3" in there.run.notes()


def test_a_second_run_changes_nothing(there: Act, life: Life) -> None:
    assert life.stack.preview().changes == {}


# 2. And back


@pytest.fixture(scope="module")
def back(cluster: Cluster, life: Life, there: Act) -> Act:
    life.stack.config("mode", "coexist")
    return act(cluster, life.stack, "up")


def test_kube_proxy_routes_and_no_agent_replaces_it(back: Act, life: Life, cluster: Cluster) -> None:
    beside(back, life)
    nothing_left(back.after, cluster)


def test_each_agent_lets_go_in_its_turn_and_once(back: Act) -> None:
    acts: list[tuple[str, list[Entry]]] = [
        ("kube-proxy is restored", picked(back.audit, "create", "daemonsets", "kube-proxy"))
    ]
    for node in NODES:
        acts += [
            (f"{node} is labelled", picked(back.audit, "patch", "nodes", node)[:1]),
            (f"{node}'s agent ends", ended(back, "cilium", node)),
        ]
    in_order(*acts)
    assert restarted(back) == 3


# 3. A node that can't be handed over


@dataclass(frozen=True)
class Failed:
    """A run that failed on a node, and the next one, after that was mended."""

    run: Run
    after: dict[str, Object]
    modes: dict[str, str]
    next: Act


@pytest.fixture(scope="module")
def failed(cluster: Cluster, life: Life, back: Act) -> Failed:
    life.stack.config("mode", "replace")
    cluster.annotate("node-3", "agent-crashes-replacing", "level=fatal msg=CANARY")
    run = life.stack.up(fails=True)
    after = cluster.objects()
    modes = {node: said(cluster, node) for node in NODES}
    cluster.annotate("node-3", "agent-crashes-replacing", None)
    return Failed(run, after, modes, act(cluster, life.stack, "up"))


def test_it_goes_back_alone_and_the_others_stay(failed: Failed) -> None:
    assert failed.modes == {"node-2": "True", "node-3": "False", "node-1": "False"}
    assert pods_of(failed.after, "kube-proxy").keys() == {"node-3", "node-1"}
    labels = {node: failed.after[f"Node /{node}"]["metadata"]["labels"].get(LABEL) for node in NODES}
    assert labels == {"node-2": "cilium", "node-3": None, "node-1": None}


def test_the_error_names_the_node_and_says_what_is_left(failed: Failed) -> None:
    said = failed.run.errors()
    for words in ("node-3 can't be handed over", "node-3 has gone back alone", "1 of 3 nodes are handed over"):
        assert words in said


def test_the_next_run_goes_on_with_those_that_are_left(failed: Failed, cluster: Cluster) -> None:
    switched(failed.next)
    assert {entry.name for entry in picked(failed.next.audit, "patch", "nodes")} >= {"node-3", "node-1"}
    assert (
        pods_of(failed.next.before, "cilium")["node-2"]["metadata"]["uid"]
        == (pods_of(failed.next.after, "cilium")["node-2"]["metadata"]["uid"])
    )
    nothing_left(failed.next.after, cluster)


# 4. Killed


@dataclass(frozen=True)
class Killed:
    """Runs that were killed on the way back and on the way there, and what came after."""

    on_the_way_back: Left
    on: Act
    on_the_way_there: Left
    gone: Act


@pytest.fixture(scope="module")
def killed(cluster: Cluster, life: Life, failed: Failed) -> Killed:
    life.stack.config("mode", "coexist")
    on_the_way_back = life.cut("up", "one is handed back", says("handed back 1/3"))
    on = life.to("replace")
    life.to("coexist")
    life.stack.config("mode", "replace")
    on_the_way_there = life.cut("up", "the second is labelled", asked("patch", "nodes", "node-3"))
    return Killed(on_the_way_back, on, on_the_way_there, life.destroyed())


def test_killed_on_the_way_back_there_is_a_way_on(killed: Killed, cluster: Cluster) -> None:
    assert killed.on_the_way_back.safe
    switched(killed.on)
    nothing_left(killed.on.after, cluster)


def test_killed_on_the_way_there_destroy_leaves_kube_proxy_as_it_was_found(killed: Killed, life: Life) -> None:
    assert killed.on_the_way_there.safe
    life.as_found(killed.gone)


# Looked at


def gone(its: Act) -> list[Entry]:
    """The kubelets' last words on pods."""
    return [entry for entry in picked(its.audit, "delete", "pods") if "kubelet" in entry.agent]


def restarted(its: Act) -> int:
    """How many agents have ended."""
    others = ("cilium-operator", "cilium-envoy")
    return len([its for its in gone(its) if its.name.startswith("cilium-") and not its.name.startswith(others)])


def ended(its: Act, app: str, node: str) -> list[Entry]:
    """The kubelet's last word on the pod that an application had on a node before."""
    name = pods_of(its.before, app)[node]["metadata"]["name"]
    return [entry for entry in picked(its.audit, "delete", "pods", name) if "kubelet" in entry.agent]


def said(cluster: Cluster, node: str) -> str:
    """What the node's agent says of the replacement."""
    pod = cluster.pods("k8s-app=cilium")[node]["metadata"]["name"]
    status = json.loads(cluster.execute(pod, "cilium-dbg", "status", "-o", "json", container="cilium-agent"))
    return str(status["kube-proxy-replacement"]["mode"])


def nothing_left(objects: dict[str, Object], cluster: Cluster) -> None:
    """No label, no CiliumNodeConfig, and the DaemonSets as their owners have them."""
    assert [key for key, item in objects.items() if LABEL in (item["metadata"].get("labels") or {})] == []
    assert cluster.items(CONFIGS) == []
    for name in ("cilium", "kube-proxy"):
        daemonset = objects.get(f"DaemonSet.apps kube-system/{name}")
        if daemonset:
            assert daemonset["spec"]["updateStrategy"]["type"] == "RollingUpdate", name
            assert BEFORE not in (daemonset["metadata"].get("annotations") or {}), name
            assert LABEL not in json.dumps(daemonset["spec"]["template"]), name
