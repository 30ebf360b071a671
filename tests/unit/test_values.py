from __future__ import annotations

from typing import Any

import pytest

from kube_proxy_replacement.cluster.trees import merged
from kube_proxy_replacement.settings import parse
from kube_proxy_replacement.values import agent_image, helm_values, keeps_connections


def values_of(pods: dict[str, Any] | None = None, host: str = "192.0.2.10", **given: Any) -> dict[str, Any]:
    return helm_values(parse({"mode": "replace", **given}), host, 6443, pods or {})


class TestMode:
    @pytest.mark.parametrize(("mode", "word"), [("replace", "true"), ("coexist", "false")])
    def test_the_mode_is_the_chart_s_own_text(self, mode: str, word: str) -> None:
        assert values_of(mode=mode)["kubeProxyReplacement"] == word

    @pytest.mark.parametrize("mode", ["replace", "coexist"])
    def test_agents_get_the_address_in_both_modes_the_port_as_text(self, mode: str) -> None:
        values = values_of(mode=mode)
        assert (values["k8sServiceHost"], values["k8sServicePort"]) == ("192.0.2.10", "6443")

    @pytest.mark.parametrize("mode", ["replace", "coexist"])
    def test_agents_operator_and_envoy_restart_on_a_new_configuration(self, mode: str) -> None:
        values = values_of(mode=mode)
        assert values["rollOutCiliumPods"] is True
        assert values["operator"]["rollOutPods"] is True
        assert values["envoy"]["rollOutPods"] is True

    @pytest.mark.parametrize(
        ("host", "address"),
        [("192.0.2.10", "0.0.0.0:10256"), ("api.example", "0.0.0.0:10256"), ("2001:db8::1", "[::]:10256")],
    )
    def test_replacing_agents_answer_on_kube_proxy_s_health_port(self, host: str, address: str) -> None:
        assert values_of(host=host)["kubeProxyReplacementHealthzBindAddr"] == address

    def test_beside_kube_proxy_its_health_port_and_balancing_are_left_to_it(self) -> None:
        values = values_of(mode="coexist", loadBalancer={"mode": "dsr", "sessionAffinity": True})
        assert not {"kubeProxyReplacementHealthzBindAddr", "loadBalancer", "sessionAffinity"} & set(values)


class TestSettings:
    def test_load_balancing_reaches_the_chart_session_affinity_at_its_own_place(self) -> None:
        values = values_of(loadBalancer={"mode": "hybrid", "algorithm": "maglev", "sessionAffinity": False})
        assert values["loadBalancer"] == {"mode": "hybrid", "algorithm": "maglev"}
        assert values["sessionAffinity"] is False

    def test_without_load_balancing_the_chart_s_defaults_hold(self) -> None:
        assert not {"loadBalancer", "sessionAffinity"} & set(values_of())
        assert "loadBalancer" not in values_of(loadBalancer={"sessionAffinity": True})

    @pytest.mark.parametrize("hubble", [True, False])
    def test_hubble(self, hubble: bool) -> None:
        assert values_of(hubble=hubble)["hubble"]["enabled"] is hubble


SAID = [
    ({"socketLB": {"hostNamespaceOnly": True}}, True),
    ({"socketLB": {"hostNamespaceOnly": False}}, False),
    ({"socketLB": {"hostNamespaceOnly": "false"}}, False),
    ({"extraConfig": {"bpf-lb-sock-hostns-only": "true"}}, True),
    ({"extraArgs": ["--bpf-lb-sock-hostns-only=false"]}, False),
]
"""An owner's own word on it, wherever the agents' option can be given."""


class TestKeepConnections:
    @pytest.mark.parametrize("given", [{}, {"keepConnections": True}, {"values": {"socketLB": {"tracing": False}}}])
    def test_a_replacing_agent_leaves_pods_sockets_alone(self, given: dict[str, Any]) -> None:
        assert values_of(**given)["socketLB"]["hostNamespaceOnly"] is True
        assert keeps_connections(parse({"mode": "replace", **given}), {}) is True

    @pytest.mark.parametrize("given", [{}, {"keepConnections": True}])
    def test_beside_kube_proxy_nothing_is_at_pods_sockets(self, given: dict[str, Any]) -> None:
        assert "socketLB" not in values_of(mode="coexist", **given)

    @pytest.mark.parametrize(("default", "kept"), [(None, False), (False, False), (True, True)])
    def test_where_it_is_not_asked_for_the_chart_s_default_holds(self, default: bool | None, kept: bool) -> None:
        assert "socketLB" not in values_of(keepConnections=False)
        parsed = parse({"mode": "replace", "keepConnections": False})
        assert keeps_connections(parsed, {"socketLB": {"hostNamespaceOnly": default}}) is kept

    @pytest.mark.parametrize(("said", "kept"), SAID)
    def test_an_owner_s_own_word_stands_and_is_said_once(self, said: dict[str, Any], kept: bool) -> None:
        assert {key: its for key, its in values_of(values=said).items() if key in ("socketLB", *said)} == said
        assert keeps_connections(parse({"mode": "replace", "values": said}), {}) is kept

    def test_a_null_takes_only_the_chart_s_default_away(self) -> None:
        assert values_of(values={"socketLB": {"hostNamespaceOnly": None}})["socketLB"] == {"hostNamespaceOnly": True}


POD_ADDRESSES = {"ipam": {"mode": "cluster-pool", "operator": {"clusterPoolIPv4MaskSize": 24}}}


class TestWhoWins:
    def test_what_the_cluster_uses_is_under_the_user_s_values(self) -> None:
        values = values_of(POD_ADDRESSES, values={"ipam": {"mode": "kubernetes"}, "bpf": {"masquerade": True}})
        assert values["ipam"] == {"mode": "kubernetes", "operator": {"clusterPoolIPv4MaskSize": 24}}
        assert values["bpf"] == {"masquerade": True}

    def test_the_procedure_s_values_are_over_the_user_s(self) -> None:
        user = {"kubeProxyReplacement": "false", "k8sServiceHost": "elsewhere", "operator": {"rollOutPods": False}}
        values = values_of(values=user)
        assert values["kubeProxyReplacement"] == "true"
        assert values["k8sServiceHost"] == "192.0.2.10"
        assert values["operator"]["rollOutPods"] is True

    def test_a_user_s_value_beside_one_of_the_procedure_s_stays(self) -> None:
        user = {"operator": {"replicas": 1}, "hubble": {"relay": {"enabled": True}}, "envoy": {"enabled": False}}
        values = values_of(values=user)
        assert values["operator"] == {"replicas": 1, "rollOutPods": True}
        assert values["hubble"] == {"relay": {"enabled": True}, "enabled": True}
        assert values["envoy"] == {"enabled": False, "rollOutPods": True}


class TestMerged:
    @pytest.mark.parametrize(
        ("under", "over", "result"),
        [
            ({}, {}, {}),
            ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
            ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"a": {"b": 1, "c": 3}}),
            ({"a": {"b": 1}}, {"a": 5}, {"a": 5}),
            ({"a": 5}, {"a": {"b": 1}}, {"a": {"b": 1}}),
            ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
            ({"a": {"b": 1}}, {"a": None}, {"a": None}),
            ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"c": None}}}, {"a": {"b": {"c": None, "d": 2}}}),
        ],
    )
    def test_maps_key_by_key_anything_else_replaced(self, under: Any, over: Any, result: Any) -> None:
        assert merged(under, over) == result

    def test_neither_tree_is_changed(self) -> None:
        under, over = {"a": {"b": 1}}, {"a": {"c": 2}}
        merged(under, over)["a"]["d"] = 3
        assert (under, over) == ({"a": {"b": 1}}, {"a": {"c": 2}})


CHART = {
    "image": {
        "override": None,
        "repository": "quay.io/cilium/cilium",
        "tag": "v1.18.6",
        "digest": "sha256:42",
        "useDigest": True,
    }
}


class TestAgentImage:
    @pytest.mark.parametrize(
        ("image", "expected"),
        [
            ({}, "quay.io/cilium/cilium:v1.18.6@sha256:42"),
            ({"useDigest": False}, "quay.io/cilium/cilium:v1.18.6"),
            ({"digest": ""}, "quay.io/cilium/cilium:v1.18.6"),
            ({"repository": "mirror/cilium", "digest": "sha256:43"}, "mirror/cilium:v1.18.6@sha256:43"),
            ({"tag": "v1", "useDigest": False}, "quay.io/cilium/cilium:v1"),
            ({"tag": None}, "quay.io/cilium/cilium@sha256:42"),
            ({"override": "other/image:1"}, "other/image:1"),
        ],
    )
    def test_as_the_chart_writes_it(self, image: dict[str, Any], expected: str) -> None:
        assert agent_image(CHART, {"image": image}) == expected

    @pytest.mark.parametrize("values", [{}, {"image": None}])
    def test_without_own_values_it_is_the_chart_s(self, values: dict[str, Any]) -> None:
        assert agent_image(CHART, values) == "quay.io/cilium/cilium:v1.18.6@sha256:42"
