"""Planted faults on real nodes: each is named with its node, and nothing is lost."""

from __future__ import annotations

from local.real import kernel
from tests.datapath.story import Act, Story
from tests.datapath.test_way import MOVING, lost


def test_a_node_that_does_not_reach_the_address_is_named_and_nothing_is_removed(story: Story) -> None:
    said = story.cut_off.run.errors()
    assert story.far.name in said
    assert story.near.name not in said
    assert "nothing was removed" in said
    assert story.cut_off.objects == ["ConfigMap", "DaemonSet"]
    assert lost(story.cut_off.traffic) == []


def test_an_agent_that_is_not_restarted_is_named(story: Story) -> None:
    said = story.stuck.run.errors()
    assert f"{story.far.name}: its agent" in said
    assert f"{story.near.name}: its agent" not in said


def test_while_one_agent_is_not_restarted_no_rule_is_cleaned_on_any_node(story: Story) -> None:
    assert all(kernel.kube_proxys(found) for found in story.stuck.kernels.values())


def test_while_one_agent_is_not_restarted_services_go_on_answering(story: Story) -> None:
    assert mostly_answered(story.stuck)


def test_a_switch_over_that_fails_is_undone_and_said(story: Story) -> None:
    undone, preview = story.undone
    said = undone.run.errors()
    assert f"{story.far.name}: its agent" in said
    assert "It was rolled back" in said
    assert "was rolled back" in preview.notes()


def test_after_a_switch_over_that_failed_kube_proxy_routes_and_cilium_has_let_go(story: Story) -> None:
    undone, _ = story.undone
    assert undone.objects == ["ConfigMap", "DaemonSet"]
    for node, found in undone.kernels.items():
        assert kernel.kube_proxys(found), f"{node}: kube-proxy has no rule"
        assert found.hooks == story.back.kernels[node].hooks, node
    assert undone.foreign == story.foreign


def test_while_a_switch_over_is_undone_services_go_on_answering(story: Story) -> None:
    undone, _ = story.undone
    assert mostly_answered(undone)
    assert lost(undone.afterwards) == []


def test_the_next_run_goes_the_rest_of_the_way(story: Story) -> None:
    assert story.resumed.outputs["agents"]["switched"] == 2
    assert all(kernel.kube_proxys(found) == [] for found in story.resumed.kernels.values())


def test_a_leftover_rule_is_named_with_its_node_and_taken_off(story: Story) -> None:
    preview, mended = story.leftover
    assert story.near.name in preview.notes()
    assert story.far.name not in preview.notes()
    assert mended.run.changes
    assert all(kernel.kube_proxys(found) == [] for found in mended.kernels.values())


def test_a_hook_that_was_detached_is_named_with_its_node_and_mended(story: Story) -> None:
    preview, mended = story.detached
    assert story.far.name in preview.notes()
    assert story.near.name not in preview.notes()
    assert mended.kernels[story.far.name].hooks == story.switched.kernels[story.far.name].hooks


def test_a_node_where_kube_proxy_runs_and_does_not_route_is_named(story: Story) -> None:
    said = story.blocked.run.errors()
    assert f"{story.far.name}: " in said
    assert f"{story.near.name}: " not in said
    assert "Cilium was not touched" in said


def test_while_kube_proxy_does_not_route_on_every_node_cilium_lets_go_on_none(story: Story) -> None:
    assert kernel.kube_proxys(story.blocked.kernels[story.far.name]) == []
    for node, found in story.blocked.kernels.items():
        assert found.hooks == story.switched.kernels[node].hooks, node
    assert lost(story.blocked.traffic) == []


def mostly_answered(act: Act) -> bool:
    """All but few, while one agent replaces and another doesn't: a node's kube-proxy and another's Cilium now and then
    choose the same port for one server."""
    failed = sum(its.failed for name, its in act.traffic.streams.items() if MOVING not in name)
    assert failed < act.traffic.sent / 200, f"{failed} of {act.traffic.sent}"
    return act.traffic.sent > 500
