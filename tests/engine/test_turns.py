"""Whose turn it is: canaries, pauses, order, batches, drains, nodes that join and leave, and where it can't be done.

All with the least rights, those of rbac/up.yaml and rbac/node-by-node.yaml.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.engine.acts import Act, act, pods_of
from tests.engine.conftest import NewStack
from tests.engine.cut_off import Life, beside, says, switched
from tests.engine.harness import Cluster, Object, Run, in_order, picked, wait_until
from tests.engine.test_draining import BUDGET, BUDGETS
from tests.engine.test_node_by_node import LABEL, ended, nothing_left, said
from tests.engine.test_rights import ENGINEER, Roles, applied, signed_in

PATIENCE = 12
"""The setting timeoutSeconds: a node that doesn't get on is given up soon."""

HELD = {
    "metadata": {"name": "held"},
    "spec": {
        "selector": {"matchLabels": {"app": "held"}},
        "template": {
            "metadata": {"labels": {"app": "held"}},
            "spec": {
                "nodeSelector": {"kubernetes.io/hostname": "node-2"},
                "containers": [{"name": "held", "image": "held:1"}],
            },
        },
    },
}
"""A pod that can be nowhere but on node-2."""

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/ciliumnodeconfigs.cilium.io"


@pytest.fixture(scope="module")
def life(cluster: Cluster, new_stack: NewStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    for file in ("up.yaml", "node-by-node.yaml"):
        roles = Roles(file)
        for named in (its for item in roles.objects for its in (item["metadata"], item.get("roleRef") or {})):
            if "name" in named:  # else what the program itself would leave behind couldn't be told from them
                named["name"] = named["name"].replace("kube-proxy-replacement", "engineers")
        applied(cluster, roles)
    cluster.merge("/api/v1/nodes/node-3", {"metadata": {"labels": {"canary": "yes"}}})
    its = Life(cluster, new_stack(cluster, mode="coexist", strategy=None, timeoutSeconds=PATIENCE))
    its.stack.kubeconfig = signed_in(cluster, tmp_path_factory.mktemp("engineer"), ENGINEER, "platform-engineers")
    its.stack.up()
    its.stack.config("mode", "replace")
    yield its
    its.close()


def modes(cluster: Cluster) -> dict[str, str]:
    """What each node's agent says of the replacement."""
    return {node: said(cluster, node) for node in sorted(cluster.pods("k8s-app=cilium"))}


def labels(objects: dict[str, Object]) -> dict[str, str]:
    """The nodes that have the label, and its value."""
    nodes = {key.rpartition("/")[2]: item["metadata"]["labels"] for key, item in objects.items() if key[:6] == "Node /"}
    return {node: its[LABEL] for node, its in nodes.items() if LABEL in its}


# 1. Canaries, and a pause; what was begun isn't begun again


@dataclass(frozen=True)
class Stopped:
    """A run that stopped as it was told to, and how it left the agents."""

    run: Run
    modes: dict[str, str]
    after: dict[str, Object]


def stopped(cluster: Cluster, life: Life, **by_node: object) -> Stopped:
    life.stack.config("nodeByNode", by_node)
    run = life.stack.up(fails=True)
    return Stopped(run, modes(cluster), cluster.objects())


@pytest.fixture(scope="module")
def canaries(cluster: Cluster, life: Life) -> Stopped:
    return stopped(cluster, life, canaries="canary=yes")


@pytest.fixture(scope="module")
def paused(cluster: Cluster, life: Life, canaries: Stopped) -> Stopped:
    by_node = {"canaries": "canary=yes", "continue": True, "pauseAfter": 1}
    return stopped(cluster, life, **by_node, order=["kubernetes.io/hostname=node-1"])


@pytest.fixture(scope="module")
def drained(cluster: Cluster, life: Life, paused: Stopped) -> Act:
    life.stack.config("nodeByNode", {"drain": True})
    return act(cluster, life.stack, "up")


def test_no_right_but_the_least_is_asked_for(paused: Stopped, drained: Act, held: Stopped, left: Act) -> None:
    for run in (paused.run, drained.run, held.run, left.run):
        assert "orbidden" not in run.text


def test_where_agents_run_it_goes_node_by_node_unless_said_otherwise(canaries: Stopped) -> None:
    assert canaries.modes == {"node-1": "False", "node-2": "False", "node-3": "True"}


def test_after_the_canaries_it_stops_with_what_to_do(canaries: Stopped) -> None:
    for words in ("Stopped here, as nodeByNode.canaries says: 1 of 3 nodes", "(node-3)", "nodeByNode.continue: true"):
        assert words in canaries.run.errors()
    assert pods_of(canaries.after, "kube-proxy").keys() == {"node-1", "node-2"}
    assert labels(canaries.after) == {"node-3": "cilium"}


def test_the_next_run_goes_on_in_the_order_that_is_said_until_the_pause(canaries: Stopped, paused: Stopped) -> None:
    assert "Stopped here, as nodeByNode.pauseAfter says: 2 of 3 nodes" in paused.run.errors()
    assert paused.modes == {"node-1": "True", "node-2": "False", "node-3": "True"}
    agents = [pods_of(its.after, "cilium")["node-3"]["metadata"]["uid"] for its in (canaries, paused)]
    assert agents[0] == agents[1], "the canary has no second turn"


def test_and_the_one_after_it_to_the_end(drained: Act, cluster: Cluster) -> None:
    switched(drained)
    nothing_left(drained.after, cluster)
    assert drained.outputs["handOver"] == {"done": 3, "total": 3, "failed": [], "now": []}


def test_a_node_is_drained_before_its_turn_and_only_then(drained: Act) -> None:
    cordons = [entry for entry in picked(drained.audit, "patch", "nodes") if entry.user == ENGINEER]
    assert {entry.name for entry in cordons[:2]} == {"node-2"}, "cordoned, then labelled"
    evicted = [entry for entry in picked(drained.audit, "create", "pods/eviction") if entry.user == ENGINEER]
    here = {key for key, item in drained.before.items() if key[:4] == "Pod " and item["spec"]["nodeName"] == "node-2"}
    assert evicted
    assert {f"Pod {entry.namespace}/{entry.name}" for entry in evicted} <= here
    in_order(
        ("node-2 is cordoned", cordons[:1]),
        ("its pods are evicted", evicted),
        ("node-2 is labelled", cordons[1:2]),
        ("node-2's agent ends", ended(drained, "cilium", "node-2")),
    )
    assert "unschedulable" not in drained.after["Node /node-2"]["spec"]


# 2. Back, two at a time


@pytest.fixture(scope="module")
def back(cluster: Cluster, life: Life, drained: Act) -> Act:
    life.stack.config("nodeByNode", {"batchSize": 2})
    life.stack.config("mode", "coexist")
    return act(cluster, life.stack, "up")


def test_as_many_at_a_time_as_said(back: Act, life: Life, cluster: Cluster) -> None:
    beside(back, life)
    nothing_left(back.after, cluster)
    labelled = {node: picked(back.audit, "patch", "nodes", node)[:1] for node in ("node-1", "node-2", "node-3")}
    gone = {node: ended(back, "cilium", node) for node in labelled}
    for first in ("node-2", "node-3"):
        for second in ("node-2", "node-3"):
            in_order((f"{first} is labelled", labelled[first]), (f"{second}'s agent ends", gone[second]))
        in_order((f"{first}'s agent ends", gone[first]), ("node-1's ends", gone["node-1"]))


# 3. A budget that never allows it


@pytest.fixture(scope="module")
def held(cluster: Cluster, life: Life, back: Act) -> Stopped:
    life.stack.config("mode", "replace")
    cluster.create("/apis/apps/v1/namespaces/shop/deployments", HELD)
    cluster.create(BUDGETS, BUDGET)
    wait_until("it runs on node-2", lambda: "node-2" in cluster.pods("app=held", "shop"))
    its = stopped(cluster, life, drain=True)
    cluster.delete(f"{BUDGETS}/all")
    return its


def test_a_budget_that_never_allows_it_stops_the_run_before_the_node_is_touched(held: Stopped) -> None:
    for words in ("node-2 can't be handed over: it can't be drained", "The disruption budget all", "on node-2."):
        assert words in held.run.errors()
    assert set(held.modes.values()) == {"False"}
    assert "unschedulable" not in held.after["Node /node-2"]["spec"]
    assert labels(held.after) == {}
    assert len(pods_of(held.after, "kube-proxy")) == 3


# 4. One that joins in the middle, and one that leaves


@pytest.fixture(scope="module")
def joined(cluster: Cluster, life: Life, held: Stopped) -> Act:
    life.stack.config("nodeByNode", None)
    begun = life.begin("up")
    begun.until("one is handed over", says("handed over 1/3"))
    cluster.join(4)
    return life.seen(begun.ended())


def test_a_node_that_joins_in_the_middle_has_its_turn(joined: Act, cluster: Cluster) -> None:
    assert joined.run.ok, joined.run.report()
    assert joined.outputs["agents"] == {"desired": 4, "ready": 4, "replacing": 4, "switched": 4, "unreadable": 0}
    nothing_left(joined.after, cluster)


@pytest.fixture(scope="module")
def left(cluster: Cluster, life: Life, joined: Act) -> Act:
    life.stack.config("mode", "coexist")
    begun = life.begin("up")
    begun.until("one is handed back", says("handed back 1/4"))
    cluster.delete("/api/v1/nodes/node-4")
    for label in ("k8s-app=kube-proxy", "k8s-app=cilium"):  # the controllers take their time for these
        orphan = cluster.pods(label)["node-4"]["metadata"]["name"]
        cluster.delete(f"/api/v1/namespaces/kube-system/pods/{orphan}?gracePeriodSeconds=0")
    return life.seen(begun.ended())


def test_a_node_that_leaves_in_the_middle_is_forgotten(left: Act, life: Life, cluster: Cluster) -> None:
    assert left.run.ok, left.run.report()
    beside(left, life)
    assert left.outputs["handOver"] == {"done": 3, "total": 3, "failed": [], "now": []}
    nothing_left(left.after, cluster)


# 5. Where it can't be done


def test_where_the_api_has_no_node_configs_a_switch_over_is_refused_unless_all_at_once(
    left: Act, life: Life, cluster: Cluster
) -> None:
    cluster.delete(CRD)
    wait_until(
        "the API has them no more", lambda: "ciliumnodeconfigs" not in json.dumps(cluster.find("/apis/cilium.io/v2"))
    )
    life.stack.config("mode", "replace")
    refused = life.stack.preview(fails=True).errors()
    assert "has no CiliumNodeConfigs" in refused
    assert "Or write strategy: all-at-once." in refused
    life.stack.config("strategy", "all-at-once")
    assert life.stack.preview().ok
