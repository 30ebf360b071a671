from __future__ import annotations

from typing import Any

import pytest

from kube_proxy_replacement.cluster import nodes
from kube_proxy_replacement.cluster.nodes import Taint

from .fakes import FakeApi, node

NO_NETWORK = (
    "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
    "message:Network plugin returns error: cni plugin not initialized"
)
"""A kubelet's own words on a node without a CNI."""


def read(*items: dict[str, Any]) -> nodes.Nodes:
    return nodes.read(FakeApi().put(*items))


def with_conditions(*conditions: dict[str, str]) -> dict[str, Any]:
    body = node("n1")
    body["status"]["conditions"] = list(conditions)
    return body


def names(found: tuple[nodes.Node, ...]) -> list[str]:
    return [its.name for its in found]


class TestReady:
    def test_ready_and_not_are_told_apart(self) -> None:
        found = read(node("n2", ready=False), node("n1"), node("n3"))
        assert names(found.all) == ["n1", "n2", "n3"]
        assert names(found.ready) == ["n1", "n3"]
        assert names(found.left_out) == ["n2"]

    @pytest.mark.parametrize(
        ("status", "message", "ready"),
        [
            ("True", "kubelet is posting ready status", True),
            ("False", NO_NETWORK, True),  # Cilium is to be its network plugin
            ("False", "container runtime is down", False),
            ("False", f"container runtime is down, {NO_NETWORK.replace('=false', '=true')}", False),
            ("Unknown", "Kubelet stopped posting node status.", False),
            ("Unknown", NO_NETWORK, False),  # the kubelet's last words before it went
        ],
    )
    def test_a_node_that_only_lacks_its_network_is_ready_for_this(self, status: str, message: str, ready: bool) -> None:
        condition = {"type": "Ready", "status": status, "reason": "KubeletNotReady", "message": message}
        assert bool(read(with_conditions(condition)).ready) is ready

    def test_the_other_conditions_do_not_count(self) -> None:
        pressure = {"type": "MemoryPressure", "status": "True", "message": NO_NETWORK}
        other = {"type": "NetworkUnavailable", "status": "False", "message": NO_NETWORK}
        assert read(with_conditions(pressure, other, {"type": "Ready", "status": "False"})).ready == ()

    def test_a_node_that_has_said_nothing_yet_is_not_ready(self) -> None:
        fresh = node("n2")
        del fresh["status"]
        assert names(read(with_conditions(), fresh).left_out) == ["n1", "n2"]


class TestWhich:
    @pytest.mark.parametrize(
        "other",
        [
            node("other", os="windows"),
            node("other", labels={"type": "virtual-kubelet"}),
            node("other", labels={"kubernetes.azure.com/role": "virtual"}),
        ],
    )
    def test_windows_and_virtual_nodes_are_left_out(self, other: dict[str, Any]) -> None:
        assert names(read(node("n1"), other).all) == ["n1"]

    def test_a_node_that_does_not_say_its_system_is_linux(self) -> None:
        body = node("n1")
        del body["metadata"]["labels"]
        assert names(read(body).all) == ["n1"]

    def test_without_nodes_there_are_none(self) -> None:
        assert read() == nodes.Nodes(())


class TestNode:
    def test_what_is_known_of_it(self) -> None:
        body = node("n1", labels={"pool": "a"}, cidrs=("10.244.1.0/24", "fd00:1::/64"))
        body["spec"]["taints"] = [
            {"key": "gpu", "value": "yes", "effect": "NoSchedule"},
            {"key": "node-role.kubernetes.io/control-plane", "effect": "NoExecute"},
        ]
        (its,) = read(body).all
        assert (its.name, its.uid, its.labels["pool"]) == ("n1", "uid-of-n1", "a")
        assert its.pod_cidrs == ("10.244.1.0/24", "fd00:1::/64")
        assert its.taints == (
            Taint("gpu", "yes", "NoSchedule"),
            Taint("node-role.kubernetes.io/control-plane", "", "NoExecute"),
        )

    def test_one_pod_range_is_enough(self) -> None:
        body = node("n1")
        body["spec"] = {"podCIDR": "10.244.1.0/24"}
        assert read(body).all[0].pod_cidrs == ("10.244.1.0/24",)

    def test_a_bare_one(self) -> None:
        (its,) = read(node("n1")).all
        assert (its.pod_cidrs, its.taints) == ((), ())
