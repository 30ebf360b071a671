"""Step 1 against a fake cluster and a chart in a folder: what it refuses, and what it finds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from kube_proxy_replacement import found as found_resource
from kube_proxy_replacement import looking
from kube_proxy_replacement.cluster import drift, ipvs, kube_proxy, kubeadm, lease, nodes, record, routing
from kube_proxy_replacement.cluster.api import Api
from kube_proxy_replacement.cluster.errors import ApiError, ProcedureError, UnreachableError
from kube_proxy_replacement.cluster.exec import ExecResult
from kube_proxy_replacement.cluster.record import Record, bare
from kube_proxy_replacement.looking import Found
from kube_proxy_replacement.settings import SettingsError, parse
from kube_proxy_replacement.values import helm_values

from .fakes import (
    FakeApi,
    agent_answers,
    agent_pod,
    agents_daemon_set,
    config_map,
    daemon_set,
    forbidden,
    kubeadm_objects,
    kubeconfig,
    made,
    namespace,
    node,
    service,
)
from .test_helm_release import secret

KUBEADM = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
CONFIG = "/api/v1/namespaces/kube-system/configmaps/cilium-config"
RECORD = "/api/v1/namespaces/kube-system/configmaps/kube-proxy-replacement"
OPTION = "bpf-lb-sock-hostns-only"
TAINT = {"key": "gpu", "effect": "NoSchedule"}
CHART = {
    "kubeProxyReplacement": "false",
    "image": {"repository": "example/agent", "tag": "v1"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {},
    "ipam": {"mode": "cluster-pool", "operator": {}},
    "socketLB": {},
    "bpf": {},
}
AT_FIRST = {
    "mode": "coexist",
    "cluster": "uid-a",
    "server": "https://10.0.0.1:6443",
    "apiServer": {"host": "192.0.2.10", "port": 6443, "source": "ConfigMap kube-system/kube-proxy"},
    "podAddresses": {"ipam": {"mode": "kubernetes"}},
    "mark": "",
}
"""What a first run recorded."""


@pytest.fixture(autouse=True)
def helms(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is looked for on the PATH, where `helm` is."""
    asked: list[str] = []
    monkeypatch.setattr(looking.Helm, "find", lambda: asked.append("helm"))
    return asked


def given(mode: str, *, kept: bool = True) -> dict[str, Any]:
    """The values that a run in this mode has given the release."""
    said = {} if kept else {"keepConnections": False}
    address = AT_FIRST["apiServer"]
    return helm_values(parse({"mode": mode, **said}), address["host"], address["port"], AT_FIRST["podAddresses"])


@pytest.fixture
def no_helm(monkeypatch: pytest.MonkeyPatch) -> None:
    def find() -> None:
        raise ProcedureError("The program `helm` isn't on the PATH. Install it.")

    monkeypatch.setattr(looking.Helm, "find", find)


class World(FakeApi):
    """A kubeadm cluster with two nodes, without Cilium.

    Attributes:
        says: what a node's agent says, where it isn't as its mode wants; an exception is raised.
        in_mode: the mode in which it was left.
    """

    def __init__(self) -> None:
        super().__init__()
        self.says: dict[str, Any] = {}
        self.in_mode = "coexist"
        self.objects["/apis"] = {"groups": [{"name": "apps"}]}
        self.objects["/apis/cilium.io/v2"] = {"resources": [{"name": "ciliumnodeconfigs"}]}
        self.put(namespace("kube-system", "uid-a"), *kubeadm_objects().values())
        self.put(node("n1", cidrs=("10.244.1.0/24",)), node("n2", cidrs=("10.244.2.0/24",)))
        self.put(service("kubernetes", "10.96.0.1", ports=({"port": 443, "protocol": "TCP"},)))
        self.on_exec = self._its_agent_says

    def ran(self, mode: str, *, done: bool = True, kept: bool = True) -> World:
        """As a run in this mode has left it, or, not `done`, one that was stopped behind the release.

        `kept`: with socketLB.hostNamespaceOnly.
        """
        self.in_mode = mode
        rendered = {"kube-proxy-replacement": "true" if mode == "replace" else "false"}
        rendered |= {OPTION: "true"} if kept and mode == "replace" else {}
        owner = agents_daemon_set()
        owner["metadata"]["annotations"] = {
            "meta.helm.sh/release-name": "cilium",
            "meta.helm.sh/release-namespace": "kube-system",
        }
        self.put(owner, agent_pod("n1"), agent_pod("n2"), config_map("cilium-config", **rendered))
        self.put(secret(1, config=rendered, values=given(mode, kept=kept)))
        self.keep(done=mode if done else "")
        if mode == "replace":
            for path in (kube_proxy.DAEMONSET, kube_proxy.CONFIGMAP):
                self.objects.pop(path, None)
            data = self.objects[KUBEADM]["data"]
            data["ClusterConfiguration"] = kubeadm.with_disabled(data["ClusterConfiguration"], True)
        return self

    def keep(self, **changes: Any) -> None:
        """Writes the record: kube-proxy's backup, and the changes."""
        real = kubeadm_objects()
        backup = {"daemonset": bare(real["daemonset"]), "configmap": bare(real["configmap"])}
        told: dict[str, Any] = {"cluster": "uid-a", "release": "kube-system/cilium", **backup, **changes}
        record.write(self, Record(**told))
        self.calls.clear()
        self.bodies.clear()

    def _its_agent_says(self, _: str, pod: str, __: str, command: Sequence[str]) -> ExecResult:
        says = self.says.get(pod.split("-")[1], "replace" if self.in_mode == "replace" else "kube-proxy")
        if isinstance(says, Exception):
            raise says
        return agent_answers(command, says)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    api = World()
    monkeypatch.setattr(Api, "connect", lambda *_, **__: api)
    return api


Look = Callable[..., Found]


@pytest.fixture
def look(world: World, tmp_path: Path) -> Look:
    """Looks, with the chart in a folder; it never changes anything."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: cilium\nversion: 1.18.6\n")
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(CHART))
    uses = "".join(f"{{{{ toYaml .Values.{name} }}}}\n" for name in CHART)
    (tmp_path / "templates" / "all.yaml").write_text(uses)

    def looked(
        mode: str = "coexist", before: dict[str, Any] | None = None, *, preview: bool = False, **settings: Any
    ) -> Found:
        found = looking.look({"mode": mode, "chart": "./", **settings}, before or {}, tmp_path, preview=preview)
        assert world.changes() == []
        return found

    return looked


def refused(look: Callable[[], Found]) -> str:
    """What it says no with; it always says that nothing was changed."""
    with pytest.raises(ProcedureError) as caught:
        look()
    said = re.sub(r"\s+", " ", str(caught.value))
    assert "othing was changed" in said
    return said


def before(mode: str = "coexist", **changes: Any) -> dict[str, Any]:
    """What a run in this mode has recorded."""
    return {**AT_FIRST, "mode": mode, **changes}


class TestSettings:
    def test_every_reason_is_told_at_once_and_no_cluster_is_asked(self, world: World, look: Look) -> None:
        with pytest.raises(SettingsError) as caught:
            look("replace", values={"kubeProxyReplacement": False, "nodeSelectorr": {}})
        assert {"nodeSelectorr" in reason for reason in caught.value.reasons} == {True, False}
        assert any("kubeProxyReplacement" in reason for reason in caught.value.reasons)
        assert world.calls == []

    def test_a_setting_that_contradicts_a_value_is_told(self, look: Look) -> None:
        with pytest.raises(SettingsError, match="k8sServiceHost"):
            look("replace", apiServerHost="192.0.2.10", values={"k8sServiceHost": "192.0.2.11"})


class TestWhichCluster:
    def test_another_cluster_is_refused_with_both_uids_and_addresses(self, world: World, look: Look) -> None:
        its = before(cluster="uid-b", server="https://192.0.2.99:6443")
        said = refused(lambda: look(before=its))
        for words in ("uid-b", "https://192.0.2.99:6443", "uid-a", world.server, "kubeContext"):
            assert words in said

    def test_it_is_refused_before_anything_else_is_looked_at(self, world: World, look: Look) -> None:
        refused(lambda: look(before=before(cluster="uid-b")))
        assert world.calls == [("GET", "/api/v1/namespaces/kube-system")]

    def test_an_address_that_was_not_recorded_is_no_reason_to_fail_otherwise(self, look: Look) -> None:
        its = before(cluster="uid-b")
        del its["server"]
        assert "uid-b" in refused(lambda: look(before=its))

    def test_another_address_of_the_same_cluster_is_the_same_cluster(self, world: World, look: Look) -> None:
        found = look(before=before(server="https://192.0.2.99:6443"))
        assert (found.cluster, found.server) == ("uid-a", world.server)


class TestNamespace:
    def test_one_that_is_not_there_is_refused(self, look: Look) -> None:
        assert "no namespace network" in refused(lambda: look(namespace="network"))

    def test_one_that_is_there_is_taken(self, world: World, look: Look) -> None:
        world.put(namespace("network", "uid-n"))
        assert look(namespace="network").cluster == "uid-a"


class TestNodes:
    def without(self, world: World, *names: str) -> None:
        for name in names:
            del world.objects[f"/api/v1/nodes/{name}"]

    def test_a_cluster_without_nodes_is_refused(self, world: World, look: Look) -> None:
        self.without(world, "n1", "n2")
        world.put(node("w1", os="windows"))
        said = refused(look)
        assert "no Linux nodes" in said
        assert world.server in said

    def test_one_without_a_ready_node_is_refused_and_names_them(self, world: World, look: Look) -> None:
        world.put(node("n1", ready=False), node("n2", ready=False))
        assert "n1, n2" in refused(look)

    def test_one_node_that_is_away_is_listed_and_not_waited_for(self, world: World, look: Look) -> None:
        world.put(node("n2", ready=False, cidrs=("10.244.2.0/24",)))
        assert any("n2" in note and "left out" in note for note in look().notes)

    def tainted(self, world: World, value: str = "") -> None:
        world.put(node("n2", cidrs=("10.244.2.0/24",)))
        world.objects["/api/v1/nodes/n2"]["spec"]["taints"] = [TAINT]

    def test_a_node_that_would_have_no_agent_is_refused_in_replace(self, world: World, look: Look) -> None:
        self.tainted(world)
        said = refused(lambda: look("replace", values={"tolerations": [{"key": "other", "operator": "Exists"}]}))
        assert "n2 (values.tolerations" in said
        assert "n1" not in said

    def test_a_selector_that_chooses_some_nodes_is_refused_in_replace(self, world: World, look: Look) -> None:
        world.put(node("n1", labels={"pool": "a"}, cidrs=("10.244.1.0/24",)))
        said = refused(lambda: look("replace", values={"nodeSelector": {"pool": "a"}}))
        assert "n2 (values.nodeSelector" in said

    def test_one_that_is_away_now_would_have_no_agent_either(self, world: World, look: Look) -> None:
        world.put(node("n3", ready=False))
        world.objects["/api/v1/nodes/n3"]["spec"]["taints"] = [TAINT]
        assert "n3" in refused(lambda: look("replace", values={"tolerations": [{"key": "x", "operator": "Exists"}]}))

    def test_in_coexist_kube_proxy_routes_there(self, world: World, look: Look) -> None:
        self.tainted(world)
        assert look(values={"tolerations": [{"key": "other", "operator": "Exists"}]}).findings == []

    def test_the_chart_s_own_tolerations_count(self, world: World, look: Look) -> None:
        self.tainted(world)
        assert look("replace").findings == []

    def test_they_are_listed_once(self, world: World, look: Look) -> None:
        look("coexist")
        assert world.calls.count(("LIST", nodes.LIST)) == 1


class TestKubeProxy:
    def ipvs(self, world: World, **its: Any) -> None:
        data = world.objects[kube_proxy.CONFIGMAP]["data"]
        parsed = yaml.safe_load(data["config.conf"])
        data["config.conf"] = yaml.safe_dump(parsed | {"mode": "ipvs", "ipvs": parsed["ipvs"] | its})

    def test_ipvs_that_leaves_others_virtual_servers_alone_is_refused_in_replace(
        self, world: World, look: Look
    ) -> None:
        self.ipvs(world, excludeCIDRs=["192.0.2.9/32"])
        assert "192.0.2.9/32" in refused(lambda: look("replace"))

    def test_ipvs_with_its_own_alone_is_replaced_and_the_preview_says_how_far_that_is_tried(
        self, world: World, look: Look
    ) -> None:
        self.ipvs(world)
        assert ipvs.NOTE in look("replace").notes
        assert ipvs.NOTE not in look("coexist").notes

    def test_beside_cilium_ipvs_may_go_on(self, world: World, look: Look) -> None:
        self.ipvs(world)
        assert look().findings == []

    @pytest.mark.parametrize("mode", ["coexist", "replace"])
    @pytest.mark.parametrize(("version", "way"), [("v1.36.3+rke2r1", "disable-kube-proxy: true"), ("v1.36.3", "")])
    def test_of_static_pods_the_distribution_s_own_way_is_told_where_it_is_known(
        self, world: World, look: Look, version: str, way: str, mode: str
    ) -> None:
        del world.objects[kube_proxy.DAEMONSET]
        world.put(node("n1", version=version, cidrs=("10.244.1.0/24",)))
        metadata = {"labels": {"component": "kube-proxy"}, "annotations": {"kubernetes.io/config.mirror": "abc"}}
        world.put(made("Pod", "kube-proxy-n1", namespace="kube-system", metadata=metadata))
        said = refused(lambda: look(mode))
        assert "static pods (kube-system/kube-proxy-n1)" in said
        assert ("This is an RKE2 cluster" in said) is bool(way)
        assert way in said

    def test_one_that_is_the_distribution_s_is_refused_in_replace(self, world: World, look: Look) -> None:
        world.put(node("n1", version="v1.30.4+rke2r1", cidrs=("10.244.1.0/24",)))
        assert "RKE2" in refused(lambda: look("replace"))
        assert look().findings == []

    def test_none_that_could_route_is_refused_in_coexist(self, world: World, look: Look) -> None:
        del world.objects[kube_proxy.DAEMONSET]
        said = refused(look)
        assert "no backup" in said
        assert "ConfigMap is still there" in said

    def test_one_that_is_in_the_backup_will_route(self, world: World, look: Look) -> None:
        world.ran("replace")
        assert look("coexist", before("replace")).findings == []

    def test_a_cluster_without_any_is_taken_over_in_replace(self, world: World, look: Look) -> None:
        del world.objects[kube_proxy.DAEMONSET], world.objects[kube_proxy.CONFIGMAP]
        world.objects[KUBEADM]["data"]["ClusterConfiguration"] += "controlPlaneEndpoint: 192.0.2.10:6443\n"
        found = look("replace")
        assert found.api_server["source"] == "ConfigMap kube-system/kubeadm-config"
        assert any("no kube-proxy" in note for note in found.notes)


class TestSkippedChecks:
    """Each is said in the preview, in every one, and the run goes on."""

    def told(self, found: Found, check: str) -> str:
        (note,) = [note for note in found.notes if note.startswith(f"skipChecks, {check}: ")]
        assert "othing was changed" not in note
        return note

    def test_kube_proxy_s_owner(self, world: World, look: Look) -> None:
        label = {"addonmanager.kubernetes.io/mode": "Reconcile"}
        world.objects[kube_proxy.DAEMONSET]["metadata"]["labels"] = label
        assert "write managed-by into skipChecks" in refused(lambda: look("replace"))
        assert "add-on manager" in self.told(look("replace", skipChecks=["managed-by"]), "managed-by")
        assert not any("add-on manager" in note for note in look("coexist").notes)

    def test_the_distribution(self, world: World, look: Look) -> None:
        world.put(node("n1", version="v1.30.4+rke2r1", cidrs=("10.244.1.0/24",)))
        assert "write distribution into skipChecks" in refused(lambda: look("replace"))
        assert "RKE2" in self.told(look("replace", skipChecks=["distribution"]), "distribution")

    def test_another_network(self, world: World, look: Look) -> None:
        world.put(daemon_set("kube-flannel-ds", namespace="kube-flannel"))
        assert "write other-network into skipChecks" in refused(look)
        assert "Flannel" in self.told(look(skipChecks=["other-network"]), "other-network")

    def test_another_s_name_skips_nothing(self, world: World, look: Look) -> None:
        world.put(daemon_set("kube-flannel-ds", namespace="kube-flannel"))
        assert "Flannel" in refused(lambda: look(skipChecks=["managed-by", "distribution"]))

    def test_nothing_skips_a_cilium_that_helm_would_not_install_over(self, world: World, look: Look) -> None:
        world.put(agents_daemon_set())
        assert "skipChecks" not in refused(lambda: look(skipChecks=["managed-by"]))

    def test_what_an_add_on_manager_has_put_back(self, world: World, look: Look) -> None:
        world.ran("replace")
        item = kubeadm_objects()["daemonset"]
        item["metadata"].setdefault("labels", {})["addonmanager.kubernetes.io/mode"] = "Reconcile"
        world.put(item)
        assert "add-on manager" in refused(lambda: look("replace", before("replace")))
        assert look("replace", before("replace"), skipChecks=["managed-by"]).findings

    def test_what_comes_back_again_and_again(self, world: World, look: Look) -> None:
        world.ran("replace")
        world.keep(done="replace", returns=("2026-11-23T05:00:00Z", "2026-11-23T06:00:00Z"))
        world.put(kubeadm_objects()["daemonset"])
        assert "managed-by" in refused(lambda: look("replace", before("replace")))
        found = look("replace", before("replace"), skipChecks=["managed-by"])
        assert "third time" in self.told(found, "managed-by")
        assert found.findings

    def test_it_is_told_while_nothing_changes_too(self, world: World, look: Look) -> None:
        world.ran("coexist")
        world.put(daemon_set("kube-flannel-ds", namespace="kube-flannel"))
        self.told(look(before=before(), skipChecks=["other-network"]), "other-network")


class TestForeign:
    def foreign(self, world: World, its_namespace: str = "kube-system", name: str = "cilium") -> None:
        owner = daemon_set(
            "cilium",
            namespace=its_namespace,
            annotations={"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": its_namespace},
        )
        world.put(namespace(its_namespace, "uid-a"), owner, secret(3, name=name, namespace=its_namespace))

    def test_a_record_of_another_release_does_not_make_it_ours(self, world: World, look: Look) -> None:
        self.foreign(world)
        world.keep(release="kube-system/mesh")
        assert "kube-system/cilium" in refused(look)

    @pytest.mark.parametrize(("where", "name"), [("network", "cilium"), ("kube-system", "mesh")])
    def test_one_under_another_name_is_refused(self, world: World, look: Look, where: str, name: str) -> None:
        self.foreign(world, where, name)
        assert f"the Helm release {where}/{name}" in refused(look)

    def test_even_beside_our_own(self, world: World, look: Look) -> None:
        world.ran("coexist")
        self.foreign(world, "network")
        assert "network/cilium" in refused(lambda: look(before=before()))

    def test_one_that_helm_does_not_run_is_refused(self, world: World, look: Look) -> None:
        world.put(agents_daemon_set())
        said = refused(look)
        assert "DaemonSet kube-system/cilium" in said
        assert "not by Helm" in said

    def contested(self, world: World) -> None:
        """Flux works on our release."""
        path = "/apis/apps/v1/namespaces/kube-system/daemonsets/cilium"
        world.objects[path]["metadata"]["labels"] = {"k8s-app": "cilium", "helm.toolkit.fluxcd.io/name": "net"}

    def test_a_controller_s_hand_on_ours_is_no_fight_while_nothing_is_to_be_mended(
        self, world: World, look: Look
    ) -> None:
        world.ran("coexist")
        self.contested(world)
        assert look(before=before(chart="./")).findings == []

    def test_it_is_one_where_the_settings_have_changed(self, world: World, look: Look) -> None:
        world.ran("coexist")
        self.contested(world)
        assert "Flux" in refused(lambda: look(before=before(chart="./"), values={"affinity": {"a": 1}}))

    def test_it_is_one_where_something_would_be_mended(self, world: World, look: Look) -> None:
        world.ran("coexist")
        self.contested(world)
        world.objects[CONFIG]["data"]["kube-proxy-replacement"] = "partial"
        said = refused(lambda: look(before=before()))
        assert "Flux" in said
        assert "managed-by" in said

    def test_it_is_one_where_the_mode_is_to_change(self, world: World, look: Look) -> None:
        world.ran("coexist")
        self.contested(world)
        assert "Flux" in refused(lambda: look("replace", before=before()))

    def test_our_own_is_not_refused(self, world: World, look: Look) -> None:
        world.ran("coexist")
        assert look(before=before()).findings == []

    def test_our_own_by_its_record_alone_is_not_refused(self, world: World, look: Look) -> None:
        """The state was lost, or leaves the first run's end out."""
        world.ran("coexist")
        assert look().cluster == "uid-a"

    def test_another_network_is_refused(self, world: World, look: Look) -> None:
        world.put(daemon_set("kube-flannel-ds", namespace="kube-flannel"))
        assert "Flannel" in refused(look)


class TestRights:
    def test_a_right_that_a_run_will_need_is_named_before_it(self, world: World, look: Look) -> None:
        world.allowed = lambda verb, resource, **_: verb != "delete"
        said = refused(lambda: look("replace"))
        assert "may not delete daemonsets" in said
        assert "may not list nodes" not in said

    def test_where_nothing_is_to_be_done_only_reading_is_needed(self, world: World, look: Look) -> None:
        world.ran("replace")
        world.allowed = lambda verb, resource, **_: verb in ("get", "list") or resource == "pods"
        assert look("replace", before("replace")).findings == []

    def test_a_run_that_may_not_read_the_agents_is_refused(self, world: World, look: Look) -> None:
        """It would say that all is well without having looked."""
        world.ran("replace")
        world.allowed = lambda _, __, subresource, **___: not subresource
        assert "may not create, get pods/exec" in refused(lambda: look("replace", before("replace")))

    @pytest.mark.parametrize("allowed", [False, lambda verb, *_, **__: verb in ("get", "list")])
    def test_a_preview_needs_no_right_to_change(self, world: World, look: Look, allowed: Any) -> None:
        """What an up would lack is told when the chart has been rendered, in one line."""
        world.allowed = allowed
        assert look("replace", preview=True).cluster == "uid-a"

    def test_a_preview_shows_what_is_wrong_without_a_right_to_change(self, world: World, look: Look) -> None:
        world.ran("replace")
        world.put(kubeadm_objects()["daemonset"])
        world.allowed = False
        found = look("replace", before("replace"), preview=True)
        (finding,) = found.findings
        assert finding.startswith("kube-proxy's DaemonSet is back")
        assert found.mark

    def test_a_preview_that_may_not_read_agents_leaves_their_readings(self, world: World, look: Look) -> None:
        world.ran("replace")
        world.says["n1"] = UnreachableError("n1: no answer")
        world.allowed = lambda _, __, subresource, **___: not subresource
        found = look("replace", before("replace", unreadable=["n2"]), preview=True)
        assert (found.findings, found.mark, found.unreadable) == ([], "", ["n2"])
        (said,) = found.notes
        assert "agents were not read" in said
        assert "pods/exec in namespace kube-system" in said
        assert not [call for call in world.calls if call[0] == "EXEC"]

    def test_what_may_not_be_read_is_named(self, world: World, look: Look) -> None:
        world.errors["LIST", "/api/v1/services"] = forbidden("/api/v1/services")
        world.allowed = lambda verb, resource, **_: resource != "services"
        assert "may not list services" in refused(look)

    def test_another_its_agent_says_is_told_as_it_is(self, world: World, look: Look) -> None:
        world.errors["LIST", "/api/v1/nodes"] = ApiError("LIST /api/v1/nodes: 500 no", status=500, reason="")
        assert "500 no" in refused(look)


class TestFirstRun:
    def test_beside_kube_proxy(self, world: World, look: Look) -> None:
        found = look()
        assert (found.mark, found.findings, found.restart, found.unreadable) == ("", [], [], [])
        assert (found.cluster, found.server, found.image) == ("uid-a", world.server, "example/agent:v1")
        assert found.api_server == AT_FIRST["apiServer"]
        assert any("kube-proxy stays as it is" in note for note in found.notes)
        assert any("192.0.2.10:6443" in note for note in found.notes)

    def test_straight_to_replace(self, look: Look) -> None:
        found = look("replace")
        assert (found.mark, found.findings, found.restart) == ("", [], [])
        assert any("switch-over on 2 nodes" in note for note in found.notes)

    def test_pods_on_another_network_are_told(self, world: World, look: Look) -> None:
        status = {"phase": "Running"}
        world.put(
            made("Pod", "web", namespace="default", spec={"nodeName": "n1"}, status=status),
            made("Pod", "proxy", namespace="default", spec={"nodeName": "n1", "hostNetwork": True}, status=status),
        )
        notes = " ".join(look().notes)
        assert "default/web" in notes
        assert "default/proxy" not in notes

    def test_the_next_mode_begins_with_the_notes_of_its_own(self, world: World, look: Look) -> None:
        world.ran("coexist")
        over = look("replace", before("coexist", mark="m1"))
        assert any("Node by node, 1 of 2 at a time, about 40 s" in note for note in over.notes)
        assert not any("was stopped" in note for note in over.notes)
        assert (over.findings, over.restart) == ([], [])
        assert over.mark not in ("", "m1"), "a run that was cut off may have left a release that looks unchanged"

    def test_and_so_does_the_way_back(self, world: World, look: Look) -> None:
        world.ran("replace")
        back = look("coexist", before("replace", mark="m1"))
        assert any("switch-back on 2 nodes" in note for note in back.notes)
        assert back.findings == []
        assert back.mark not in ("", "m1")

    def test_helm_is_missed_before_a_switch_over_that_may_have_to_be_rolled_back(
        self, world: World, look: Look, no_helm: None
    ) -> None:
        world.ran("coexist")
        said = refused(lambda: look("replace", before("coexist")))
        assert "`helm` isn't on the PATH" in said
        assert "onFailure: keep" in said

    def test_helm_is_missed_where_an_earlier_run_has_removed_kube_proxy_already(
        self, world: World, look: Look, no_helm: None
    ) -> None:
        world.ran("coexist")
        for path in (kube_proxy.DAEMONSET, kube_proxy.CONFIGMAP):
            del world.objects[path]
        assert "`helm` isn't on the PATH" in refused(lambda: look("replace", before("replace")))

    def test_helm_is_not_missed_where_nothing_would_be_rolled_back(
        self, world: World, look: Look, no_helm: None
    ) -> None:
        look("replace")  # there is no release yet
        world.ran("coexist")
        look("coexist", before("coexist"))
        look("replace", before("coexist"), onFailure="keep", strategy="all-at-once")
        world.ran("replace")
        look("replace", before("replace"))

    def test_agents_are_not_read_before_a_run_of_this_mode(self, world: World, look: Look) -> None:
        world.ran("coexist")
        look("replace", before("coexist"))
        assert not [call for call in world.calls if call[0] == "EXEC"]


class TestNodeByNode:
    """Where agents run, nodes are handed over one after the other, unless it is said otherwise."""

    def test_it_is_the_way_where_agents_run(self, world: World, look: Look) -> None:
        assert look("replace").way == "all-at-once"
        world.ran("coexist")
        assert look("replace", before("coexist")).way == "node-by-node"
        assert look("replace", before("coexist"), strategy="all-at-once").way == "all-at-once"

    def test_the_way_of_the_last_run_stays_while_nothing_changes(self, world: World, look: Look) -> None:
        world.ran("replace")
        for way in ("all-at-once", "node-by-node"):
            assert look("replace", before("replace", way=way)).way == way
        assert look("replace", before("replace")).way == "all-at-once", "of a state from before there was another"

    def test_a_run_that_was_stopped_goes_on_in_its_way(self, world: World, look: Look) -> None:
        world.ran("coexist", done=False)
        world.objects["/api/v1/nodes/n1"]["metadata"]["labels"][routing.LABEL] = "cilium"
        found = look("replace", before("replace", way="node-by-node"))
        assert found.way == "node-by-node"
        assert any("1 of 2 nodes are handed over already" in note for note in found.notes)

    REFUSALS: ClassVar[dict[str, tuple[Callable[[World], object], dict[str, Any], str]]] = {
        "no CiliumNodeConfigs": (lambda world: world.objects.pop("/apis/cilium.io/v2"), {}, "has no CiliumNodeConfigs"),
        "somebody else's": (
            lambda world: world.put(
                made(
                    "CiliumNodeConfig",
                    "theirs",
                    namespace="kube-system",
                    version="cilium.io/v2",
                    spec={"defaults": {"kube-proxy-replacement": "true"}},
                )
            ),
            {},
            "CiliumNodeConfig theirs in namespace kube-system",
        ),
        "blocked": (
            lambda _: None,
            {"values": {"daemon": {"blockedConfigOverrides": "debug"}}},
            "blockedConfigOverrides",
        ),
        "other sources": (lambda _: None, {"values": {"daemon": {"configSources": "config-map:x"}}}, "configSources"),
    }

    @pytest.mark.parametrize("what", REFUSALS)
    def test_where_it_can_not_be_done_it_says_no_but_never_to_going_back(
        self, world: World, look: Look, tmp_path: Path, what: str
    ) -> None:
        change, settings, words = self.REFUSALS[what]
        values = tmp_path / "values.yaml"
        values.write_text(values.read_text() + yaml.safe_dump({"daemon": {"configSources": None}}))
        (tmp_path / "templates" / "daemon.yaml").write_text(
            "{{ .Values.daemon.configSources }}{{ .Values.daemon.blockedConfigOverrides }}"
        )
        world.ran("coexist")
        change(world)
        said = refused(lambda: look("replace", before("coexist"), **settings))
        assert words in said
        assert "Or write strategy: all-at-once." in said
        assert look("replace", before("coexist"), strategy="all-at-once", **settings).way == "all-at-once"
        world.ran("replace")
        assert look("coexist", before("replace"), **settings).way == "all-at-once"
        assert words in refused(lambda: look("coexist", before("replace"), strategy="node-by-node", **settings))

    def test_another_version_in_the_same_run_is_refused(self, world: World, look: Look) -> None:
        world.ran("coexist")
        world.put(secret(1, config={"kube-proxy-replacement": "false"}, values=given("coexist"), version="1.18.5"))
        said = refused(lambda: look("replace", before("coexist")))
        assert "1.18.5 runs, 1.18.6 is wanted" in said

    def test_without_helm_it_is_refused(self, world: World, look: Look, no_helm: None) -> None:
        world.ran("coexist")
        assert "strategy: The program `helm`" in refused(lambda: look("replace", before("coexist"), onFailure="keep"))


@pytest.mark.parametrize("mode", ["coexist", "replace"])
class TestSteady:
    def test_where_all_is_as_wanted_nothing_is_told(self, world: World, look: Look, mode: str) -> None:
        world.ran(mode)
        found = look(mode, before(mode, mark="m1"))
        assert (found.mark, found.findings, found.restart, found.unreadable, found.notes) == ("m1", [], [], [], [])

    def test_what_is_not_is_found_and_makes_a_new_mark(self, world: World, look: Look, mode: str) -> None:
        world.ran(mode)
        world.objects[CONFIG]["data"]["kube-proxy-replacement"] = "edited"
        found = look(mode, before(mode, mark="m1"))
        (finding,) = found.findings
        assert "cilium-config was edited" in finding
        assert found.mark not in ("", "m1")
        assert found.notes == []

    def test_a_release_that_somebody_has_upgraded_is_found_and_the_setting_is_named(
        self, world: World, look: Look, mode: str
    ) -> None:
        world.ran(mode)
        rendered = {"kube-proxy-replacement": "true" if mode == "replace" else "false"}
        rendered |= {OPTION: "true"} if mode == "replace" else {}
        world.put(secret(2, config=rendered, values=given(mode) | {"hubble": {"enabled": False}}))
        (finding,) = look(mode, before(mode)).findings
        assert "hubble.enabled: False instead of True" in finding

    def test_what_the_settings_say_otherwise_now_is_not_somebody_s(self, world: World, look: Look, mode: str) -> None:
        world.ran(mode)
        found = look(mode, before(mode), hubble=False, values={"affinity": {"a": 1}}, apiServerPort=7443)
        assert found.findings == []

    def test_nor_what_they_said_then(self, world: World, look: Look, mode: str) -> None:
        world.ran(mode)
        rendered = world.objects[CONFIG]["data"]
        world.put(secret(2, config=rendered, values=given(mode) | {"bpf": {"masquerade": True, "a": 7}}))
        then = before(mode, values={"bpf": {"masquerade": True, "a": 7.0}})
        assert look(mode, then).findings == []

    def test_settings_that_this_version_no_longer_takes_are_not_compared(
        self, world: World, look: Look, mode: str
    ) -> None:
        world.ran(mode)
        assert look(mode, before(mode, strategy="another")).findings == []

    def test_another_chart_is_found_where_the_settings_have_not_changed(
        self, world: World, look: Look, mode: str
    ) -> None:
        world.ran(mode)
        world.put(secret(1, version="1.18.5", config=world.objects[CONFIG]["data"], values=given(mode)))
        (finding,) = look(mode, before(mode, chart="./")).findings
        assert "of chart 1.18.5 instead of 1.18.6" in finding
        assert look(mode, before(mode)).findings == []

    def test_a_preview_and_its_up_find_the_same(self, world: World, look: Look, mode: str) -> None:
        world.ran(mode)
        world.objects[CONFIG]["data"]["kube-proxy-replacement"] = "edited"
        assert look(mode, before(mode, mark="m1")) == look(mode, before(mode, mark="m1"))

    def test_without_a_record_it_is_found(self, world: World, look: Look, mode: str) -> None:
        world.ran(mode)
        del world.objects[RECORD]
        if mode == "replace":
            world.objects[KUBEADM]["data"]["ClusterConfiguration"] += "controlPlaneEndpoint: 192.0.2.10:6443\n"
        found = look(mode, before(mode))
        assert any("record" in finding for finding in found.findings)
        assert found.notes == []


class TestTheLock:
    """Whose Lease is on the cluster: a preview takes none, but says it."""

    OURS, THEIRS = "ada@laptop, run project/dev/1", "bob@desk, run other/prod/7"

    @pytest.fixture
    def steady(self, world: World, look: Look) -> Callable[[], Found]:
        world.ran("replace")
        return lambda: look("replace", before("replace", run="project/dev/1"))

    def test_after_this_stack_s_own_last_run_nothing_is_told(self, world: World, steady: Callable[[], Found]) -> None:
        lease.take(world, self.OURS)
        lease.give_up(world, self.OURS)
        world.calls.clear()
        found = steady()
        assert (found.superseded, found.notes) == (False, [])

    @pytest.mark.parametrize("holder", [THEIRS, OURS])
    def test_while_it_is_held_it_says_by_whom_since_when(
        self, world: World, steady: Callable[[], Found], holder: str
    ) -> None:
        held = lease.take(world, holder)
        world.calls.clear()
        found = steady()
        assert found.superseded
        assert f"{holder}, since {held.since[:10]}" in found.notes[0]
        assert "an up is refused" in found.notes[0]

    def test_after_another_run_it_says_so(self, world: World, steady: Callable[[], Found]) -> None:
        lease.take(world, self.THEIRS)
        lease.give_up(world, self.THEIRS)
        world.calls.clear()
        found = steady()
        assert found.superseded
        assert self.THEIRS in found.notes[0]

    def test_a_first_run_says_nothing_of_those_before_it(self, world: World, look: Look) -> None:
        lease.take(world, self.THEIRS)
        lease.give_up(world, self.THEIRS)
        world.calls.clear()
        assert not any("run" in note and "lock" in note for note in look().notes)


class TestFailed:
    FAILED = record.Failed("2026-11-23T14:00:00Z", "replace", "node n2: no such image", rolled_back=True)

    def notes(self, world: World, look: Look, failed: record.Failed) -> str:
        world.ran("coexist")
        kept = record.read(world)
        assert kept is not None
        record.write(world, replace(kept, done="", failed=failed))
        world.calls.clear()
        return " ".join(look("replace", before("replace")).notes)

    def test_why_and_that_it_was_rolled_back_and_what_is_tried_again(self, world: World, look: Look) -> None:
        said = self.notes(world, look, self.FAILED)
        assert "failed, 2026-11-23T14:00:00Z: node n2: no such image" in said
        assert "It was rolled back" in said
        assert "switch-over on 2 nodes" in said

    def test_one_that_was_kept_goes_on(self, world: World, look: Look) -> None:
        said = self.notes(world, look, replace(self.FAILED, rolled_back=False))
        assert "All was left as it was then; this run goes on from there" in said
        assert "rolled back" not in said

    def test_one_in_the_other_mode_is_of_no_interest(self, world: World, look: Look) -> None:
        assert "no such image" not in self.notes(world, look, replace(self.FAILED, mode="coexist"))


class TestStopped:
    """A run in this mode has begun, and the record says that it never came to its end."""

    def test_the_next_goes_on_and_has_a_mark_of_its_own(self, world: World, look: Look) -> None:
        world.ran("replace", done=False)
        found = look("replace", before("replace", mark="m1"))
        assert found.notes[0].startswith("the last run in this mode was stopped")
        assert any("switch-over" in note for note in found.notes)
        assert found.findings == []
        assert found.mark not in ("", "m1")

    def test_what_it_left_half_way_is_no_finding(self, world: World, look: Look) -> None:
        world.ran("replace", done=False)
        world.put(kubeadm_objects()["configmap"])
        found = look("replace", before("replace"))
        assert found.findings == []
        assert found.mark

    def test_an_agent_that_no_rollout_will_restart_is_restarted(self, world: World, look: Look) -> None:
        world.ran("replace", done=False)
        world.says["n2"] = "kube-proxy"  # and cilium-config says the other
        assert look("replace", before("replace")).restart == ["uid-of-cilium-n2-a"]

    def test_every_run_that_is_stopped_gives_another_mark(self, world: World, look: Look) -> None:
        world.ran("replace", done=False)
        first = look("replace", before("replace"))
        assert look("replace", before("replace", mark=first.mark)).mark not in ("", first.mark)

    @pytest.mark.parametrize("status", ["pending-install", "pending-upgrade"])
    def test_a_release_that_was_cut_off_is_told(self, world: World, look: Look, status: str) -> None:
        world.ran("replace", done=False)
        world.put(secret(2, status, config={"kube-proxy-replacement": "true", OPTION: "true"}))
        found = look("replace", before("replace"))
        assert any(status in note and "marks that revision failed" in note for note in found.notes)
        assert found.findings == []

    def test_one_that_was_stopped_in_the_other_mode_is_a_first_run(self, world: World, look: Look) -> None:
        world.ran("coexist", done=False)
        found = look("replace", before("coexist"))
        assert not any("was stopped" in note for note in found.notes)

    def test_it_is_asked_for_the_rights_again(self, world: World, look: Look) -> None:
        world.ran("replace", done=False)
        world.allowed = False
        assert "may not" in refused(lambda: look("replace", before("replace")))


ON, OFF = ({"socketLB": {"hostNamespaceOnly": its}} for its in (True, False))


class TestOpenConnections:
    """Agents that replace, with socketLB.hostNamespaceOnly on or off, and settings that would change that."""

    @pytest.mark.parametrize(
        ("kept", "settings", "words"),
        [
            (True, {"values": OFF}, "hangs"),
            (False, {}, "no answer from ClusterIPs"),
            (False, {"values": ON}, "no answer from ClusterIPs"),
        ],
    )
    def test_changing_it_is_refused_where_it_is_not_said(
        self, world: World, look: Look, kept: bool, settings: dict[str, Any], words: str
    ) -> None:
        world.ran("replace", kept=kept)
        said = refused(lambda: look("replace", before("replace"), **settings))
        assert "keepConnections" in said
        assert words in said

    @pytest.mark.parametrize(("kept", "words"), [(True, "hangs"), (False, "no answer from ClusterIPs")])
    def test_said_it_is_done_and_told_though_nothing_else_changes(
        self, world: World, look: Look, kept: bool, words: str
    ) -> None:
        world.ran("replace", kept=kept)
        (note,) = look("replace", before("replace"), keepConnections=not kept).notes
        assert words in note
        same = {"socketLB": {"hostNamespaceOnly": not kept}}
        assert look("replace", before("replace"), keepConnections=not kept, values=same).notes == [note]

    def test_said_the_other_way_round_both_are_named(self, look: Look) -> None:
        with pytest.raises(SettingsError) as caught:
            look("replace", keepConnections=True, values=OFF)
        (reason,) = caught.value.reasons
        assert "values.socketLB.hostNamespaceOnly: false" in reason
        assert "keepConnections: true" in reason

    @pytest.mark.parametrize(
        ("kept", "settings"),
        [
            (True, {}),
            (True, {"keepConnections": True}),
            (True, {"values": {"socketLB": {"a": 1}}}),
            (False, {"values": OFF}),
            (False, {"keepConnections": False}),
        ],
    )
    def test_leaving_it_as_it_is_is_no_change(
        self, world: World, look: Look, kept: bool, settings: dict[str, Any]
    ) -> None:
        world.ran("replace", kept=kept)
        assert look("replace", before("replace"), **settings).notes == []

    def test_an_edit_by_hand_is_mended_without_it(self, world: World, look: Look) -> None:
        world.ran("replace")
        world.objects[CONFIG]["data"][OPTION] = "false"
        found = look("replace", before("replace"))
        assert len(found.findings) == 1
        assert found.notes == []

    def test_beside_kube_proxy_it_changes_nothing(self, world: World, look: Look) -> None:
        world.ran("coexist")
        assert look("coexist", before("coexist"), values=OFF).notes == []

    @pytest.mark.parametrize("kept", [True, False])
    @pytest.mark.parametrize(("was", "mode"), [("coexist", "replace"), ("replace", "coexist")])
    def test_with_the_mode_it_may_change(self, world: World, look: Look, was: str, mode: str, kept: bool) -> None:
        world.ran(was, kept=kept)
        for values in (ON, OFF):
            told = "\n".join(look(mode, before(was), values=values).notes)
            assert "hangs" not in told
            assert "no answer" not in told

    def test_what_masquerades_now_is_read(self, world: World, look: Look) -> None:
        world.ran("coexist")
        on = {"bpf": {"masquerade": True}}
        assert "is turned on" in "\n".join(look("replace", before("coexist"), values=on).notes)
        world.put(secret(1, config={"kube-proxy-replacement": "false", "enable-bpf-masquerade": "true"}))
        assert "is turned on" not in "\n".join(look("replace", before("coexist"), values=on).notes)
        assert "is turned off" in "\n".join(look("coexist", before("replace")).notes)

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({}, "pods' to ClusterIPs live"),
            ({"values": OFF}, "pods' to ClusterIPs are reset"),
            ({"keepConnections": False}, "pods' to ClusterIPs are reset"),
        ],
    )
    def test_a_switch_over_says_which_live(
        self, world: World, look: Look, settings: dict[str, Any], words: str
    ) -> None:
        world.ran("coexist")
        world.put(service("web", "10.96.0.9", type="NodePort"))
        told = "\n".join(look("replace", before("coexist"), **settings).notes)
        assert words in told
        assert "default/web" in told


class TestAddress:
    def test_kube_proxy_s_own(self, look: Look) -> None:
        assert look().api_server["host"] == "192.0.2.10"

    def test_that_of_the_backup_where_kube_proxy_is_gone(self, world: World, look: Look) -> None:
        world.ran("replace")
        changed = kubeadm_objects()["configmap"]
        changed["data"]["kubeconfig.conf"] = kubeconfig("https://192.0.2.20:6443")
        world.keep(done="replace", configmap=bare(changed))
        found = look("replace", before("replace"))
        assert (found.api_server["host"], found.api_server["source"]) == (
            "192.0.2.20",
            "ConfigMap kube-system/kube-proxy",
        )

    def test_that_of_the_state_where_the_backup_is_gone_too(self, world: World, look: Look) -> None:
        world.ran("replace")
        del world.objects[RECORD]
        its = {"host": "192.0.2.77", "port": 7443.0, "source": "ConfigMap kube-system/kube-proxy"}
        found = look("replace", before("replace", apiServer=its)).api_server
        assert found == its | {"port": 7443}
        assert isinstance(found["port"], int)  # the state has 7443.0

    def test_where_kube_proxy_is_the_state_s_does_not_count(self, look: Look) -> None:
        its = {"host": "192.0.2.77", "port": 7443, "source": "ConfigMap kube-system/kube-proxy"}
        assert look("coexist", before(apiServer=its)).api_server["host"] == "192.0.2.10"

    def test_the_settings_win(self, look: Look) -> None:
        found = look(apiServerHost="api.example", apiServerPort=443).api_server
        assert (found["host"], found["port"]) == ("api.example", 443)
        assert look(apiServerHost="api.example").api_server["port"] == 6443

    def test_the_port_alone(self, look: Look) -> None:
        found = look(apiServerPort=443).api_server
        assert (found["host"], found["port"]) == ("192.0.2.10", 443)

    def test_a_service_is_refused(self, look: Look) -> None:
        with pytest.raises(ProcedureError, match=r"10\.96\.0\.1"):
            look(apiServerHost="10.96.0.1")

    def test_the_port_alone_is_the_same_in_every_run(self, world: World, look: Look) -> None:
        del world.objects[kube_proxy.DAEMONSET], world.objects[kube_proxy.CONFIGMAP]
        world.objects[KUBEADM]["data"]["ClusterConfiguration"] += "controlPlaneEndpoint: 192.0.2.10:6443\n"
        first = look("replace", apiServerPort=443).api_server
        assert look("replace", before("replace", apiServer=first), apiServerPort=443).api_server == first


class TestPodAddresses:
    def test_a_fresh_cluster_s_are_taken(self, look: Look) -> None:
        assert look().pod_addresses == {"ipam": {"mode": "kubernetes"}}

    def test_where_the_nodes_have_none_kube_proxy_s_range_is(self, world: World, look: Look) -> None:
        world.put(node("n1"), node("n2"))
        ipam = look().pod_addresses["ipam"]
        assert ipam["mode"] == "cluster-pool"
        assert ipam["operator"]["clusterPoolIPv4PodCIDRList"] == ["10.244.0.0/16"]

    @pytest.mark.parametrize("kept", [{}, {"ipam": {"mode": "cluster-pool"}}])
    def test_they_are_kept_whatever_the_cluster_says_later(
        self, world: World, look: Look, kept: dict[str, Any]
    ) -> None:
        world.ran("coexist")
        assert look("coexist", before(podAddresses=kept)).pod_addresses == kept
        assert look("replace", before(podAddresses=kept)).pod_addresses == kept

    def test_its_owner_s_word_goes(self, look: Look) -> None:
        assert look(values={"ipam": {"mode": "cluster-pool"}}).pod_addresses == {}

    def test_our_own_cilium_keeps_them_where_the_state_was_lost(self, world: World, look: Look) -> None:
        taken = look().pod_addresses
        world.ran("coexist")
        world.put(secret(2, values={**taken, "hubble": {"enabled": True}}))
        assert taken
        assert look().pod_addresses == taken


class TestUnreadable:
    def test_agents_that_can_not_be_read_are_named_and_the_mark_stays(self, world: World, look: Look) -> None:
        world.ran("replace")
        world.says["n2"] = UnreachableError("its kubelet doesn't answer")
        found = look("replace", before("replace", mark="m1"))
        assert (found.mark, found.findings, found.restart, found.unreadable) == ("m1", [], [], ["n2"])
        (note,) = found.notes
        assert "n2" in note
        assert "its kubelet doesn't answer" in note

    def test_they_are_sorted(self, world: World, look: Look) -> None:
        world.ran("replace").put(node("a1"), agent_pod("a1"))
        world.says = dict.fromkeys(("n2", "a1"), UnreachableError("no"))
        assert look("replace", before("replace")).unreadable == ["a1", "n2"]

    def test_what_else_is_found_makes_the_same_mark_as_without(self, world: World, look: Look) -> None:
        world.ran("replace")
        world.objects[CONFIG]["data"]["kube-proxy-replacement"] = "edited"
        without = look("replace", before("replace")).mark
        world.says["n2"] = UnreachableError("no")
        found = look("replace", before("replace"))
        assert (found.mark, found.unreadable) == (without, ["n2"])

    def test_when_they_can_be_read_again_nothing_is_left_of_it(self, world: World, look: Look) -> None:
        world.ran("replace")
        found = look("replace", before("replace", mark="m1", unreadable=["n2"]))
        assert (found.mark, found.unreadable, found.notes) == ("m1", [], [])


class TestThePlan:
    """What the notes say in words, for programs."""

    @pytest.mark.parametrize(
        ("ran", "mode", "what"),
        [
            ("", "coexist", "beside"),
            ("", "replace", "switch-over"),
            ("coexist", "replace", "switch-over"),
            ("replace", "coexist", "switch-back"),
            ("replace", "replace", ""),
            ("coexist", "coexist", ""),
        ],
    )
    def test_it_says_what_a_run_does(self, world: World, look: Look, ran: str, mode: str, what: str) -> None:
        found = look(mode, before(world.ran(ran).in_mode, backedUp=True) if ran else {})
        assert found.plan == {"what": what, "fresh": not ran, "nodes": ["n1", "n2"], "leftOut": []}

    def test_a_stopped_run_s_plan_is_still_to_be_done(self, world: World, look: Look) -> None:
        world.ran("replace", done=False)
        assert look("replace", before("replace", backedUp=True)).plan["what"] == "switch-over"

    def test_without_a_kube_proxy_nothing_is_switched(self, world: World, look: Look) -> None:
        for path in (kube_proxy.DAEMONSET, kube_proxy.CONFIGMAP):
            del world.objects[path]
        assert look("replace", apiServerHost="192.0.2.1").plan["what"] == "alone"

    def test_a_node_that_is_not_ready_is_told_apart(self, world: World, look: Look) -> None:
        world.put(node("n2", ready=False, cidrs=("10.244.2.0/24",)))
        assert look("replace").plan["nodes"] == ["n1"]
        assert look("replace").plan["leftOut"] == ["n2"]


def test_what_was_found_is_recorded_under_the_inputs_names(look: Look) -> None:
    found = look()
    inputs = found.as_inputs()
    assert set(AT_FIRST) - {"mode"} <= set(inputs)
    # an output that the state lacks is unknown in a preview, and what is made of it would show as a change
    assert set(found_resource.Found.__annotations__) - {"run", "changing"} <= set(inputs)
    assert (inputs["apiServer"], inputs["podAddresses"]) == (found.api_server, found.pod_addresses)


def test_marks_are_drift_s(world: World, look: Look) -> None:
    world.ran("coexist")
    world.put(secret(2, "failed", config={"kube-proxy-replacement": "false"}))
    assert look("coexist", before(mark="m1")).mark == drift.mark_of(["release|2|failed", "values|2"], "m1")


class TestReleaseThatIsGone:
    """A run has ended with it, or a destroy was about to uninstall it."""

    @staticmethod
    def gone(world: World, **record: Any) -> None:
        world.objects = {path: its for path, its in world.objects.items() if "sh.helm.release" not in path}
        world.keep(**record)

    @pytest.mark.parametrize(
        ("done", "by"), [("coexist", "somebody else"), ("replace", "somebody else"), ("destroy", "a `destroy`")]
    )
    def test_it_is_said_what_would_fail_and_what_to_do(self, world: World, look: Look, done: str, by: str) -> None:
        self.gone(world.ran("coexist"), done=done)
        said = look("replace", AT_FIRST).uninstalled
        assert f"kube-system/cilium is gone from the cluster, uninstalled by {by}" in said
        assert "`pulumi up --refresh`" in said

    @pytest.mark.parametrize(
        "record",
        [{"done": ""}, {"done": "coexist", "release": "kube-system/other"}, {"done": "coexist", "adopted": True}],
        ids=["no run has ended", "another release", "its owner's"],
    )
    def test_where_the_state_need_not_have_it_nothing_is_said(
        self, world: World, look: Look, record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(looking.adopting, "find", lambda *_: None)
        self.gone(world.ran("coexist"), **record)
        assert look("coexist", AT_FIRST).uninstalled == ""

    def test_while_helm_has_it_nothing_is_said(self, world: World, look: Look) -> None:
        world.ran("coexist")
        assert look("coexist", AT_FIRST).uninstalled == ""
