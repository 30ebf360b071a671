"""Step 1 for a release that its owner's Helm runs: what becomes of his values, and what says no."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kube_proxy_replacement import adopting
from kube_proxy_replacement.cluster import owner
from kube_proxy_replacement.cluster.errors import ProcedureError
from kube_proxy_replacement.cluster.helm import Helm
from kube_proxy_replacement.cluster.owner import Owner
from kube_proxy_replacement.cluster.told import OURS
from kube_proxy_replacement.looking import Found
from kube_proxy_replacement.settings import SettingsError

from .fakes import agent_pod, agents_daemon_set, config_map, namespace
from .test_helm_release import secret
from .test_looking import Look, World, before, look, refused, world
from .test_taking_over import made_with

__all__ = ["look", "world"]

HIS: dict[str, Any] = {
    "socketLB": {"hostNamespaceOnly": False},
    "bpf": {"big": 2**60, "none": None},
    "ipam": {"mode": "cluster-pool"},
    "site": {"x": 1},
}


def owned(world: World, *, version: str = "1.18.6", revision: int = 3, **values: Any) -> World:
    """An owner's Cilium beside kube-proxy."""
    daemonset = agents_daemon_set()
    daemonset["metadata"]["annotations"] = {
        "meta.helm.sh/release-name": "cilium",
        "meta.helm.sh/release-namespace": "kube-system",
    }
    rendered = {"kube-proxy-replacement": "false"}
    world.put(daemonset, agent_pod("n1"), agent_pod("n2"), config_map("cilium-config", **rendered))
    world.put(secret(revision, config=rendered, values=HIS | values, version=version))
    return world


def adopted(world: World, *, mode: str = "coexist", **values: Any) -> dict[str, Any]:
    """It, as a first run has left it; what that run has recorded."""
    owned(world, **values)
    owner.write(world, Owner("kube-system/cilium", "1.18.6", 3, HIS | values))
    world.keep(adopted=True, done=mode)
    return before(mode, adopted=True, chart="./", podAddresses={}, owner="", own={})


@pytest.fixture(autouse=True)
def helm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Helm, "find", lambda *_: Helm("/usr/bin/helm", (3, 18)))


def told(found: Found) -> str:
    return "\n".join(found.notes)


class TestWhose:
    def test_one_that_nobody_has_recorded_is_its_owners(self, world: World, look: Look) -> None:
        found = look_at(owned(world), look)
        assert found.owner == Owner("", "", 0, HIS).digest
        assert found.own["kubeProxyReplacement"] == "false"
        assert found.pod_addresses == {}, "the pods have addresses"
        assert {"adopted": True, "owner": found.owner, "own": found.own}.items() <= found.as_inputs().items()

    def test_an_install_of_ours_that_was_cut_off_is_never_its_owners(self, world: World, look: Look) -> None:
        """The run was killed before it had a state; the record was there before the install."""
        owned(world)
        world.keep()
        found = look()
        assert (found.owner, found.own) == ("", {})
        assert not found.as_inputs().get("adopted")

    def test_what_the_state_says_is_never_changed_by_what_is_there(self, world: World, look: Look) -> None:
        owned(world)
        assert look(before=before()).owner == ""

    def test_another_stack_finds_in_the_record_whose_it_is(self, world: World, look: Look) -> None:
        adopted(world)
        assert look().owner

    def test_one_that_is_gone_is_refused(self, world: World, look: Look) -> None:
        its = adopted(world)
        world.objects = {path: body for path, body in world.objects.items() if "sh.helm.release" not in path}
        said = refused(lambda: look(before=its))
        assert "kube-system/cilium, which was taken over, is gone" in said
        assert "Secret kube-system/kube-proxy-replacement" in said

    def test_one_that_this_program_installed_and_nobody_has_a_record_of_has_no_owner(
        self, world: World, look: Look
    ) -> None:
        owned(world)
        body = secret(3, values=HIS)
        world.put(made_with(body, OURS))
        assert "isn't this stack's: this program installed it" in refused(lambda: look_at(world, look))

    def test_another_release_than_the_one_that_was_taken_over_is_refused(self, world: World, look: Look) -> None:
        its = adopted(world)
        world.put(namespace("network", "uid-n"))
        said = refused(lambda: look(before=its, namespace="network"))
        assert "has taken over the Helm release kube-system/cilium" in said

    def test_a_cluster_without_cilium_has_no_owner(self, look: Look) -> None:
        assert look().owner == ""

    def test_his_values_are_nowhere_in_what_is_recorded(self, world: World, look: Look) -> None:
        found = look_at(owned(world, password="CANARY-1", extra=["CANARY-2"]), look)
        assert "CANARY" not in repr(found)


def look_at(world: World, look: Look, mode: str = "coexist", **settings: Any) -> Found:
    world.calls.clear()
    return look(mode, **settings)


class TestNotes:
    def test_each_value_that_changes_is_told_from_what_to_what(self, world: World, look: Look) -> None:
        said = told(look_at(owned(world, kubeProxyReplacement=False), look, "replace"))
        assert "(chart 1.18.6, revision 3) is its owner's and is taken over" in said
        assert 'kubeProxyReplacement: false → "true"' in said
        assert "k8sServiceHost: not set → " in said
        assert "ipam" not in said

    def test_what_means_the_same_is_not_told(self, world: World, look: Look) -> None:
        assert "kubeProxyReplacement" not in told(look_at(owned(world, kubeProxyReplacement=False), look))

    def test_what_the_chart_does_not_know_is_a_warning(self, world: World, look: Look) -> None:
        assert "knows nothing of" in (said := told(look_at(owned(world), look)))
        assert "site" in said

    def test_what_he_has_changed_is_told_without_his_secrets(self, world: World, look: Look) -> None:
        its = adopted(world)
        world.put(secret(4, config={}, values=HIS | {"mtu": 9000, "apiToken": "CANARY"}))
        found = look(before=its)
        said = told(found)
        assert "its owner has changed 2 values in revision 4" in said
        assert "mtu: not set → 9000" in said
        assert "apiToken: not set → (not shown)" in said
        assert "CANARY" not in repr(found)
        assert found.owner == Owner("", "", 0, HIS | {"mtu": 9000, "apiToken": "CANARY"}).digest

    def test_a_lost_secret_is_told(self, world: World, look: Look) -> None:
        its = adopted(world)
        owner.remove(world)
        world.calls.clear()
        assert "Secret kube-system/kube-proxy-replacement with the owner's values was deleted" in told(look(before=its))


class TestRefusals:
    @pytest.mark.parametrize("runs", ["1.18.7", "1.19.0", "2.0.0"])
    def test_a_step_down(self, world: World, look: Look, runs: str) -> None:
        assert "a step down" in refused(lambda: look_at(owned(world, version=runs), look))

    @pytest.mark.parametrize("runs", ["1.16.9", "0.18.6"])
    def test_more_than_one_minor_version_up(self, world: World, look: Look, runs: str) -> None:
        said = refused(lambda: look_at(owned(world, version=runs), look))
        assert "more than one minor version up" in said
        assert runs in said

    @pytest.mark.parametrize("runs", ["1.17.0", "1.18.1", "1.18.6"])
    def test_one_minor_version_up_is_none(self, world: World, look: Look, runs: str) -> None:
        found = look_at(owned(world, version=runs), look, "replace", strategy="all-at-once")
        assert ("of version and of mode in one run" in told(found)) is (runs != "1.18.6")

    def test_helm_that_is_missing(self, world: World, look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(*_: Any) -> Helm:
            raise ProcedureError("The program `helm` isn't on the PATH.")

        monkeypatch.setattr(Helm, "find", missing)
        assert "isn't on the PATH" in refused(lambda: look_at(owned(world), look))

    def test_what_stands_against_the_mode_whatever_lies_on_top(self, world: World, look: Look) -> None:
        owned(world, extraConfig={"kube-proxy-replacement": "false"})
        with pytest.raises(SettingsError, match=r"its owner's values\.extraConfig\.kube-proxy-replacement"):
            look_at(world, look, "replace")

    def test_what_ours_lie_on_top_of_is_no_contradiction(self, world: World, look: Look) -> None:
        owned(world, kubeProxyReplacement="partial", k8sServiceHost="192.0.2.99", k8sServicePort=6443)
        assert look_at(world, look, "replace").own["kubeProxyReplacement"] == "true"

    def test_helm_at_work_on_it(self, world: World, look: Look) -> None:
        owned(world)
        body = secret(4, "pending-upgrade", values=HIS)
        body["metadata"]["creationTimestamp"] = "2999-01-01T00:00:00Z"
        world.put(body)
        said = refused(lambda: look_at(world, look))
        assert "pending-upgrade (revision 4) since" in said


class TestHisOwn:
    def test_his_connections_stay_as_he_has_them(self, world: World, look: Look) -> None:
        assert "socketLB" not in look_at(owned(world), look, "replace").own

    def test_what_he_does_not_say_is_kept(self, world: World, look: Look) -> None:
        found = look_at(owned(world, socketLB={}), look, "replace")
        assert found.own["socketLB"] == {"hostNamespaceOnly": True}

    def test_a_setting_goes_over_his(self, world: World, look: Look) -> None:
        found = look_at(owned(world), look, "replace", keepConnections=True)
        assert found.own["socketLB"] == {"hostNamespaceOnly": True}
        owned(world, socketLB={"hostNamespaceOnly": True})
        assert look_at(world, look, "replace", keepConnections=False).own["socketLB"] == {"hostNamespaceOnly": False}

    def test_hubble_is_his(self, world: World, look: Look) -> None:
        assert "hubble" not in look_at(owned(world, hubble={"enabled": False}), look).own

    def test_his_address_of_the_api_server_is_taken(self, world: World, look: Look) -> None:
        found = look_at(owned(world, k8sServiceHost="192.0.2.77", k8sServicePort="7445"), look)
        assert found.api_server == {"host": "192.0.2.77", "port": 7445, "source": "the release's own values"}

    @pytest.mark.parametrize("host", ["auto", "", None, "10.96.0.1"])
    def test_an_address_of_his_that_leads_nowhere_is_not(self, world: World, look: Look, host: Any) -> None:
        found = look_at(owned(world, k8sServiceHost=host, k8sServicePort=443), look)
        assert found.api_server["source"] == "ConfigMap kube-system/kube-proxy"

    def test_his_port_for_health_checks_is_kube_proxys_while_that_is_there(self, world: World, look: Look) -> None:
        found = look_at(owned(world, kubeProxyReplacementHealthzBindAddr="0.0.0.0:10256"), look)
        assert found.own["kubeProxyReplacementHealthzBindAddr"] == ""

    def test_the_chart_that_runs_is_taken_where_nothing_says_another(
        self, world: World, tmp_path: Path, look: Look
    ) -> None:
        owned(world)
        kept = {"metadata": {"name": "cilium", "version": "1.18.6"}, "values": {"image": {"repository": "kept"}}}
        world.put(secret(3, config={}, values=HIS, chart=kept))
        assert look_at(world, look, chart="").image == "kept"


@pytest.mark.parametrize(
    ("path", "value", "secret_"),
    [
        (("hubble", "tls", "ca", "key"), "abc", True),
        (("clustermesh", "apiserver", "tls", "server", "cert"), "abc", True),
        (("extra", "password"), "abc", True),
        (("extra", "dbPassword"), "abc", True),
        (("apiToken",), "abc", True),
        (("etcd", "secrets"), ["abc"], True),
        (("anything",), "-----BEGIN CERTIFICATE-----", True),
        (("anything",), {"at": ["all", "A" * 44 + "="]}, True),
        (("anything",), {"token": "x"}, True),
        (("routingMode",), "native", False),
        (("encryption", "keyFile"), True, False),
        (("monkeys",), 3, False),
        (("k8sServiceHost",), "api.internal.example", False),
        (("image", "tag"), "v1.18.6", False),
        (("authentication", "enabled"), "true", False),
    ],
)
def test_what_looks_secret(path: tuple[str, ...], value: Any, *, secret_: bool) -> None:
    assert adopting.looks_secret(path, value) is secret_
