"""What is in one real node's kernel: kube-proxy's rules in every place where it can write them, and eBPF's hooks.

Read with the node's own programs in all its namespaces. What is kube-proxy's is said here once more, in words of its
own: a check that asks the program's own list can't find what that list has forgotten.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from local.real.node import Node

SAVES: Final = ("iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save")
"""Both backends in both families; with `-c`, so with counters."""
TABLES: Final = ("ip kube-proxy", "ip6 kube-proxy")
DEVICE: Final = "kube-ipvs0"
VIRTUAL_SERVERS: Final = "/proc/net/ip_vs"
CGROUP: Final = "/sys/fs/cgroup/unified"
"""Where the agent attaches its socket programs: the node's own part of cgroup v2."""

SOCKET_HOOKS: Final = frozenset(
    [f"cgroup_inet{family}_{hook}" for family in (4, 6) for hook in ("connect", "getpeername", "post_bind")]
    + [f"cgroup_udp{family}_{hook}" for family in (4, 6) for hook in ("sendmsg", "recvmsg")]
    + ["cgroup_inet_sock_release"]
)
"""The cgroup's hooks at which Cilium's socket load balancing sits, as bpftool calls them (1.18 and 1.20 use all)."""

# kubernetes 1.36, pkg/proxy/{iptables,ipvs}: what a chain of kube-proxy's is called in one of its two modes.
_CHAINS: Final = {
    "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ", "KUBE-FORWARD",
    "KUBE-PROXY-FIREWALL", "KUBE-PROXY-CANARY", "KUBE-LOAD-BALANCER", "KUBE-NODE-PORT", "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER",
}  # fmt: skip
_HASHED: Final = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-FW-")
_HASH: Final = re.compile(r"[A-Z2-7]{16}")  # sixteen letters of base 32
# pkg/proxy/ipvs/ipset.go; an IPv6 one has KUBE-6- in front.
_SETS: Final = {
    "LOOP-BACK", "CLUSTER-IP", "EXTERNAL-IP", "EXTERNAL-IP-LOCAL", "LOAD-BALANCER", "LOAD-BALANCER-LOCAL",
    "LOAD-BALANCER-FW", "LOAD-BALANCER-SOURCE-IP", "LOAD-BALANCER-SOURCE-CIDR", "NODE-PORT-TCP", "NODE-PORT-LOCAL-TCP",
    "NODE-PORT-UDP", "NODE-PORT-LOCAL-UDP", "NODE-PORT-SCTP-HASH", "NODE-PORT-LOCAL-SCTP-HASH",
    "HEALTH-CHECK-NODE-PORT", "IPVS-IPS",
}  # fmt: skip

_PINS: Final = "/sys/fs/bpf/cilium/devices"
"""The agent pins its links at devices in DEVICE/links/PROGRAM below it; a link that isn't pinned is gone."""

_COUNTED: Final = re.compile(r"\[(\d+):\d+\] (-A .*)")
_WORD: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')
_SERVER: Final = re.compile(r"(TCP|UDP|SCTP|FWM) +(\S+)")


@dataclass(frozen=True)
class Kernel:
    """One node's kernel at one moment.

    Attributes:
        node: the node's name.
        saves: program of `SAVES` → its text, with counters.
        tables: one of `TABLES` → the text of `nft list table`; a table that isn't there isn't here.
        sets: names of its ipsets.
        devices: names of its network devices.
        virtual_servers: those of IPVS, as in /proc/net/ip_vs: "TCP 0A600001:01BB"; None where the kernel has no IPVS
            (or hasn't loaded it), so that there can be none.
        hooks: kind of attachment (such as "cgroup_inet4_connect") → eBPF programs there, in the node's cgroups.
        programs: device → names of Cilium's eBPF programs at its tcx hooks, sorted; devices without aren't here.
    """

    node: str
    saves: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)
    sets: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    virtual_servers: tuple[str, ...] | None = None
    hooks: Mapping[str, int] = field(default_factory=dict)
    programs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def socket_programs(self) -> int:
        """eBPF programs that translate Services at sockets."""
        return sum(count for kind, count in self.hooks.items() if kind in SOCKET_HOOKS)


def read(node: Node) -> Kernel:
    """Reads one node. RuntimeError where a program of the node's fails: what can't be read isn't empty."""
    listed = _said(node, "nft", "list", "tables").splitlines()
    present = [name for name in TABLES if f"table {name}" in listed]
    ipvs = node.run(["cat", VIRTUAL_SERVERS])
    return Kernel(
        node=node.name,
        saves={program: _said(node, program, "-c") for program in SAVES},
        tables={name: _said(node, "nft", "list", "table", *name.split()) for name in present},
        sets=tuple(_said(node, "ipset", "list", "-n").split()),
        devices=devices(json.loads(_said(node, "ip", "-j", "link", "show"))),
        virtual_servers=None if ipvs.returncode else virtual_servers(ipvs.stdout),
        hooks=hooks(json.loads(_said(node, "bpftool", "-j", "cgroup", "tree", CGROUP) or "[]")),
        programs=programs(_said(node, "sh", "-c", f"find {_PINS} -path '*/links/*' 2>/dev/null || true")),
    )


def kube_proxys(kernel: Kernel) -> list[str]:
    """Everything of kube-proxy's that is in this kernel, each with its place; [] where nothing is.

    Its chains, rules in them and jumps to them, its nft tables, its ipsets, its device, and every virtual server (on
    the nodes here, nobody else makes any). The kubelet's KUBE-FIREWALL, KUBE-KUBELET-CANARY
    and KUBE-IPTABLES-HINT aren't kube-proxy's, nor is a name in a comment.
    """
    found = []
    for program, text in kernel.saves.items():
        found += [f"{program} {table}: {line}" for table, line in _lines(text) if _is_kube_proxys(line)]
    found += [f"nft: table {name}" for name in kernel.tables]
    found += [f"ipset: {name}" for name in kernel.sets if _is_set(name)]
    found += [f"device: {name}" for name in kernel.devices if name == DEVICE]
    found += [f"IPVS: {server}" for server in kernel.virtual_servers or ()]
    return found


def translated(kernel: Kernel) -> dict[str, int]:
    """How many connections kube-proxy has translated, by the endpoint's address.

    The packet counters of its DNAT rules: rules in nat see the first packet of each connection alone. Compare two
    readings of one node: a rule that is written anew begins with zero. {} where there are none to be read: in mode
    nftables kube-proxy writes no `counter` into the chains that translate (1.36).
    """
    found: Counter[str] = Counter()
    for text in kernel.saves.values():
        for _, line in _lines(text, counters=True):
            counted = _COUNTED.match(line)
            words = _WORD.findall(counted[2]) if counted else []
            if counted and words[1].startswith("KUBE-SEP-") and "DNAT" in words:
                found[words[words.index("--to-destination") + 1]] += int(counted[1])
    return dict(sorted(found.items()))


def devices(said: list[dict[str, Any]]) -> tuple[str, ...]:
    """From `ip -j link show`."""
    return tuple(sorted(str(device["ifname"]) for device in said))


def hooks(said: list[dict[str, Any]]) -> dict[str, int]:
    """From `bpftool -j cgroup tree`: the cgroups with what is attached to each."""
    found = Counter(str(program["attach_type"]) for group in said for program in group.get("programs") or [])
    return dict(sorted(found.items()))


def programs(pins: str) -> dict[str, tuple[str, ...]]:
    """From the pins' paths, a line each: DEVICE/links/PROGRAM."""
    found: dict[str, list[str]] = {}
    for line in pins.splitlines():
        *_, device, _, program = line.split("/")
        found.setdefault(device, []).append(program)
    return {device: tuple(sorted(names)) for device, names in sorted(found.items())}


def virtual_servers(text: str) -> tuple[str, ...]:
    """From /proc/net/ip_vs (linux, net/netfilter/ipvs/ip_vs_ctl.c): two or three lines of heads, then one for each
    virtual server, with its real servers' below it behind an arrow. All numbers are hexadecimal."""
    return tuple(f"{found[1]} {found[2]}" for line in text.splitlines() if (found := _SERVER.match(line)))


def _is_kube_proxys(line: str) -> bool:
    if line.startswith(":"):
        return _is_chain(line[1:].split(" ", 1)[0])
    words = _WORD.findall(line)
    targets = [after for word, after in pairwise(words) if word in ("-j", "-g")]
    return any(_is_chain(name) for name in (words[1], *targets))


def _is_chain(name: str) -> bool:
    hashed = name.startswith(_HASHED) and _HASH.fullmatch(name.split("-", 2)[2])
    return name in _CHAINS or bool(hashed)


def _is_set(name: str) -> bool:
    return name.startswith("KUBE-") and name.removeprefix("KUBE-").removeprefix("6-") in _SETS


def _lines(text: str, *, counters: bool = False) -> Iterator[tuple[str, str]]:
    """Each chain and rule of an `iptables-save`, with its table; rules without their counters but on demand."""
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith((":", "-A ")):
            yield table, line
        elif counted := _COUNTED.match(line):
            yield table, line if counters else counted[2]


def _said(node: Node, *command: str) -> str:
    done = node.run(command)
    if done.returncode:
        raise RuntimeError(f"{node.name}: {' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
