"""The way there and back on real nodes: what their kernels hold, and what becomes of the traffic."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from local.real import explained, kernel
from local.real.kernel import Kernel
from local.real.traffic import Failure, Outcomes
from tests.datapath.story import Act, Story

SILENT = 45.0
"""Seconds that port 10256 of a node may be silent in a switch-over: from kube-proxy's end to its agent's restart."""
MOVING = ">moving"


@pytest.fixture(scope="module", params=["beside", "switched", "back", "gone"])
def way(request: pytest.FixtureRequest, story: Story) -> Act:
    """Each run that went well, one after the other."""
    act: Act = getattr(story, request.param)
    return act


# Before


def test_at_first_kube_proxy_routes_and_nothing_hangs_at_the_hooks(story: Story) -> None:
    for node, found in story.untouched.items():
        assert kernel.kube_proxys(found), f"{node}: kube-proxy has no rule"
        assert not found.socket_programs, f"{node}: {found.hooks}"


# Through all of it


def test_no_new_connection_fails(way: Act) -> None:
    assert way.traffic.sent > 500, "there was next to no traffic"
    assert lost(way.traffic) == []


def test_an_endpoint_that_moves_is_followed_afterwards(way: Act) -> None:
    assert [stream for stream in way.afterwards.streams if MOVING in stream], "nobody asked"
    assert [its for stream in way.afterwards.streams.values() for its in stream.failures] == []


def test_open_connections_to_clusterips_live(way: Act) -> None:
    inside = {name: its for name, its in way.traffic.long_lived.items() if not name.startswith("outside>")}
    assert inside, "there were none"
    assert {name: its.failures for name, its in inside.items() if its.broken} == {}


def test_everybody_elses_rules_stay_byte_for_byte(way: Act, story: Story) -> None:
    assert way.foreign == story.foreign


# There


def test_kube_proxy_carries_the_traffic_before_the_switch(story: Story) -> None:
    counted_more(*story.translated)


def test_after_the_switch_nothing_of_kube_proxy_is_left(story: Story) -> None:
    assert story.switched.objects == []
    for node, found in story.switched.kernels.items():
        assert kernel.kube_proxys(found) == [], node


def test_after_the_switch_ebpf_is_at_the_hooks_of_every_node(story: Story) -> None:
    for node, found in story.switched.kernels.items():
        assert found.hooks.get("cgroup_inet4_connect") == 1, f"{node}: {found.hooks}"


def test_after_the_switch_the_agents_tables_are_the_apis(story: Story) -> None:
    assert story.switched.tables == []


def test_the_outputs_say_what_the_kernels_do(story: Story) -> None:
    outputs = story.switched.outputs
    assert outputs["agents"] == {"desired": 2, "ready": 2, "replacing": 2, "switched": 2, "unreadable": 0}
    assert outputs["kubeProxyReplacement"] == "True"
    for node in outputs["nodes"].values():
        assert (node["leftoverRules"], node["error"]) == (0, "")


def test_a_second_preview_shows_no_change(story: Story) -> None:
    assert story.unchanged.changes == {}


def test_health_checks_see_each_node_silent_once_and_not_for_long(story: Story) -> None:
    for node, health in story.switched.traffic.health.items():
        assert health.asked > 20, node
        assert 0 < health.silent < SILENT, f"{node}: {health.silent:.1f} s"


# Back


def test_on_the_way_back_kube_proxy_carries_the_traffic_again(story: Story) -> None:
    assert story.back.objects == ["ConfigMap", "DaemonSet"]
    counted_more(*story.translated_again)


def test_destroy_leaves_kube_proxy_routing_and_nothing_at_the_hooks(story: Story) -> None:
    assert story.gone.objects == ["ConfigMap", "DaemonSet"]
    for node, found in story.gone.kernels.items():
        assert kernel.kube_proxys(found), f"{node}: kube-proxy has no rule"
        assert not found.socket_programs, f"{node}: {found.hooks}"


# What is asserted


def counted_more(first: dict[str, Kernel], second: dict[str, Kernel]) -> None:
    """kube-proxy's rules have translated new connections on each node in between."""
    for node, found in second.items():
        before, after = (sum(kernel.translated(its).values()) for its in (first[node], found))
        assert after > before + 10, f"{node}: {before} connections, then {after}"


def lost(traffic: Outcomes) -> list[str]:
    """New connections that failed, as a reader wants them.

    But for the Service whose endpoints move: from kube-proxy's removal on, it's answered by the endpoint of that
    moment, until the node's agent has switched; and a processor that compiles is late with rules, too.
    """
    return [
        f"{name}: {len(failures)} of {its.sent}, first at {failures[0].instant:.1f}: {failures[0].error}"
        for name, its in traffic.streams.items()
        if MOVING not in name and (failures := _refused(its.failures))
    ]


def _refused(failures: Sequence[Failure]) -> Sequence[Failure]:
    """Without one of each stream from outside that was made in the very instant of the exchange: half of its packets
    were translated by one, half by the other, and no setting keeps those (docs/connections.md, 6)."""
    made = [its for its in failures if explained.MADE_IN_THE_INSTANT.fits(its)]
    return [its for its in failures if its not in made[:1]]
