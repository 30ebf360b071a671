from __future__ import annotations

from typing import Any

import pytest

from kube_proxy_replacement.cluster import nodes
from kube_proxy_replacement.cluster.errors import ProcedureError
from kube_proxy_replacement.cluster.pod_addresses import PodAddresses, helm_values, read
from kube_proxy_replacement.cluster.services import ServiceTable

from .fakes import FakeApi, config_map, forbidden, node, service

KUBEADM_CONFIG = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
TABLE = ServiceTable((service("kubernetes", "10.96.0.1", "fd00:96::1"),), ())


def proxy(cidr: str) -> dict[str, Any]:
    text = f"kind: KubeProxyConfiguration\nclusterCIDR: '{cidr}'\n"
    return config_map("kube-proxy", **{"config.conf": text})


def kubeadm(subnet: str) -> dict[str, Any]:
    text = f"kind: ClusterConfiguration\nnetworking:\n  podSubnet: '{subnet}'\n"
    return config_map("kubeadm-config", ClusterConfiguration=text)


def found(*objects: dict[str, Any], config: dict[str, Any] | None = None) -> PodAddresses:
    api = FakeApi().put(*objects)
    return read(api, config, nodes.read(api), TABLE)


ONE, TWO = node("a", cidrs=["10.244.1.0/24"]), node("b", cidrs=["10.244.2.0/24"])
BARE = node("c")


def test_kube_proxys_range_comes_first() -> None:
    assert found(ONE, TWO, kubeadm("10.245.0.0/16"), config=proxy("10.244.0.0/16")) == PodAddresses(
        ("10.244.0.0/16",), True, "clusterCIDR in ConfigMap kube-system/kube-proxy", 2
    )


@pytest.mark.parametrize("config", [None, proxy(""), config_map("kube-proxy", x="- 1")])
def test_then_kubeadms(config: dict[str, Any] | None) -> None:
    its = found(ONE, kubeadm("10.244.0.0/16"), config=config)
    assert its.cidrs == ("10.244.0.0/16",)
    assert its.source == "networking.podSubnet in ConfigMap kube-system/kubeadm-config"


def test_then_the_nodes_own() -> None:
    assert found(TWO, ONE) == PodAddresses(("10.244.1.0/24", "10.244.2.0/24"), True, "spec.podCIDRs of the nodes", 2)


def test_a_missing_right_on_kubeadm_config_is_no_reason_to_stop() -> None:
    api = FakeApi().put(ONE)
    api.errors["GET", KUBEADM_CONFIG] = forbidden(KUBEADM_CONFIG)
    assert read(api, None, nodes.read(api), TABLE).per_node


@pytest.mark.parametrize("other", [BARE, node("c", cidrs=["10.244.3.0/24"], ready=False)])
def test_per_node_means_every_ready_node(other: dict[str, Any]) -> None:
    its = found(ONE, other, config=proxy("10.244.0.0/16"))
    assert its.per_node is (other is not BARE)


def test_nodes_that_run_no_agents_dont_count() -> None:
    assert found(ONE, node("w", os="windows")) == PodAddresses(
        ("10.244.1.0/24",), True, "spec.podCIDRs of the nodes", 1
    )
    assert found(ONE, node("late", ready=False)).per_node


@pytest.mark.parametrize("objects", [(), (BARE,), (ONE, BARE)])
def test_where_nothing_says_it_the_user_has_to(objects: tuple[dict[str, Any], ...]) -> None:
    with pytest.raises(ProcedureError, match=r"Set values\.ipam"):
        found(*objects)


@pytest.mark.parametrize("text", ["10.244.0.0/33", "pods", "10.244.0.0/16;10.245.0.0/16"])
def test_what_is_no_range_is_named(text: str) -> None:
    with pytest.raises(ProcedureError, match="clusterCIDR in ConfigMap kube-system/kube-proxy has '"):
        found(ONE, config=proxy(text))


@pytest.mark.parametrize("cidr", ["10.0.0.0/8", "10.244.0.0/16,fd00::/16", "10.96.0.0/24"])
def test_a_range_that_holds_a_service_is_refused(cidr: str) -> None:
    with pytest.raises(ProcedureError, match="the address of the Service default/kubernetes"):
        found(BARE, config=proxy(cidr))


def test_a_nodes_range_that_holds_a_service_is_refused_too() -> None:
    with pytest.raises(ProcedureError, match=r"10\.96\.0\.0/24"):
        found(node("a", cidrs=["10.96.0.0/24"]), config=proxy("10.244.0.0/16"))


def test_ipv4_ranges_of_the_nodes() -> None:
    assert helm_values(found(ONE, config=proxy("10.244.0.0/16"))) == {"ipam": {"mode": "kubernetes"}}


def test_dual_stack_ranges_of_the_nodes() -> None:
    both = node("a", cidrs=["10.244.1.0/24", "fd01:1::/64"])
    assert helm_values(found(both, config=proxy("10.244.0.0/16,fd01::/48"))) == {
        "ipam": {"mode": "kubernetes"},
        "ipv6": {"enabled": True},
    }


def test_the_nodes_decide_which_families_there_are() -> None:
    """An agent waits for a range of each enabled family, for ever where the node has none."""
    assert helm_values(found(ONE, config=proxy("10.244.0.0/16,fd01::/48"))) == {"ipam": {"mode": "kubernetes"}}
    both = node("a", cidrs=["10.244.1.0/24", "fd01:1::/64"])
    assert "ipv6" in helm_values(found(both, config=proxy("10.244.0.0/16")))


def test_ipv6_alone() -> None:
    assert helm_values(found(node("a", cidrs=["fd01:1::/64"]))) == {
        "ipam": {"mode": "kubernetes"},
        "ipv4": {"enabled": False},
        "ipv6": {"enabled": True},
    }


@pytest.mark.parametrize(
    ("cidr", "count", "prefix"),
    [
        ("10.244.0.0/16", 3, 24),
        ("10.244.0.0/16", 256, 24),
        ("10.244.0.0/16", 257, 25),
        ("10.244.0.0/24", 3, 26),
        ("10.244.0.0/26", 1, 26),
    ],
)
def test_a_pool_is_large_enough_for_the_nodes(cidr: str, count: int, prefix: int) -> None:
    assert helm_values(PodAddresses((cidr,), False, "x", count)) == {
        "ipam": {
            "mode": "cluster-pool",
            "operator": {"clusterPoolIPv4PodCIDRList": [cidr], "clusterPoolIPv4MaskSize": prefix},
        }
    }


def test_a_pool_of_both_families() -> None:
    values = helm_values(PodAddresses(("10.244.0.0/16", "fd01::/48"), False, "x", 3))
    assert values["ipv6"] == {"enabled": True}
    assert values["ipam"]["operator"] == {
        "clusterPoolIPv4PodCIDRList": ["10.244.0.0/16"],
        "clusterPoolIPv4MaskSize": 24,
        "clusterPoolIPv6PodCIDRList": ["fd01::/48"],
        "clusterPoolIPv6MaskSize": 64,
    }


def test_an_ipv6_pool_is_divided_no_finer_than_cilium_can() -> None:
    values = helm_values(PodAddresses(("fd01::/32",), False, "x", 3))
    assert values["ipam"]["operator"]["clusterPoolIPv6MaskSize"] == 48


def test_a_pool_that_is_too_small_is_refused() -> None:
    with pytest.raises(ProcedureError, match="too small for 5 nodes"):
        helm_values(PodAddresses(("10.244.0.0/26",), False, "x", 5))
