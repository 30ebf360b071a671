"""Values that contradict the mode or another setting; values that don't pass without a word."""

from __future__ import annotations

from typing import Any

import pytest

from kube_proxy_replacement.chart import contradictions, switch


def at(path: str, value: Any) -> dict[str, Any]:
    for name in reversed(path.split("/")):
        value = {name: value}
    return value  # type: ignore[no-any-return]


def one(path: str, value: Any, mode: Any, **settings: Any) -> str:
    """The one message for a value."""
    (message,) = contradictions(at(path, value), mode, **settings)
    assert "\n" not in message
    assert message.endswith(".")
    return message


BOTH = ("coexist", "replace")


def test_the_message_names_value_contradiction_and_setting() -> None:
    assert one("kubeProxyReplacement", False, "replace") == (
        'values.kubeProxyReplacement: false contradicts mode: replace, which makes it "true". Leave it out, and '
        "choose with the setting mode (coexist or replace)."
    )


@pytest.mark.parametrize(
    ("mode", "path", "value", "words"),
    [
        ("replace", "kubeProxyReplacement", "false", "mode: replace"),
        ("replace", "kubeProxyReplacement", "partial", "mode: replace"),
        ("replace", "kubeProxyReplacement", None, "null contradicts mode: replace"),
        ("coexist", "kubeProxyReplacement", True, "mode: coexist"),
        ("coexist", "kubeProxyReplacement", "strict", "mode: coexist"),
        ("coexist", "kubeProxyReplacementHealthzBindAddr", "0.0.0.0:10256", "kube-proxy answers on port 10256"),
        ("replace", "kubeProxyReplacementHealthzBindAddr", "0.0.0.0:10255", "port 10256"),
        ("replace", "kubeProxyReplacementHealthzBindAddr", "127.0.0.1:10256", "on every address"),
        ("replace", "kubeProxyReplacementHealthzBindAddr", "", "port 10256"),
        ("replace", "rollOutCiliumPods", False, "every agent would go on"),
        ("coexist", "rollOutCiliumPods", None, "every agent would go on"),
        ("replace", "operator/rollOutPods", False, "the operator would go on"),
        ("replace", "envoy/rollOutPods", "false", "Envoy would go on"),
        ("replace", "k8sServiceHost", "10.0.0.1", "set apiServerHost"),
        ("coexist", "k8sServiceHost", "auto", "looked up by Helm"),
        ("replace", "k8sServiceHost", "", "set apiServerHost"),
        ("replace", "k8sServicePort", 6443, "set apiServerPort"),
        ("replace", "k8sServiceHostRef/name", "cm", "from a ConfigMap"),
        ("replace", "k8sServiceHostRef/key", "host", "from a ConfigMap"),
        ("replace", "k8s/apiServerURLs", "https://a:6443 https://b:6443", "stands for all API servers"),
        ("replace", "kubeConfigPath", "/etc/kubeconfig", "from a file on the node"),
        ("replace", "agent", False, "without agents"),
        ("coexist", "agent", False, "without agents"),
        ("replace", "sleepAfterInit", True, "look ready"),
        ("replace", "cleanState", True, "drop its state on every start"),
        ("coexist", "cleanBpfState", True, "drop its state on every start"),
        ("replace", "waitForKubeProxy", True, "a kube-proxy that is gone"),
        ("replace", "updateStrategy/type", "OnDelete", "restarted on no node"),
        ("replace", "envoy/updateStrategy/type", "OnDelete", "Envoy would be restarted on no node"),
        ("replace", "updateStrategy/rollingUpdate/maxUnavailable", 0, "no agent may be restarted"),
        ("replace", "updateStrategy/rollingUpdate/maxUnavailable", "0%", "no agent may be restarted"),
        ("replace", "nodePort/enabled", False, "Cilium serves NodePort"),
        ("coexist", "nodePort/enabled", True, "both would"),
        ("replace", "externalIPs/enabled", False, "external IPs"),
        ("replace", "hostPort/enabled", False, "host ports"),
        ("replace", "socketLB/enabled", False, "the nodes themselves"),
        ("replace", "sessionAffinity", False, "session affinity"),
        ("replace", "namespaceOverride", "cilium", "the setting namespace, which is kube-system"),
        ("coexist", "installNoConntrackIptablesRules", True, "refuse to start"),
        ("coexist", "bpf/datapathMode", "netkit", "refuse to start"),
    ],
)
def test_contradictions(mode: str, path: str, value: Any, words: str) -> None:
    message = one(path, value, mode)
    assert message.startswith(f"values.{path.replace('/', '.')}: ")
    assert words in message
    assert "contradicts" in message


@pytest.mark.parametrize("mode", BOTH)
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("rollOutCiliumPods", True),
        ("rollOutCiliumPods", "true"),
        ("operator/rollOutPods", True),
        ("envoy/rollOutPods", True),
        ("k8sServiceHostRef/name", ""),
        ("k8sServiceHostRef", {}),
        ("k8s/apiServerURLs", ""),
        ("kubeConfigPath", ""),
        ("agent", True),
        ("cleanState", False),
        ("sleepAfterInit", False),
        ("waitForKubeProxy", False),
        ("updateStrategy/type", "RollingUpdate"),
        ("updateStrategy/rollingUpdate/maxUnavailable", "10%"),
        ("updateStrategy/rollingUpdate", {"maxUnavailable": 0, "maxSurge": 1}),
        ("namespaceOverride", ""),
        ("namespaceOverride", "kube-system"),
        ("loadBalancer/mode", "dsr"),
        ("hubble/enabled", False),
        ("socketLB/hostNamespaceOnly", False),
        ("dnsPolicy", "ClusterFirstWithHostNet"),
        ("bpf/masquerade", True),
        ("bpf/datapathMode", "veth"),
        ("ipam/mode", "kubernetes"),
        ("extraConfig/anything", "x"),
        ("extraArgs", ["--debug", "loose", 5]),
        ("extraArgs", None),
        ("extraEnv", [{"name": "X", "value": "y"}, "odd"]),
        ("agent/odd", False),
    ],
)
def test_what_passes_in_both_modes(mode: Any, path: str, value: Any) -> None:
    assert contradictions(at(path, value), mode) == []


@pytest.mark.parametrize(
    ("mode", "path", "value"),
    [
        ("replace", "kubeProxyReplacement", True),
        ("replace", "kubeProxyReplacement", "true"),
        ("coexist", "kubeProxyReplacement", False),
        ("coexist", "kubeProxyReplacement", "false"),
        ("coexist", "kubeProxyReplacement", ""),
        ("coexist", "kubeProxyReplacement", None),
        ("replace", "kubeProxyReplacementHealthzBindAddr", "0.0.0.0:10256"),
        ("replace", "kubeProxyReplacementHealthzBindAddr", "[::]:10256"),
        ("coexist", "kubeProxyReplacementHealthzBindAddr", ""),
        ("coexist", "waitForKubeProxy", True),
        ("replace", "nodePort/enabled", True),
        ("coexist", "nodePort/enabled", False),
        ("coexist", "externalIPs/enabled", False),
        ("coexist", "socketLB/enabled", True),
        ("replace", "installNoConntrackIptablesRules", True),
        ("replace", "bpf/datapathMode", "netkit"),
    ],
)
def test_what_the_program_would_set_itself(mode: Any, path: str, value: Any) -> None:
    assert contradictions(at(path, value), mode) == []


@pytest.mark.parametrize("mode", BOTH)
def test_the_address_that_the_program_uses(mode: Any) -> None:
    known: dict[str, Any] = {"api_server_host": "api.example.com", "api_server_port": 6443}
    values = {
        "k8sServiceHost": "API.example.com",
        "k8sServicePort": "6443",
        "k8s": {"apiServerURLs": "https://api.example.com:6443"},
        "extraEnv": [{"name": "KUBERNETES_SERVICE_HOST", "value": "api.example.com"}],
    }
    assert contradictions(values, mode, **known) == []
    assert ", which is api.example.com." in one("k8sServiceHost", "other", mode, **known)
    assert ", which is 6443." in one("k8sServicePort", 443, mode, **known)
    assert "unchecked" in one("k8s/apiServerURLs", "https://api.example.com:6443 https://b:6443", mode, **known)
    assert "unchecked" in one("k8s/apiServerURLs", "https://api.example.com", mode, **known)
    assert (
        contradictions(
            at("k8s/apiServerURLs", "https://[fd00::1]:6443"), mode, api_server_host="fd00::1", api_server_port=6443
        )
        == []
    )


def test_a_name_that_only_the_clusters_own_dns_would_know() -> None:
    path, value = "dnsPolicy", "ClusterFirstWithHostNet"
    assert "api.example.com" in one(path, value, "replace", api_server_host="api.example.com")
    assert contradictions(at(path, value), "coexist", api_server_host="api.example.com") == []
    for address in ("10.0.0.1", "fd00::1", "[fd00::1]"):
        assert contradictions(at(path, value), "replace", api_server_host=address) == []


@pytest.mark.parametrize(
    ("path", "value", "settings", "shown"),
    [
        ("loadBalancer/mode", "snat", {"load_balancer": {"mode": "hybrid"}}, '"hybrid"'),
        ("loadBalancer/algorithm", "random", {"load_balancer": {"algorithm": "maglev"}}, '"maglev"'),
        ("loadBalancer/acceleration", "native", {"load_balancer": {"acceleration": "disabled"}}, '"disabled"'),
        ("sessionAffinity", False, {"load_balancer": {"sessionAffinity": True}}, "true"),
        ("hubble/enabled", False, {"hubble": True}, "true"),
        ("hubble/enabled", True, {"hubble": False}, "false"),
        ("hubble/enabled", None, {"hubble": True}, "true"),
    ],
)
def test_other_settings(path: str, value: Any, settings: dict[str, Any], shown: str) -> None:
    message = one(path, value, "replace", **settings)
    assert f", which is {shown}. Say it in the setting only." in message


@pytest.mark.parametrize(
    ("path", "value", "settings"),
    [
        ("loadBalancer/mode", "SNAT", {"load_balancer": {"mode": "snat"}}),
        ("loadBalancer/mode", "snat", {"load_balancer": {"mode": "", "algorithm": "maglev"}}),
        ("hubble/enabled", "true", {"hubble": True}),
        ("socketLB/hostNamespaceOnly", True, {"keep_connections": True}),
        ("socketLB/hostNamespaceOnly", True, {"keep_connections": False}),
        ("namespaceOverride", "cilium", {"namespace": "cilium"}),
    ],
)
def test_the_same_as_the_setting(path: str, value: Any, settings: dict[str, Any]) -> None:
    assert contradictions(at(path, value), "replace", **settings) == []


def test_keep_connections() -> None:
    path = "socketLB/hostNamespaceOnly"
    assert "keepConnections" in one(path, False, "replace", keep_connections=True)
    assert contradictions(at(path, False), "coexist", keep_connections=True) == []


@pytest.mark.parametrize(
    "values",
    [at("extraConfig/bpf-lb-sock-hostns-only", "false"), {"extraArgs": ["--bpf-lb-sock-hostns-only=false"]}],
)
def test_keep_connections_where_the_agents_option_is_given_itself(values: dict[str, Any]) -> None:
    (message,) = contradictions(values, "replace", keep_connections=True)
    assert "bpf-lb-sock-hostns-only" in message
    assert "keepConnections" in message


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, None),
        ({"socketLB": None}, None),
        (at("socketLB/hostNamespaceOnly", None), None),
        (at("socketLB/hostNamespaceOnly", "True"), True),
        (at("extraConfig/bpf-lb-sock-hostns-only", "false"), False),
        ({"socketLB": {"hostNamespaceOnly": False}, "extraArgs": ["--bpf-lb-sock-hostns-only"]}, True),
    ],
)
def test_a_switch_is_found_wherever_it_is_said(values: dict[str, Any], said: bool | None) -> None:
    assert switch(values, "socketLB", "hostNamespaceOnly") is said


def test_masquerading_without_replacement_before_1_19() -> None:
    values = at("bpf/masquerade", True)
    assert "before version 1.19" in one("bpf/masquerade", True, "coexist", version="1.18.6")
    assert contradictions(values, "replace", version="1.18.6") == []
    assert contradictions(values, "coexist", version="1.19.0") == []
    assert contradictions(values, "coexist", version="1.18.6", base=at("nodePort/enabled", True)) == []


@pytest.mark.parametrize(
    ("values", "settings", "refused"),
    [
        ({}, {"load_balancer": {"mode": "dsr"}, "base": {"routingMode": ""}}, "loadBalancer.mode: dsr"),
        ({"routingMode": "tunnel"}, {"load_balancer": {"mode": "hybrid"}}, "loadBalancer.mode: hybrid"),
        (at("loadBalancer/mode", "dsr"), {"base": {"routingMode": ""}}, "values.loadBalancer.mode: dsr"),
        (
            {"loadBalancer": {"mode": "dsr", "dsrDispatch": "geneve"}, "routingMode": "tunnel"},
            {},
            "values.loadBalancer.mode: dsr",
        ),
        (
            {"loadBalancer": {"mode": "dsr", "dsrDispatch": "geneve"}, "tunnelProtocol": "geneve"},
            {"base": {"routingMode": "tunnel"}},
            "",
        ),
        ({"routingMode": "native"}, {"load_balancer": {"mode": "dsr"}, "base": {"routingMode": ""}}, ""),
        ({}, {"load_balancer": {"mode": "dsr"}, "base": at("gke/enabled", True)}, ""),
        ({}, {"load_balancer": {"mode": "snat"}, "base": {"routingMode": "tunnel"}}, ""),
        ({}, {"load_balancer": {"mode": "dsr"}}, ""),  # nobody knows how it routes
    ],
)
def test_direct_return_through_a_tunnel(values: dict[str, Any], settings: dict[str, Any], refused: str) -> None:
    messages = contradictions(values, "replace", **settings)
    assert [message.split(" contradicts")[0] for message in messages] == ([refused] if refused else [])
    assert contradictions(values, "coexist", **settings) == []


@pytest.mark.parametrize(
    ("values", "beginning"),
    [
        (
            {"extraConfig": {"kube-proxy-replacement": "false"}},
            'values.extraConfig.kube-proxy-replacement: "false" contradicts mode: replace',
        ),
        (
            {"extraArgs": ["--debug", "--kube-proxy-replacement=false"]},
            'values.extraArgs: "--kube-proxy-replacement=false" contradicts mode: replace',
        ),
        ({"extraArgs": ["--clean-cilium-state"]}, 'values.extraArgs: "--clean-cilium-state" contradicts'),
        (
            {"extraEnv": [{"name": "KUBERNETES_SERVICE_HOST", "value": "10.0.0.9"}]},
            'values.extraEnv: {"name": "KUBERNETES_SERVICE_HOST", "value": "10.0.0.9"} contradicts',
        ),
    ],
)
def test_options_past_the_values(values: dict[str, Any], beginning: str) -> None:
    (message,) = contradictions(values, "replace")
    assert message.startswith(beginning)


def test_all_of_them_in_their_order() -> None:
    messages = contradictions(
        {"rollOutCiliumPods": False, "operator": {"rollOutPods": False}, "agent": False, "debug": {"enabled": 1}},
        "replace",
    )
    assert [message.split(":")[0] for message in messages] == [
        "values.rollOutCiliumPods",
        "values.operator.rollOutPods",
        "values.agent",
    ]


@pytest.mark.parametrize("value", ["$(touch gone)", 'q"uo', "new\nline", "ü", "x" * 3000, 1.5, ["a"], {"a": 1}])
def test_odd_values_stay_on_one_short_line(value: Any) -> None:
    for message in contradictions({"k8sServiceHost": value, "kubeProxyReplacement": value}, "replace"):
        assert "\n" not in message
        assert len(message) < 600
