"""Planted faults on real nodes: each is named with its node, and nothing is lost."""

from __future__ import annotations

from local.real import kernel
from tests.datapath.story import Story
from tests.datapath.test_way import lost


def test_a_node_that_does_not_reach_the_address_is_named_and_nothing_is_removed(story: Story) -> None:
    said = story.cut_off.run.errors()
    assert story.far.name in said
    assert story.near.name not in said
    assert "nothing was removed" in said
    assert story.cut_off.objects == ["ConfigMap", "DaemonSet"]
    assert lost(story.cut_off.traffic) == []


def test_an_agent_that_is_not_restarted_is_named(story: Story) -> None:
    said = story.stuck.run.errors()
    assert story.far.name in said
    assert story.near.name not in said


def test_while_one_agent_is_not_restarted_no_rule_is_cleaned_and_all_is_answered(story: Story) -> None:
    assert all(kernel.kube_proxys(found) for found in story.stuck.kernels.values())
    assert lost(story.stuck.traffic) == []


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
