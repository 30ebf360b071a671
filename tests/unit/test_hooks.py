"""Where Cilium's programs hang on a node, from what bpftool printed in two agents."""

from __future__ import annotations

import json

import pytest

from kube_proxy_replacement.cluster import hooks
from kube_proxy_replacement.cluster.errors import ProcedureError
from kube_proxy_replacement.cluster.hooks import Hooks

from .fakes import sample

ATTACHED = "bpftool-7.1-links-switched.json"
DETACHED = "bpftool-7.1-links-detached.json"
BOTH = {"enable-ipv4": "true", "enable-ipv6": "true"}


def read(text: str) -> Hooks:
    found = hooks.parse(text)
    assert found is not None
    return found


def absent(text: str, *, socket_lb: bool = True, **config: str) -> tuple[str, ...]:
    return hooks.missing(read(text), config or BOTH, ("eth0",), socket_lb=socket_lb)


class TestParse:
    def test_a_switched_node(self) -> None:
        found = read(sample(ATTACHED))
        assert len(found.sockets) == 11
        assert found.devices["eth0"] == {"cil_from_netdev", "cil_to_netdev"}

    def test_a_link_that_is_pinned_and_detached_is_none(self) -> None:
        assert "cil_sock6_connect" in sample(DETACHED)
        assert "cgroup_inet6_connect" not in read(sample(DETACHED)).sockets

    def test_newer_bpftools_say_it_of_devices_too(self) -> None:
        pin = "/sys/fs/bpf/cilium/devices/eth0/links/cil_from_netdev"
        link = {"id": 1, "type": "tcx", "prog_id": 7, "devname": "eth0", "ifindex": 2, "pinned": [pin]}
        assert read(json.dumps([link])).devices == {"eth0": {"cil_from_netdev"}}
        assert read(json.dumps([link | {"devname": "(detached)", "ifindex": 0}])).devices == {}

    def test_other_links_and_those_of_pods_say_nothing(self) -> None:
        pins = ["/sys/fs/bpf/cilium/endpoints/7/links/cil_from_container", "/sys/fs/bpf/mine/links/cgroup/x"]
        links = [{"id": 1, "type": "cgroup", "cgroup_id": 5, "pinned": [pin]} for pin in pins]
        assert hooks.parse(json.dumps([*links, {"id": 2, "type": "perf_event"}])) is None

    @pytest.mark.parametrize("text", ["", "Error: x", "{}[]", '["x"]', "7"])
    def test_what_is_no_list_of_links_is_an_error(self, text: str) -> None:
        with pytest.raises(ProcedureError, match="no list of links"):
            hooks.parse(text)


class TestMissing:
    def test_a_switched_node_misses_none(self) -> None:
        assert absent(sample(ATTACHED)) == ()

    @pytest.mark.parametrize("hook", ["cgroup_inet4_connect", "cgroup_udp4_sendmsg", "cgroup_udp6_recvmsg"])
    def test_each_that_is_needed(self, hook: str) -> None:
        assert absent(sample(ATTACHED).replace(hook, "cgroup_device")) == (hook,)

    def test_one_of_a_family_that_is_off_or_without_socket_lb_is_not(self) -> None:
        text = sample(ATTACHED).replace("cgroup_inet6_connect", "cgroup_device")
        assert absent(text, **{"enable-ipv4": "true", "enable-ipv6": "false"}) == ()
        assert absent(text, socket_lb=False) == ()

    def test_a_device_without_its_program(self) -> None:
        assert absent(sample(DETACHED)) == ("cgroup_inet6_connect", "cil_from_netdev at eth0")

    def test_devices_where_the_agent_uses_no_links_are_not_judged(self) -> None:
        found = read(sample(ATTACHED))
        without = Hooks(found.sockets, {})
        assert hooks.missing(without, BOTH, ("eth0",), socket_lb=True) == ()
        off = Hooks(found.sockets, {"cilium_host": frozenset({"cil_from_host"})})
        assert hooks.missing(off, BOTH | {"enable-tcx": "false"}, ("eth0",), socket_lb=True) == ()
        assert hooks.missing(off, BOTH, ("eth0",), socket_lb=True) == ("cil_from_netdev at eth0",)
