"""When a switch-over that fails is undone and when not, in which order, and what is said and remembered of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kube_proxy_replacement.cluster import kube_proxy, node_pods, order, record, rollback, waiting
from kube_proxy_replacement.cluster.errors import LockError, ProcedureError, UnreachableError
from kube_proxy_replacement.cluster.told import Order

from .fakes import Clock, config_map, forbidden
from .test_helm_release import secret
from .test_order import BACK, DAEMONSETS, KUBEADM, ORDER, RECORD, World

CONFIG = "/api/v1/namespaces/kube-system/configmaps/cilium-config"
FIRST = "/api/v1/namespaces/kube-system/secrets/sh.helm.release.v1.cilium.v1"
KEEP = replace(ORDER, keep=True)
BESIDE, INSTEAD = {"kube-proxy-replacement": "false"}, {"kube-proxy-replacement": "true"}
REASON = "node n2: its agent doesn't come up"


class Helms:
    """In the place of the `helm` program: rolls back, and the agents say so."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rolled: list[tuple[str, str, int]] = []
        self.fails = ""

    def find(self, *_: Any) -> Helms:
        return self

    def rollback(self, namespace: str, release: str, revision: int, *, timeout: float) -> None:
        if self.fails:
            raise ProcedureError(self.fails)
        self.rolled.append((namespace, release, revision))
        self.world.calls.append(("HELM", f"rollback {revision}"))
        self.world.says = "kube-proxy"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """In the middle of a switch-over: kube-proxy is gone, the release's second revision replaces it."""
    clock = Clock(pace=4)
    monkeypatch.setattr(waiting, "time", clock)
    monkeypatch.setattr(node_pods, "time", clock)
    world = World()
    world.do(order.daemonset)
    world.do(order.configmap)
    world.put(secret(1, "superseded", config=BESIDE), secret(2, "deployed", config=INSTEAD))
    world.put(config_map("cilium-config", **INSTEAD))
    world.said.clear()
    world.calls.clear()
    world.bodies.clear()
    return world


@pytest.fixture
def helms(world: World, monkeypatch: pytest.MonkeyPatch) -> Helms:
    helms = Helms(world)
    monkeypatch.setattr(rollback, "Helm", helms)
    return helms


def fails(world: World, told: Order = ORDER, error: ProcedureError | None = None) -> str:
    """The error that comes out where this one happens."""
    with pytest.raises(ProcedureError) as raised, rollback.on_failure(world, told, world.said.append):
        raise error or ProcedureError(REASON, "This is left, that is to do.")
    return str(raised.value)


class TestUndone:
    def test_kube_proxy_routes_before_helm_rolls_back(self, world: World, helms: Helms) -> None:
        fails(world)
        created = [body["kind"] for method, _, body in world.bodies if method == "POST" and body["kind"] != "Pod"]
        assert created.index("ConfigMap") < created.index("DaemonSet")
        assert world.calls.index(("POST", DAEMONSETS)) < world.calls.index(("HELM", "rollback 1"))
        assert world.said.index("kube-proxy routes on 2/2 nodes") < world.said.index(
            "Helm release kube-system/cilium has the chart and the values of revision 1 again"
        )

    def test_where_kube_proxy_does_not_route_cilium_is_left_alone(self, world: World, helms: Helms) -> None:
        world.errors[("POST", DAEMONSETS)] = forbidden(DAEMONSETS)
        said = fails(world)
        assert said.startswith(REASON)
        assert "Rolling back failed" in said
        assert helms.rolled == []
        assert kube_proxy.DAEMONSET not in world.objects

    def test_to_the_newest_revision_that_ran_beside_kube_proxy(self, world: World, helms: Helms) -> None:
        world.put(secret(2, "superseded", config=BESIDE), secret(3, "failed", config=BESIDE))
        world.put(secret(4, "superseded", config=INSTEAD), secret(5, "failed", config=INSTEAD))
        fails(world)
        assert helms.rolled == [("kube-system", "cilium", 2)]

    def test_without_one_the_agents_let_go(self, world: World, helms: Helms) -> None:
        del world.objects[FIRST]
        world.says = "kube-proxy"
        said = fails(world)
        assert helms.rolled == []
        assert "stays beside it, with the replacement off" in said

    def test_before_the_release_was_changed_kube_proxy_alone(self, world: World, helms: Helms) -> None:
        world.put(secret(2, "deployed", config=BESIDE))
        said = fails(world)
        assert helms.rolled == []
        assert "kube-proxy is restored and routes on every node; Cilium wasn't touched." in said

    @pytest.mark.parametrize("gone", [kube_proxy.DAEMONSET, kube_proxy.CONFIGMAP])
    def test_half_of_kube_proxy_is_enough_to_undo(self, world: World, helms: Helms, gone: str) -> None:
        world.do(order.daemonset, BACK)
        world.put(secret(2, "deployed", config=BESIDE))
        del world.objects[gone]
        fails(world)
        assert gone in world.objects

    def test_the_reason_comes_first_then_what_has_become_of_it(self, world: World, helms: Helms) -> None:
        said = fails(world)
        assert said.splitlines()[0] == REASON
        assert "This is left" not in said, "what was left before it was undone is no longer so"
        assert (
            "It was rolled back (onFailure: rollback): kube-proxy is restored and routes on every node; Helm release "
            "kube-system/cilium has the chart and the values of revision 1 again; its agents run beside kube-proxy."
        ) in said

    def test_it_is_remembered(self, world: World, helms: Helms) -> None:
        fails(world)
        kept = record.read(world)
        assert kept is not None
        assert kept.failed is not None
        assert (kept.failed.mode, kept.failed.reason, kept.failed.rolled_back) == ("replace", REASON, True)

    def test_a_run_that_comes_to_its_end_forgets_it(self, world: World, helms: Helms) -> None:
        fails(world)
        world.says = "replace"
        world.switch_over()
        kept = record.read(world)
        assert kept is not None
        assert (kept.done, kept.failed) == ("replace", None)

    def test_helm_that_fails_is_said_with_its_words(self, world: World, helms: Helms) -> None:
        helms.fails = "`helm rollback` failed: no such revision"
        said = fails(world)
        assert said.startswith(REASON)
        assert "after this (kube-proxy is restored and routes on every node): `helm rollback` failed" in said
        kept = record.read(world)
        assert kept is not None
        assert kept.failed is not None
        assert not kept.failed.rolled_back


class TestNotUndone:
    def test_onfailure_keep(self, world: World, helms: Helms) -> None:
        before = world.seen()
        said = fails(world, KEEP)
        assert said.startswith(REASON)
        assert "onFailure: keep" in said
        after = world.seen()
        assert {path for path in after if after[path] != before.get(path)} == {RECORD}
        kept = record.read(world)
        assert kept is not None
        assert kept.failed is not None
        assert not kept.failed.rolled_back

    def test_a_repair_of_a_switched_cluster(self, world: World, helms: Helms) -> None:
        kept = record.read(world)
        assert kept is not None
        record.write(world, replace(kept, done="replace"))
        self.nothing_is_touched(world, helms, ORDER)

    def test_a_run_in_coexist_mode(self, world: World, helms: Helms) -> None:
        self.nothing_is_touched(world, helms, BACK)

    def test_a_cluster_that_had_no_kube_proxy(self, world: World, helms: Helms) -> None:
        kept = record.read(world)
        assert kept is not None
        record.write(world, replace(kept, daemonset=None, configmap=None, kubeadm=None))
        self.nothing_is_touched(world, helms, ORDER)

    def test_where_nothing_was_changed_yet(self, world: World, helms: Helms) -> None:
        world.do(order.daemonset, BACK)
        world.put(secret(2, "deployed", config=BESIDE))
        self.nothing_is_touched(world, helms, ORDER)

    def test_where_there_is_no_backup(self, world: World, helms: Helms) -> None:
        del world.objects[RECORD]
        self.nothing_is_touched(world, helms, ORDER)

    @pytest.mark.parametrize("error", [LockError("another run has it"), UnreachableError("no answer")])
    def test_another_run_is_at_work_or_nobody_answers(self, world: World, helms: Helms, error: ProcedureError) -> None:
        world.calls.clear()
        assert fails(world, error=error) == str(error)
        assert (world.calls, helms.rolled) == ([], [])

    def nothing_is_touched(self, world: World, helms: Helms, told: Order) -> None:
        world.calls.clear()
        assert fails(world, told) == f"{REASON}\nThis is left, that is to do."
        assert (world.changes(), helms.rolled) == ([], [])


class TestTheLock:
    def test_one_that_is_lost_meanwhile_stops_it(self, world: World, helms: Helms) -> None:
        world.errors[("POST", DAEMONSETS)] = LockError("another run has it")
        said = fails(world)
        assert said.startswith(REASON)
        assert "Rolling back was stopped: another run has it" in said
        kept = record.read(world)
        assert kept is not None
        assert kept.failed is None


class TestTheSteps:
    """Each of them is undone where it fails."""

    def test_removing_the_daemon_set(self, world: World, helms: Helms) -> None:
        world.do(order.daemonset, BACK)
        world.put(secret(2, "deployed", config=BESIDE))
        pods = "/api/v1/namespaces/kube-system/pods"
        controllers = world.on_call

        def stuck(method: str, path: str) -> None:
            kept = {name: body for name, body in world.objects.items() if name.startswith(f"{pods}/kube-proxy-n")}
            controllers(method, path)
            world.objects |= kept

        world.on_call = stuck
        with pytest.raises(ProcedureError, match=r"(?s)pods don't end.*rolled back.*kube-proxy is restored"):
            world.do(order.daemonset)
        assert kube_proxy.DAEMONSET in world.objects

    def test_removing_the_config_map(self, world: World, helms: Helms) -> None:
        world.do(order.daemonset, BACK)
        world.put(secret(2, "deployed", config=BESIDE))
        world.do(order.daemonset)
        world.errors[("PATCH", KUBEADM)] = forbidden(KUBEADM)
        with pytest.raises(ProcedureError, match=r"(?s)403.*rolled back.*kube-proxy is restored"):
            world.do(order.configmap)
        assert kube_proxy.DAEMONSET in world.objects

    def test_agents_that_do_not_switch(self, world: World, helms: Helms) -> None:
        world.says = "ready-not-switched"
        with pytest.raises(ProcedureError, match=r"(?s)2 agents aren't replacing.*n1:.*n2:.*It was rolled back"):
            world.do(order.agents_switched)
        assert helms.rolled == [("kube-system", "cilium", 1)]
