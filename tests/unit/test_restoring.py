from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from kube_proxy_replacement.cluster import ipvs, kube_proxy, kubeadm, nodes, record, removal, restoring, waiting
from kube_proxy_replacement.cluster.errors import ProcedureError, UnreachableError
from kube_proxy_replacement.cluster.exec import ExecResult
from kube_proxy_replacement.cluster.record import Record, bare

from .fakes import (
    Clock,
    FakeApi,
    agent_answers,
    agent_pod,
    endpoint_slice,
    kube_proxy_pod,
    kubeadm_objects,
    node,
    sample,
    service,
)

REAL = kubeadm_objects()
BEFORE = REAL["kubeadm-config"]["data"]["ClusterConfiguration"]
RECORD = "/api/v1/namespaces/kube-system/configmaps/kube-proxy-replacement"
KUBEADM = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
DAEMONSETS = kube_proxy.DAEMONSET.rpartition("/")[0]
CONFIGMAPS = kube_proxy.CONFIGMAP.rpartition("/")[0]
PODS = "/api/v1/namespaces/kube-system/pods"
NEVER = 1e9


class World(FakeApi):
    """A kubeadm cluster after the switch-over, with what brings a restored kube-proxy to life.

    Its rules are a real node's: they lead 10.96.0.1:443, the Service that is expected, to 10.10.0.1:6443.

    Attributes:
        rules_after: by node, seconds from the DaemonSet's creation until the rules are in the kernel.
        exec_error: what reading the rules raises or returns instead, by node.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.rules_after = {"n1": 2.0, "n2": 5.0}
        self.exec_error: dict[str, Exception | ExecResult] = {}
        self.born: float | None = None
        self.said: list[str] = []
        self.on_exec = self._rules
        after = kubeadm.with_disabled(BEFORE, True)
        disabled = kubeadm_objects()["kubeadm-config"]
        disabled["data"]["ClusterConfiguration"] = after
        self.put(
            node("n1"),
            node("n2"),
            disabled,
            service("kubernetes", "10.96.0.1", ports=[{"name": "https", "port": 443, "protocol": "TCP"}]),
            endpoint_slice("kubernetes", "10.10.0.1", ports=[{"name": "https", "port": 6443, "protocol": "TCP"}]),
        )
        record.write(
            self,
            Record(
                cluster="uid-a",
                release="kube-system/cilium",
                daemonset=bare(REAL["daemonset"]),
                configmap=bare(REAL["configmap"]),
                kubeadm={"before": BEFORE, "after": after},
            ),
        )
        self.calls.clear()
        self.on_call = self._controller

    @property
    def age(self) -> float:
        return -1 if self.born is None else self.clock.now - self.born

    def _controller(self, method: str, path: str) -> None:
        if kube_proxy.DAEMONSET not in self.objects:
            return
        self.born = self.clock.now if self.born is None else self.born
        for name in self.rules_after:
            runs = kube_proxy.CONFIGMAP in self.objects and self.age >= 1
            self.put(kube_proxy_pod(name, ready=runs, waiting="" if runs else "ContainerCreating"))

    def _rules(self, namespace: str, pod: str, container: str, command: Sequence[str]) -> ExecResult:
        name = pod.removeprefix("kube-proxy-")
        error = self.exec_error.get(name)
        if isinstance(error, Exception):
            raise error
        if error:
            return error
        assert (namespace, container, list(command)) == ("kube-system", "kube-proxy", ["iptables-save"])
        return ExecResult(sample("cilium-1.20.2-iptables-save-stale.txt") if self.routes(name) else "", "", 0)

    def routes(self, name: str) -> bool:
        return self.age >= self.rules_after[name]

    def whole(self, patience: float = 10) -> None:
        restoring.whole(self, nodes.read(self).ready, "kube-system", patience=patience, say=self.said.append)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(pace=2)  # a look a second
    monkeypatch.setattr(waiting, "time", clock)
    return clock


@pytest.fixture
def world(clock: Clock) -> World:
    return World(clock)


class TestTheObjects:
    def test_they_are_as_they_were(self, world: World) -> None:
        world.whole()
        assert bare(world.objects[kube_proxy.DAEMONSET]) == bare(REAL["daemonset"])
        assert bare(world.objects[kube_proxy.CONFIGMAP]) == bare(REAL["configmap"])
        assert world.objects[KUBEADM]["data"]["ClusterConfiguration"] == BEFORE

    def test_the_config_map_and_kubeadm_come_before_the_daemon_set(self, world: World) -> None:
        world.whole()
        assert world.at("POST", CONFIGMAPS) < world.at("PATCH", KUBEADM) < world.at("POST", DAEMONSETS)

    @pytest.mark.parametrize("there", ["daemonset", "configmap"])
    def test_only_what_is_missing_is_created(self, world: World, there: str) -> None:
        live = kubeadm_objects()[there]
        live["metadata"]["labels"]["mine"] = "1"
        world.put(live)
        world.whole()
        assert world.objects[getattr(kube_proxy, there.upper())]["metadata"]["labels"]["mine"] == "1"
        assert {kube_proxy.DAEMONSET, kube_proxy.CONFIGMAP} <= set(world.objects)

    def test_killed_before_the_daemon_set_the_next_run_ends_where_the_first_would_have(self, world: World) -> None:
        world.errors["POST", DAEMONSETS] = ProcedureError("killed")
        with pytest.raises(ProcedureError, match="killed"):
            world.whole()
        del world.errors["POST", DAEMONSETS]
        world.whole()
        assert bare(world.objects[kube_proxy.DAEMONSET]) == bare(REAL["daemonset"])
        assert world.objects[KUBEADM]["data"]["ClusterConfiguration"] == BEFORE

    def test_a_second_run_changes_nothing(self, world: World) -> None:
        world.whole()
        world.calls.clear()
        world.whole()
        assert world.changes() == []

    def test_what_its_owner_sets_for_kubeadm_afterwards_is_his(self, world: World) -> None:
        world.whole()
        own = kubeadm.with_disabled(BEFORE, True)
        world.objects[KUBEADM]["data"]["ClusterConfiguration"] = own
        world.whole()
        assert world.objects[KUBEADM]["data"]["ClusterConfiguration"] == own

    def test_the_backup_stays(self, world: World) -> None:
        world.whole()
        kept = record.read(world)
        assert kept is not None
        assert (kept.daemonset, kept.configmap) == (bare(REAL["daemonset"]), bare(REAL["configmap"]))

    def test_without_kube_proxy_and_backup_it_is_refused_and_nothing_changed(self, world: World) -> None:
        del world.objects[RECORD]
        with pytest.raises(ProcedureError, match=r"kube-proxy-replacement holds no backup.*Nothing was changed"):
            world.whole()
        assert world.changes() == []

    def test_a_backup_of_the_config_map_alone_is_refused_before_anything_is_created(self, world: World) -> None:
        kept = record.read(world)
        assert kept is not None
        record.write(world, Record(cluster=kept.cluster, release=kept.release, configmap=kept.configmap))
        world.calls.clear()
        with pytest.raises(ProcedureError, match="Nothing was changed"):
            world.whole()
        assert world.changes() == []

    def test_a_changed_backup_is_refused_and_nothing_created(self, world: World) -> None:
        world.objects[RECORD]["data"]["daemonset.json"] = "{}"
        with pytest.raises(ProcedureError, match="checksum"):
            world.whole()
        assert world.changes() == []

    def test_a_kube_proxy_that_runs_without_a_record_is_enough(self, world: World) -> None:
        del world.objects[RECORD]
        world.put(kubeadm_objects()["daemonset"], kubeadm_objects()["configmap"])
        world.whole()
        assert world.changes() == []

    def test_a_cluster_that_had_the_config_map_alone_gets_it_back_alone(self, world: World) -> None:
        kept = Record(cluster="uid-a", release="kube-system/cilium", configmap=bare(REAL["configmap"]))
        restoring.objects(world, kept, world.said.append)
        assert kube_proxy.CONFIGMAP in world.objects
        assert kube_proxy.DAEMONSET not in world.objects


class TestRouting:
    def test_it_does_not_return_before_the_rules_are_there_on_every_node(self, world: World) -> None:
        world.whole()
        assert all(world.routes(name) for name in ("n1", "n2"))

    def test_a_pod_that_runs_is_not_enough(self, world: World) -> None:
        world.rules_after = {"n1": 2, "n2": NEVER}
        with pytest.raises(ProcedureError, match=r"n2: 1 Services.*10\.96\.0\.1:443/TCP"):
            world.whole()

    def test_rules_that_lead_elsewhere_are_not_enough(self, world: World) -> None:
        stale = endpoint_slice("kubernetes", "10.10.0.99", ports=[{"name": "https", "port": 6443, "protocol": "TCP"}])
        world.put(stale)
        with pytest.raises(ProcedureError, match=r"(?s)n1: 1 Services.*n2: 1 Services"):
            world.whole()

    def test_progress_is_told_with_the_nodes_that_are_awaited(self, world: World) -> None:
        world.whole()
        assert "kube-proxy routes on 0/2 nodes, waiting for: n1, n2" in world.said
        assert "kube-proxy routes on 1/2 nodes, waiting for: n2" in world.said
        assert world.said[-1] == "kube-proxy routes on 2/2 nodes"

    def test_a_pod_that_cannot_start_is_named_with_its_node_and_why(self, world: World) -> None:
        kept = record.read(world)
        assert kept is not None
        live = kubeadm_objects()["daemonset"]
        world.put(live)
        record.write(world, Record(cluster=kept.cluster, release=kept.release, daemonset=kept.daemonset))
        with pytest.raises(
            ProcedureError, match=r"(?s)n1: its pod kube-proxy-n1 isn't running: ContainerCreating because.*n2: "
        ):
            world.whole()

    def test_a_node_without_a_pod_is_named(self, world: World) -> None:
        world.put(node("n3"))
        with pytest.raises(ProcedureError, match=r"(?s)n3: no kube-proxy pod yet.*Cilium was not touched"):
            world.whole()

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (UnreachableError("iptables-save in kube-system/kube-proxy-n2: no answer within 30 s"), "no answer within"),
            (ExecResult("", "iptables-save: not found", 127), "exit code 127: iptables-save: not found"),
        ],
    )
    def test_rules_that_cannot_be_read_are_not_taken_for_rules(
        self, world: World, error: Exception | ExecResult, said: str
    ) -> None:
        world.exec_error["n2"] = error
        with pytest.raises(ProcedureError, match="n2: its rules can't be read: .*" + said) as caught:
            world.whole()
        assert "n1:" not in str(caught.value)

    def test_one_failed_reading_is_tried_again(self, world: World, clock: Clock) -> None:
        world.exec_error["n2"] = UnreachableError("broken")
        clock.on_sleep = lambda passed: world.exec_error.clear() if passed > 7 else None
        world.whole()

    def test_patience_counts_from_the_last_node_that_came(self, world: World) -> None:
        world.rules_after = {"n1": 9, "n2": 17}
        world.whole(patience=10)

    def test_without_progress_the_patience_ends_it(self, world: World, clock: Clock) -> None:
        world.rules_after = {"n1": 2, "n2": NEVER}
        with pytest.raises(ProcedureError):
            world.whole(patience=10)
        assert clock.passed < 20

    def test_nodes_that_its_daemon_set_does_not_select_are_not_awaited(self, world: World) -> None:
        world.put(node("n3", labels={"kubernetes.io/os": "other"}))
        restoring.whole(
            world,
            [its for its in nodes.read(world).ready if its.name != "n3"],
            "kube-system",
            patience=60,
            say=world.said.append,
        )
        third = nodes.Node("n3", "uid", True, {"kubernetes.io/os": "freebsd"}, ())
        restoring.wait_until_routing(
            world, [*nodes.read(world).ready, third], "kube-system", patience=60, say=world.said.append
        )

    def test_a_daemon_set_that_is_deleted_meanwhile_is_told(self, world: World) -> None:
        with pytest.raises(ProcedureError, match=r"DaemonSet was deleted.*Cilium was not touched; run again"):
            restoring.wait_until_routing(
                world, nodes.read(world).ready, "kube-system", patience=60, say=world.said.append
            )


class TestBackends:
    def mode(self, world: World, mode: str) -> None:
        data = kubeadm_objects()["configmap"]["data"]
        config = data["config.conf"].replace('mode: ""', f"mode: {mode}")
        configmap = kubeadm_objects()["configmap"] | {"data": data | {"config.conf": config}}
        world.put(configmap, kubeadm_objects()["daemonset"])

    def asked(self, world: World) -> set[str]:
        return {call[1].partition(": ")[2] for call in world.calls if call[0] == "EXEC"}

    def test_nftables_is_read_with_the_image_s_own_nft(self, world: World) -> None:
        self.mode(world, "nftables")
        world.on_exec = lambda *_: ExecResult(sample("kube-proxy-1.36.3-nftables-mode-nft-table-ip.txt"), "", 0)
        world.whole()
        assert self.asked(world) == {"nft list table ip kube-proxy"}

    def test_both_families_are_read_where_services_have_both(self, world: World) -> None:
        world.put(
            service("kubernetes", "10.96.0.1", "fd00::1", ports=[{"name": "https", "port": 443, "protocol": "TCP"}]),
            endpoint_slice(
                "kubernetes",
                "fd00:10::1",
                family="IPv6",
                suffix="6",
                ports=[{"name": "https", "port": 6443, "protocol": "TCP"}],
            ),
        )
        world.on_exec = lambda *_: ExecResult(sample("cilium-1.20.2-iptables-save-stale.txt"), "", 0)
        with pytest.raises(ProcedureError, match=r"\[fd00::1\]:443/TCP: no rule"):
            world.whole()
        assert self.asked(world) == {"iptables-save", "ip6tables-save"}

    def test_in_ipvs_the_agents_show_its_virtual_servers(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mode(world, "ipvs")
        world.put(agent_pod("n1"), agent_pod("n2"))
        whole = ipvs.VirtualServer("10.96.0.1", "TCP", 443)
        held = {name: ipvs.Held({whole: frozenset({"10.10.0.1:6443"})}, frozenset(), frozenset(), ()) for name in "12"}
        held["2"] = replace(held["2"], servers={})
        world.on_exec = lambda _namespace, _pod, _container, command: agent_answers(command, "replace")
        monkeypatch.setattr(ipvs, "read", lambda _api, _space, its: {its.node: held[its.node[1:]] for its in its})
        with pytest.raises(ProcedureError, match=r"n2: 1 Services aren't in its IPVS.*443/TCP: no virtual server") as c:
            world.whole()
        assert "n1:" not in str(c.value)
        held["2"] = held["1"]
        world.whole()

    def test_in_ipvs_an_agent_that_cannot_be_read_is_waited_for(self, world: World) -> None:
        self.mode(world, "ipvs")
        world.put(agent_pod("n1"))
        world.on_exec = lambda *_: ExecResult("", "Killed", 137)
        with pytest.raises(ProcedureError, match="n1: its virtual servers can't be read"):
            world.whole()

    def test_in_ipvs_an_agent_that_does_not_replace_has_nothing_to_let_go(self, world: World) -> None:
        self.mode(world, "ipvs")
        world.put(agent_pod("n1"), agent_pod("n2"))
        world.on_exec = lambda _namespace, _pod, _container, command: agent_answers(command, "kube-proxy")
        world.whole()

    def test_in_ipvs_a_node_without_an_agent_has_nothing_to_let_go(self, world: World) -> None:
        self.mode(world, "ipvs")
        world.whole()
        assert self.asked(world) == set()

    def test_the_pods_of_kube_proxy_are_asked_not_those_of_others(self, world: World) -> None:
        other = kube_proxy_pod("n1")
        other["metadata"] |= {"name": "zz-dns", "labels": {"k8s-app": "kube-dns"}}
        world.put(other)
        world.whole()
        assert not [call for call in world.calls if "zz-dns" in call[1]]


def test_removed_and_restored_the_cluster_is_as_it_was(clock: Clock) -> None:
    world = World(clock)
    del world.objects[RECORD]
    world.put(*kubeadm_objects().values())
    before: dict[str, Any] = {path: bare(body) for path, body in world.objects.items()}
    world.on_call = lambda *_: None
    backup = removal.back_up(world, "uid-a", "kube-system/cilium", "replace", nodes.read(world).all)
    removal.remove_daemonset(world, backup, nodes.read(world).all, patience=1, say=world.said.append)
    removal.remove_configmap(world, backup, world.said.append)
    assert not {kube_proxy.DAEMONSET, kube_proxy.CONFIGMAP} & set(world.objects)
    world.on_call = world._controller
    world.whole()
    record.remove(world)
    after = {path: bare(body) for path, body in world.objects.items() if not path.startswith(PODS)}
    assert after == before
