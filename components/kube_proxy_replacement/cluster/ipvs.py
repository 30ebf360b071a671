"""A node's IPVS: whose virtual servers are there, and what may be taken off.

`kube-proxy --cleanup` knows no single virtual server. It flushes every one of the node, kube-vip's and keepalived's too
(pkg/proxy/ipvs in kubernetes/kubernetes):

- up to 1.33 wherever the kernel has ip_vs loaded, in any mode of kube-proxy;
- from 1.34 on only after `modprobe ip_vs` went well, so only with the node's /lib/modules in its container (kmod looks
  there, also for what is loaded or built in). Without it, nothing of IPVS is touched, kube-proxy's own neither.

And no program in its image or in the agent's removes single ones. So each node is looked at right before: where all
that is there is kube-proxy's own, a flush takes away no more than that; where it isn't, the node is left as it is, and
named. A kube-proxy in mode ipvs itself deletes everybody else's virtual servers each time it syncs, but for those in
its `excludeCIDRs`: so where that is empty, there are none.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from . import agents, asking, kube_proxy, rules
from .agents import Agent
from .api import Api, Object
from .asking import Answers, Part
from .errors import ProcedureError
from .kube_proxy import KubeProxy
from .services import Frontend, ServiceTable, joined

DEVICE = "kube-ipvs0"
"""kube-proxy's own: it holds every address of a Service that IPVS serves, but for the node's own addresses."""

NOTE = (
    "kube-proxy runs in ipvs mode: with its rules, each node's virtual servers, kube-ipvs0 and kube-proxy's ipsets are "
    "taken off. A node that has somebody else's virtual servers by then is left as it is, and named. This has been "
    "tried on tables alone, not on nodes with IPVS"
)
"""For the preview."""

# A kernel without ip_vs has no such file; what can't be read is another thing than what isn't there.
_LISTED = Part("ls /proc/net")
_TABLE = Part("cat /proc/net/ip_vs")
_ADDRESSES = Part("ip -j address show")
_SETS = Part("ipset list -n")
_FILE = "ip_vs"

# net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_info_seq_show: hexadecimal numbers, IPv6 addresses in full, in brackets
_SERVER = re.compile(r"(TCP|UDP|SCTP) +(?:([0-9A-F]{8})|\[([0-9a-f:]+)\]):([0-9A-F]{4}) ")
_MARK = re.compile(r"FWM +([0-9A-F]{8}) ")
_REAL = re.compile(r" +-> (?:([0-9A-F]{8})|\[([0-9a-f:]+)\]):([0-9A-F]{4}) +\S+ +(\d+) ")
_HEADS = ("IP Virtual Server version", "Prot LocalAddress:Port", "  -> RemoteAddress:Port")

# pkg/proxy/ipvs/ipset.go. `--cleanup` destroys those of IPv4 only; KUBE-6- is what it calls the others.
_OWN_SET = re.compile(
    r"KUBE-(?:6-)?(?:LOOP-BACK|CLUSTER-IP|EXTERNAL-IP|EXTERNAL-IP-LOCAL|LOAD-BALANCER|LOAD-BALANCER-LOCAL"
    r"|LOAD-BALANCER-FW|LOAD-BALANCER-SOURCE-IP|LOAD-BALANCER-SOURCE-CIDR|NODE-PORT-(?:LOCAL-)?(?:TCP|UDP|SCTP-HASH)"
    r"|HEALTH-CHECK-NODE-PORT|IPVS-IPS)"
)
_VERSION = re.compile(r":v?1\.(\d+)\.\d+")
_LEAVES_IPVS_ALONE = 34
"""The first minor version whose cleaning does nothing in IPVS without /lib/modules."""


class VirtualServer(NamedTuple):
    """Attributes:
    ip: in its shortest notation; "" for a firewall mark.
    protocol: "TCP", "UDP", "SCTP"; "FWM" for a firewall mark.
    port: the port, or the mark.
    """

    ip: str
    protocol: str
    port: int

    def __str__(self) -> str:
        return f"{joined(self.ip, self.port)}/{self.protocol}" if self.ip else f"firewall mark {self.port}"


@dataclass(frozen=True)
class Held:
    """What one node's IPVS holds.

    Attributes:
        servers: virtual server → `ip:port` of the real servers behind it that get new connections (weight over 0).
        device: addresses on kube-ipvs0; None where there is no such device.
        addresses: those on all other devices.
        sets: names of kube-proxy's ipsets; () where they weren't asked for.
    """

    servers: Mapping[VirtualServer, frozenset[str]]
    device: frozenset[str] | None
    addresses: frozenset[str]
    sets: tuple[str, ...]

    @property
    def kube_proxys(self) -> bool:
        """Whether kube-proxy has left something in IPVS: it makes no virtual server without its device."""
        return self.device is not None

    def foreign(self, node_ports: Iterable[tuple[str, int]]) -> list[VirtualServer]:
        """The virtual servers that kube-proxy surely hasn't made, sorted.

        Its own are those at an address on its device, and those at an address of the node with the protocol and port
        of one of these NodePorts.
        """
        ports = set(node_ports)
        return sorted(
            server
            for server in self.servers
            if self.device is None
            or not (
                server.ip in self.device or (server.ip in self.addresses and (server.protocol, server.port) in ports)
            )
        )


@dataclass(frozen=True)
class Plan:
    """How one node may be cleaned.

    Attributes:
        refusal: why `kube-proxy --cleanup` mustn't run there; "" where it may.
        modules: whether it gets the node's /lib/modules, with which it flushes IPVS.
        bare: whether kube-proxy has surely left nothing in IPVS there.
    """

    refusal: str = ""
    modules: bool = False
    bare: bool = False


def may_flush(daemonset: Object) -> bool:
    """Whether this kube-proxy's cleaning may flush IPVS even without /lib/modules; True too where its image doesn't say
    which version it is."""
    found = _VERSION.search(str(kube_proxy.container(daemonset).get("image")))
    return found is None or int(found[1]) < _LEAVES_IPVS_ALONE


def node_ports(services: ServiceTable) -> frozenset[tuple[str, int]]:
    """(protocol, port) of every NodePort."""
    ports = [port for item in services.services for port in item.get("spec", {}).get("ports") or []]
    return frozenset(
        (str(port.get("protocol") or "TCP"), int(port["nodePort"])) for port in ports if port.get("nodePort")
    )


def read(api: Api, namespace: str, its_agents: Iterable[Agent], *, sets: bool = False) -> dict[str, Held | str]:
    """What each agent's node holds, by the node's name, or why it can't be read.

    Args:
        sets: whether to ask for kube-proxy's ipsets too. Whose the virtual servers are doesn't depend on them, and a
            kernel without ipsets lets nobody list any.
    """
    parts = (_LISTED, _TABLE, _ADDRESSES, *((_SETS,) if sets else ()))

    def one(agent: Agent) -> Held | str:
        try:
            result = api.exec(namespace, agent.pod, agents.CONTAINER, asking.command(parts), timeout=agents.DEADLINE)
            answers = Answers(agent.node, result)
            loaded = _FILE in answers.text(_LISTED).split()
            return parse(
                answers.text(_TABLE) if loaded else "",
                answers.text(_ADDRESSES),
                answers.text(_SETS) if sets else "",
            )
        except ProcedureError as error:
            return str(error)

    its_agents = list(its_agents)
    with ThreadPoolExecutor(agents.WORKERS) as pool:
        return dict(zip((agent.node for agent in its_agents), pool.map(one, its_agents), strict=True))


def parse(table: str, addresses: str, sets: str) -> Held:
    """Args:
        table: /proc/net/ip_vs, "" where there is none.
        addresses: what `ip -j address show` prints.
        sets: what `ipset list -n` prints.

    Raises ProcedureError with a line that isn't understood: it could be somebody's virtual server.
    """
    servers: dict[VirtualServer, set[str]] = {}
    behind: set[str] = set()
    for line in table.splitlines():
        if not line.strip() or line.startswith(_HEADS):
            continue
        if found := _REAL.match(line):
            if int(found[4]):  # 0: it is being drained
                behind.add(joined(_ip(found[1], found[2]), int(found[3], 16)))
        elif found := _SERVER.match(line):
            behind = servers.setdefault(VirtualServer(_ip(found[2], found[3]), found[1], int(found[4], 16)), set())
        elif found := _MARK.match(line):
            behind = servers.setdefault(VirtualServer("", "FWM", int(found[1], 16)), set())
        else:
            raise ProcedureError(f"/proc/net/ip_vs has a line that isn't understood: {line[:100]!r}")
    try:
        devices: list[dict[str, Any]] = json.loads(addresses)
        at = {
            str(device["ifname"]): {str(ipaddress.ip_address(its["local"])) for its in device["addr_info"] if its}
            for device in devices
        }
    except (ValueError, TypeError, KeyError):
        raise ProcedureError(f"{_ADDRESSES.command} printed no list of devices") from None
    device = at.pop(DEVICE, None)
    return Held(
        servers={server: frozenset(real) for server, real in servers.items()},
        device=None if device is None else frozenset(device),
        addresses=frozenset().union(*at.values()),
        sets=tuple(name for name in sets.split() if _OWN_SET.fullmatch(name)),
    )


def missing_routes(held: Held, expected: rules.Expected) -> list[str]:
    """Which of the expected routes kube-proxy hasn't (yet, or any more) in IPVS: one line each, sorted; [] says that it
    routes. One without endpoints needs no virtual server."""
    differences = []
    for frontend, endpoints in sorted(expected.items()):
        behind = held.servers.get(VirtualServer(*frontend))
        if behind is None:
            differences += [f"{Frontend(*frontend)}: no virtual server"] if endpoints else []
        elif absent := sorted(endpoints - behind):
            differences.append(f"{Frontend(*frontend)}: no way to {', '.join(absent)}")
        elif stale := sorted(behind - endpoints):
            differences.append(f"{Frontend(*frontend)}: still leads to {', '.join(stale)}")
    return differences


def refusal(api: Api, proxy: KubeProxy, namespace: str, services: ServiceTable) -> str | None:
    """Why kube-proxy can't be replaced here, or None. Nodes whose agent can't be read are looked at again before they
    are cleaned.

    Args:
        namespace: the agents' namespace.
    """
    if proxy.daemonset is None or not (proxy.mode == "ipvs" or may_flush(proxy.daemonset)):
        return None
    way_out = (
        "Nothing was changed. Move kube-proxy to mode iptables or nftables first (Kubernetes has deprecated ipvs) and "
        "reboot the nodes"
        if proxy.mode == "ipvs"
        else "Nothing was changed. Take kube-proxy to 1.34 or newer first, which leaves them alone in this mode"
    )
    if proxy.mode == "ipvs" and (cidrs := kube_proxy.excluded_cidrs(proxy.daemonset, proxy.configmap)):
        return (
            f"mode: kube-proxy runs in ipvs mode and leaves others' virtual servers in {', '.join(cidrs)} alone "
            "(excludeCIDRs), but `kube-proxy --cleanup`, which takes its own off the nodes, flushes all. "
            f"{way_out}, or take excludeCIDRs out where nobody needs it any more."
        )
    ports = node_ports(services)
    ready = [agent for agent in agents.find(api, namespace).values() if agent.ready]
    held = read(api, namespace, ready)
    foreign = {name: its.foreign(ports) for name, its in held.items() if isinstance(its, Held)}
    if not any(foreign.values()):
        return None
    named = "; ".join(f"{name}: {shown(servers)}" for name, servers in sorted(foreign.items()) if servers)
    return (
        f"mode: these nodes have virtual servers in IPVS that aren't kube-proxy's: {named}. `kube-proxy --cleanup`, "
        f"which takes its rules off the nodes, would flush them too. {way_out}, or take them off these nodes."
    )


def plan(held: Held | str, ports: frozenset[tuple[str, int]], *, flushes: bool) -> Plan:
    """Args:
    held: what `read` gave for the node.
    ports: `node_ports`.
    flushes: whether this kube-proxy's cleaning may flush IPVS even without /lib/modules.
    """
    if isinstance(held, str):
        return Plan(f"not cleaned: whether anybody else has virtual servers there can't be read ({held})")
    foreign = held.foreign(ports)
    if foreign and (flushes or held.kube_proxys):
        return Plan(
            f"not cleaned: virtual servers there aren't kube-proxy's ({shown(foreign)}), and `kube-proxy --cleanup` "
            "would flush them too. Where they may go for a moment, take them off, run again, and put them back",
            bare=not held.kube_proxys,
        )
    return Plan(modules=held.kube_proxys, bare=not held.kube_proxys)


def finish(api: Api, namespace: str, agent: Agent) -> str:
    """After a cleaning with /lib/modules: takes the ipsets off that it leaves. Returns what is still there, or ""."""
    held = read(api, namespace, [agent], sets=True)[agent.node]
    if isinstance(held, str):
        return f"cleaned, but whether its virtual servers are gone can't be read ({held})"
    if held.kube_proxys:
        return f"cleaned, but {DEVICE} is still there, with {len(held.servers)} virtual servers"
    try:
        for name in held.sets:
            command = ["ipset", "destroy", name]
            result = api.exec(namespace, agent.pod, agents.CONTAINER, command, timeout=agents.DEADLINE)
            if result.exit_code:
                return f"cleaned, but its ipset {name} can't be destroyed: {result.stderr.strip()[:200]}"
    except ProcedureError as error:
        return f"cleaned, but its ipsets {', '.join(held.sets)} are still there: {error}"
    return ""


def shown(servers: Iterable[VirtualServer]) -> str:
    """Some of them, for a message."""
    names = [str(server) for server in servers]
    return f"{', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"


def _ip(four: str | None, six: str | None) -> str:
    """From the kernel's hexadecimal notation to the shortest one."""
    return str(ipaddress.IPv6Address(six) if four is None else ipaddress.IPv4Address(int(four, 16)))
