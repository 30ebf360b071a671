from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kube_proxy_replacement.cluster import draining, nodes, waiting
from kube_proxy_replacement.cluster.draining import CORDONED, cordon, evict, uncordon
from kube_proxy_replacement.cluster.errors import ApiError, ProcedureError
from kube_proxy_replacement.cluster.nodes import Node

from .fakes import Clock, FakeApi, made, node

NODE = "/api/v1/nodes/n1"
EXHAUSTED = "The disruption budget web needs 2 healthy pods and has 2 currently"


def pod(
    name: str, owner: str = "ReplicaSet", *, on: str = "n1", phase: str = "Running", uid: str = "", **metadata: Any
) -> dict[str, Any]:
    owners = [{"kind": owner, "name": "web", "controller": True}] if owner else []
    return made(
        "Pod",
        name,
        namespace="shop",
        metadata={"ownerReferences": owners, "uid": uid or f"uid-of-{name}", **metadata},
        spec={"nodeName": on, "volumes": [{"name": "scratch", "emptyDir": {}}]},
        status={"phase": phase},
    )


def path(name: str) -> str:
    return f"/api/v1/namespaces/shop/pods/{name}"


def budget(message: str = EXHAUSTED) -> ApiError:
    return ApiError("429", status=429, reason="TooManyRequests", causes={"DisruptionBudget": message})


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(draining, "time", clock)
    monkeypatch.setattr(waiting, "time", clock)
    return clock


@pytest.fixture
def api() -> FakeApi:
    return FakeApi().put(node("n1"), node("n2"))


@pytest.fixture
def n1(api: FakeApi) -> Node:
    return nodes.read(api).all[0]


@pytest.fixture
def drain(api: FakeApi, n1: Node) -> Callable[..., list[str]]:
    def run(patience: float = 60) -> list[str]:
        said: list[str] = []
        evict(api, n1, patience=patience, say=said.append)
        return said

    return run


def evicted(api: FakeApi) -> list[str]:
    return [at.split("/")[-2] for method, at in api.calls if method == "POST"]


class TestCordon:
    def test_there_and_back(self, api: FakeApi, n1: Node) -> None:
        before = api.objects[NODE]["spec"]
        assert cordon(api, n1)
        assert api.objects[NODE]["spec"]["unschedulable"] is True
        assert api.objects[NODE]["metadata"]["annotations"] == {CORDONED: "true"}
        assert uncordon(api, n1)
        assert api.objects[NODE]["spec"] == before
        assert api.objects[NODE]["metadata"]["annotations"] == {}

    def test_somebody_else_s_stays_his(self, api: FakeApi, n1: Node) -> None:
        api.objects[NODE]["spec"]["unschedulable"] = True
        assert not cordon(api, n1)
        assert not uncordon(api, n1)
        assert api.changes() == []

    def test_a_killed_run_s_is_ours(self, api: FakeApi, n1: Node) -> None:
        cordon(api, n1)
        assert not cordon(api, n1)
        assert uncordon(api, n1)
        assert not uncordon(api, n1)

    def test_one_that_somebody_cordons_at_the_same_moment_is_his(self, api: FakeApi, n1: Node) -> None:
        def meanwhile(method: str, at: str) -> None:
            if (method, at) == ("PATCH", NODE) and not api.objects[NODE]["spec"]:
                api.objects[NODE]["spec"]["unschedulable"] = True
                api.objects[NODE]["metadata"]["resourceVersion"] = "2"

        api.on_call = meanwhile
        assert not cordon(api, n1)
        assert "annotations" not in api.objects[NODE]["metadata"]

    def test_a_node_that_changes_otherwise_is_cordoned_all_the_same(self, api: FakeApi, n1: Node) -> None:
        versions = iter("23")

        def meanwhile(method: str, at: str) -> None:
            if method == "PATCH":
                api.objects[NODE]["metadata"]["resourceVersion"] = next(versions, "3")

        api.on_call = meanwhile
        assert cordon(api, n1)

    def test_one_that_never_stops_changing_is_an_error(self, api: FakeApi, n1: Node) -> None:
        api.errors["PATCH", NODE] = ApiError("409", status=409, reason="Conflict")
        with pytest.raises(ApiError):
            cordon(api, n1)

    def test_another_node_of_this_name_is_left_alone(self, api: FakeApi, n1: Node) -> None:
        api.objects[NODE]["metadata"] |= {"uid": "another", "annotations": {CORDONED: "true"}}
        assert not cordon(api, n1)
        assert not uncordon(api, n1)
        del api.objects[NODE]
        assert not cordon(api, n1)
        assert not uncordon(api, n1)
        assert api.changes() == []

    def test_a_pod_without_a_controller_refuses_the_node_before_anything_is_touched(
        self, api: FakeApi, n1: Node, drain: Callable[..., list[str]]
    ) -> None:
        api.put(pod("web"), pod("alone", owner=""), pod("other", owner="", on="n2"))
        for act in (lambda: cordon(api, n1), drain):
            with pytest.raises(ProcedureError, match=r"n1: .*shop/alone.*Nothing was changed") as caught:
                act()
            assert "other" not in str(caught.value)
        assert api.changes() == []


class TestEvict:
    def test_what_has_a_controller_goes_and_what_draining_is_not_about_stays(
        self, api: FakeApi, drain: Callable[..., list[str]]
    ) -> None:
        api.put(
            pod("web"),
            pod("db", owner="StatefulSet"),
            pod("agent", owner="DaemonSet"),
            pod("static", owner="Node", annotations={"kubernetes.io/config.mirror": "x"}),
            pod("bare-static", owner="", annotations={"kubernetes.io/config.mirror": "x"}),
            pod("job", owner="Job", phase="Succeeded"),
            pod("failed", owner="", phase="Failed"),
            pod("elsewhere", on="n2"),
            pod("ours", owner="", labels={"kube-proxy-replacement/task": "reach"}),
        )
        assert drain()[-1] == "n1: 2/2 pods evicted"
        assert evicted(api) == ["db", "web"]

    def test_the_pod_that_is_meant_is_named_by_its_uid(self, api: FakeApi, drain: Callable[..., list[str]]) -> None:
        api.put(pod("db", owner="StatefulSet", uid="first"))
        drain()
        ((_, at, body),) = api.bodies
        assert at == path("db") + "/eviction"
        assert (body["apiVersion"], body["kind"]) == ("policy/v1", "Eviction")
        assert body["deleteOptions"] == {"preconditions": {"uid": "first"}}

    def test_an_empty_node_is_nothing_to_say(self, drain: Callable[..., list[str]]) -> None:
        assert drain() == []

    def test_a_budget_is_waited_for(self, api: FakeApi, drain: Callable[..., list[str]], clock: Clock) -> None:
        api.put(pod("web-1"), pod("web-2"))
        api.on_evict = lambda its: budget() if its["metadata"]["name"] == "web-2" and clock.passed < 20 else None
        said = drain(patience=30)
        assert "n1: 1/2 pods evicted, waiting for: shop/web-2" in said
        assert said[-1] == "n1: 2/2 pods evicted"
        assert 20 <= clock.passed < 27
        assert len(evicted(api)) <= 7  # not at every look

    def test_one_that_never_lets_go_is_named_with_its_own_words(
        self, api: FakeApi, drain: Callable[..., list[str]], clock: Clock
    ) -> None:
        api.put(pod("web-1"), pod("web-2"))
        api.on_evict = lambda its: budget() if its["metadata"]["name"] == "web-2" else None
        with pytest.raises(ProcedureError) as caught:
            drain(patience=30)
        said = str(caught.value)
        assert f"shop/web-2: {EXHAUSTED}" in said
        assert "web-1" not in said
        assert "were not touched" in said
        assert 30 <= clock.passed < 40

    def test_each_pod_that_goes_is_patience_anew(
        self, api: FakeApi, drain: Callable[..., list[str]], clock: Clock
    ) -> None:
        api.put(*(pod(f"web-{number}") for number in range(4)))
        api.on_evict = lambda its: budget() if clock.passed < 20 * int(its["metadata"]["name"][-1]) else None
        drain(patience=30)
        assert clock.passed >= 60

    def test_a_pod_that_is_ending_is_awaited_and_not_asked_again(
        self, api: FakeApi, drain: Callable[..., list[str]], clock: Clock
    ) -> None:
        api.put(pod("web", finalizers=["x/y"]), pod("late", owner="", deletionTimestamp="2026-11-24T01:00:00Z"))

        def ends(passed: float) -> None:
            if passed > 20:
                api.objects.pop(path("web"), None)
                api.objects.pop(path("late"), None)

        clock.on_sleep = ends
        drain(patience=30)
        assert clock.passed > 20
        assert evicted(api) == ["web"]

    def test_one_that_somebody_deletes_is_no_longer_held_by_a_budget(
        self, api: FakeApi, drain: Callable[..., list[str]], clock: Clock
    ) -> None:
        def deleted(passed: float) -> None:
            if passed > 20:
                api.objects[path("web")]["metadata"]["deletionTimestamp"] = "2026-11-24T02:00:00Z"

        api.put(pod("web"))
        api.on_evict = lambda _: budget()
        clock.on_sleep = deleted
        with pytest.raises(ProcedureError, match="shop/web: it is ending"):
            drain(patience=30)

    def test_one_that_does_not_end_is_named(self, api: FakeApi, drain: Callable[..., list[str]]) -> None:
        api.put(pod("web", finalizers=["x/y"]))
        with pytest.raises(ProcedureError, match="shop/web: it is ending"):
            drain(patience=30)

    def test_the_next_pod_of_its_name_is_another(self, api: FakeApi, drain: Callable[..., list[str]]) -> None:
        # it tolerates the cordon, and would come back for ever
        def again(method: str, at: str) -> None:
            if method == "LIST" and path("web") not in api.objects:
                api.put(pod("web", uid="second"))

        api.put(pod("web", uid="first"))
        api.on_call = again
        drain()
        assert evicted(api) == ["web"]

    def test_one_that_goes_by_itself_meanwhile_is_fine(self, api: FakeApi, drain: Callable[..., list[str]]) -> None:
        def gone(method: str, at: str) -> None:
            if method == "POST":
                api.objects.pop(path("web"), None)

        api.put(pod("web"))
        api.on_call = gone
        drain()

    @pytest.mark.parametrize(
        "error",
        [
            ApiError("busy", status=429, reason=""),
            ApiError("403", status=403, reason="Forbidden", causes={"NamespaceTerminating": "it ends"}),
        ],
    )
    def test_what_passes_is_waited_for(
        self, api: FakeApi, drain: Callable[..., list[str]], clock: Clock, error: ApiError
    ) -> None:
        api.put(pod("web"))
        api.on_evict = lambda _: error if clock.passed < 10 else None
        drain()
        assert path("web") not in api.objects

    @pytest.mark.parametrize("status", [403, 500])
    def test_any_other_error_is_raised(self, api: FakeApi, drain: Callable[..., list[str]], status: int) -> None:
        api.put(pod("web"))
        api.on_evict = lambda _: ApiError("no", status=status, reason="X")
        with pytest.raises(ApiError):
            drain()
