"""Somebody else's rules, planted on a node before kube-proxy goes: after it, they are the same byte for byte.

What a careless pattern would hit: names that begin or end as kube-proxy's do, kube-proxy's names and comments in
rules that aren't its own, kube-router's chains, tables and sets of nearly the same name. Every rule matches addresses
of documentation alone (RFC 5737, RFC 3849) and lets its packets go on.

Not here, because `kube-proxy --cleanup` itself takes them for its own (pkg/proxy/iptables/cleanup.go): chains in nat
whose names begin with KUBE-SVC-, KUBE-SVL-, KUBE-SEP-, KUBE-FW- or KUBE-EXT-, whatever follows. And no rule that jumps
to one of kube-proxy's chains: that one can't be deleted then, and the whole cleaning of its table fails.
"""

import re
from typing import Final

from local.real.node import Node

_MARK: Final = "no rule of the proxy"
"""In the comment of every rule that stands in a chain of the kernel's own."""

_CHAINS: Final = {
    "nat": (
        "MY-KUBE-SERVICES",
        "KUBE-SERVICES-OF-MINE",
        "KUBE-SVCX-NPX46M4PTMTKRN6Y",
        "XKUBE-SEP-UA5ZY2R4FQ3PJKU",
        "KUBE-POSTROUTING-MORE",
        "kube-nodeports",
    ),
    "filter": (
        "KUBE-ROUTER-INPUT",
        "KUBE-ROUTER-SERVICES",
        "KUBE-POD-FW-NPX46M4PTMTKRN6Y",
        "KUBE-NWPLCY-NPX46M4PTMTKRN6Y",
        "KUBE-FORWARDING",
        "KUBE-PROXY-FIREWALL-2",
    ),
    "mangle": ("KUBE-PROXY-CANARY-BIRD",),
    "raw": ("NOTRACK-KUBE-SERVICES",),
}
"""Chains by their table; no name is longer than the 28 letters that a chain's may have."""

# What kube-proxy calls its own jumps, in front of a chain that isn't its own.
_JUMPS: Final = {
    "nat": (("PREROUTING", "kubernetes service portals", "MY-KUBE-SERVICES"),),
    "filter": (("INPUT", "kubernetes health check service ports", "KUBE-ROUTER-SERVICES"),),
    "mangle": (("PREROUTING", "KUBE-PROXY-CANARY", "KUBE-PROXY-CANARY-BIRD"),),
    "raw": (("OUTPUT", "KUBE-SERVICES", "NOTRACK-KUBE-SERVICES"),),
}

_FAMILIES: Final = {
    "iptables": ("192.0.2.1/32", "198.51.100.0/24"),
    "ip6tables": ("2001:db8::1/128", "2001:db8:1::/48"),
}
_BACKENDS: Final = ("nft", "legacy")

_NFT_TABLES: Final = ("inet kube-proxy", "ip kube-proxy-of-mine", "ip my-kube-proxy", "ip6 kube-proxy-of-mine")
_NFT: Final = """\
table {name} {{
	chain services {{
		comment "KUBE-SVC-NPX46M4PTMTKRN6Y: {mark}"
		{source} return
	}}
}}
"""
_SETS: Final = ("MY-KUBE-CLUSTER-IP", "KUBE-CLUSTER-IPS", "KUBE-ROUTER-SVIP")


def plant(node: Node) -> None:
    """Put them on a node, once. RuntimeError with the program's own words where it can't be done."""
    if saved(node):
        return
    for family, (address, source) in _FAMILIES.items():
        for backend in _BACKENDS:
            _must(node, [f"{family}-{backend}-restore", "--noflush"], rules(address, source))
    for name in _NFT_TABLES:
        source = "ip6 saddr 2001:db8::1" if name.startswith("ip6") else "ip saddr 192.0.2.1"
        _must(node, ["nft", "-f", "-"], _NFT.format(name=name, mark=_MARK, source=source))
    for name in _SETS:
        _must(node, ["ipset", "create", name, "hash:ip"])
        _must(node, ["ipset", "add", name, "192.0.2.1"])


def saved(node: Node) -> str:
    """What a node has of them, as its own programs write it; "" where it has nothing.

    Only they are in it, each in its order: what kube-proxy, Cilium and the kubelet write comes and goes around them.
    Counters are left out.
    """
    parts = []
    for family in _FAMILIES:
        for backend in _BACKENDS:
            program = f"{family}-{backend}-save"
            if own := foreign(_must(node, [program])):
                parts += [f"# {program}", *own]
    listed = _must(node, ["nft", "list", "tables"]).splitlines()
    parts += [_must(node, ["nft", "list", "table", *name.split()]) for name in _NFT_TABLES if f"table {name}" in listed]
    present = _must(node, ["ipset", "list", "-n"]).split()
    parts += [_must(node, ["ipset", "save", name]) for name in _SETS if name in present]
    return "".join(f"{part.rstrip()}\n" for part in parts)


def rules(address: str, source: str) -> str:
    """All of one family, as `iptables-restore` reads it."""
    lines = []
    for table, chains in _CHAINS.items():
        lines += [f"*{table}", *(f":{chain} - [0:0]" for chain in chains)]
        for chain in chains:
            comment = f"KUBE-SVC-NPX46M4PTMTKRN6Y: {_MARK}"
            lines.append(f'-A {chain} -s {source} -d {address} -m comment --comment "{comment}" -j RETURN')
        for hook, words, target in _JUMPS[table]:
            lines.append(f'-A {hook} -d {address} -m comment --comment "{words}: {_MARK}" -j {target}')
        lines.append("COMMIT")
    return "\n".join(lines) + "\n"


def foreign(text: str) -> list[str]:
    """Of `iptables-save`'s text, the lines that are foreign rules and chains, and the heads of their tables."""
    found: list[str] = []
    chains: tuple[str, ...] = ()
    for line in text.splitlines():
        if line.startswith("*"):
            chains = _CHAINS.get(line[1:], ())
            head = line
        elif line.startswith((":", "-A ")):
            name = line.removeprefix("-A ").removeprefix(":").split(" ", 1)[0]
            if name in chains or _MARK in line:
                found += [] if head in found else [head]
                found.append(re.sub(r" \[\d+:\d+\]$", "", line))
    return found


def _must(node: Node, command: list[str], said: str | None = None) -> str:
    done = node.run(command, said)
    if done.returncode:
        raise RuntimeError(f"{node.name}: {' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
