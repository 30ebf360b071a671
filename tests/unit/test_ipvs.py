"""Whose virtual servers a node has, from tables written by hand after the kernel's format (net/netfilter/ipvs/
ip_vs_ctl.c): a kernel with IPVS was not at hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from kube_proxy_replacement.cluster import agents, ipvs, kube_proxy
from kube_proxy_replacement.cluster.errors import ProcedureError, UnreachableError
from kube_proxy_replacement.cluster.exec import ExecResult
from kube_proxy_replacement.cluster.ipvs import Held, Plan, VirtualServer
from kube_proxy_replacement.cluster.kube_proxy import KubeProxy
from kube_proxy_replacement.cluster.services import Frontend, ServiceTable

from .fakes import FakeApi, agent_pod, kubeadm_objects, sample, service

OWN, FOREIGN = sample("ip_vs-by-hand-kube-proxy.txt"), sample("ip_vs-by-hand-keepalived.txt")
KEEPALIVED = "10.0.0.5:6443/TCP, [2001:db8::5]:443/TCP, firewall mark 17, firewall mark 18"
PORTS = frozenset({("TCP", 30064)})
ON_DEVICE = ("10.96.0.1", "10.96.141.139", "10.96.0.10", "fd00::1")
EXPECTED = {
    Frontend("10.96.0.1", "TCP", 443): frozenset({"10.10.0.1:6443"}),
    Frontend("10.96.141.139", "TCP", 80): frozenset({"10.244.1.88:8080", "10.244.2.189:8080"}),
    Frontend("10.96.141.139", "UDP", 53): frozenset({"10.244.1.88:8080"}),
    Frontend("10.96.0.10", "UDP", 53): frozenset(),
    Frontend("10.96.0.99", "TCP", 80): frozenset(),
    Frontend("fd00::1", "TCP", 443): frozenset({"[fd00:10::1]:6443"}),
}


def devices(*own: str, present: bool = True) -> str:
    """`ip -j address show` of a node; `own` are the addresses on kube-ipvs0."""

    def device(name: str, *addresses: str) -> dict[str, Any]:
        return {"ifname": name, "addr_info": [{"local": ip, "prefixlen": 32} for ip in addresses]}

    others = [device("lo", "127.0.0.1", "::1"), device("eth0", "10.0.0.11", "fd00::b"), device("down")]
    return json.dumps([*others, *([device("kube-ipvs0", *own)] if present else [])])


def held(table: str = OWN, *, present: bool = True, sets: str = "") -> Held:
    return ipvs.parse(table, devices(*ON_DEVICE, present=present), sets)


def heads_and(*lines: str) -> str:
    return "".join(OWN.splitlines(keepends=True)[:3]) + "".join(f"{line}\n" for line in lines)


class World(FakeApi):
    """Agents on n1 and n2; each node's table, devices and ipsets as `tables`, `present` and `sets` say.

    Attributes:
        sets: None is a kernel without ipsets.
        tables: by node; None is a kernel without ip_vs. An exception or an ExecResult is what the exec gives.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, Any] = {"n1": OWN, "n2": OWN}
        self.present = True
        self.sets: str | None = ""
        self.put(agent_pod("n1"), agent_pod("n2"))
        self.on_exec = self._answer

    def _answer(self, namespace: str, pod: str, container: str, command: Sequence[str]) -> ExecResult:
        table = self.tables[pod.split("-")[1]]
        if isinstance(table, Exception):
            raise table
        if isinstance(table, ExecResult):
            return table
        if list(command) == ["ls", "/proc/net"]:
            return ExecResult("dev\nip_vs_stats\nnetlink\n" + ("ip_vs\n" if table is not None else ""), "", 0)
        if list(command) == ["cat", "/proc/net/ip_vs"]:
            return ExecResult(table or "", "" if table is not None else "No such file", int(table is None))
        if command[0] == "ip":
            return ExecResult(devices(*ON_DEVICE, present=self.present), "", 0)
        if self.sets is None:
            return ExecResult("", "ipset v7.17: Kernel error received: Operation not supported", 1)
        if list(command[:2]) == ["ipset", "destroy"]:
            self.sets = self.sets.replace(command[2], "")
            return ExecResult("", "", 0)
        return ExecResult(self.sets, "", 0)

    def held(self) -> dict[str, Held | str]:
        return ipvs.read(self, "kube-system", agents.find(self, "kube-system").values())

    def refusal(self, mode: str = "ipvs", version: str = "v1.36.3", **ipvs_config: Any) -> str | None:
        objects = kubeadm_objects()
        data = objects["configmap"]["data"]
        config = kube_proxy.configuration(objects["configmap"])
        config = config | {"mode": mode, "ipvs": config["ipvs"] | ipvs_config}
        data["config.conf"] = json.dumps(config)
        container = objects["daemonset"]["spec"]["template"]["spec"]["containers"][0]
        container["image"] = f"registry.k8s.io/kube-proxy:{version}"
        proxy = KubeProxy(objects["daemonset"], objects["configmap"])
        services = ServiceTable((service("web", "10.96.141.139", ports=[{"port": 80, "nodePort": 30064}]),), ())
        return ipvs.refusal(self, proxy, "kube-system", services)


@pytest.fixture
def world() -> World:
    return World()


class TestParse:
    def test_virtual_servers_of_all_kinds(self) -> None:
        assert set(held(OWN + FOREIGN[FOREIGN.index("TCP") :]).servers) == {
            VirtualServer("10.96.0.1", "TCP", 443),
            VirtualServer("10.96.141.139", "TCP", 80),
            VirtualServer("10.96.141.139", "UDP", 53),
            VirtualServer("10.96.0.10", "UDP", 53),
            VirtualServer("10.0.0.11", "TCP", 30064),
            VirtualServer("fd00::1", "TCP", 443),
            VirtualServer("fd00::b", "TCP", 30064),
            VirtualServer("10.0.0.5", "TCP", 6443),
            VirtualServer("2001:db8::5", "TCP", 443),
            VirtualServer("", "FWM", 17),
            VirtualServer("", "FWM", 18),
        }

    def test_real_servers_without_those_that_are_drained(self) -> None:
        behind = held().servers[VirtualServer("10.96.141.139", "TCP", 80)]
        assert behind == {"10.244.1.88:8080", "10.244.2.189:8080"}

    def test_addresses_on_its_device_and_on_others(self) -> None:
        assert held().device == set(ON_DEVICE)
        assert held().addresses == {"127.0.0.1", "::1", "10.0.0.11", "fd00::b"}
        assert held(present=False).device is None

    def test_only_kube_proxys_sets(self) -> None:
        own = "KUBE-CLUSTER-IP KUBE-6-CLUSTER-IP KUBE-NODE-PORT-LOCAL-SCTP-HASH KUBE-6-NODE-PORT-TCP KUBE-IPVS-IPS"
        others = "KUBE-CLUSTER-IPS MY-KUBE-CLUSTER-IP KUBE-ROUTER-SVIP KUBE-7-CLUSTER-IP cali40all"
        assert held(sets="\n".join([*own.split(), *others.split()])).sets == tuple(own.split())

    @pytest.mark.parametrize("line", ["SOMETHING 0A000005:192B rr ", "TCP  10.0.0.5:6443 rr ", "  -> nobody"])
    def test_a_line_that_is_not_understood_could_be_somebodys(self, line: str) -> None:
        with pytest.raises(ProcedureError, match="isn't understood"):
            held(heads_and(line))

    @pytest.mark.parametrize("text", ["", "Device not found", "{}", "[{}]"])
    def test_devices_that_are_not_understood(self, text: str) -> None:
        if text == "{}":
            assert ipvs.parse("", text, "").device is None
        else:
            with pytest.raises(ProcedureError, match="list of devices"):
                ipvs.parse("", text, "")


class TestForeign:
    def test_kube_proxys_own_are_none(self) -> None:
        assert held().foreign(PORTS) == []

    def test_others_are_all_of_theirs(self) -> None:
        mixed = held(OWN + "".join(FOREIGN.splitlines(keepends=True)[3:]))
        assert sorted(map(str, mixed.foreign(PORTS))) == KEEPALIVED.split(", ")

    def test_one_at_the_nodes_own_address_with_another_port_or_protocol(self) -> None:
        assert held().foreign([("UDP", 30064), ("TCP", 30065)]) == [
            VirtualServer("10.0.0.11", "TCP", 30064),
            VirtualServer("fd00::b", "TCP", 30064),
        ]

    def test_a_node_port_at_an_address_that_is_not_the_nodes(self) -> None:
        assert held(heads_and("TCP  0A000005:7570 rr ")).foreign(PORTS) == [VirtualServer("10.0.0.5", "TCP", 30064)]

    def test_without_its_device_kube_proxy_has_made_none(self) -> None:
        assert len(held(present=False).foreign(PORTS)) == 7


class TestPlan:
    @pytest.mark.parametrize("flushes", [False, True])
    def test_where_all_are_its_own_they_are_flushed(self, flushes: bool) -> None:
        assert ipvs.plan(held(), PORTS, flushes=flushes) == Plan(modules=True)

    @pytest.mark.parametrize("flushes", [False, True])
    def test_where_both_are_nobodys_are(self, flushes: bool) -> None:
        mixed = held(OWN + "".join(FOREIGN.splitlines(keepends=True)[3:]))
        plan = ipvs.plan(mixed, PORTS, flushes=flushes)
        assert all(server in plan.refusal for server in KEEPALIVED.split(", "))
        assert not plan.modules
        assert not plan.bare

    def test_where_only_others_are_a_kube_proxy_that_leaves_them_alone_may_clean(self) -> None:
        assert ipvs.plan(held(FOREIGN, present=False), PORTS, flushes=False) == Plan(bare=True)
        assert "10.0.0.5:6443/TCP" in ipvs.plan(held(FOREIGN, present=False), PORTS, flushes=True).refusal

    @pytest.mark.parametrize("flushes", [False, True])
    def test_where_there_is_nothing_no_modules_are_given(self, flushes: bool) -> None:
        assert ipvs.plan(held("", present=False), PORTS, flushes=flushes) == Plan(bare=True)

    def test_a_device_without_any_virtual_server_is_still_taken_off(self) -> None:
        assert ipvs.plan(held(""), PORTS, flushes=False) == Plan(modules=True)

    def test_what_cannot_be_read_is_not_touched(self) -> None:
        assert "no answer" in ipvs.plan("no answer within 30 s", PORTS, flushes=False).refusal


class TestRead:
    def test_a_kernel_without_ip_vs_holds_none(self, world: World) -> None:
        world.tables["n2"] = None
        found = world.held()
        assert isinstance(found["n1"], Held)
        assert isinstance(found["n2"], Held)
        assert len(found["n1"].servers) == 7
        assert found["n2"].servers == {}

    @pytest.mark.parametrize("answer", [UnreachableError("no answer"), ExecResult("", "Killed", 137)])
    def test_one_that_cannot_be_read_is_told(self, world: World, answer: Any) -> None:
        world.tables["n1"] = answer
        assert isinstance(world.held()["n1"], str)
        assert isinstance(world.held()["n2"], Held)


class TestMayFlush:
    @pytest.mark.parametrize(
        ("image", "may"),
        [
            ("registry.k8s.io/kube-proxy:v1.36.3", False),
            ("registry.k8s.io/kube-proxy:v1.34.0", False),
            ("registry.k8s.io/kube-proxy:v1.33.6", True),
            ("registry.k8s.io/kube-proxy:1.29.1-eks@sha256:" + "0" * 64, True),
            ("harbor:5000/kube-proxy:v1.35.0@sha256:" + "0" * 64, False),
            ("registry.k8s.io/kube-proxy@sha256:" + "0" * 64, True),
            ("mine/kube-proxy:latest", True),
        ],
    )
    def test_by_its_images_version(self, image: str, may: bool) -> None:
        daemonset = kubeadm_objects()["daemonset"]
        daemonset["spec"]["template"]["spec"]["containers"][0]["image"] = image
        assert ipvs.may_flush(daemonset) is may


class TestRefusal:
    def test_virtual_servers_of_its_own_alone_are_no_reason(self, world: World) -> None:
        assert world.refusal() is None

    def test_others_are_named_with_their_node(self, world: World) -> None:
        world.tables["n2"] = OWN + "".join(FOREIGN.splitlines(keepends=True)[3:])
        said = world.refusal() or ""
        assert "n2: firewall mark 17" in said
        assert all(server in said for server in KEEPALIVED.split(", "))
        assert "n1" not in said
        assert "Nothing was changed" in said

    def test_where_kube_proxy_leaves_others_alone_they_may_come_at_any_time(self, world: World) -> None:
        said = world.refusal(excludeCIDRs=["10.0.0.5/32"]) or ""
        assert "10.0.0.5/32" in said
        assert not [call for call in world.calls if call[0] == "EXEC"]

    def test_in_another_mode_an_old_kube_proxy_would_flush_others_too(self, world: World) -> None:
        world.tables, world.present = {"n1": FOREIGN, "n2": None}, False
        assert "n1: " in (world.refusal("iptables", "v1.33.6") or "")
        assert world.refusal("iptables", "v1.34.0") is None
        assert world.refusal("iptables", "v1.33.6", excludeCIDRs=["10.0.0.5/32"])

    def test_a_newer_one_in_another_mode_asks_nobody(self, world: World) -> None:
        world.refusal("iptables")
        assert not [call for call in world.calls if call[0] == "EXEC"]

    def test_a_node_that_cannot_be_read_is_looked_at_again_later(self, world: World) -> None:
        world.tables["n1"] = UnreachableError("no answer")
        assert world.refusal() is None

    def test_a_cluster_without_kube_proxy_has_nothing_to_flush(self, world: World) -> None:
        assert ipvs.refusal(world, KubeProxy(None, None), "kube-system", ServiceTable((), ())) is None


class TestMissingRoutes:
    def test_a_node_that_routes(self) -> None:
        assert ipvs.missing_routes(held(), EXPECTED) == []

    def test_what_is_missing_or_left_of_another_day(self) -> None:
        assert ipvs.missing_routes(held(""), EXPECTED)[0] == "10.96.0.1:443/TCP: no virtual server"
        more = EXPECTED | {Frontend("10.96.0.1", "TCP", 443): frozenset({"10.10.0.1:6443", "10.10.0.2:6443"})}
        assert ipvs.missing_routes(held(), more) == ["10.96.0.1:443/TCP: no way to 10.10.0.2:6443"]
        less = EXPECTED | {Frontend("10.96.141.139", "TCP", 80): frozenset({"10.244.1.88:8080"})}
        assert ipvs.missing_routes(held(), less) == ["10.96.141.139:80/TCP: still leads to 10.244.2.189:8080"]


def test_whose_the_virtual_servers_are_is_read_without_ipsets(world: World) -> None:
    world.sets = None
    assert all(isinstance(its, Held) for its in world.held().values())


class TestFinish:
    def finish(self, world: World) -> str:
        return ipvs.finish(world, "kube-system", agents.find(world, "kube-system")["n1"])

    def test_the_sets_that_kube_proxy_leaves_are_destroyed_and_no_other(self, world: World) -> None:
        world.tables["n1"], world.present, world.sets = "", False, "KUBE-6-CLUSTER-IP MINE"
        assert self.finish(world) == ""
        assert (world.sets or "").split() == ["MINE"]

    def test_ipsets_that_cannot_be_listed_are_told(self, world: World) -> None:
        world.tables["n1"], world.present, world.sets = "", False, None
        assert "ipset list -n" in self.finish(world)

    def test_a_device_that_is_still_there_is_told(self, world: World) -> None:
        assert self.finish(world) == "cleaned, but kube-ipvs0 is still there, with 7 virtual servers"

    def test_one_that_cannot_be_read_is_told(self, world: World) -> None:
        world.tables["n1"] = UnreachableError("no answer")
        assert "no answer" in self.finish(world)
