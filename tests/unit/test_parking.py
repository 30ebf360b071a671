"""kube-proxy parked on the nodes that Cilium routes on, and as it was again."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kube_proxy_replacement.cluster import (
    by_hand,
    kube_proxy,
    node_config,
    parking,
    record,
    removal,
    restoring,
    routing,
)
from kube_proxy_replacement.cluster.nodes import read as read_nodes

from .fakes import FakeApi, config_map, daemon_set, node

OURS = {"key": routing.LABEL, "operator": "NotIn", "values": ["cilium"]}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {}}]}
ARM = {"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"]}
FIELD = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}


def terms(*said: Any) -> dict[str, Any]:
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(said)}}}


AFFINITIES: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "none": (None, [{"matchExpressions": [OURS]}]),
    "another kind": ({"podAffinity": {"x": []}}, [{"matchExpressions": [OURS]}]),
    "preferred": ({"nodeAffinity": PREFERRED}, [{"matchExpressions": [OURS]}]),
    "one term": (terms({"matchExpressions": [ARM]}), [{"matchExpressions": [ARM, OURS]}]),
    "two terms": (
        terms({"matchExpressions": [ARM]}, FIELD),
        [{"matchExpressions": [ARM, OURS]}, FIELD | {"matchExpressions": [OURS]}],
    ),
    "a term that matches nothing": (terms({}, {"matchExpressions": [ARM]}), [{}, {"matchExpressions": [ARM, OURS]}]),
}


def proxy(affinity: Any = None, **strategy: Any) -> dict[str, Any]:
    body = daemon_set("kube-proxy")
    body["spec"]["updateStrategy"] = strategy or {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 3}}
    if affinity:
        body["spec"]["template"]["spec"]["affinity"] = affinity
    return body


@pytest.fixture(params=AFFINITIES)
def affinity(request: pytest.FixtureRequest) -> tuple[Any, list[dict[str, Any]]]:
    return AFFINITIES[request.param]


def test_each_term_leaves_the_labelled_nodes_out(affinity: tuple[Any, Any]) -> None:
    its, wanted = affinity
    parked = parking.parked(its)
    assert parked["nodeAffinity"][REQUIRED]["nodeSelectorTerms"] == wanted
    assert parking.parked(parked) == parked


def test_what_was_there_before_is_there_again(affinity: tuple[Any, Any]) -> None:
    its, _ = affinity
    assert parking.unparked(parking.parked(its)) == its
    assert parking.unparked(its) == its


def test_parked_it_restarts_nobody_and_unparked_it_is_as_before(affinity: tuple[Any, Any]) -> None:
    before = proxy(affinity[0])
    api = FakeApi().put(copy.deepcopy(before))
    parking.park(api, api.get(kube_proxy.DAEMONSET))
    live = api.get(kube_proxy.DAEMONSET)
    assert live["spec"]["updateStrategy"]["type"] == "OnDelete"
    assert parking.is_parked(live)
    assert record.bare(parking.original(live)) == record.bare(before)
    parking.unpark(api)
    assert record.bare(api.get(kube_proxy.DAEMONSET)) == record.bare(before)


def test_parked_twice_its_own_strategy_is_remembered() -> None:
    api = FakeApi().put(proxy())
    for _ in range(2):
        parking.park(api, api.get(kube_proxy.DAEMONSET))
    assert len(api.changes()) == 1
    parking.unpark(api)
    assert api.get(kube_proxy.DAEMONSET)["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 3}


def test_nothing_is_changed_where_it_is_not_parked() -> None:
    api = FakeApi().put(proxy())
    parking.unpark(api)
    parking.unpark(FakeApi())
    by_hand.let_go_of(api, kube_proxy.DAEMONSET)
    assert api.changes() == []


def test_a_backup_is_of_the_original_and_removes_what_is_parked() -> None:
    api = FakeApi().put(proxy(), config_map("kube-proxy"), node("a"), node("b"))
    first = removal.back_up(api, "uid", "kube-system/cilium", "replace", read_nodes(api).all)
    record.write(api, record.Record(**{**vars(first), "uncleaned": frozenset()}))
    parking.park(api, api.get(kube_proxy.DAEMONSET))
    routing.write(api, "a", routing.CILIUM)
    ready = read_nodes(api).all
    second = removal.back_up(api, "uid", "kube-system/cilium", "replace", ready)
    assert second.daemonset == first.daemonset
    assert second.uncleaned == {its.uid for its in ready if its.name == "b"}, "on the other one it writes no more"
    removal.remove_daemonset(api, second, ready, patience=1, say=lambda _: None)
    assert api.find(kube_proxy.DAEMONSET) is None


def test_restored_it_routes_on_every_node_before_any_agent_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi().put(proxy(), config_map("kube-proxy"), node("a"), node("b"), node("c"))
    api.objects["/apis/cilium.io/v2"] = {"resources": [{"name": "ciliumnodeconfigs"}]}
    for replaces in (True, False):
        node_config.write(api, "kube-system", "v2", replaces=replaces, defaults={"kube-proxy-replacement": "x"})
    parking.park(api, api.get(kube_proxy.DAEMONSET))
    routing.write(api, "a", routing.CILIUM)
    routing.write(api, "b", routing.KUBE_PROXY)
    seen: list[Any] = []

    def routes(*_: Any, **__: Any) -> None:
        seen.append((routing.labelled(api), parking.is_parked(api.get(kube_proxy.DAEMONSET))))

    monkeypatch.setattr(restoring, "wait_until_routing", routes)
    restoring.whole(api, read_nodes(api).ready, "kube-system", patience=1, say=lambda _: None)
    assert seen == [({"a": "both", "b": "kube-proxy"}, False)]
    assert routing.labelled(api) == {"b": "kube-proxy"}, "one that has gone back already stays so"
    left = [path.rpartition("/")[2] for path in api.objects if "ciliumnodeconfigs/" in path]
    assert left == ["kube-proxy-replacement-off"]
