from __future__ import annotations

from typing import Any

import pytest
import yaml

from kube_proxy_replacement.cluster import kube_proxy
from kube_proxy_replacement.cluster.errors import ProcedureError

from .fakes import FakeApi, config_map, daemon_set, kubeadm_objects, made

REAL = kubeadm_objects()
PROXY, CONFIG = REAL["daemonset"], REAL["configmap"]


def renamed(name: str, namespace: str = "kube-system", **changes: Any) -> dict[str, Any]:
    """A DaemonSet that runs kube-proxy under another name."""
    body = daemon_set(name, namespace=namespace)
    body["spec"]["template"]["spec"]["containers"][0]["command"] = changes.pop("command", ["sh"])
    body["spec"]["template"]["metadata"]["labels"] = changes.pop("labels", {})
    body["spec"]["template"]["spec"] |= changes
    return body


def proxy_pod(name: str, label: str, annotations: dict[str, str]) -> dict[str, Any]:
    key, value = label.split("=")
    metadata = {"labels": {key: value}, "annotations": annotations}
    return made("Pod", name, namespace="kube-system", metadata=metadata)


class TestFind:
    def test_kubeadm_s(self) -> None:
        found = kube_proxy.find(FakeApi().put(PROXY, CONFIG))
        assert (found.daemonset, found.configmap, found.present) == (PROXY, CONFIG, True)

    def test_none(self) -> None:
        found = kube_proxy.find(FakeApi().put(daemon_set("kube-flannel"), config_map("kube-root-ca.crt")))
        assert (found.daemonset, found.configmap, found.present) == (None, None, False)

    def test_its_config_map_alone_is_something_that_is_there(self) -> None:
        found = kube_proxy.find(FakeApi().put(CONFIG))
        assert (found.daemonset, found.configmap, found.present) == (None, CONFIG, True)

    def test_what_is_found_says_its_kind_though_a_list_s_items_do_not(self) -> None:
        api = FakeApi().put(PROXY)
        without = {key: value for key, value in PROXY.items() if key not in ("kind", "apiVersion")}
        api.collections["/apis/apps/v1/daemonsets"] = [without]
        found = kube_proxy.find(api).daemonset
        assert found is not None
        assert (found["apiVersion"], found["kind"]) == ("apps/v1", "DaemonSet")

    @pytest.mark.parametrize(
        "other",
        [
            renamed("proxy", labels={"k8s-app": "kube-proxy"}),
            renamed("proxy", command=["/usr/local/bin/kube-proxy", "--v=2"]),
            renamed("kube-proxy", namespace="network", labels={"k8s-app": "kube-proxy"}),
        ],
    )
    def test_one_under_another_name_is_refused_and_named(self, other: dict[str, Any]) -> None:
        name = f"{other['metadata']['namespace']}/{other['metadata']['name']}"
        with pytest.raises(ProcedureError, match=f"under another name: DaemonSet {name}.*has changed nothing"):
            kube_proxy.find(FakeApi().put(other))

    def test_two_are_refused_and_both_named(self) -> None:
        api = FakeApi().put(PROXY, renamed("kube-proxy-arm", labels={"k8s-app": "kube-proxy"}))
        with pytest.raises(ProcedureError, match="kube-system/kube-proxy and kube-system/kube-proxy-arm"):
            kube_proxy.find(api)

    def test_that_of_windows_nodes_is_another_matter(self) -> None:
        windows = renamed(
            "kube-proxy-windows", labels={"k8s-app": "kube-proxy"}, nodeSelector={"kubernetes.io/os": "windows"}
        )
        assert kube_proxy.find(FakeApi().put(PROXY, windows)).daemonset == PROXY

    def test_a_program_that_only_looks_at_kube_proxy_is_not_one(self) -> None:
        watcher = renamed("watcher", command=["/watch", "/usr/local/bin/kube-proxy"])
        assert not kube_proxy.find(FakeApi().put(watcher)).present

    @pytest.mark.parametrize("label", ["k8s-app=kube-proxy", "component=kube-proxy"])
    def test_static_pods_are_refused_and_named(self, label: str) -> None:
        api = FakeApi().put(proxy_pod("kube-proxy-n1", label, {"kubernetes.io/config.mirror": "x"}))
        with pytest.raises(ProcedureError, match=r"static pods \(kube-system/kube-proxy-n1"):
            kube_proxy.find(api)

    def test_a_daemon_set_s_pods_are_not_static(self) -> None:
        api = FakeApi().put(PROXY, proxy_pod("kube-proxy-n1", "k8s-app=kube-proxy", {}))
        assert kube_proxy.find(api).daemonset == PROXY

    def test_looking_changes_nothing(self) -> None:
        api = FakeApi().put(PROXY, CONFIG)
        kube_proxy.find(api)
        assert api.changes() == []


def with_words(field: str, *words: str) -> dict[str, Any]:
    body = daemon_set("kube-proxy")
    body["spec"]["template"]["spec"]["containers"][0][field] = ["kube-proxy", *words]
    return body


def with_mode(mode: str) -> dict[str, Any]:
    text = f'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: "{mode}"\n'
    return config_map("kube-proxy", **{"config.conf": text})


class TestMode:
    @pytest.mark.parametrize(
        ("said", "mode"), [("", "iptables"), ("iptables", "iptables"), ("ipvs", "ipvs"), ("nftables", "nftables")]
    )
    def test_the_configuration_says_it(self, said: str, mode: str) -> None:
        assert kube_proxy.mode_of(with_words("command", "--config=/x"), with_mode(said)) == mode

    @pytest.mark.parametrize("field", ["command", "args"])
    @pytest.mark.parametrize("words", [("--proxy-mode=ipvs",), ("--v=2", "--proxy-mode", "ipvs")])
    def test_the_flag_says_it_too(self, field: str, words: tuple[str, ...]) -> None:
        assert kube_proxy.mode_of(with_words(field, *words), None) == "ipvs"

    def test_the_flag_wins(self) -> None:
        assert kube_proxy.mode_of(with_words("command", "--proxy-mode=nftables"), with_mode("ipvs")) == "nftables"

    def test_a_flag_without_its_value_says_nothing(self) -> None:
        assert kube_proxy.mode_of(with_words("command", "--proxy-mode"), with_mode("ipvs")) == "ipvs"

    def test_kube_proxy_s_own_container_counts(self) -> None:
        body = with_words("command", "--proxy-mode=ipvs")
        other = {"name": "exporter", "command": ["x", "--proxy-mode=iptables"]}
        body["spec"]["template"]["spec"]["containers"].insert(0, other)
        assert kube_proxy.mode_of(body, None) == "ipvs"

    def test_where_nothing_says_it_it_is_iptables(self) -> None:
        assert kube_proxy.mode_of(None, None) == "iptables"


class TestConfiguration:
    def test_under_whatever_key_it_is(self) -> None:
        body = with_mode("ipvs")
        body["data"] = {
            "kubeconfig": "kind: Config",
            "broken": "a: [",
            "list": "- a",
            "config": body["data"].popitem()[1],
        }
        assert kube_proxy.configuration(body)["mode"] == "ipvs"

    @pytest.mark.parametrize("body", [None, config_map("kube-proxy"), config_map("kube-proxy", a="kind: Config")])
    def test_where_there_is_none_it_is_empty(self, body: dict[str, Any] | None) -> None:
        assert kube_proxy.configuration(body) == {}

    def test_a_config_map_without_data(self) -> None:
        body = config_map("kube-proxy")
        del body["data"]
        assert kube_proxy.configuration(body) == {}


@pytest.mark.parametrize(
    ("words", "configured", "cidrs"),
    [
        ((), None, []),
        ((), ["10.0.0.5/32"], ["10.0.0.5/32"]),
        (("--ipvs-exclude-cidrs=10.0.0.5/32,10.0.0.6/32",), None, ["10.0.0.5/32", "10.0.0.6/32"]),
    ],
)
def test_where_it_leaves_others_virtual_servers_alone(
    words: tuple[str, ...], configured: list[str] | None, cidrs: list[str]
) -> None:
    body = with_mode("ipvs")
    parsed = kube_proxy.configuration(body)
    parsed["ipvs"] = {"excludeCIDRs": configured}
    body["data"] = {"config.conf": yaml.safe_dump(parsed)}
    assert kube_proxy.excluded_cidrs(with_words("command", *words), body) == cidrs
