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

LINKS = Part("bpftool -j -f link show")
"""Every link of the kernel's, with the paths at which it is pinned; bpftool is in the agent's image. Kernels before
5.8 have none to list, and there it fails."""

# pkg/socketlb and pkg/datapath/loader in cilium/cilium: PINS/socketlb/links/cgroup/PROGRAM and
# PINS/devices/DEVICE/links/PROGRAM. Links of endpoints (pods) come and go, and aren't looked at.
_SOCKET = re.compile(r".*/cilium/socketlb/links/cgroup/[^/]+")
_DEVICE = re.compile(r".*/cilium/devices/([^/]+)/links/(\w+)")

_OWN_DEVICE = "cilium_host"
_FROM_DEVICE = "cil_from_netdev"
# what the agent attaches for each family that is on, whatever else is set (pkg/socketlb/socketlb.go)
_NEEDED = ("cgroup_inet{}_connect", "cgroup_udp{}_sendmsg", "cgroup_udp{}_recvmsg")
_FAMILIES = {"enable-ipv4": "4", "enable-ipv6": "6"}


@dataclass(frozen=True)
class Hooks:
    """What hangs where, on one node.

    Attributes:
        sockets: the kinds of hooks of the cgroup with a program of socket load balancing, in bpftool's words.
        devices: device → programs that hang there by a link (tcx); a kernel without tcx has none.
    """

    sockets: frozenset[str]
    devices: Mapping[str, frozenset[str]]


def parse(text: str) -> Hooks | None:
    """From what `LINKS` prints; None where no program of Cilium's hangs by a link: such a kernel says nothing.

    Raises ProcedureError for what isn't bpftool's JSON.
    """
    try:
        links: list[dict[str, Any]] = json.loads(text)
        pinned = [(str(path), link) for link in links for path in link.get("pinned") or []]
    except (ValueError, AttributeError, TypeError):
        start = " ".join(text.split())[:120]
        raise ProcedureError(f"{LINKS.command} printed no list of links, but: {start or 'nothing'}") from None
    sockets: set[str] = set()
    devices: dict[str, set[str]] = {}
    known = False
    for path, link in pinned:
        at_device = _DEVICE.fullmatch(path)
        if not at_device and not _SOCKET.fullmatch(path):
            continue
        known = True
        # a link that was detached stays where it is pinned, and leads to no cgroup or device
        if link.get("cgroup_id") == 0 or link.get("ifindex") == 0:
            continue
        if at_device:
            devices.setdefault(at_device[1], set()).add(at_device[2])
        else:
            sockets.add(str(link.get("attach_type")))
    return (
        Hooks(frozenset(sockets), {name: frozenset(programs) for name, programs in devices.items()}) if known else None
    )


def missing(hooks: Hooks, config: Mapping[str, str], devices: tuple[str, ...], *, socket_lb: bool) -> tuple[str, ...]:
    """Where a node that replaces kube-proxy has no program, in words, sorted; () where it has all that it surely needs.

    Args:
        config: the data of ConfigMap cilium-config.
        devices: those that the agent says it uses.
        socket_lb: whether the agent says that it translates at sockets.
    """
    families = [family for key, family in _FAMILIES.items() if config.get(key) == "true"] if socket_lb else []
    wanted = {hook.format(family) for family in families for hook in _NEEDED}
    # Links at the agent's own device say that this kernel has them and that they aren't switched off.
    by_link = bool(hooks.devices.get(_OWN_DEVICE)) and config.get("enable-tcx") != "false"
    bare = [name for name in devices if by_link and _FROM_DEVICE not in hooks.devices.get(name, ())]
    return (*sorted(wanted - hooks.sockets), *(f"{_FROM_DEVICE} at {name}" for name in sorted(bare)))
