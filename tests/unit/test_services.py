from __future__ import annotations

from typing import Any

import pytest

from kube_proxy_replacement.cluster.services import Frontend, ServiceTable

from .fakes import FakeApi, endpoint, endpoint_slice, service


def table(*objects: dict[str, Any]) -> ServiceTable:
    return ServiceTable.read(FakeApi().put(*objects))


KUBERNETES = service("kubernetes", "10.96.0.1", "fd00:10:96::1", ports=[{"name": "https", "port": 443}])
BALANCED = service(
    "web",
    "10.96.7.7",
    namespace="shop",
    type="LoadBalancer",
    externalIPs=["192.0.2.9"],
    ingress=[{"ip": "203.0.113.5"}, {"hostname": "A1.elb.example.com"}],
)


@pytest.mark.parametrize(
    "host",
    [
        "10.96.0.1",
        " 10.96.0.1 ",
        "::ffff:10.96.0.1",
        "[::ffff:a60:1]",
        "10.96.1",
        "0x0a600001",
        "174063617",
        "012.0140.0.01",
        "fd00:10:96::1",
        "FD00:0010:0096:0:0:0:0:1",
        "[fd00:10:96::1]",
        "fd00:10:96::1%eth0",
        "kubernetes",
        "Kubernetes.Default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.",
        "kubernetes.default.svc.cluster.local",
        "KUBERNETES.DEFAULT.SVC.CLUSTER.LOCAL.",
        "kubernetes.default.svc.corp.example",
    ],
)
def test_the_api_service_is_known_under_every_notation(host: str) -> None:
    assert table(KUBERNETES).service_named_by(host) == "default/kubernetes"


@pytest.mark.parametrize(
    ("host", "service"),
    [
        ("10.96.7.7", "shop/web"),
        ("192.0.2.9", "shop/web"),
        ("203.0.113.5", "shop/web"),
        ("a1.ELB.example.com.", "shop/web"),
        ("web.shop", "shop/web"),
        ("web.shop.svc.corp.example", "shop/web"),
        ("not-there.shop.svc.cluster.local", "shop/not-there"),
        ("not-there.shop.svc", "shop/not-there"),
        ("pod-0.db.data.svc.cluster.local", "data/db"),
    ],
)
def test_addresses_and_names_of_other_services(host: str, service: str) -> None:
    assert table(KUBERNETES, BALANCED).service_named_by(host) == service


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.10",
        "10.96.0.2",
        "web",  # a machine's name as likely
        "api.example",
        "api.prod.svc.example.com",  # no such Service, and not a cluster's own domain
        "svc.cluster.local",
        "kubernetes.example.com",
        "kind-control-plane",
        "",
    ],
)
def test_other_hosts_are_nobodys(host: str) -> None:
    assert table(KUBERNETES, BALANCED).service_named_by(host) is None


def test_headless_services_have_no_address() -> None:
    assert table(service("db", "None")).service_named_by("None") is None
    assert table(service("db", "None"), KUBERNETES).cluster_ips() == ["10.96.0.1", "fd00:10:96::1"]


def test_load_balancers_are_listed_in_order() -> None:
    other = service("api", "10.96.7.8", namespace="aaa", type="LoadBalancer")
    assert table(KUBERNETES, BALANCED, other).load_balancers() == ["aaa/api", "shop/web"]


def test_each_family_has_its_own_endpoints_with_the_slices_target_port() -> None:
    found = table(
        service("echo", "10.96.1.1", "FD00:0:0::5", ports=[{"name": "h", "port": 80}, {"name": "m", "port": 90}]),
        endpoint_slice(
            "echo",
            "10.244.1.2",
            "10.244.2.2",
            ports=[{"name": "h", "port": 8080}, {"name": "m", "port": 9090}],
        ),
        endpoint_slice("echo", "fd01:0::2", ports=[{"name": "h", "port": 8081}], family="IPv6", suffix="six"),
        endpoint_slice("echo", "10.244.3.2", ports=[{"name": "h", "port": 8088}], suffix="second"),
    ).ready_endpoints()
    assert found == {
        ("10.96.1.1", "TCP", 80): {"10.244.1.2:8080", "10.244.2.2:8080", "10.244.3.2:8088"},
        ("10.96.1.1", "TCP", 90): {"10.244.1.2:9090", "10.244.2.2:9090"},
        ("fd00::5", "TCP", 80): {"[fd01::2]:8081"},
        ("fd00::5", "TCP", 90): set(),
    }
    assert str(Frontend("fd00::5", "TCP", 80)) == "[fd00::5]:80/TCP"


def test_protocols_are_told_apart() -> None:
    dns = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    found = table(
        service("dns", "10.96.0.10", ports=dns),
        endpoint_slice("dns", "10.244.1.3", ports=[{"name": "dns", "port": 53, "protocol": "UDP"}]),
    ).ready_endpoints()
    assert found == {("10.96.0.10", "UDP", 53): {"10.244.1.3:53"}, ("10.96.0.10", "TCP", 53): set()}


def test_a_slice_of_the_same_name_elsewhere_isnt_the_services() -> None:
    found = table(service("echo", "10.96.1.1"), endpoint_slice("echo", "10.244.1.2", namespace="other"))
    assert found.ready_endpoints() == {("10.96.1.1", "TCP", 80): set()}


@pytest.mark.parametrize(
    ("conditions", "routed"),
    [
        ({}, True),
        ({"ready": True, "serving": False, "terminating": True}, True),  # publishNotReadyAddresses
        ({"ready": False, "serving": True, "terminating": True}, False),
        ({"ready": False, "serving": False, "terminating": False}, False),
    ],
)
def test_ready_endpoints_are_routed_others_arent(conditions: dict[str, bool], routed: bool) -> None:
    found = table(
        service("echo", "10.96.1.1"),
        endpoint_slice("echo", "10.244.1.2", endpoint("10.244.1.3", conditions=conditions)),
    ).ready_endpoints()
    assert ("10.244.1.3:8080" in found[Frontend("10.96.1.1", "TCP", 80)]) is routed


def test_endpoints_that_still_serve_are_routed_where_none_is_ready() -> None:
    ending = endpoint("10.244.1.3", conditions={"ready": False, "serving": True, "terminating": True})
    gone = endpoint("10.244.1.4", conditions={"ready": False, "serving": False, "terminating": True})
    failing = endpoint("10.244.1.5", conditions={"ready": False, "serving": True, "terminating": False})
    found = table(service("echo", "10.96.1.1"), endpoint_slice("echo", ending, gone, failing)).ready_endpoints()
    assert found == {("10.96.1.1", "TCP", 80): {"10.244.1.3:8080"}}


@pytest.mark.parametrize(
    "other",
    [
        service("echo", "None"),
        service("echo"),
        service("echo", "10.96.1.1", type="ExternalName"),
        service("echo", "10.96.1.1", labels={"service.kubernetes.io/service-proxy-name": "mesh"}),
        service("echo", "10.96.1.1", internalTrafficPolicy="Local"),
    ],
)
def test_what_kube_proxy_leaves_out_or_decides_on_the_node_isnt_expected(other: dict[str, Any]) -> None:
    assert table(other, endpoint_slice("echo", "10.244.1.2")).ready_endpoints() == {}


@pytest.mark.parametrize("hint", ["forZones", "forNodes"])
def test_hinted_endpoints_are_expected_only_where_one_has_no_hint(hint: str) -> None:
    hinted = endpoint("10.244.1.2", hints={hint: [{"name": "a"}]})
    plain = endpoint("10.244.1.3")
    echo = service("echo", "10.96.1.1")
    assert table(echo, endpoint_slice("echo", hinted)).ready_endpoints() == {}
    assert table(echo, endpoint_slice("echo", hinted, plain)).ready_endpoints() == {
        ("10.96.1.1", "TCP", 80): {"10.244.1.2:8080", "10.244.1.3:8080"}
    }


def test_what_is_called_from_outside_is_told_by_its_policy() -> None:
    found = table(
        KUBERNETES,
        BALANCED,
        service("inner", "10.96.0.2"),
        service("nodes", "10.96.0.3", type="NodePort", externalTrafficPolicy="Cluster"),
        service("near", "10.96.0.4", type="NodePort", externalTrafficPolicy="Local"),
        service("given", "10.96.0.5", externalIPs=["192.0.2.10"]),
        service("other", "10.96.0.6", type="NodePort", labels={"service.kubernetes.io/service-proxy-name": "x"}),
    )
    assert found.from_outside("Cluster") == ["default/given", "default/nodes", "shop/web"]
    assert found.from_outside("Local") == ["default/near"]
