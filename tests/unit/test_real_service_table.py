"""An agent's service table against the API's objects, both as recorded on two real nodes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local.real.service_table import INSIDE, Entry, Frontend, Table, actual, differences, expected

SAMPLES = Path(__file__).parent / "samples"
RECORDED: dict[str, list[Any]] = json.loads((SAMPLES / "kubernetes-1.36.3-services-of-every-kind.json").read_text())
NODES = {node["metadata"]["name"]: node for node in RECORDED["nodes"]}


def said(node: str) -> str:
    return (SAMPLES / f"cilium-1.18.6-bpf-lb-list-every-kind-{node}.txt").read_text()


def wanted(node: str, **other: list[Any]) -> Table:
    objects = {key: RECORDED[key] for key in ("services", "slices", "pods")} | other
    return expected(NODES[node], **objects)


def service(name: str, **spec: Any) -> list[Any]:
    """The recorded Services with another spec of one."""
    services = copy.deepcopy(RECORDED["services"])
    next(its for its in services if its["metadata"]["name"] == name)["spec"].update(spec)
    return services


@pytest.mark.parametrize("node", sorted(NODES))
def test_real_nodes_hold_what_the_api_says(node: str) -> None:
    table = wanted(node)
    assert {entry.kind for entry in table.values()} >= {"ClusterIP", "NodePort", "ExternalIPs", "LoadBalancer"}
    assert differences(node, table, actual(said(node))) == []


class TestExpected:
    """Cases that show which of Kubernetes' rules is meant; addresses are the recorded ones."""

    def entry(self, node: str, address: str, port: int = 80, protocol: str = "TCP") -> Entry:
        return wanted(node)[Frontend(address, port, protocol)]

    def test_local_from_outside_is_the_nodes_own_and_from_inside_all(self) -> None:
        table = wanted("node-1")
        assert table[Frontend("192.0.2.21", 80, "TCP")].backends == {"10.244.1.29:8080"}
        assert table[Frontend("192.0.2.21", 80, "TCP", INSIDE)].backends == {"10.244.1.29:8080", "10.244.2.131:8080"}
        assert Frontend("192.0.2.20", 80, "TCP", INSIDE) not in table  # policy Cluster

    def test_where_both_policies_are_alike_there_is_one_scope_and_where_they_differ_two(self) -> None:
        alike = service("k-lb-local", internalTrafficPolicy="Local")
        assert Frontend("192.0.2.21", 80, "TCP", INSIDE) not in wanted("node-1", services=alike)
        other = wanted("node-1", services=service("k-lb", internalTrafficPolicy="Local"))
        assert other[Frontend("192.0.2.20", 80, "TCP")].backends == {"10.244.1.29:8080", "10.244.2.131:8080"}
        assert other[Frontend("192.0.2.20", 80, "TCP", INSIDE)].backends == {"10.244.1.29:8080"}

    def test_internal_local_is_the_nodes_own(self) -> None:
        assert self.entry("node-1", "10.104.195.193").backends == {"10.244.1.105:8080"}
        assert self.entry("node-2", "10.104.195.193").backends == frozenset()

    def test_several_ports_and_protocols_each_alone(self) -> None:
        found = {(its.port, its.protocol) for its in wanted("node-1") if its.address == "10.107.83.63"}
        assert found == {(80, "TCP"), (81, "TCP"), (53, "UDP")}

    def test_one_without_endpoints_is_there(self) -> None:
        assert self.entry("node-2", "10.104.214.204").backends == frozenset()
        assert self.entry("node-2", "10.10.0.12", 32145).backends == frozenset()

    def test_a_host_port_on_its_pods_node_alone(self) -> None:
        assert self.entry("node-1", "10.10.0.11", 8098, "UDP").kind == "HostPort"
        assert not [entry for entry in wanted("node-2").values() if entry.kind == "HostPort"]

    def test_not_those_of_another_proxy_without_an_address_or_without_endpoints_of_their_own(self) -> None:
        owners = {entry.owner for entry in wanted("node-1").values()}
        assert not owners & {"default/k-other-proxy", "default/k-headless", "default/k-elsewhere"}

    def test_endpoints_that_end_serve_where_none_is_ready(self) -> None:
        slices = copy.deepcopy(RECORDED["slices"])
        for its in slices:
            for endpoint in its.get("endpoints") or []:
                if endpoint["addresses"] == ["10.244.1.105"]:
                    endpoint["conditions"] = {"ready": False, "serving": True, "terminating": True}
                if endpoint["addresses"] == ["10.244.1.29"]:
                    endpoint["conditions"] = {"ready": False, "serving": True, "terminating": True}
        table = wanted("node-1", slices=slices)
        assert table[Frontend("10.104.195.193", 80, "TCP")].backends == {"10.244.1.105:8080"}
        assert table[Frontend("10.96.0.80", 80, "TCP")].backends == {"10.244.2.131:8080"}


class TestDifferences:
    """What is named when the recorded table and a changed world are held together."""

    @pytest.mark.parametrize(
        ("services", "line"),
        [
            (
                service("k-affinity", sessionAffinity="None"),
                "node-1: default/k-affinity, ExternalIPs 192.0.2.10:80/TCP: session affinity is on",
            ),
            (
                service("k-lb", loadBalancerSourceRanges=[]),
                "node-1: default/k-lb, LoadBalancer 192.0.2.20:80/TCP: source ranges are checked",
            ),
            (
                service("web", externalTrafficPolicy="Local"),
                "node-1: default/web, NodePort 10.10.0.11:30080/TCP: leads to 10.244.2.131:8080, which is no endpoint "
                "for it",
            ),
            (
                service("web", externalTrafficPolicy="Local"),
                "node-1: default/web, NodePort 10.10.0.11:30080/TCP, from inside: isn't there",
            ),
            (
                service("k-affinity", externalIPs=[]),
                "node-1: ExternalIPs 192.0.2.10:80/TCP: belongs to no Service and no pod",
            ),
        ],
    )
    def test_another_service(self, services: list[Any], line: str) -> None:
        assert line in differences("node-1", wanted("node-1", services=services), actual(said("node-1")))

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda its: replace(its, backends=frozenset({"10.244.1.29:8080"})), "no way to 10.244.2.131:8080"),
            (lambda its: replace(its, kind="HostPort"), "is there as HostPort"),
            (lambda its: replace(its, affinity=True), "session affinity is on"),
        ],
    )
    def test_another_table(self, change: Callable[[Entry], Entry], words: str) -> None:
        found = dict(actual(said("node-1")))
        found[Frontend("10.96.0.80", 80, "TCP")] = change(found[Frontend("10.96.0.80", 80, "TCP")])
        where = "node-1: default/web, ClusterIP 10.96.0.80:80/TCP"
        assert differences("node-1", wanted("node-1"), found) == [f"{where}: {words}"]


class TestActual:
    def test_of_an_ipv6_address_and_of_a_newer_agents_wildcard(self) -> None:
        text = (
            "SERVICE ADDRESS   BACKEND ADDRESS (REVNAT_ID) (SLOT)\n"
            "[fd00::a]:53/UDP (0)   [::]:0 (2) (0) [ClusterIP, non-routable]\n"
            "[fd00::a]:53/UDP (1)   [fd00:1::7]:5353/UDP (2) (1)\n"
            "10.96.0.1:0/ANY (0)   0.0.0.0:0 (0) (0) [ClusterIP, non-routable]\n"
        )
        assert actual(text) == {Frontend("fd00::a", 53, "UDP"): Entry("ClusterIP", frozenset({"[fd00:1::7]:5353"}))}

    def test_a_line_that_isnt_understood_is_no_empty_table(self) -> None:
        with pytest.raises(ValueError, match="something else"):
            actual("something else")
