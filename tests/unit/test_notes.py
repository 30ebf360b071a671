from __future__ import annotations

from typing import Any

import pytest

from kube_proxy_replacement import notes
from kube_proxy_replacement.notes import switch_seconds

SERVICES = {"Cluster": ["shop/web"], "Local": ["shop/api"]}
AGAIN: dict[str, Any] = {"values": {}, "masqueraded": False}
OVER: dict[str, Any] = {"nodes": 3, "balancers": [], "kept": True, "policies": SERVICES, **AGAIN}
COMMON = {"address": "192.0.2.10:6443", "source": "ConfigMap kube-system/kube-proxy", "left_out": []}


def switch_over(**given: Any) -> str:
    """The notes of a switch-over on three nodes with a running Cilium, in one text."""
    told = {"had_kube_proxy": True, "fresh": False, **OVER, **COMMON}
    return "\n".join(notes.switch_over(**told | given))


@pytest.mark.parametrize(
    "told",
    [
        notes.switch_over(had_kube_proxy=True, fresh=False, **OVER, **COMMON),
        notes.switch_over(had_kube_proxy=False, fresh=True, **OVER, **COMMON),
        notes.switch_back(nodes=3, **AGAIN, **COMMON),
        notes.beside(**COMMON),
    ],
)
def test_the_address_and_where_it_was_found_come_first(told: list[str]) -> None:
    assert "192.0.2.10:6443" in told[0]
    assert "ConfigMap kube-system/kube-proxy" in told[0]


@pytest.mark.parametrize("names", [["node-4"], ["node-4", "node-5"]])
def test_nodes_that_are_left_out_are_named_whatever_the_run_does(names: list[str]) -> None:
    common = COMMON | {"left_out": names}
    for told in (
        notes.switch_over(had_kube_proxy=True, fresh=False, **OVER, **common),
        notes.switch_over(had_kube_proxy=False, fresh=False, **OVER, **common),
        notes.switch_back(nodes=3, **AGAIN, **common),
        notes.beside(**common),
    ):
        assert ", ".join(names) in told[-1]
        assert "left out" in told[-1]


def test_where_every_node_is_ready_nothing_is_said_of_nodes_left_out() -> None:
    assert "left out" not in switch_over()


class TestSwitchOver:
    def test_what_is_removed_and_when_the_rules_go_is_told(self) -> None:
        told = switch_over(nodes=7)
        assert "7 nodes" in told
        assert told.index("backed up") < told.index("removed") < told.index("cleaned")

    def test_for_how_long_endpoints_are_not_followed_is_told(self) -> None:
        told = switch_over(nodes=9, values={})
        assert "endpoints that change meanwhile aren't followed" in told
        assert f"the last node for {switch_seconds(9, False, {})} s" in told

    def test_a_cluster_without_kube_proxy_is_told_that_nothing_is_removed_and_none_restored(self) -> None:
        told = switch_over(had_kube_proxy=False, balancers=["a/b"])
        assert "nothing is removed" in told
        assert "restore none" in told
        assert "LoadBalancer" not in told

    def test_load_balancers_are_named_with_port_and_seconds(self) -> None:
        told = switch_over(balancers=["shop/web"], nodes=3, values={})
        assert "shop/web" in told
        assert "10256" in told
        assert f"about {switch_seconds(3, False, {})} s" in told

    def test_many_load_balancers_are_counted_and_some_named(self) -> None:
        told = switch_over(balancers=[f"shop/web-{number}" for number in range(9)])
        assert "LoadBalancer: 9 (" in told
        assert "shop/web-4 …" in told
        assert "shop/web-5" not in told

    def test_without_load_balancers_nothing_is_said_of_them(self) -> None:
        assert "LoadBalancer: " not in switch_over()
        assert "10256" not in switch_over()

    def test_open_connections_are_reset_only_where_agents_restart(self) -> None:
        assert "are reset" in switch_over(fresh=False)
        assert "are reset" not in switch_over(fresh=True)
        assert "are reset" not in switch_over(had_kube_proxy=False)


NOBODY: dict[str, list[str]] = {"Cluster": [], "Local": []}


class TestOpenConnections:
    def test_pods_live_where_they_are_kept(self) -> None:
        told = switch_over(kept=True, policies=NOBODY)
        assert "pods' to ClusterIPs live" in told
        assert "are reset" not in told

    def test_pods_are_reset_where_they_are_not(self) -> None:
        told = switch_over(kept=False, policies=NOBODY)
        assert "pods' to ClusterIPs are reset" in told
        assert "live" not in told

    @pytest.mark.parametrize("masquerade", [True, False])
    def test_from_outside_with_policy_cluster_none_lives_and_the_services_are_named(self, masquerade: bool) -> None:
        policies = {"Cluster": ["shop/web", "shop/web-2"], "Local": []}
        told = switch_over(policies=policies, values={"bpf": {"masquerade": masquerade}})
        (line,) = [line for line in told.splitlines() if "shop/web" in line]
        assert "Cluster (2: shop/web, shop/web-2) are reset" in line

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({}, "are reset"),
            ({"bpf": {"masquerade": False}}, "are reset"),
            ({"bpf": {"masquerade": True}}, "live where the node has one endpoint"),
            ({"extraConfig": {"enable-bpf-masquerade": "true"}}, "live where the node has one endpoint"),
        ],
    )
    def test_from_outside_with_policy_local_it_depends(self, values: dict[str, Any], words: str) -> None:
        told = switch_over(policies={"Cluster": [], "Local": ["shop/api"]}, values=values)
        (line,) = [line for line in told.splitlines() if "shop/api" in line]
        assert f"Local (1: shop/api) {words}" in line

    @pytest.mark.parametrize(
        ("was", "now", "told_on", "told_off"),
        [
            (False, True, True, False),
            (True, True, False, False),
            (False, False, False, False),
            (True, False, False, True),
        ],
    )
    def test_a_change_of_masquerading_in_the_same_run_is_told_with_what_it_breaks(
        self, was: bool, now: bool, told_on: bool, told_off: bool
    ) -> None:
        its: dict[str, Any] = {"values": {"bpf": {"masquerade": now}}, "masqueraded": was}
        assert ("bpf.masquerade is turned on" in switch_over(**its)) is told_on
        back = "\n".join(notes.switch_back(nodes=3, **its, **COMMON))
        assert ("bpf.masquerade is turned off" in back) is told_off


def test_a_switch_back_says_that_kube_proxy_routes_first() -> None:
    told = "\n".join(notes.switch_back(nodes=4, **AGAIN, **COMMON))
    assert "4 nodes" in told
    assert told.index("restored from its backup and routes") < told.index("agents restart")


def test_beside_kube_proxy_nothing_of_it_changes() -> None:
    assert "kube-proxy stays as it is" in "\n".join(notes.beside(**COMMON))


class TestSeconds:
    """One agent takes 14 to 18 s on a real node; 20 a batch, and 10 until the first begins."""

    @pytest.mark.parametrize(
        ("nodes", "maximum", "batches"),
        [(1, 2, 1), (2, 2, 1), (3, 2, 2), (3, 1, 3), (10, "20%", 5), (10, "25%", 4), (3, "10%", 3), (100, 100, 1)],
    )
    def test_batches_of_agents(self, nodes: int, maximum: int | str, batches: int) -> None:
        values = {"updateStrategy": {"rollingUpdate": {"maxUnavailable": maximum}}}
        assert switch_seconds(nodes, False, values) == 10 + 20 * batches

    @pytest.mark.parametrize("values", [{}, {"updateStrategy": None}, {"updateStrategy": {"rollingUpdate": None}}])
    def test_the_chart_s_default_is_two_at_a_time(self, values: dict[str, Any]) -> None:
        assert switch_seconds(4, False, values) == 10 + 20 * 2

    @pytest.mark.parametrize(("maximum", "batches"), [(None, 2), ("two", 4), ("", 4), (2.0, 2), ("50%", 2)])
    def test_what_is_null_is_the_default_and_what_is_no_number_is_one(self, maximum: Any, batches: int) -> None:
        values = {"updateStrategy": {"rollingUpdate": {"maxUnavailable": maximum}}}
        assert switch_seconds(4, False, values) == 10 + 20 * batches

    def test_new_agents_start_all_at_once(self) -> None:
        assert switch_seconds(500, True, {}) == switch_seconds(1, True, {})

    def test_zero_at_a_time_is_one_by_surge(self) -> None:
        values = {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}}
        assert switch_seconds(3, False, values) == 10 + 20 * 3


class TestCutOff:
    def pod(self, name: str) -> dict[str, Any]:
        return {"metadata": {"namespace": "shop", "name": name}}

    def test_pods_on_another_network_are_counted_and_some_named(self) -> None:
        (told,) = notes.cut_off([self.pod(f"web-{number}") for number in range(7)])
        assert "7 pods" in told
        assert "shop/web-0" in told
        assert "cut off" in told

    def test_without_such_pods_nothing_is_said(self) -> None:
        assert notes.cut_off([]) == []
