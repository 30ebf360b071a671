from __future__ import annotations

from typing import Any

import pytest

from kube_proxy_replacement.cluster import node_pods, reach
from kube_proxy_replacement.cluster.errors import ApiError, ProcedureError
from kube_proxy_replacement.cluster.nodes import Node

from .fakes import Clock, FakeApi, agent_pod, forbidden

HOST, PORT, IMAGE = "192.0.2.10", 6443, "quay.io/cilium/cilium:v1.18.6"
SHOWN = {"KUBERNETES_SERVICE_HOST": HOST, "KUBERNETES_SERVICE_PORT": "6443"}
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system"
PODS = "/api/v1/namespaces/kube-system/pods"
ACCOUNTS = "/api/v1/namespaces/kube-system/serviceaccounts"
NODES = [Node(name, f"uid-of-{name}", True, {}, ()) for name in ("n1", "n2", "n3")]


class World(FakeApi):
    """A cluster whose reach pods end as `status` says by node, else well."""

    def __init__(self) -> None:
        super().__init__()
        self.status: dict[str, Any] = {}
        self.said: list[str] = []
        self.on_call = self._kubelets

    def _kubelets(self, method: str, path: str) -> None:
        if method == "LIST":
            for path_, body in self.objects.items():
                if path_.startswith(PODS):
                    body["status"] = self.status.get(body["spec"]["nodeName"], {"phase": "Succeeded"})

    def prove(self, agents: list[dict[str, Any]] | None = None, **more: Any) -> None:
        told = {"host": HOST, "port": PORT, "image": IMAGE, "timeout": 10, "say": self.said.append, **more}
        reach.prove(self, NODES, agents=agents or [], **told)

    def asked(self) -> list[str]:
        """The nodes on which a pod was made."""
        return [body["spec"]["nodeName"] for _, path, body in self.bodies if path == PODS]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(node_pods, "time", Clock(pace=5))
    return World()


FAILED = {
    "phase": "Failed",
    "containerStatuses": [{"name": "reach", "state": {"terminated": {"exitCode": 1, "message": "x509: not for it"}}}],
}


class TestWhatAgentsShow:
    def test_ready_agents_that_run_with_the_address_need_no_pod(self, world: World) -> None:
        world.prove([agent_pod(name, env=SHOWN) for name in ("n1", "n2", "n3")])
        assert world.changes() == []
        assert world.said == [f"API server {HOST}:{PORT}: 3/3 nodes' ready agents run with it"]

    @pytest.mark.parametrize(
        "pod",
        [
            agent_pod("n2", env=SHOWN, ready=False),
            agent_pod("n2", env=SHOWN | {"KUBERNETES_SERVICE_HOST": "192.0.2.11"}),
            agent_pod("n2", env=SHOWN | {"KUBERNETES_SERVICE_PORT": "7443"}),
            agent_pod("n2", env={"KUBERNETES_SERVICE_HOST": HOST}),
            agent_pod("n2"),
        ],
    )
    def test_a_node_whose_agent_does_not_show_it_is_asked_by_a_pod(self, world: World, pod: dict[str, Any]) -> None:
        world.prove([agent_pod("n1", env=SHOWN), pod, agent_pod("n3", env=SHOWN)])
        assert world.asked() == ["n2"]

    def test_the_environment_of_another_container_shows_nothing(self, world: World) -> None:
        pod = agent_pod("n2", env=SHOWN)
        pod["spec"]["containers"][0]["name"] = "sidecar"
        world.prove([pod])
        assert world.asked() == ["n1", "n2", "n3"]

    def test_without_agents_every_node_is_asked(self, world: World) -> None:
        world.prove()
        assert world.asked() == ["n1", "n2", "n3"]

    def test_an_agent_on_a_node_that_is_left_out_shows_nothing_for_the_others(self, world: World) -> None:
        world.prove([agent_pod("n9", env=SHOWN)])
        assert world.asked() == ["n1", "n2", "n3"]


class TestThePods:
    def test_they_do_what_an_agent_will_do_first_with_the_address(self, world: World) -> None:
        world.prove(host="2001:db8::1", port=7443)
        for _, path, body in world.bodies:
            if path == PODS:
                (container,) = body["spec"]["containers"]
                assert container["image"] == IMAGE
                assert container["command"][:2] == ["cilium-dbg", "build-config"]
                assert f"--node-name={body['spec']['nodeName']}" in container["command"]
                assert container["env"] == [
                    {"name": "KUBERNETES_SERVICE_HOST", "value": "2001:db8::1"},
                    {"name": "KUBERNETES_SERVICE_PORT", "value": "7443"},
                ]

    def test_their_account_may_read_what_it_reads_and_nothing_else(self, world: World) -> None:
        world.prove()
        created = {path: body for _, path, body in world.bodies}
        (account,) = {body["spec"]["serviceAccountName"] for _, path, body in world.bodies if path == PODS}
        assert created[ACCOUNTS]["metadata"]["name"] == account
        role, binding = created[f"{RBAC}/roles"], created[f"{RBAC}/rolebindings"]
        assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get"}
        assert all(rule["resourceNames"] for rule in role["rules"])
        assert {resource for rule in role["rules"] for resource in rule["resources"]} == {"namespaces", "configmaps"}
        assert binding["roleRef"]["name"] == role["metadata"]["name"]
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "kube-system"}]

    def test_the_account_may_read_before_the_first_pod_asks(self, world: World) -> None:
        world.prove()
        assert world.at("POST", f"{RBAC}/rolebindings") < world.at("POST", PODS)


class TestAFailingNode:
    def test_it_is_named_with_the_reason_and_what_to_do(self, world: World) -> None:
        world.status["n2"] = FAILED
        with pytest.raises(ProcedureError) as caught:
            world.prove()
        text = str(caught.value)
        assert "1 of 3 nodes don't reach the API server at 192.0.2.10:6443" in text
        assert "n2: exit code 1: x509: not for it" in text
        assert "n1:" not in text
        assert "kube-proxy was not touched" in text
        assert "apiServerHost" in text

    def test_every_one_is_named(self, world: World) -> None:
        world.status = {"n1": FAILED, "n3": {"phase": "Running"}}
        with pytest.raises(ProcedureError, match=r"(?s)n1: exit code 1.*n3: its pod is still Running"):
            world.prove()

    def test_what_was_and_was_not_changed_is_the_caller_s_word(self, world: World) -> None:
        world.status["n2"] = FAILED
        with pytest.raises(ProcedureError, match="the DaemonSet is gone already"):
            world.prove(untouched="the DaemonSet is gone already.")

    def test_nothing_but_its_own_objects_is_ever_deleted(self, world: World) -> None:
        world.status["n2"] = FAILED
        world.put(agent_pod("n1"))
        with pytest.raises(ProcedureError):
            world.prove()
        deleted = [path for method, path in world.calls if method == "DELETE"]
        assert deleted
        assert all("kube-proxy-replacement-reach" in path for path in deleted)


class TestAfterwards:
    def own(self, world: World) -> list[str]:
        return [path for path in world.objects if "kube-proxy-replacement" in path]

    def test_pods_account_and_rights_are_gone(self, world: World) -> None:
        world.prove()
        assert world.asked()
        assert self.own(world) == []

    def test_also_after_a_failure(self, world: World) -> None:
        world.status["n2"] = FAILED
        with pytest.raises(ProcedureError):
            world.prove()
        assert self.own(world) == []

    @pytest.mark.parametrize("path", [PODS, f"{RBAC}/roles", f"{RBAC}/rolebindings", ACCOUNTS])
    def test_also_where_a_creation_is_refused_and_that_refusal_is_told(self, world: World, path: str) -> None:
        world.errors["POST", path] = forbidden(path)
        with pytest.raises(ApiError, match="403"):
            world.prove()
        assert self.own(world) == []

    @pytest.mark.parametrize("kind", ["rolebindings", "roles"])
    def test_one_that_cannot_be_deleted_does_not_keep_the_others(self, world: World, kind: str) -> None:
        path = f"{RBAC}/{kind}/kube-proxy-replacement-reach"
        world.errors["DELETE", path] = forbidden(path)
        world.status["n2"] = FAILED
        with pytest.raises(ProcedureError, match="n2: exit code 1"):
            world.prove()
        assert self.own(world) == [path]

    def test_those_of_a_dead_run_are_taken_over(self, world: World) -> None:
        world.prove()
        for method, path, body in list(world.bodies):
            if method == "POST" and path != PODS:
                world.create(path, body)
        world.prove()
        assert self.own(world) == []


class TestReady:
    @pytest.mark.parametrize(
        ("status", "ready"),
        [
            ({}, False),
            ({"conditions": None}, False),
            ({"conditions": [{"type": "Ready", "status": "True"}]}, True),
            ({"conditions": [{"type": "Ready", "status": "False"}]}, False),
            ({"conditions": [{"type": "Ready", "status": "Unknown"}]}, False),
            ({"conditions": [{"type": "ContainersReady", "status": "True"}]}, False),
        ],
    )
    def test_as_the_condition_says(self, status: dict[str, Any], ready: bool) -> None:
        assert reach.is_ready({"status": status}) is ready
