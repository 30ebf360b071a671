"""Draining and the order of nodes, against a real API server and its own controllers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kube_proxy_replacement.cluster import nodes
from kube_proxy_replacement.cluster.api import Api
from kube_proxy_replacement.cluster.draining import CORDONED, cordon, evict, uncordon
from kube_proxy_replacement.cluster.errors import ProcedureError
from kube_proxy_replacement.cluster.node_order import queue
from kube_proxy_replacement.cluster.nodes import Node
from kube_proxy_replacement.cluster.told import NodeByNode
from tests.engine.harness import Cluster, Object, wait_until

BUDGETS = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets"
BUDGET = {
    "apiVersion": "policy/v1",
    "kind": "PodDisruptionBudget",
    "metadata": {"name": "all", "namespace": "shop"},
    "spec": {"maxUnavailable": 0, "selector": {}},
}


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Api:
    return Api.connect(cluster.kubeconfig.read_text())


@pytest.fixture
def busy(cluster: Cluster, api: Api) -> Iterator[Node]:
    """A node on which pods of the shop run."""

    def with_pods() -> list[str]:
        return [pod["spec"]["nodeName"] for pod in pods(cluster) if pod["spec"].get("nodeName")]

    wait_until("the shop's pods are on nodes", lambda: len(with_pods()) >= 3)
    node = next(node for node in nodes.read(api).all if node.name in with_pods())
    yield node
    uncordon(api, node)


def pods(cluster: Cluster) -> list[Object]:
    return [pod for pod in cluster.items("/api/v1/namespaces/shop/pods") if "deletionTimestamp" not in pod["metadata"]]


def test_a_budget_holds_its_pods_until_it_lets_go(cluster: Cluster, api: Api, busy: Node) -> None:
    cluster.create(BUDGETS, BUDGET)
    wait_until("the budget has counted", lambda: bool(cluster.get(f"{BUDGETS}/all")["status"].get("expectedPods")))
    assert cordon(api, busy)
    assert CORDONED in cluster.get(f"/api/v1/nodes/{busy.name}")["metadata"]["annotations"]
    with pytest.raises(ProcedureError, match=r"shop/.*: The disruption budget all"):
        evict(api, busy, patience=1, say=print)
    cluster.delete(f"{BUDGETS}/all")
    evict(api, busy, patience=30, say=print)
    assert [pod for pod in pods(cluster) if pod["spec"].get("nodeName") == busy.name] == []
    assert uncordon(api, busy)
    body = cluster.get(f"/api/v1/nodes/{busy.name}")
    assert "unschedulable" not in body["spec"]
    assert CORDONED not in body["metadata"].get("annotations", {})


def test_selectors_are_the_api_servers_own(api: Api) -> None:
    known = nodes.read(api).all
    last = known[-1].name
    found = queue(api, known, NodeByNode(order=(f"kubernetes.io/hostname in ({last})",)))
    assert found.rest[0].name == last
    assert len(found.rest) == len(known)
    with pytest.raises(ProcedureError, match=r"^nodeByNode.order\[0\]: 'a in \(' is no label selector"):
        queue(api, known, NodeByNode(order=("a in (",)))
