"""Cilium's programs outlive its agents: before an uninstall each agent has to start with the replacement off."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import pytest

from kube_proxy_replacement.cluster import agents, letting_go, nodes, waiting
from kube_proxy_replacement.cluster.errors import ProcedureError, UnreachableError
from kube_proxy_replacement.cluster.exec import ExecResult

from .fakes import FakeApi, agent_answers, agent_pod, agents_daemon_set, config_map, node, revision, sample

NAMESPACE = "kube-system"
CONFIG = f"/api/v1/namespaces/{NAMESPACE}/configmaps/cilium-config"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
NAMES = ("n1", "n2")


class World(FakeApi):
    """Two agents that replace kube-proxy; a restarted one starts with what cilium-config says then."""

    def __init__(self) -> None:
        super().__init__()
        data = {
            "kube-proxy-replacement": "true",
            "kube-proxy-replacement-healthz-bind-address": "0.0.0.0:10256",
            "x": "y",
        }
        owner = agents_daemon_set()
        self.put(
            owner,
            revision(1, owner),
            config_map("cilium-config", namespace=NAMESPACE, **data),
            *(node(name) for name in NAMES),
            *(agent_pod(name, hash_="hash-1") for name in NAMES),
        )
        self.mode = {f"cilium-{name}-a": "true" for name in NAMES}
        self.unreadable: set[str] = set()
        self.on_exec = self.answer
        self.order: list[str] = []

    def answer(self, namespace: str, pod: str, container: str, command: Any) -> ExecResult:
        if pod in self.unreadable:
            raise UnreachableError(f"{pod}: no answer within 30 s")
        if "status" in command and self.mode[pod] != "true":
            return ExecResult(sample("cilium-1.20.2-status-kube-proxy.json"), "", 0)
        return agent_answers(command)

    def delete(self, path: str, **how: Any) -> bool:
        gone = super().delete(path, **how)
        if gone and path.startswith(f"{PODS}/cilium-"):
            name = path.rpartition("cilium-")[2].removesuffix("-a")
            self.order.append(f"restart {name}")
            self.put(agent_pod(name, suffix="b", hash_="hash-1"))
            self.mode[f"cilium-{name}-b"] = self.objects[CONFIG]["data"]["kube-proxy-replacement"]
        return gone

    def merge(self, path: str, body: Any) -> Any:
        self.order.append("config" if path == CONFIG else path)
        return super().merge(path, body)

    def let_go(self) -> list[str]:
        said: list[str] = []
        letting_go.let_go(self, NAMESPACE, nodes.read(self).ready, patience=0.2, say=said.append)
        return said


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(waiting, "pauses", lambda: repeat(0.0))
    return World()


def test_the_text_is_off_before_an_agent_is_restarted_and_each_one_is(world: World) -> None:
    world.let_go()
    assert world.order == ["config", "restart n1", "restart n2"]
    data = world.objects[CONFIG]["data"]
    assert data["kube-proxy-replacement"] == "false"
    assert "kube-proxy-replacement-healthz-bind-address" not in data
    assert data["x"] == "y"


def test_where_no_agent_replaces_none_is_restarted_and_the_text_is_off_for_later_ones(world: World) -> None:
    world.mode = dict.fromkeys(world.mode, "false")
    assert world.let_go() == []
    assert world.order == ["config"]


def test_where_all_has_been_let_go_already_nothing_is_touched(world: World) -> None:
    world.let_go()
    world.order.clear()
    assert world.let_go() == []
    assert world.order == []


def test_nothing_is_touched_where_cilium_is_gone(world: World) -> None:
    del world.objects[CONFIG]
    assert world.let_go() == []


def test_one_that_is_already_off_is_not_restarted(world: World) -> None:
    world.mode["cilium-n1-a"] = "false"
    world.let_go()
    assert world.order == ["config", "restart n2"]


def test_one_that_can_not_be_read_is_restarted_and_if_it_stays_so_cilium_stays(world: World) -> None:
    world.unreadable = {"cilium-n2-a", "cilium-n2-b"}
    with pytest.raises(ProcedureError, match=r"n2.*Cilium was not uninstalled"):
        world.let_go()
    assert "restart n2" in world.order


def test_an_agent_that_goes_on_replacing_stops_the_uninstall(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letting_go, "_OFF", {})
    with pytest.raises(ProcedureError, match="says KubeProxyReplacement: True"):
        world.let_go()


def test_agents_of_nodes_that_are_away_are_left_alone(world: World) -> None:
    said: list[str] = []
    world.put(node("n2", ready=False))
    letting_go.let_go(world, NAMESPACE, nodes.read(world).ready, patience=0.2, say=said.append)
    assert world.order == ["config", "restart n1"]
    assert agents.find(world, NAMESPACE)["n2"].pod == "cilium-n2-a"
