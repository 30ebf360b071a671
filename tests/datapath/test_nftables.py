"""kube-proxy in nftables mode, on real nodes: straight to replace where there was no Cilium, and away again."""

from __future__ import annotations

from local.real import kernel
from tests.datapath.story import Story
from tests.datapath.test_way import lost


def test_its_tables_are_there_at_first(story: Story) -> None:
    for node, found in story.nftables.items():
        assert "nft: table ip kube-proxy" in kernel.kube_proxys(found), f"{node}: {found}"


def test_after_the_switch_its_tables_are_gone(story: Story) -> None:
    for node, found in story.straight.kernels.items():
        assert kernel.kube_proxys(found) == [], node
        assert found.socket_programs, node


def test_no_new_connection_to_the_nodes_own_servers_fails(story: Story) -> None:
    for act in (story.straight, story.gone_again):
        assert act.traffic.sent > 500, "there was next to no traffic"
        # Ordinary pods have been on two networks by then, and aren't made anew here.
        assert [line for line in lost(act.traffic) if "-pod" not in line and not line.startswith("pod/")] == []


def test_destroy_from_replace_leaves_its_tables_and_nothing_at_the_hooks(story: Story) -> None:
    assert story.gone_again.objects == ["ConfigMap", "DaemonSet"]
    for node, found in story.gone_again.kernels.items():
        assert kernel.kube_proxys(found), f"{node}: kube-proxy has no rule"
        assert not found.socket_programs, f"{node}: {found.hooks}"


def test_everybody_elses_rules_stay_byte_for_byte(story: Story) -> None:
    assert story.straight.foreign == story.gone_again.foreign == story.foreign
