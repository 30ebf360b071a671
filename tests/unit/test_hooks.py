"""Where Cilium's programs hang on a node, from what bpftool printed in two agents."""

from __future__ import annotations

import json

import pytest

from kube_proxy_replacement.cluster import hooks
from kube_proxy_replacement.cluster.errors import ProcedureError
from kube_proxy_replacement.cluster.hooks import Hooks

from .fakes import sample

ATTACHED, LINKED = "bpftool-7.1-cgroup-show-switched.json", "bpftool-7.1-links-switched.json"
DETACHED, UNLINKED = "bpftool-7.1-cgroup-show-detached.json", "bpftool-7.1-links-detached.json"
CONFIG = {"enable-ipv4": "true", "enable-ipv6": "true", "cgroup-root": hooks.CGROUP}


def absent(sockets: str | None, links: str | None, *, socket_lb: bool = True, **config: str) -> tuple[str, ...]:
    changed = CONFIG | {key.replace("_", "-"): value for key, value in config.items()}
    return hooks.missing(hooks.parse(sockets, links), changed, ("eth0",), socket_lb=socket_lb)


class TestParse:
    def test_a_switched_node(self) -> None:
        found = hooks.parse(sample(ATTACHED), sample(LINKED))
        assert found.sockets is not None
        assert len(found.sockets) == 11
        assert found.devices["eth0"] == {"cil_from_netdev", "cil_to_netdev"}

    @pytest.mark.parametrize("text", ["", "\n", "[]"])
    def test_a_cgroup_without_programs(self, text: str) -> None:
        assert hooks.parse(text, None) == Hooks(frozenset(), {})

    def test_others_programs_at_the_same_hook_are_none(self) -> None:
        program = {"id": 7, "attach_type": "cgroup_inet4_connect", "attach_flags": "multi", "name": "mine"}
        assert hooks.parse(json.dumps([program]), None).sockets == frozenset()

    def test_a_link_that_is_pinned_and_detached_is_none(self) -> None:
        """Newer bpftools than the recorded one say it."""
        pin = "/sys/fs/bpf/cilium/devices/eth0/links/cil_from_netdev"
        link = {"id": 1, "type": "tcx", "prog_id": 7, "devname": "eth0", "ifindex": 2, "pinned": [pin]}
        assert hooks.parse(None, json.dumps([link])).devices == {"eth0": {"cil_from_netdev"}}
        assert hooks.parse(None, json.dumps([link | {"devname": "(detached)", "ifindex": 0}])).devices == {}

    def test_what_failed_says_nothing(self) -> None:
        assert hooks.parse(None, None) == Hooks(None, {})

    @pytest.mark.parametrize("text", ["Error: x", "{}", '["x"]', "7"])
    def test_what_is_no_list_is_an_error(self, text: str) -> None:
        with pytest.raises(ProcedureError, match=r"bpftool -j cgroup show .* printed no list"):
            hooks.parse(text, None)
        with pytest.raises(ProcedureError, match="bpftool -j -f link show printed no list"):
            hooks.parse(None, text)


class TestMissing:
    def test_a_switched_node_misses_none(self) -> None:
        assert absent(sample(ATTACHED), sample(LINKED)) == ()

    def test_what_was_taken_off_by_hand(self) -> None:
        found = absent(sample(DETACHED), sample(UNLINKED))
        assert found == ("cgroup_inet4_connect", "cil_from_netdev at eth0")

    @pytest.mark.parametrize("hook", ["cgroup_inet4_connect", "cgroup_udp4_sendmsg", "cgroup_udp6_recvmsg"])
    def test_each_that_is_needed(self, hook: str) -> None:
        assert absent(sample(ATTACHED).replace(hook, "cgroup_device"), sample(LINKED)) == (hook,)

    def test_all_of_them(self) -> None:
        assert len(absent("", sample(LINKED))) == 6

    def test_one_of_a_family_that_is_off_or_without_socket_lb_is_not(self) -> None:
        assert absent(sample(DETACHED), sample(LINKED), enable_ipv4="false") == ()
        assert absent(sample(DETACHED), sample(LINKED), socket_lb=False) == ()

    def test_where_the_agent_attaches_elsewhere_or_nothing_can_be_read_nothing_is_known(self) -> None:
        assert absent("", sample(LINKED), cgroup_root="/sys/fs/cgroup") == ()
        assert absent(None, None) == ()

    def test_devices_where_the_agent_uses_no_links_are_not_judged(self) -> None:
        assert absent(sample(ATTACHED), "[]") == ()
        assert absent(sample(ATTACHED), sample(UNLINKED), enable_tcx="false") == ()
        assert absent(sample(ATTACHED), sample(UNLINKED)) == ("cil_from_netdev at eth0",)
