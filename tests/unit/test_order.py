"""The steps: what each does in which order. What its parts promise is tested beside them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from kube_proxy_replacement.cluster import helm_release, kube_proxy, kubeadm, node_pods, order, record, waiting
from kube_proxy_replacement.cluster.errors import ProcedureError
from kube_proxy_replacement.cluster.exec import ExecResult
from kube_proxy_replacement.cluster.record import Record, bare
from kube_proxy_replacement.cluster.told import Order

from .fakes import (
    Clock,
    FakeApi,
    agent_answers,
    agent_pod,
    agents_daemon_set,
    endpoint_slice,
    kube_proxy_pod,
    kubeadm_objects,
    namespace,
    node,
    revision,
    sample,
    service,
)

ORDER = Order(
    cluster="uid-a",
    mode="replace",
    namespace="kube-system",
    release="cilium",
    host="192.0.2.10",
    port=6443,
    image="quay.io/cilium/cilium:v1.18.6",
    timeout=20,
)
BACK = replace(ORDER, mode="coexist")
REAL = kubeadm_objects()
CONFIGMAPS = "/api/v1/namespaces/kube-system/configmaps"
RECORD = f"{CONFIGMAPS}/kube-proxy-replacement"
KUBEADM = f"{CONFIGMAPS}/kubeadm-config"
DAEMONSETS = "/apis/apps/v1/namespaces/kube-system/daemonsets"
PODS = "/api/v1/namespaces/kube-system/pods"
SHOWN = {"KUBERNETES_SERVICE_HOST": "192.0.2.10", "KUBERNETES_SERVICE_PORT": "6443"}
STALE = "cilium-1.20.2-iptables-save-stale.txt"


class World(FakeApi):
    """A kubeadm cluster of two nodes with kube-proxy and agents, and what brings it to life.

    kube-proxy's pods come and go with its DaemonSet, and run only with its ConfigMap; short-lived pods end.

    Attributes:
        says: what the agents say.
        fails: the nodes whose reach pods fail.
        cleaned: the nodes whose rules a cleaning pod took away.
    """

    def __init__(self) -> None:
        super().__init__()
        self.says = "replace"
        self.fails: set[str] = set()
        self.cleaned: set[str] = set()
        self.said: list[str] = []
        owner = agents_daemon_set()
        self.put(
            namespace("kube-system", "uid-a"),
            *(node(name) for name in ("n1", "n2")),
            *kubeadm_objects().values(),
            owner,
            revision(1, owner),
            *(agent_pod(name, env=SHOWN) for name in ("n1", "n2")),
            service("kubernetes", "10.96.0.1", ports=[{"name": "https", "port": 443, "protocol": "TCP"}]),
            endpoint_slice("kubernetes", "10.10.0.1", ports=[{"name": "https", "port": 6443, "protocol": "TCP"}]),
        )
        self.on_call = self._controllers
        self.on_exec = self._answer

    def _controllers(self, method: str, path: str) -> None:
        if method != "LIST":
            return
        for name in ("n1", "n2"):
            if kube_proxy.DAEMONSET in self.objects:
                runs = kube_proxy.CONFIGMAP in self.objects
                self.put(kube_proxy_pod(name, ready=runs, waiting="" if runs else "ContainerCreating"))
            else:
                self.objects.pop(f"{PODS}/kube-proxy-{name}", None)
        for path_, body in self.objects.items():
            name = body.get("spec", {}).get("nodeName", "")
            if "kube-proxy-replacement-reach" in path_ and path_.startswith(PODS):
                body["status"] = {"phase": "Failed" if name in self.fails else "Succeeded", "message": "no route"}
            if "kube-proxy-replacement-clean" in path_:
                body["status"] = {"phase": "Succeeded"}
                self.cleaned.add(name)

    def _answer(self, namespace: str, pod: str, container: str, command: Sequence[str]) -> ExecResult:
        if pod.startswith("kube-proxy-"):
            return ExecResult(sample(STALE), "", 0)
        return agent_answers(command, self.says, "" if pod.split("-")[1] in self.cleaned else sample(STALE))

    def do(self, step: Any, told: Order = ORDER) -> None:
        step(self, told, self.said.append)

    def switch_over(self) -> None:
        for step in (order.daemonset, order.configmap, order.agents_switched):
            self.do(step)

    def destroy(self) -> None:
        for step in self.deletes():
            step()

    def deletes(self) -> list[Callable[[], None]]:
        """What Pulumi runs; the agents go with the Release, in the middle."""
        return [
            lambda: self.do(order.restored),
            self._uninstall,
            lambda: self.do(order.restored),
            lambda: self.do(order.forgotten),
        ]

    def _uninstall(self) -> None:
        for path in [path for path in self.objects if "/cilium" in path]:
            del self.objects[path]

    def seen(self) -> dict[str, Any]:
        """All objects but the agents' and pods, as they could be created again."""
        left_out = (PODS, f"{DAEMONSETS}/cilium", "/apis/apps/v1/namespaces/kube-system/controllerrevisions")
        return {path: bare(body) for path, body in self.objects.items() if not path.startswith(left_out)}

    def changed(self) -> list[tuple[str, str]]:
        """What was changed, but for short-lived pods and their rights, and creations of what was there."""
        calls = self.changes()
        there = [at for at, call in enumerate(calls) if call == ("PATCH", RECORD)]
        return [
            call
            for at, call in enumerate(calls)
            if "reach" not in call[1] and not call[1].startswith(PODS) and at + 1 not in there
        ]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    clock = Clock(pace=4)
    monkeypatch.setattr(waiting, "time", clock)
    monkeypatch.setattr(node_pods, "time", clock)
    return World()


def never_had(world: World) -> World:
    """The same cluster, made without kube-proxy."""
    del world.objects[kube_proxy.DAEMONSET], world.objects[kube_proxy.CONFIGMAP]
    return world


class TestTheOrder:
    def test_it_travels_as_json(self) -> None:
        told = replace(ORDER, restart=("uid-1", "uid-2"), image="x'; $(reboot) «é»\n")
        assert Order.from_json(told.to_json()) == told

    def test_the_same_order_is_the_same_text(self) -> None:
        assert ORDER.to_json() == replace(ORDER).to_json()

    def test_fields_of_a_newer_program_are_left_out(self) -> None:
        assert Order.from_json(json.dumps(json.loads(ORDER.to_json()) | {"later": 1})) == ORDER

    def test_numbers_may_have_become_floats_or_text(self) -> None:
        told = json.loads(ORDER.to_json())
        assert Order.from_json(json.dumps(told | {"port": 6443.0})).port == 6443
        assert str(Order.from_json(json.dumps(told | {"port": "6443"})).port) == "6443"

    def test_one_that_was_recorded_without_restarts_is_read(self) -> None:
        told = json.loads(ORDER.to_json())
        del told["restart"]
        assert Order.from_json(json.dumps(told)) == ORDER


class TestOneCluster:
    def test_the_stack_s_own_is_confirmed(self, world: World) -> None:
        order.confirm_cluster(world, ORDER)

    def test_another_is_refused_with_both_uids_and_the_address(self, world: World) -> None:
        world.put(namespace("kube-system", "uid-b"))
        with pytest.raises(ProcedureError, match=r"uid-a.*uid-b at https://10\.0\.0\.1:6443.*Nothing was changed"):
            order.confirm_cluster(world, ORDER)


class TestRemoving:
    def test_the_whole_order_of_a_switch_over(self, world: World) -> None:
        world.switch_over()
        assert world.changed() == [
            ("POST", CONFIGMAPS),  # the backup
            ("DELETE", kube_proxy.DAEMONSET),
            ("PATCH", RECORD),  # kubeadm's text as it was
            ("PATCH", KUBEADM),
            ("DELETE", kube_proxy.CONFIGMAP),
            ("PATCH", RECORD),  # the nodes are cleaned
            ("PATCH", RECORD),  # the run has come to its end
        ]

    def test_every_node_shows_the_address_before_anything_is_written_or_removed(self, world: World) -> None:
        world.put(*(agent_pod(name) for name in ("n1", "n2")))  # agents without the address
        world.do(order.daemonset)
        last_pod = max(at for at, call in enumerate(world.calls) if call == ("POST", PODS))
        assert last_pod < world.at("POST", CONFIGMAPS) < world.at("DELETE", kube_proxy.DAEMONSET)

    def test_a_node_that_does_not_reach_it_is_named_and_nothing_changed(self, world: World) -> None:
        world.put(*(agent_pod(name) for name in ("n1", "n2")))
        world.fails = {"n2"}
        before = world.seen()
        with pytest.raises(ProcedureError, match=r"(?s)n2: no route.*kube-proxy was not touched"):
            world.do(order.daemonset)
        assert world.seen() == before

    def test_a_later_run_says_that_the_daemon_set_is_gone_already(self, world: World) -> None:
        world.do(order.daemonset)
        world.put(*(agent_pod(name) for name in ("n1", "n2")))
        world.fails = {"n2"}
        with pytest.raises(ProcedureError, match=r"DaemonSet was removed by an earlier run") as caught:
            world.do(order.daemonset)
        assert "kube-proxy was not touched" not in str(caught.value)

    def test_a_cluster_without_cilium_is_asked_too(self, world: World) -> None:
        for path in [path for path in world.objects if path.startswith(f"{PODS}/cilium")]:
            del world.objects[path]
        world.fails = {"n1"}
        with pytest.raises(ProcedureError, match="n1: no route"):
            world.do(order.daemonset)
        assert kube_proxy.DAEMONSET in world.objects

    def test_the_record_names_cluster_release_and_nodes_that_are_away_too(self, world: World) -> None:
        world.put(node("n3", ready=False))
        world.do(order.daemonset, replace(ORDER, namespace="kube-system", release="mesh"))
        kept = record.read(world)
        assert kept is not None
        assert (kept.cluster, kept.release) == ("uid-a", "kube-system/mesh")
        assert kept.uncleaned == {"uid-of-n1", "uid-of-n2", "uid-of-n3"}

    def test_nodes_that_are_away_are_told_and_not_asked(self, world: World) -> None:
        world.put(node("n3", ready=False))
        world.do(order.daemonset)
        assert any("n3" in text and "left out" in text for text in world.said)
        assert ("POST", PODS) not in world.calls

    def test_a_second_run_changes_nothing(self, world: World) -> None:
        world.switch_over()
        world.calls.clear()
        world.switch_over()
        assert world.changes() == []

    def test_a_kube_proxy_that_came_back_is_removed_again_and_its_nodes_cleaned_again(self, world: World) -> None:
        world.switch_over()
        world.put(kubeadm_objects()["daemonset"], kubeadm_objects()["configmap"])
        world.cleaned.clear()
        world.switch_over()
        assert not {kube_proxy.DAEMONSET, kube_proxy.CONFIGMAP} & set(world.objects)
        assert world.cleaned == {"n1", "n2"}


class TestWithoutKubeProxy:
    def test_replace_goes_on_says_so_and_asks_no_node(self, world: World) -> None:
        never_had(world).switch_over()
        assert any("no kube-proxy" in text for text in world.said)
        assert ("POST", PODS) not in world.calls
        assert ("PATCH", KUBEADM) not in world.calls

    @pytest.mark.parametrize("step", [order.daemonset, order.configmap])
    def test_coexist_is_refused(self, world: World, step: Any) -> None:
        never_had(world)
        with pytest.raises(ProcedureError, match="mode coexist: this cluster has no kube-proxy"):
            world.do(step, BACK)
        assert world.changes() == []

    def test_coexist_is_refused_also_after_a_run_in_replace(self, world: World) -> None:
        never_had(world).switch_over()
        world.calls.clear()
        with pytest.raises(ProcedureError, match="Set mode to replace"):
            world.do(order.daemonset, BACK)
        assert world.changes() == []

    def test_destroy_leaves_it_as_it_was(self, world: World) -> None:
        before = never_had(world).seen()
        world.switch_over()
        world.destroy()
        assert world.seen() == before

    def test_one_that_had_the_config_map_alone_gets_it_back_alone(self, world: World) -> None:
        del world.objects[kube_proxy.DAEMONSET]
        before = world.seen()
        world.switch_over()
        world.destroy()
        assert world.seen() == before

    def test_destroy_killed_after_the_record_was_removed_goes_through(self, world: World) -> None:
        never_had(world).switch_over()
        world.destroy()
        world.do(order.forgotten)


class TestAgents:
    def test_the_rules_are_cleaned_only_after_every_agent_is_switched(self, world: World) -> None:
        world.do(order.daemonset)
        world.do(order.configmap)
        world.says = "ready-not-switched"
        with pytest.raises(ProcedureError, match=": restoring"):
            world.do(order.agents_switched)
        assert world.cleaned == set()
        assert ("POST", PODS) not in world.calls

    def test_named_agents_are_restarted_before_the_wait(self, world: World) -> None:
        world.do(order.daemonset)
        world.do(order.configmap)
        world.calls.clear()
        inner = world.on_call

        def controller(method: str, path: str) -> None:
            inner(method, path)
            if path == f"{PODS}/cilium-n1-a" and method == "DELETE":
                world.put(agent_pod("n1", suffix="b"))

        world.on_call = controller
        world.do(order.agents_switched, replace(ORDER, restart=("uid-of-cilium-n1-a",)))
        first_exec = min(at for at, call in enumerate(world.calls) if call[0] == "EXEC")
        assert world.at("DELETE", f"{PODS}/cilium-n1-a") < first_exec

    def test_beside_kube_proxy_nothing_is_cleaned(self, world: World) -> None:
        world.says = "kube-proxy"
        world.do(order.daemonset, BACK)
        world.calls.clear()
        world.do(order.agents_switched, BACK)
        assert world.cleaned == set()
        assert {path for _, path in world.changed()} == {RECORD}

    def test_beside_kube_proxy_agents_that_replace_are_not_as_wanted(self, world: World) -> None:
        with pytest.raises(ProcedureError, match="KubeProxyReplacement: True"):
            world.do(order.agents_switched, BACK)

    def test_beside_a_kube_proxy_that_is_gone_it_is_refused_before_the_wait(self, world: World) -> None:
        del world.objects[kube_proxy.DAEMONSET]
        with pytest.raises(ProcedureError, match="DaemonSet is gone"):
            world.do(order.agents_switched, BACK)
        assert not [call for call in world.calls if call[0] == "EXEC"]

    def test_without_the_record_no_rule_is_cleaned(self, world: World) -> None:
        world.do(order.daemonset)
        world.do(order.configmap)
        del world.objects[RECORD]
        with pytest.raises(ProcedureError, match=r"(?i)kube-proxy-replacement was deleted.*no rule was cleaned"):
            world.do(order.agents_switched)
        assert world.cleaned == set()


class TestTheEnd:
    """What the record says of the last run: the mode in which it came to its end, "" before that."""

    def done(self, world: World) -> str:
        kept = record.read(world)
        assert kept is not None
        return kept.done

    def test_it_is_noted_after_the_last_node_is_cleaned(self, world: World) -> None:
        world.do(order.daemonset)
        world.do(order.configmap)
        assert self.done(world) == ""
        world.do(order.agents_switched)
        assert self.done(world) == "replace"

    def test_a_run_whose_agents_are_not_switched_has_none(self, world: World) -> None:
        world.says = "ready-not-switched"
        with pytest.raises(ProcedureError):
            world.switch_over()
        assert self.done(world) == ""

    def test_a_run_that_leaves_rules_behind_has_none(self, world: World) -> None:
        world.do(order.daemonset)
        world.do(order.configmap)
        inner = world.on_exec

        def stale(namespace: str, pod: str, container: str, command: Sequence[str]) -> ExecResult:
            return inner(namespace, pod, container, command) if command[0] == "cilium-dbg" else ExecResult("", "", 1)

        world.on_exec = stale
        with pytest.raises(ProcedureError, match="Leftover rules"):
            world.do(order.agents_switched)
        assert self.done(world) == ""

    def test_a_run_that_goes_back_takes_it_away_before_it_changes_anything(self, world: World) -> None:
        world.switch_over()
        world.errors["POST", DAEMONSETS] = ProcedureError("killed")
        with pytest.raises(ProcedureError, match="killed"):
            world.do(order.daemonset, BACK)
        assert self.done(world) == ""

    def test_a_run_that_goes_over_takes_it_away_before_it_removes_anything(self, world: World) -> None:
        world.says = "kube-proxy"
        for step in (order.daemonset, order.configmap, order.agents_switched):
            world.do(step, BACK)
        assert self.done(world) == "coexist"
        world.errors["DELETE", kube_proxy.DAEMONSET] = ProcedureError("killed")
        with pytest.raises(ProcedureError, match="killed"):
            world.do(order.daemonset)
        assert self.done(world) == ""

    def test_a_second_run_in_the_same_mode_keeps_it(self, world: World) -> None:
        world.switch_over()
        world.do(order.daemonset)
        assert self.done(world) == "replace"


class TestGoingBack:
    @pytest.mark.parametrize("step", [order.daemonset, order.configmap])
    def test_whichever_step_comes_first_restores_the_whole(self, world: World, step: Any) -> None:
        before = world.seen()
        world.switch_over()
        world.do(step, BACK)
        after = world.seen()
        del after[RECORD]
        assert after == before

    def test_the_other_confirms_and_changes_nothing_but_the_record(self, world: World) -> None:
        world.switch_over()
        world.do(order.daemonset, BACK)
        world.calls.clear()
        world.do(order.configmap, BACK)
        assert {path for _, path in world.changed()} <= {RECORD}
        world.calls.clear()
        world.do(order.configmap, BACK)
        assert world.changes() == []

    def test_it_does_not_return_before_kube_proxy_routes(self, world: World) -> None:
        world.switch_over()
        world.on_exec = lambda *_: ExecResult("", "", 0)
        with pytest.raises(ProcedureError, match=r"(?s)doesn't route on.*n1: .*Cilium was not touched"):
            world.do(order.daemonset, BACK)

    def test_a_running_kube_proxy_is_backed_up_and_left_alone(self, world: World) -> None:
        before = world.seen()
        world.do(order.daemonset, BACK)
        kept = record.read(world)
        assert kept is not None
        assert kept.daemonset == bare(REAL["daemonset"])
        after = world.seen()
        del after[RECORD]
        assert after == before

    def test_a_run_that_was_killed_between_the_two_removals_goes_back_too(self, world: World) -> None:
        before = world.seen()
        world.do(order.daemonset)
        world.do(order.daemonset, BACK)
        after = world.seen()
        del after[RECORD]
        assert after == before

    def test_over_and_back_and_over_again(self, world: World) -> None:
        world.switch_over()
        world.do(order.daemonset, BACK)
        world.cleaned.clear()
        world.switch_over()
        assert world.cleaned == {"n1", "n2"}
        assert kube_proxy.DAEMONSET not in world.objects


class TestDestroy:
    def test_the_cluster_is_as_it_was_found(self, world: World) -> None:
        before = world.seen()
        world.switch_over()
        world.destroy()
        assert world.seen() == before

    def test_from_coexist_too(self, world: World) -> None:
        before = world.seen()
        world.do(order.daemonset, BACK)
        world.destroy()
        assert world.seen() == before

    def test_kube_proxy_routes_before_the_first_step_returns(self, world: World) -> None:
        world.switch_over()
        world.on_exec = lambda *_: ExecResult("", "", 0)
        with pytest.raises(ProcedureError, match="doesn't route on"):
            world.do(order.restored)

    def test_the_record_goes_last(self, world: World) -> None:
        world.switch_over()
        world.do(order.restored)
        assert RECORD in world.objects
        world.do(order.forgotten)
        assert RECORD not in world.objects

    def test_the_record_stays_while_kube_proxy_is_not_back(self, world: World) -> None:
        world.switch_over()
        world.errors["POST", DAEMONSETS] = ProcedureError("refused")
        with pytest.raises(ProcedureError, match="refused"):
            world.do(order.forgotten)
        assert RECORD in world.objects

    def test_the_record_stays_while_kube_proxy_does_not_route(self, world: World) -> None:
        world.switch_over()
        world.on_exec = lambda *_: ExecResult("", "", 0)
        with pytest.raises(ProcedureError, match="doesn't route on"):
            world.do(order.forgotten)
        assert RECORD in world.objects

    def test_killed_after_the_record_was_removed_it_goes_through(self, world: World) -> None:
        world.switch_over()
        world.destroy()
        world.calls.clear()
        world.do(order.forgotten)
        assert [call for call in world.changes() if call[0] != "DELETE"] == []
        assert kube_proxy.DAEMONSET in world.objects

    def test_without_a_record_a_missing_kube_proxy_is_not_forgotten_before_cilium_lets_go(self, world: World) -> None:
        world.switch_over()
        del world.objects[RECORD]
        with pytest.raises(ProcedureError, match="holds no backup"):
            world.do(order.restored)

    def test_what_its_owner_changed_for_kubeadm_meanwhile_survives(self, world: World) -> None:
        world.switch_over()
        data = world.objects[KUBEADM]["data"]
        data["ClusterConfiguration"] = data["ClusterConfiguration"].replace("v1.36.3", "v1.37.0")
        world.destroy()
        text = world.objects[KUBEADM]["data"]["ClusterConfiguration"]
        assert "v1.37.0" in text
        assert not kubeadm.disabled(text)


def test_a_record_of_a_cluster_without_kube_proxy_is_kept_until_the_end(world: World) -> None:
    never_had(world).switch_over()
    assert record.read(world) == Record(cluster="uid-a", release="kube-system/cilium", done="replace")


class Killed(BaseException):
    """What SIGKILL is to a program: nothing of it runs any more."""


def killed_after_each_change(steps: Callable[[World], list[Callable[[], None]]]) -> Iterator[tuple[World, int]]:
    """Worlds in which the steps were killed after the first change, the second, …, and which step it was."""
    for number in itertools.count(1):
        world = World()
        world.put(*(agent_pod(name) for name in ("n1", "n2")))  # without the address: pods are made, too
        todo = steps(world)
        alive = world.on_call
        made = 0

        def call(method: str, path: str, world: World = world, number: int = number, alive: Any = alive) -> None:
            nonlocal made
            if made == number:
                raise Killed
            alive(method, path)
            made += method in ("POST", "PATCH", "DELETE")

        world.on_call = call
        for at, step in enumerate(todo):
            try:
                step()
                if made == number:  # between its last change and its end
                    raise Killed
            except Killed:
                world.on_call = alive
                yield world, at
                break
        else:
            assert number > 1
            return


def backed_up_or_there(world: World) -> bool:
    kept = record.read(world)
    there = kube_proxy.DAEMONSET in world.objects and kube_proxy.CONFIGMAP in world.objects
    whole = (bare(REAL["daemonset"]), bare(REAL["configmap"]))
    return there or (kept is not None and (kept.daemonset, kept.configmap) == whole)


class TestKilled:
    """Promise 1: a second run ends where the first would have, and kube-proxy can be restored at every instant."""

    def test_switching_over(self, world: World) -> None:
        steps = (order.daemonset, order.configmap, order.agents_switched)
        for it, _ in killed_after_each_change(lambda its: [lambda step=step: its.do(step) for step in steps]):
            assert backed_up_or_there(it)
            it.switch_over()
            kept = record.read(it)
            assert kept is not None
            assert (kept.daemonset, kept.configmap) == (bare(REAL["daemonset"]), bare(REAL["configmap"]))
            assert kept.uncleaned == frozenset()
            assert not [path for path in it.objects if "kube-proxy-replacement-" in path]
            assert not {kube_proxy.DAEMONSET, kube_proxy.CONFIGMAP} & set(it.objects)
            assert kubeadm.disabled(it.objects[KUBEADM]["data"]["ClusterConfiguration"])

    def test_switching_over_and_then_going_back(self, world: World) -> None:
        before = world.seen()
        steps = (order.daemonset, order.configmap, order.agents_switched)
        for it, _ in killed_after_each_change(lambda its: [lambda step=step: its.do(step) for step in steps]):
            it.do(order.daemonset, BACK)
            after = {path: body for path, body in it.seen().items() if "kube-proxy-replacement" not in path}
            assert after == before

    def test_going_back(self, world: World) -> None:
        before = world.seen()

        def back(its: World) -> list[Callable[[], None]]:
            its.switch_over()
            return [lambda: its.do(order.daemonset, BACK), lambda: its.do(order.configmap, BACK)]

        for it, _ in killed_after_each_change(back):
            assert backed_up_or_there(it)
            it.do(order.daemonset, BACK)
            it.do(order.configmap, BACK)
            assert {path: body for path, body in it.seen().items() if path != RECORD} == before

    @pytest.mark.parametrize("had", [True, False])
    def test_destroying(self, world: World, had: bool) -> None:
        """Pulumi runs a delete that didn't end again, and not those that did."""
        before = (world if had else never_had(world)).seen()

        def destroy(its: World) -> list[Callable[[], None]]:
            (its if had else never_had(its)).switch_over()
            return its.deletes()

        for it, at in killed_after_each_change(destroy):
            assert not had or backed_up_or_there(it)
            for step in it.deletes()[at:]:
                step()
            assert it.seen() == before


def killed(it: World) -> None:
    """A first switch-over that ended in the middle of Helm's work."""
    it.do(order.daemonset)
    it.do(order.configmap)


def done(it: World) -> str:
    kept = record.read(it)  # type: ignore[arg-type]
    assert kept is not None
    return kept.done


class TestWhatPulumiDoesNotKnow:
    """A first install that was killed is in nobody's state."""

    @pytest.fixture(autouse=True)
    def lost(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(helm_release, "exists", lambda *_: True)

    def test_it_is_uninstalled_when_kube_proxy_routes(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        done = []

        class Uninstalls:
            def uninstall(self, *its: object, **_: object) -> None:
                assert kube_proxy.DAEMONSET in world.objects
                done.append(its)

        monkeypatch.setattr(order.Helm, "find", lambda *_: Uninstalls())
        killed(world)
        world.do(order.restored)
        assert done == [("kube-system", "cilium")]

    @pytest.mark.parametrize("last", [order.agents_switched, order.way_back], ids=["a whole up", "a way back"])
    def test_what_pulumi_knew_and_was_told_to_leave_stays(
        self, world: World, monkeypatch: pytest.MonkeyPatch, last: Callable[..., None]
    ) -> None:
        monkeypatch.setattr(order.Helm, "find", lambda *_: pytest.fail("it was to stay"))
        killed(world)
        world.do(last)
        world.do(order.restored)
        assert any("stays" in line for line in world.said)
        assert done(world) != ""

    def test_what_pulumi_has_uninstalled_no_state_has(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        killed(world)
        world.do(order.way_back)
        assert done(world) == record.DESTROYED
        monkeypatch.setattr(helm_release, "exists", lambda *_: False)
        world.do(order.restored)
        assert done(world) == ""

    def test_without_helm_it_says_what_is_there_and_what_to_do(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", "")
        killed(world)
        with pytest.raises(ProcedureError, match="kube-proxy is restored and routes") as error:
            world.do(order.restored)
        assert "`pulumi up` once in mode coexist" in str(error.value)
        assert kube_proxy.DAEMONSET in world.objects

    def test_somebody_elses_is_left_alone(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        killed(world)
        kept = record.read(world)  # type: ignore[arg-type]
        assert kept is not None
        record.write(world, replace(kept, release="kube-system/its"))  # type: ignore[arg-type]
        monkeypatch.setattr(order.Helm, "find", lambda *_: pytest.fail("somebody else's release"))
        world.do(order.restored)
