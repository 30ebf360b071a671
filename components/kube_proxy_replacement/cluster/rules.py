"""kube-proxy's rules in a node's kernel, read from the text of `iptables-save` and `nft list`.

Nothing is run here, and lines are read one by one: a node with 10 000 Services has some 200 000.
Chain names are those of kubernetes/pkg/proxy (iptables, ipvs, nftables; 1.29 to 1.36).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from .services import Frontend, ip_address, joined

Expected: TypeAlias = Mapping[Frontend, frozenset[str]]
"""`ServiceTable.ready_endpoints()`, or a part of it: frontend → `ip:port` of each endpoint behind it."""

_OWN = re.compile(
    r"KUBE-(?:"
    r"SERVICES|EXTERNAL-SERVICES|NODEPORTS|POSTROUTING|MARK-MASQ|FORWARD|PROXY-FIREWALL|PROXY-CANARY"
    r"|SOURCE-RANGES-FIREWALL|NODE-PORT|LOAD-BALANCER|IPVS-FILTER|IPVS-OUT-FILTER"  # in mode ipvs
    r"|(?:SVC|SVL|SEP|EXT|FW|XLB)-[A-Z2-7]{16}"  # a hash in base 32; XLB is what EXT was called before 1.24
    r")"
)
"""KUBE-FIREWALL, KUBE-KUBELET-CANARY and KUBE-IPTABLES-HINT are the kubelet's, KUBE-ROUTER-*, KUBE-NWPLCY-*
and KUBE-POD-FW-* are kube-router's."""

OWN_LINE = r'^(:|-A |-A ([^"]|"([^"\\]|\\.)*")* -[jg] )' + _OWN.pattern.replace("(?:", "(") + "( |$)"
"""What `leftover` counts in an `iptables-save` without counters (a chain, a rule in one, a jump to one), as an extended
regular expression of POSIX: for `grep -E`, where the rules are. What is quoted is a comment."""

_COUNTERS = re.compile(r"\[\d+:\d+\] ")  # before each rule of `iptables-save -c`
_COMMENT = re.compile(r' --comment (?:"(?:[^"\\]|\\.)*"|\S+)')
_TARGET = re.compile(r" (?:-j|-g) (\S+)")
_CLUSTER_IP = re.compile(r"-A KUBE-SERVICES -d (\S+?)(?:/32|/128)? -p (\w+) .*--dport (\d+) -j (\S+)$")
_DNAT = re.compile(r" -j DNAT --to-destination (\S+)")

_NFT_TABLE = re.compile(r"table ip6? kube-proxy(?=\s|$)")
_NFT_CHAIN = re.compile(r"\s*chain (\S+) \{")
_NFT_MAP = re.compile(r"\s*(?:map|set) (\S+) \{")
_NFT_SERVICE = re.compile(r"([0-9a-fA-F.:]+) \. (\w+) \. (\d+)(?: comment \"[^\"]*\")? : goto ([\w./-]+)")
_NFT_GOTO = re.compile(r"\b(?:goto|jump) ([\w./-]+)")
_NFT_MAPPED = re.compile(r"\d+ : ([0-9a-fA-F.:]+) \. (\d+)")
_NFT_TO = re.compile(r"\bdnat (?:ip6? )?to (\[[0-9a-fA-F:]+\]|[0-9.]+):(\d+)")


def leftover(lines: Iterable[str]) -> int:
    """How many of these lines are kube-proxy's: its chains, the rules in them, and the jumps to them.

    Args:
        lines: any of `iptables-save`, `ip6tables-save` and their -nft and -legacy forms, `nft list tables`,
            `nft list table …`, also one after the other. Of nft only the tables `kube-proxy` are counted
            (each line, braces too): what iptables put into nft is in iptables-save.

    A name in a comment, or a chain with a similar name, isn't kube-proxy's.
    """
    count = 0
    inside = False
    for line in lines:
        if inside:
            count += bool(line.strip())
            inside = not line.startswith("}")
        elif _NFT_TABLE.match(line):
            count += 1
            inside = line.rstrip().endswith("{")
        else:
            count += _is_own(line)
    return count


def missing_routes_iptables(lines: Iterable[str], expected: Expected) -> list[str]:
    """Which of the expected routes kube-proxy hasn't (yet, or any more) in its iptables rules.

    Args:
        lines: `iptables-save` or `ip6tables-save`, or both.
        expected: what to look for.

    Returns: one line for each frontend that isn't as expected, sorted; [] says that kube-proxy routes.

    A frontend with endpoints needs its rule in KUBE-SERVICES and a DNAT to each endpoint, and to no other:
    rules that a dead kube-proxy left behind are complete, but for the endpoints of another day. One without
    endpoints needs no more than no way to an endpoint: the REJECT that kube-proxy writes for it is the same
    to a caller as no rule, and where it is all that is expected, nothing is there to be routed.
    """
    services: dict[Frontend, str] = {}
    jumps: dict[str, set[str]] = {}
    targets: dict[str, set[str]] = {}
    for line in lines:
        line = _bare(line)
        if not line.startswith("-A KUBE-S"):  # SERVICES, SVC, SVL, SEP
            continue
        chain = line[3:].split(" ", 1)[0]
        if chain == "KUBE-SERVICES":
            found = _CLUSTER_IP.match(line)
            if found and _OWN.fullmatch(found[4]):
                services[_frontend(found[1], found[2], found[3])] = found[4]
        elif chain.startswith("KUBE-SEP-"):
            if found := _DNAT.search(line):
                targets.setdefault(chain, set()).add(_endpoint(found[1]))
        elif found := _TARGET.search(_COMMENT.sub("", line)):
            jumps.setdefault(chain, set()).add(found[1])
    return _differences(expected, services, jumps, targets)


def missing_routes_nft(lines: Iterable[str], expected: Expected) -> list[str]:
    """The same for `nft list table ip kube-proxy` and `ip6 kube-proxy` (kube-proxy's mode nftables).

    A frontend is an element of the map `service-ips`, its endpoints are in the chain that it goes to, or,
    with session affinity, in chains that this one goes to.
    """
    services: dict[Frontend, str] = {}
    jumps: dict[str, set[str]] = {}
    targets: dict[str, set[str]] = {}
    for kind, name, line in _nft_blocks(lines):
        if kind == "map" and name == "service-ips":
            for found in _NFT_SERVICE.finditer(line):
                services[_frontend(found[1], found[2], found[3])] = found[4]
        elif kind == "chain":
            ways = {joined(_ip(found[1]), int(found[2])) for found in _NFT_MAPPED.finditer(line)}
            ways |= {joined(_ip(found[1]), int(found[2])) for found in _NFT_TO.finditer(line)}
            targets.setdefault(name, set()).update(ways)
            jumps.setdefault(name, set()).update(found[1] for found in _NFT_GOTO.finditer(line))
    return _differences(expected, services, jumps, targets)


def _is_own(line: str) -> bool:
    if line.startswith(":"):
        return _OWN.fullmatch(line[1:].split(" ", 1)[0]) is not None
    line = _bare(line)
    if not line.startswith("-A "):
        return False
    if _OWN.fullmatch(line[3:].split(" ", 1)[0]):
        return True
    target = _TARGET.search(_COMMENT.sub("", line)) if "KUBE-" in line else None
    return target is not None and _OWN.fullmatch(target[1]) is not None


def _bare(line: str) -> str:
    line = line.rstrip()
    return _COUNTERS.sub("", line, count=1) if line.startswith("[") else line


def _nft_blocks(lines: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Each line inside a map, set or chain of a table kube-proxy, as (kind, its name, the line)."""
    inside = False
    kind = name = ""
    for line in filter(str.strip, lines):
        if not line.startswith(("\t", " ")):
            inside = _NFT_TABLE.match(line) is not None
            kind = ""
        elif not inside:
            continue
        elif found := _NFT_CHAIN.match(line):
            kind, name = "chain", found[1]
        elif found := _NFT_MAP.match(line):
            kind, name = "map", found[1]
        elif line.strip() == "}":
            kind = ""
        elif kind:
            yield kind, name, line


def _differences(
    expected: Expected,
    services: Mapping[Frontend, str],
    jumps: Mapping[str, set[str]],
    targets: Mapping[str, set[str]],
) -> list[str]:
    differences = []
    for frontend, endpoints in sorted(expected.items()):
        chain = services.get(frontend)
        if chain is None:
            if endpoints:
                differences.append(f"{Frontend(*frontend)}: no rule")
            continue
        found = set().union(*(targets.get(name, ()) for name in (chain, *jumps.get(chain, ()))))
        # both families of a Service have chains of one name, so both texts together mix their endpoints
        found = {way for way in found if (way.startswith("[")) == (":" in frontend[0])}
        if absent := sorted(endpoints - found):
            differences.append(f"{Frontend(*frontend)}: no way to {', '.join(absent)}")
        elif stale := sorted(found - endpoints):
            differences.append(f"{Frontend(*frontend)}: still leads to {', '.join(stale)}")
    return differences


def _frontend(ip: str, protocol: str, port: str) -> Frontend:
    return Frontend(_ip(ip), protocol.upper(), int(port))


def _endpoint(text: str) -> str:
    ip, _, port = text.rpartition(":")
    return joined(_ip(ip), int(port))


def _ip(text: str) -> str:
    return str(ip_address(text) or text)
