from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import pytest

from kube_proxy_replacement.cluster import node_pods
from kube_proxy_replacement.cluster.errors import ApiError, ProcedureError
from kube_proxy_replacement.cluster.node_pods import Outcome
from kube_proxy_replacement.cluster.nodes import Node

from .fakes import Clock, FakeApi, forbidden, made

PODS = "/api/v1/namespaces/kube-system/pods"
LABEL = "kube-proxy-replacement/task"


def nodes(*names: str) -> list[Node]:
    return [Node(name, f"uid-of-{name}", True, {}, ()) for name in names]


class World(FakeApi):
    """A cluster whose kubelets run pods.

    Attributes:
        status: by node, the status that its pod ends with; without an entry it succeeds.
        most: the most pods that hadn't ended at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.status: dict[str, Any] = {}
        self.most = 0
        self.said: list[str] = []
        self.on_call = self._kubelets

    def pods(self) -> list[dict[str, Any]]:
        return [body for path, body in self.objects.items() if path.startswith(PODS)]

    def _kubelets(self, method: str, path: str) -> None:
        if method == "LIST":
            self.most = max(self.most, sum("status" not in pod for pod in self.pods()))
            for pod in self.pods():
                pod["status"] = self.status.get(pod["spec"]["nodeName"], {"phase": "Succeeded"})

    def run(self, *names: str, task: str = "reach", timeout: float = 30) -> dict[str, Outcome]:
        spec = {"containers": [{"name": "c", "image": "i"}]}
        return node_pods.run(self, task, nodes(*names), lambda _: spec, timeout=timeout, say=self.said.append)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(pace=5)
    monkeypatch.setattr(node_pods, "time", clock)
    return clock


@pytest.fixture
def world(clock: Clock) -> World:
    return World()


def ended(code: int, message: str = "", kind: str = "containerStatuses") -> dict[str, Any]:
    return {"phase": "Failed", kind: [{"name": "c", "state": {"terminated": {"exitCode": code, "message": message}}}]}


def held(reason: str, message: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
    return {"phase": "Pending", "containerStatuses": [{"name": "c", "state": state}]}


class TestOutcomes:
    def test_each_node_has_its_own(self, world: World) -> None:
        world.status["n2"] = ended(1, "no route to host")
        assert world.run("n1", "n2", "n3") == {
            "n1": Outcome(True),
            "n2": Outcome(False, "exit code 1: no route to host"),
            "n3": Outcome(True),
        }

    def test_without_nodes_there_are_none_and_nothing_is_created(self, world: World) -> None:
        assert world.run() == {}
        assert world.changes() == []

    @pytest.mark.parametrize(
        ("status", "message"),
        [
            (ended(2, "in the init container", kind="initContainerStatuses"), "exit code 2: in the init container"),
            (ended(137), "exit code 137: "),
            ({"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory"}, "low on memory"),
            ({"phase": "Failed", "reason": "NodeAffinity"}, "NodeAffinity"),
            ({"phase": "Failed"}, "failed without a reason"),
        ],
    )
    def test_a_failure_is_told_in_the_container_s_or_the_kubelet_s_words(
        self, world: World, status: dict[str, Any], message: str
    ) -> None:
        world.status["n1"] = status
        outcome = world.run("n1")["n1"]
        assert not outcome.ok
        assert message in outcome.message

    def test_the_container_that_failed_is_told_not_the_one_that_ended_well(self, world: World) -> None:
        first = {"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
        world.status["n1"] = ended(1, "tables are there") | {"initContainerStatuses": [first]}
        assert world.run("n1")["n1"].message == "exit code 1: tables are there"

    def test_of_a_long_message_the_end_is_kept(self, world: World) -> None:
        world.status["n1"] = ended(1, "x" * 5000 + " the reason")
        message = world.run("n1")["n1"].message
        assert message.endswith("the reason")
        assert len(message) < 600

    def test_progress_is_told(self, world: World) -> None:
        world.run("n1", "n2")
        assert world.said[-1] == "reach: 2/2 nodes"


class TestManyNodes:
    @pytest.mark.parametrize("method", ["POST", "DELETE"])
    def test_their_pods_are_created_and_deleted_some_at_a_time(self, world: World, method: str) -> None:
        """Each waits until eight are asked for: one after the other, the first would wait for ever."""
        together = threading.Barrier(8, timeout=10)
        kubelets = world.on_call

        def wait(asked: str, path: str) -> None:
            kubelets(asked, path)
            if asked == method:
                together.wait()

        world.on_call = wait
        assert len(world.run(*(f"n{number}" for number in range(8)))) == 8

    def test_one_pod_that_cannot_be_created_is_an_error_and_the_others_are_gone(self, world: World) -> None:
        denied, kubelets = iter([False, True]), world.on_call

        def refuse(asked: str, path: str) -> None:
            kubelets(asked, path)
            if asked == "POST" and next(denied, False):
                raise forbidden(path)

        world.on_call = refuse
        with pytest.raises(ApiError, match="403"):
            world.run(*(f"n{number}" for number in range(20)))
        assert world.pods() == []


class TestPatience:
    @pytest.mark.parametrize(
        ("status", "message"),
        [
            (held("ImagePullBackOff", "no such image"), "ImagePullBackOff: no such image"),
            (held("CreateContainerError"), "CreateContainerError"),
            (held("PodInitializing"), "its pod is still Pending after 30 s"),
            ({"phase": "Running"}, "its pod is still Running after 30 s"),
            ({}, "its pod is still Pending after 30 s"),
        ],
    )
    def test_a_pod_that_does_not_end_fails_its_node_alone(
        self, world: World, status: dict[str, Any], message: str
    ) -> None:
        world.status["n2"] = status
        assert world.run("n1", "n2") == {"n1": Outcome(True), "n2": Outcome(False, message)}

    def test_it_ends_when_the_patience_does(self, world: World, clock: Clock) -> None:
        world.status["n1"] = {"phase": "Running"}
        world.run("n1", timeout=30)
        assert 30 < clock.passed < 35

    def test_each_end_of_a_pod_renews_it(self, world: World, clock: Clock) -> None:
        names = ["n1", "n2", "n3", "n4"]
        world.status = {name: {"phase": "Running"} for name in names}

        def one_ends(passed: float) -> None:
            for name in names[: int(passed // 20)]:
                world.status[name] = {"phase": "Succeeded"}

        clock.on_sleep = one_ends
        assert all(outcome.ok for outcome in world.run(*names, timeout=30).values())
        assert clock.passed >= 80

    def test_a_pod_that_someone_deleted_is_a_failure_not_a_success(self, world: World) -> None:
        def delete(method: str, path: str) -> None:
            if method == "LIST":
                for path_ in [path_ for path_ in world.objects if path_.startswith(PODS)]:
                    del world.objects[path_]

        world.on_call = delete
        assert world.run("n1") == {"n1": Outcome(False, "its pod was deleted by someone")}

    def test_nodes_whose_turn_never_came_have_an_outcome_too(self, world: World) -> None:
        names = [f"n{number}" for number in range(103)]
        world.status = {name: {"phase": "Running"} for name in names}
        outcomes = world.run(*names)
        assert set(outcomes) == set(names)
        assert not any(outcome.ok for outcome in outcomes.values())


class TestThePods:
    def test_one_on_each_node_in_its_own_network_whatever_stands_in_its_way(self, world: World) -> None:
        world.run("n1", "n2")
        bodies = [body for method, _, body in world.bodies if method == "POST"]
        assert [body["spec"]["nodeName"] for body in bodies] == ["n1", "n2"]
        for body in bodies:
            spec = body["spec"]
            assert spec["hostNetwork"] is True
            assert spec["restartPolicy"] == "Never"
            assert spec["tolerations"] == [{"operator": "Exists"}]
            assert spec["containers"] == [{"name": "c", "image": "i"}]
            assert body["metadata"]["labels"][LABEL] == "reach"

    def test_at_most_a_hundred_run_at_a_time(self, world: World) -> None:
        outcomes = world.run(*(f"n{number}" for number in range(250)))
        assert len(outcomes) == 250
        assert world.most == 100

    def test_they_are_gone_afterwards(self, world: World) -> None:
        world.status["n2"] = ended(1)
        world.run("n1", "n2")
        assert world.pods() == []

    @pytest.mark.parametrize("error", [forbidden(PODS), ApiError("quota", status=403, reason="Forbidden")])
    def test_they_are_gone_also_where_a_later_one_is_refused(self, world: World, error: Exception) -> None:
        def refuse(method: str, path: str) -> None:
            if method == "POST" and len(world.pods()) == 1:
                raise error

        world.on_call = refuse
        with pytest.raises(ApiError):
            world.run("n1", "n2")
        assert world.pods() == []

    def test_they_are_gone_also_after_the_patience(self, world: World) -> None:
        world.status["n1"] = {"phase": "Running"}
        world.run("n1")
        assert world.pods() == []

    def test_those_of_a_dead_run_go_first_and_do_not_count(self, world: World) -> None:
        stale = made("Pod", node_pods.pod_name("reach", nodes("n1")[0]), namespace="kube-system", spec={})
        stale["metadata"]["labels"] = {LABEL: "reach"}
        stale["spec"]["nodeName"] = "n1"
        world.put(stale)
        world.run("n1")
        path = f"{PODS}/{stale['metadata']['name']}"
        assert world.at("DELETE", path) < world.at("POST", PODS)

    def test_those_of_another_task_and_others_pods_stay(self, world: World) -> None:
        other = made("Pod", "other", namespace="kube-system", spec={"nodeName": "n1"})
        other["metadata"]["labels"] = {LABEL: "clean"}
        plain = made("Pod", "plain", namespace="kube-system", spec={"nodeName": "n1"})
        world.put(other, plain)
        world.run("n1")
        assert {pod["metadata"]["name"] for pod in world.pods()} == {"other", "plain"}

    def test_a_creation_whose_answer_was_lost_is_no_failure(self, world: World) -> None:
        create = world.create

        def lost(path: str, body: dict[str, Any]) -> dict[str, Any]:
            create(path, body)
            return create(path, body)  # what a repeated request does

        world.create = lost  # type: ignore[method-assign]
        assert world.run("n1") == {"n1": Outcome(True)}

    def test_any_other_refusal_is_one(self, world: World) -> None:
        world.errors["POST", PODS] = forbidden(PODS)
        with pytest.raises(ApiError, match="403"):
            world.run("n1")


class TestRemoval:
    def stuck(self, world: World) -> None:
        pod = made("Pod", "stuck", namespace="kube-system", spec={"nodeName": "n1"})
        pod["metadata"]["labels"] = {LABEL: "reach"}
        world.put(pod)
        world.delete = lambda *_, **__: True  # type: ignore[method-assign]

    def test_pods_that_something_holds_are_told_and_no_new_ones_made(self, world: World, clock: Clock) -> None:
        self.stuck(world)
        with pytest.raises(ProcedureError, match=rf"{LABEL}=reach in kube-system.*don't go away"):
            world.run("n1")
        assert ("POST", PODS) not in world.calls
        assert clock.passed < 60

    def test_they_are_awaited(self, world: World, clock: Clock) -> None:
        self.stuck(world)
        clock.on_sleep = lambda passed: world.objects.pop(f"{PODS}/stuck", None) if passed > 10 else None
        node_pods.remove_all(world, "reach")
        assert world.pods() == []

    def test_only_the_pod_that_was_seen_is_deleted_and_at_once(self, world: World) -> None:
        asked: list[dict[str, Any]] = []
        delete = world.delete

        def note(path: str, **how: Any) -> bool:
            asked.append(how)
            return delete(path, **how)

        world.delete = note  # type: ignore[method-assign]
        world.run("n1")
        assert all(how["uid"] and how["grace_seconds"] == 0 for how in asked)


class TestNames:
    @pytest.mark.parametrize("name", ["n1", "a" * 253, "ip-10-0-0-1.eu-west-1.compute.internal"])
    def test_every_node_s_name_gives_one_that_a_pod_may_have(self, name: str) -> None:
        (its,) = nodes(name)
        pod = node_pods.pod_name("clean", its)
        assert len(pod) <= 63
        assert pod.replace("-", "").isalnum()
        assert pod == pod.lower()

    def test_two_nodes_have_two(self) -> None:
        a, b = nodes("a" * 100, "a" * 101)
        assert node_pods.pod_name("clean", a) != node_pods.pod_name("clean", b)

    def test_two_tasks_have_two(self) -> None:
        (its,) = nodes("n1")
        assert node_pods.pod_name("clean", its) != node_pods.pod_name("reach", its)


class TestCreatedOrThere:
    def test_what_is_there_stays_as_it_is(self) -> None:
        api = FakeApi().put(made("Pod", "x", namespace="kube-system", spec={"mine": True}))
        node_pods.created_or_there(api, PODS, made("Pod", "x", namespace="kube-system", spec={}))
        assert api.objects[f"{PODS}/x"]["spec"] == {"mine": True}

    @pytest.mark.parametrize("reason", ["Forbidden", "Invalid", ""])
    def test_another_refusal_is_raised(self, reason: str) -> None:
        api = FakeApi()
        api.errors["POST", PODS] = ApiError("no", status=409, reason=reason)
        with pytest.raises(ApiError):
            node_pods.created_or_there(api, PODS, made("Pod", "x"))


def test_outcomes_are_by_the_node_s_name_not_the_pod_s(world: World) -> None:
    names: Iterable[str] = ("b.example", "a.example")
    assert set(world.run(*names)) == set(names)
