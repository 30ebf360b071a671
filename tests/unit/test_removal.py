from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from kube_proxy_replacement.cluster import kube_proxy, kubeadm, nodes, record, removal, waiting
from kube_proxy_replacement.cluster.errors import ProcedureError
from kube_proxy_replacement.cluster.nodes import Node
from kube_proxy_replacement.cluster.record import Record, bare

from .fakes import Clock, FakeApi, daemon_set, kube_proxy_pod, kubeadm_objects, node

REAL = kubeadm_objects()
RECORD = "/api/v1/namespaces/kube-system/configmaps/kube-proxy-replacement"
KUBEADM = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
PODS = "/api/v1/namespaces/kube-system/pods"


class World(FakeApi):
    """A kubeadm cluster with kube-proxy on two nodes, and the DaemonSet controller, which ends its pods.

    Attributes:
        seconds: how long each node's pod takes to end; None never.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.put(node("n1"), node("n2"), kube_proxy_pod("n1"), kube_proxy_pod("n2"), *kubeadm_objects().values())
        self.clock = clock
        self.seconds: dict[str, float | None] = {"n1": 1, "n2": 2}
        self.deleted: float | None = None
        self.said: list[str] = []
        self.on_call = self._controller

    def _controller(self, method: str, path: str) -> None:
        if kube_proxy.DAEMONSET in self.objects:
            return
        self.deleted = self.clock.now if self.deleted is None else self.deleted
        for name, seconds in self.seconds.items():
            if seconds is not None and self.clock.now - self.deleted >= seconds:
                self.objects.pop(f"{PODS}/kube-proxy-{name}", None)

    def nodes(self) -> tuple[Node, ...]:
        return nodes.read(self).all

    def back_up(self) -> Record:
        return removal.back_up(self, "uid-a", "kube-system/cilium", "replace", self.nodes())

    def remove_daemonset(self, backup: Record, patience: float = 60) -> None:
        removal.remove_daemonset(self, backup, self.nodes(), patience=patience, say=self.said.append)

    def remove_configmap(self, backup: Record) -> Record:
        return removal.remove_configmap(self, backup, self.said.append)

    def remove_all(self) -> Record:
        self.remove_daemonset(self.back_up())
        return self.remove_configmap(self.back_up())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)
    return clock


@pytest.fixture
def world(clock: Clock) -> World:
    return World(clock)


class TestBackUp:
    def test_it_holds_both_objects_the_cluster_and_the_nodes_to_clean(self, world: World) -> None:
        assert world.back_up() == Record(
            cluster="uid-a",
            release="kube-system/cilium",
            daemonset=bare(REAL["daemonset"]),
            configmap=bare(REAL["configmap"]),
            uncleaned=frozenset({"uid-of-n1", "uid-of-n2"}),
        )
        assert record.read(world) == world.back_up()

    def test_nothing_of_kube_proxy_is_touched_by_it(self, world: World) -> None:
        world.back_up()
        assert {path for _, path in world.changes()} == {"/api/v1/namespaces/kube-system/configmaps"}

    def test_unchanged_it_is_not_written_again(self, world: World) -> None:
        world.back_up()
        world.calls.clear()
        world.back_up()
        assert world.changes() == []

    def test_a_good_backup_is_never_overwritten_by_nothing_found(self, world: World) -> None:
        good = world.back_up()
        del world.objects[kube_proxy.DAEMONSET], world.objects[kube_proxy.CONFIGMAP]
        assert world.back_up() == good
        assert record.read(world) == good

    @pytest.mark.parametrize("gone", ["DAEMONSET", "CONFIGMAP"])
    def test_what_is_gone_is_kept_beside_what_is_still_there(self, world: World, gone: str) -> None:
        good = world.back_up()
        del world.objects[getattr(kube_proxy, gone)]
        assert (world.back_up().daemonset, world.back_up().configmap) == (good.daemonset, good.configmap)

    @pytest.mark.parametrize("gone", ["DAEMONSET", "CONFIGMAP"])
    def test_what_is_gone_is_kept_while_the_other_is_changed(self, world: World, gone: str) -> None:
        good = world.back_up()
        del world.objects[getattr(kube_proxy, gone)]
        left = {"DAEMONSET": "CONFIGMAP", "CONFIGMAP": "DAEMONSET"}[gone]
        world.objects[getattr(kube_proxy, left)]["metadata"]["labels"]["mine"] = "1"
        new = world.back_up()
        assert getattr(new, gone.lower()) == getattr(good, gone.lower())
        assert getattr(new, left.lower())["metadata"]["labels"]["mine"] == "1"

    def test_a_cluster_without_kube_proxy_says_so(self) -> None:
        api = FakeApi().put(node("n1"))
        backup = removal.back_up(api, "uid-a", "kube-system/cilium", "replace", nodes.read(api).all)
        assert backup == Record(cluster="uid-a", release="kube-system/cilium")
        assert record.read(api) == backup

    def test_while_kube_proxy_runs_every_node_is_to_be_cleaned_whatever_was_cleaned_before(self, world: World) -> None:
        record.write(world, replace(world.back_up(), uncleaned=frozenset()))
        assert world.back_up().uncleaned == {"uid-of-n1", "uid-of-n2"}

    def test_once_it_is_gone_what_was_cleaned_stays_cleaned(self, world: World) -> None:
        record.write(world, replace(world.back_up(), uncleaned=frozenset({"uid-of-n2"})))
        del world.objects[kube_proxy.DAEMONSET]
        assert world.back_up().uncleaned == {"uid-of-n2"}

    def came_back(self, world: World, when: str, **its: Any) -> tuple[str, ...]:
        """Those that have come back, after one made at `when` was backed up."""
        record.write(world, replace(world.back_up(), **its))
        world.objects[kube_proxy.DAEMONSET]["metadata"]["creationTimestamp"] = when
        return world.back_up().returns

    def test_one_that_has_come_back_is_noted_once_the_last_two(self, world: World) -> None:
        assert self.came_back(world, "t1", done="replace") == ("t1",)
        assert self.came_back(world, "t1") == ("t1",)
        assert self.came_back(world, "t2") == ("t1", "t2")
        assert self.came_back(world, "t3") == ("t2", "t3")

    def test_one_that_was_never_away_has_not_come_back(self, world: World) -> None:
        assert self.came_back(world, "t1", done="") == ()
        assert self.came_back(world, "t1", done="coexist", returns=("t0",)) == ()

    def test_what_was_noted_for_kubeadm_stays(self, world: World) -> None:
        noted = {"before": "a", "after": "b"}
        record.write(world, replace(world.back_up(), kubeadm=noted))
        world.objects[kube_proxy.DAEMONSET]["metadata"]["labels"]["mine"] = "1"
        assert world.back_up().kubeadm == noted

    def test_a_backup_that_someone_has_changed_is_refused_and_not_overwritten(self, world: World) -> None:
        world.back_up()
        world.objects[RECORD]["data"]["daemonset.json"] = "null"
        world.calls.clear()
        with pytest.raises(ProcedureError, match="checksum"):
            world.back_up()
        assert world.changes() == []


class TestDaemonSet:
    def test_it_is_deleted_and_its_last_pod_awaited(self, world: World, clock: Clock) -> None:
        world.remove_daemonset(world.back_up())
        assert kube_proxy.DAEMONSET not in world.objects
        assert not [path for path in world.objects if path.startswith(PODS)]
        assert clock.passed >= 2

    def test_only_the_one_that_was_looked_at_is_deleted(self, world: World) -> None:
        backup = world.back_up()

        def exchange(method: str, path: str) -> None:
            if (method, path) == ("DELETE", kube_proxy.DAEMONSET):
                world.objects[path]["metadata"]["uid"] = "another"

        world.on_call = exchange
        with pytest.raises(ProcedureError, match="put back by something else"):
            world.remove_daemonset(backup, patience=0)
        assert world.objects[kube_proxy.DAEMONSET]["metadata"]["uid"] == "another"

    def test_one_that_a_finalizer_still_holds_is_not_taken_for_another(self, world: World, clock: Clock) -> None:
        backup = world.back_up()
        held = world.objects[kube_proxy.DAEMONSET]

        def hold(method: str, path: str) -> None:
            if clock.passed < 5:
                world.objects[kube_proxy.DAEMONSET] = held
            elif world.deleted is None:
                del world.objects[kube_proxy.DAEMONSET]
            world._controller(method, path)

        world.on_call = hold
        world.remove_daemonset(backup)
        assert not [path for path in world.objects if path.startswith(PODS)]

    @pytest.mark.parametrize(
        "change",
        [
            lambda item: item["spec"]["template"]["spec"]["containers"][0].update(image="newer"),
            lambda item: item["metadata"]["labels"].update(mine="1"),
            lambda item: item["metadata"].update(annotations={"mine": "1"}),
        ],
    )
    def test_one_that_was_changed_meanwhile_is_refused(self, world: World, change: Any) -> None:
        backup = world.back_up()
        change(world.objects[kube_proxy.DAEMONSET])
        world.calls.clear()
        with pytest.raises(ProcedureError, match=r"DaemonSet was changed.*Nothing was removed; run again"):
            world.remove_daemonset(backup)
        assert world.changes() == []

    def test_one_that_is_not_in_the_backup_is_refused(self, world: World) -> None:
        with pytest.raises(ProcedureError, match="Nothing was removed"):
            world.remove_daemonset(Record(cluster="uid-a", release="kube-system/cilium"))
        assert world.changes() == []

    def test_its_status_is_no_change(self, world: World) -> None:
        backup = world.back_up()
        world.objects[kube_proxy.DAEMONSET]["status"]["numberReady"] = 1
        world.objects[kube_proxy.DAEMONSET]["metadata"]["resourceVersion"] = "999"
        world.remove_daemonset(backup)
        assert kube_proxy.DAEMONSET not in world.objects

    def test_a_second_run_awaits_the_pods_of_the_first(self, world: World) -> None:
        backup = world.back_up()
        del world.objects[kube_proxy.DAEMONSET]
        world.remove_daemonset(backup)
        assert not [path for path in world.objects if path.startswith(PODS)]
        assert not [call for call in world.calls if call[0] == "DELETE"]

    def test_pods_that_do_not_end_fail_it_with_their_nodes_and_what_still_holds(self, world: World) -> None:
        world.seconds["n2"] = None
        with pytest.raises(ProcedureError, match=r"(?s)1 left \(n2\).*backed up.*Cilium was not touched"):
            world.remove_daemonset(world.back_up())

    def test_patience_counts_from_the_last_pod_that_ended(self, world: World, clock: Clock) -> None:
        world.seconds = {"n1": 8, "n2": 16}
        world.remove_daemonset(world.back_up(), patience=10)
        assert clock.passed >= 16

    def test_a_pod_on_a_node_that_is_left_out_is_not_awaited(self, world: World) -> None:
        world.seconds["n2"] = None
        only = tuple(its for its in world.nodes() if its.name == "n1")
        removal.remove_daemonset(world, world.back_up(), only, patience=60, say=world.said.append)
        assert f"{PODS}/kube-proxy-n2" in world.objects

    def test_other_pods_are_not_awaited(self, world: World) -> None:
        other = kube_proxy_pod("n1")
        other["metadata"] |= {"name": "dns", "labels": {"k8s-app": "kube-dns"}}
        world.put(other)
        world.remove_daemonset(world.back_up())
        assert f"{PODS}/dns" in world.objects


class TestConfigMap:
    def test_kubeadm_is_told_before_it_is_deleted(self, world: World) -> None:
        world.remove_all()
        assert kube_proxy.CONFIGMAP not in world.objects
        assert world.at("PATCH", KUBEADM) < world.at("DELETE", kube_proxy.CONFIGMAP)
        text = world.objects[KUBEADM]["data"]["ClusterConfiguration"]
        assert yaml.safe_load(text)["proxy"] == {"disabled": True}

    def test_the_daemon_set_goes_first(self, world: World) -> None:
        world.remove_all()
        assert world.at("DELETE", kube_proxy.DAEMONSET) < world.at("DELETE", kube_proxy.CONFIGMAP)

    def test_the_backup_is_read_back_before_the_first_deletion(self, world: World) -> None:
        world.remove_all()
        read_back = world.calls.index(("GET", RECORD), world.at("POST", RECORD.rpartition("/")[0]))
        assert read_back < world.at("DELETE", kube_proxy.DAEMONSET)

    def test_it_is_not_touched_while_a_daemon_set_is_there(self, world: World) -> None:
        backup = world.back_up()
        world.calls.clear()
        with pytest.raises(ProcedureError, match=r"(?s)DaemonSet is back.*ConfigMap was not touched"):
            world.remove_configmap(backup)
        assert world.changes() == []

    def test_one_that_was_changed_meanwhile_is_not_deleted(self, world: World) -> None:
        backup = world.back_up()
        world.remove_daemonset(backup)
        world.objects[kube_proxy.CONFIGMAP]["data"]["config.conf"] += "\nmode: nftables"
        with pytest.raises(
            ProcedureError, match=r"(?s)ConfigMap was changed.*not deleted\.\nThe DaemonSet is removed.*Run again"
        ):
            world.remove_configmap(backup)
        assert kube_proxy.CONFIGMAP in world.objects

    def test_one_that_is_not_in_the_backup_is_not_deleted(self, world: World) -> None:
        backup = replace(world.back_up(), configmap=None)
        world.remove_daemonset(backup)
        with pytest.raises(ProcedureError, match="not deleted"):
            world.remove_configmap(backup)
        assert kube_proxy.CONFIGMAP in world.objects

    def test_only_the_one_that_was_looked_at_is_deleted(self, world: World) -> None:
        backup = world.back_up()
        world.remove_daemonset(backup)

        def exchange(method: str, path: str) -> None:
            if (method, path) == ("DELETE", kube_proxy.CONFIGMAP):
                world.objects[path]["metadata"]["uid"] = "another"

        world.on_call = exchange
        world.remove_configmap(backup)
        assert kube_proxy.CONFIGMAP in world.objects

    def test_the_change_for_kubeadm_is_in_the_backup_before_it_is_made(self, world: World) -> None:
        backup = world.back_up()
        world.remove_daemonset(backup)
        noted: list[Record | None] = []

        def look(method: str, path: str) -> None:
            if (method, path) == ("PATCH", KUBEADM):
                noted.append(record.read(world))

        world.on_call = look
        world.remove_configmap(backup)
        before = REAL["kubeadm-config"]["data"]["ClusterConfiguration"]
        assert noted[0] is not None
        assert noted[0].kubeadm == {"before": before, "after": kubeadm.with_disabled(before, True)}

    def test_killed_between_the_two_the_next_run_ends_where_the_first_would_have(self, world: World) -> None:
        backup = world.back_up()
        world.remove_daemonset(backup)
        world.errors["PATCH", KUBEADM] = ProcedureError("killed")
        with pytest.raises(ProcedureError, match="killed"):
            world.remove_configmap(backup)
        assert kube_proxy.CONFIGMAP in world.objects
        del world.errors["PATCH", KUBEADM]
        ended = world.remove_configmap(world.back_up())
        assert kube_proxy.CONFIGMAP not in world.objects
        assert ended.kubeadm is not None
        assert ended.kubeadm["before"] == REAL["kubeadm-config"]["data"]["ClusterConfiguration"]

    def test_a_kubeadm_that_has_it_off_already_is_not_touched_and_nothing_is_noted(self, world: World) -> None:
        data = world.objects[KUBEADM]["data"]
        data["ClusterConfiguration"] = kubeadm.with_disabled(data["ClusterConfiguration"], True)
        assert world.remove_all().kubeadm is None
        assert ("PATCH", KUBEADM) not in world.calls

    def test_a_kubeadm_that_does_not_know_the_key_is_not_touched(self, world: World) -> None:
        data = world.objects[KUBEADM]["data"]
        data["ClusterConfiguration"] = data["ClusterConfiguration"].replace("v1beta4", "v1beta3")
        world.remove_all()
        assert ("PATCH", KUBEADM) not in world.calls
        assert kube_proxy.CONFIGMAP not in world.objects

    def test_a_cluster_that_never_had_kube_proxy_keeps_its_kubeadm_config(self) -> None:
        api = FakeApi().put(node("n1"), kubeadm_objects()["kubeadm-config"])
        backup = removal.back_up(api, "uid-a", "kube-system/cilium", "replace", nodes.read(api).all)
        api.calls.clear()
        removal.remove_configmap(api, backup, lambda _: None)
        assert api.changes() == []

    def test_where_it_is_gone_already_there_is_nothing_to_do(self, world: World) -> None:
        world.remove_all()
        world.calls.clear()
        world.remove_configmap(world.back_up())
        assert world.changes() == []


class TestPods:
    def test_they_are_found_by_the_daemon_set_s_selector(self, world: World) -> None:
        found = removal.pods(world, world.objects[kube_proxy.DAEMONSET])
        assert [pod["spec"]["nodeName"] for pod in found] == ["n1", "n2"]

    def test_without_a_daemon_set_there_are_none(self, world: World) -> None:
        assert removal.pods(world, None) == []

    @pytest.mark.parametrize(
        "selector",
        [
            {"matchExpressions": [{"key": "k8s-app", "operator": "In", "values": ["kube-proxy", "proxy"]}]},
            {"matchExpressions": [{"key": "k8s-app", "operator": "NotIn", "values": ["kube-dns"]}]},
            {"matchExpressions": [{"key": "dns", "operator": "DoesNotExist"}]},
            {
                "matchLabels": {"k8s-app": "kube-proxy"},
                "matchExpressions": [{"key": "k8s-app", "operator": "Exists"}],
            },
        ],
    )
    def test_a_selector_by_expressions_does_not_mean_every_pod(self, world: World, selector: dict[str, Any]) -> None:
        owner = daemon_set("kube-proxy")
        owner["spec"]["selector"] = selector
        other = kube_proxy_pod("n1")
        other["metadata"] |= {"name": "dns", "labels": {"k8s-app": "kube-dns", "dns": ""}}
        world.put(other)
        found = removal.pods(world, owner)
        assert [pod["metadata"]["name"] for pod in found] == ["kube-proxy-n1", "kube-proxy-n2"]
