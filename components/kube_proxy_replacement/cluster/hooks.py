"""At which of a node's hooks Cilium's eBPF programs hang: an agent's own status doesn't notice when one is taken off.

Seen on real nodes (1.18.6, and the same pins with 1.20.2): with `connect4` detached by hand, `cilium-dbg status`, its
service list and its endpoints say what they said before, while the node's own processes reach no ClusterIP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .asking import Part
from .errors import ProcedureError

CGROUP = "/run/cilium/cgroupv2"
"""Where the chart mounts the node's cgroups for the agent, unless it is told of another place."""

SOCKETS = Part(f"bpftool -j cgroup show {CGROUP}")
"""The programs at the cgroup's hooks, attached by a link or (on a node where a Cilium before 1.14 did so) without."""
LINKS = Part("bpftool -j -f link show")
"""Every link of the kernel's, with the paths at which it is pinned. Kernels before 5.8 have none to list: it fails."""

# pkg/datapath/loader/paths.go in cilium/cilium: PINS/devices/DEVICE/links/PROGRAM
_DEVICE = re.compile(r".*/cilium/devices/([^/]+)/links/(\w+)")
_OWN_DEVICE = "cilium_host"
_FROM_DEVICE = "cil_from_netdev"
_OWN_PROGRAM = "cil_sock"

# what the agent attaches for each family that is on, whatever else is set (pkg/socketlb/socketlb.go, 1.16 to 1.20)
_NEEDED = ("cgroup_inet{}_connect", "cgroup_udp{}_sendmsg", "cgroup_udp{}_recvmsg")
_FAMILIES = {"enable-ipv4": "4", "enable-ipv6": "6"}


@dataclass(frozen=True)
class Hooks:
    """What hangs where, on one node.

    Attributes:
        sockets: the kinds of hooks of the cgroup with a program of Cilium's, in bpftool's words; None where they can't
            be read.
        devices: device → programs that hang there by a link (tcx); nothing where links can't be read, or there are
            none: a kernel without tcx.
    """

    sockets: frozenset[str] | None
    devices: Mapping[str, frozenset[str]]


def parse(sockets: str | None, links: str | None) -> Hooks:
    """From what `SOCKETS` and `LINKS` print; None for one that failed, which says nothing.

    Raises ProcedureError for what isn't bpftool's JSON.
    """
    attached: set[str] | None = None
    if sockets is not None:
        # a cgroup without any program is nothing at all, not an empty list
        programs = _listed(sockets, SOCKETS) if sockets.strip() else []
        attached = {str(its.get("attach_type")) for its in programs if str(its.get("name")).startswith(_OWN_PROGRAM)}
    devices: dict[str, set[str]] = {}
    for link in _listed(links, LINKS) if links is not None else []:
        # a link that was detached stays where it is pinned, and leads to no device
        for path in link.get("pinned") or [] if link.get("ifindex") != 0 else []:
            if found := _DEVICE.fullmatch(str(path)):
                devices.setdefault(found[1], set()).add(found[2])
    return Hooks(
        sockets=None if attached is None else frozenset(attached),
        devices={name: frozenset(programs) for name, programs in devices.items()},
    )


def missing(hooks: Hooks, config: Mapping[str, str], devices: tuple[str, ...], *, socket_lb: bool) -> tuple[str, ...]:
    """Where a node that replaces kube-proxy has no program, in words, sorted; () where it has all that it surely needs.

    Args:
        config: the data of ConfigMap cilium-config.
        devices: those that the agent says it uses.
        socket_lb: whether the agent says that it translates at sockets.
    """
    sure = socket_lb and hooks.sockets is not None and config.get("cgroup-root") == CGROUP
    families = [family for key, family in _FAMILIES.items() if config.get(key) == "true"] if sure else []
    wanted = {hook.format(family) for family in families for hook in _NEEDED}
    # Links at the agent's own device say that this kernel has them and that they aren't switched off.
    by_link = bool(hooks.devices.get(_OWN_DEVICE)) and config.get("enable-tcx") != "false"
    bare = [name for name in devices if by_link and _FROM_DEVICE not in hooks.devices.get(name, ())]
    return (*sorted(wanted - (hooks.sockets or set())), *(f"{_FROM_DEVICE} at {name}" for name in sorted(bare)))


def _listed(text: str, part: Part) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(its, dict) for its in found):
        start = " ".join(text.split())[:120]
        raise ProcedureError(f"{part.command} printed no list, but: {start}")
    return found
