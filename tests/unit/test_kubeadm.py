from __future__ import annotations

import pytest
import yaml

from kube_proxy_replacement.cluster import kubeadm

from .fakes import FakeApi, config_map, kubeadm_objects

REAL = kubeadm_objects()["kubeadm-config"]["data"]["ClusterConfiguration"]
BETA3 = REAL.replace("v1beta4", "v1beta3")


def cluster(text: str | None = REAL) -> FakeApi:
    return FakeApi().put(*([] if text is None else [config_map("kubeadm-config", ClusterConfiguration=text)]))


def stored(api: FakeApi) -> str:
    text: str = api.objects["/api/v1/namespaces/kube-system/configmaps/kubeadm-config"]["data"]["ClusterConfiguration"]
    return text


def switched_off(api: FakeApi) -> dict[str, str]:
    """What the removal does, and records."""
    change = {"before": stored(api), "after": kubeadm.with_disabled(stored(api), True)}
    kubeadm.write(api, change["after"])
    return change


class TestText:
    def test_of_a_kubeadm_that_knows_the_key(self) -> None:
        assert kubeadm.text(cluster()) == REAL

    @pytest.mark.parametrize("text", [None, BETA3, "", "- a list", "not: [yaml"])
    def test_any_other_cluster_has_none(self, text: str | None) -> None:
        assert kubeadm.text(cluster(text)) is None


class TestDisabled:
    @pytest.mark.parametrize(
        ("proxy", "said"),
        [
            ("proxy: {}", False),
            ("proxy: {disabled: false}", False),
            ("proxy: {disabled: true}", True),
            ("proxy: null", False),
            ("x: y", False),
        ],
    )
    def test_as_the_configuration_says(self, proxy: str, said: bool) -> None:
        assert kubeadm.disabled(REAL.replace("proxy: {}", proxy)) is said

    def test_setting_it_changes_nothing_else(self) -> None:
        before, after = yaml.safe_load(REAL), yaml.safe_load(kubeadm.with_disabled(REAL, True))
        assert after.pop("proxy") == {"disabled": True}
        assert before.pop("proxy") == {}
        assert after == before
        assert list(after) == list(before)

    def test_other_keys_of_proxy_stay(self) -> None:
        text = REAL.replace("proxy: {}", "proxy: {later: 1, disabled: false}")
        assert yaml.safe_load(kubeadm.with_disabled(text, True))["proxy"] == {"later": 1, "disabled": True}
        assert yaml.safe_load(kubeadm.with_disabled(text, False))["proxy"] == {"later": 1}

    def test_long_values_are_not_broken_into_lines(self) -> None:
        line = "clusterName2: " + " ".join(["word"] * 100)
        assert line in kubeadm.with_disabled(f"{REAL}{line}\n", True).splitlines()

    def test_the_order_of_the_keys_stays(self) -> None:
        text = "kind: ClusterConfiguration\napiVersion: kubeadm.k8s.io/v1beta4\nproxy: {}\ndns: {}\n"
        assert list(yaml.safe_load(kubeadm.with_disabled(text, True))) == ["kind", "apiVersion", "proxy", "dns"]


class TestUndo:
    @pytest.mark.parametrize(
        "before",
        [
            REAL,
            REAL.replace("proxy: {}\n", "proxy: {disabled: false}   # mine\n"),
            "# a comment\n" + REAL.replace("proxy: {}\n", ""),
            REAL.rstrip("\n"),
        ],
    )
    def test_what_nobody_has_changed_since_is_the_same_bytes_again(self, before: str) -> None:
        api = cluster(before)
        change = switched_off(api)
        assert kubeadm.disabled(stored(api)) is True
        assert kubeadm.undo(api, change) is True
        assert stored(api) == before

    def test_an_owner_s_later_edits_survive(self) -> None:
        api = cluster()
        change = switched_off(api)
        upgraded = stored(api).replace("v1.36.3", "v1.37.0") + "featureGates: {New: true}\n"
        kubeadm.write(api, upgraded)
        assert kubeadm.undo(api, change) is True
        now = yaml.safe_load(stored(api))
        assert now["kubernetesVersion"] == "v1.37.0"
        assert now["featureGates"] == {"New": True}
        assert not now["proxy"].get("disabled")

    def test_an_owner_who_had_it_off_before_has_it_off_afterwards(self) -> None:
        off = REAL.replace("proxy: {}", "proxy: {disabled: true}")
        api = cluster(off)
        change = {"before": off, "after": kubeadm.with_disabled(off, True)}
        kubeadm.write(api, off.replace("v1.36.3", "v1.37.0"))
        assert kubeadm.undo(api, change) is False
        assert kubeadm.disabled(stored(api)) is True

    def test_an_owner_who_has_put_it_back_himself_is_left_alone(self) -> None:
        api = cluster()
        change = switched_off(api)
        own = REAL.replace("proxy: {}", "proxy: {disabled: false}")
        kubeadm.write(api, own)
        api.calls.clear()
        assert kubeadm.undo(api, change) is False
        assert (stored(api), api.changes()) == (own, [])

    def test_twice_is_once(self) -> None:
        api = cluster()
        change = switched_off(api)
        kubeadm.undo(api, change)
        api.calls.clear()
        assert kubeadm.undo(api, change) is False
        assert api.changes() == []

    def test_a_configuration_that_is_gone_stays_gone(self) -> None:
        api = cluster(None)
        assert kubeadm.undo(api, {"before": REAL, "after": kubeadm.with_disabled(REAL, True)}) is False
        assert api.changes() == []

    def test_nothing_else_in_the_config_map_is_touched(self) -> None:
        api = FakeApi().put(config_map("kubeadm-config", ClusterConfiguration=REAL, ClusterStatus="old"))
        kubeadm.undo(api, switched_off(api))
        assert api.objects["/api/v1/namespaces/kube-system/configmaps/kubeadm-config"]["data"]["ClusterStatus"] == "old"
