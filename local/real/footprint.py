"""What this machine is beside the clusters on it: taken before and after, and compared.

All of it is read from where the caller is: in the machine's own namespaces.
"""

import json
import os
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from local.cluster.errors import ClusterError
from local.real import machine
from local.toolchain import ensure
from local.toolchain.debian import Debian

Facts = dict[str, str]
"""What is there by its name, and how it is."""

_POLL: Final = 0.2
_NAMESPACES: Final = ("net", "mnt", "pid", "uts", "cgroup")
# Run down or up by themselves: how long an address or a route still holds.
_RUNNING: Final = ("valid_life_time", "preferred_life_time", "expires")
# Counts and the like, which change by themselves.
_RESTLESS: Final = (
    "dev/cdrom",
    "fs/aio-nr",
    "fs/binfmt_misc",
    "fs/dentry-state",
    "fs/file-nr",
    "fs/inode-nr",
    "fs/inode-state",
    "fs/quota",
    "kernel/ns_last_pid",
    "kernel/pty/nr",
    "kernel/random",
    "net/netfilter/nf_conntrack_count",
)
# systemd's, which come and go with logins and timers.
_UNITS: Final = (".scope", ".service", ".slice", ".mount", ".socket", ".swap")
# Where a node, an agent, apt or the programs that talk to a cluster would write, were they not kept from it.
_PLACES: Final = (
    "/etc/cni", "/opt/cni", "/run/cilium", "/run/containerd", "/run/netns", "/run/kube-proxy-replacement.json",
    "/usr/libexec/kubernetes", "/var/cache/apt", "/var/lib/apt/lists", "/var/lib/cilium", "/var/lib/cni",
    "/var/lib/containerd", "/var/lib/dpkg/status", "/var/lib/kubelet", "/var/lib/kube-proxy", "/var/log/containers",
    "/var/log/pods", "~/.kube", "~/.pulumi", "~/.cache/helm", "~/.config/helm",
)  # fmt: skip


@dataclass(frozen=True)
class Footprint:
    """Facts by their kind."""

    facts: dict[str, Facts]


def take() -> Footprint:
    """The machine as it is now. The programs that look at it are of the cache; they are brought if they aren't there.

    Raises:
        ClusterError: something can't be read.
    """
    debian = ensure(["debian"], lambda _: None).debian
    return Footprint(
        {
            "link": _by("ifname", _ip(debian, "-details", "link")),
            "address": _addresses(debian),
            "route": _lines(_ip(debian, family, "route", "show", "table", "all") for family in ("-4", "-6")),
            "routing rule": _lines(_ip(debian, family, "rule") for family in ("-4", "-6")),
            "nftables": _tables(debian),
            "iptables (legacy)": _legacy(debian),
            "mount": _mounts(),
            "cgroup": _cgroups(),
            "process in another namespace": _processes(),
            "setting": _settings(),
            "eBPF": _bpf(debian),
            "file": _files(),
        }
    )


def difference(before: Footprint, after: Footprint) -> list[str]:
    """What differs, a line each; [] where nothing does but the one setting that no one can put back."""
    lines = []
    for kind in before.facts:
        was, now = before.facts[kind], after.facts[kind]
        lines += [f"{kind} {name}: new, {now[name]}".rstrip(", ") for name in _tops(now.keys() - was.keys())]
        lines += [f"{kind} {name}: gone, was {was[name]}" for name in _tops(was.keys() - now.keys())]
        lines += [
            f"{kind} {name}: {was[name]} → {now[name]}"
            for name in sorted(was.keys() & now.keys())
            if was[name] != now[name] and name != machine.ONE_WAY
        ]
    return lines


def remains(before: Footprint, seconds: float = 10.0) -> list[str]:
    """What differs still after a while: the kernel takes its time with some things that nobody holds any more."""
    deadline = time.monotonic() + seconds
    while (lines := difference(before, take())) and time.monotonic() < deadline:
        time.sleep(_POLL)
    return lines


def _tops(names: Collection[str]) -> list[str]:
    """In order, and without what lies in a folder that is named itself."""
    return sorted(name for name in names if name.rpartition("/")[0] not in names)


def _said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"the machine's footprint can't be taken: {' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _ip(debian: Debian, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_said([*debian.command("/usr/sbin/ip"), "-json", *arguments]) or "[]")
    return [{key: value for key, value in its.items() if key not in _RUNNING} for its in found]


def _by(name: str, found: Iterable[dict[str, Any]]) -> Facts:
    return {str(its[name]): json.dumps(its, sort_keys=True) for its in found}


def _lines(found: Iterable[list[dict[str, Any]]]) -> Facts:
    return {json.dumps(its, sort_keys=True): "" for several in found for its in several}


def _addresses(debian: Debian) -> Facts:
    return {
        f"{its['local']}/{its['prefixlen']} on {link['ifname']}": str(its["scope"])
        for link in _ip(debian, "address")
        for its in link.get("addr_info", [])
    }


def _tables(debian: Debian) -> Facts:
    """Without counters, which is what -s is for."""
    rules = _said([*debian.command("/usr/sbin/nft"), "-s", "list", "ruleset"])
    found = {}
    for text in rules.split("\ntable "):
        head, _, body = text.removeprefix("table ").partition("{")
        if head.strip():
            found[head.strip()] = " ".join(body.split())
    return found


def _legacy(debian: Debian) -> Facts:
    """Both families' tables; asking for them all makes none."""
    found = {}
    for family in ("ip", "ip6"):
        names = Path(f"/proc/net/{family}_tables_names")
        for table in names.read_text().split() if names.exists() else ():
            command = [*debian.command(f"/usr/sbin/{family}tables-legacy-save"), f"--table={table}"]
            found[f"{family} {table}"] = _without_counters(
                _said(["env", f"XTABLES_LIBDIR={debian.extensions}", *command])
            )
    return found


def _without_counters(saved: str) -> str:
    lines = (line for line in saved.splitlines() if not line.startswith("#"))
    return "; ".join(line.partition(" [")[0] if line.startswith(":") else line for line in lines)


def _mounts() -> Facts:
    # Fields: the mount's and its parent's id, device, root, place, options, then its propagation and «-».
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return {
        f"{line[4]} ({' '.join(line[line.index('-') + 1 :][:2])})": " ".join([line[3], *line[5 : line.index("-")]])
        for line in lines
    }


def _cgroups() -> Facts:
    # Each hierarchy's first level, where nodes have theirs: below it, other programs of the machine come and go.
    folders = (path for path in machine.CGROUPS.glob("*/*") if path.is_dir())
    return {str(path.relative_to(machine.CGROUPS)): "" for path in folders if not path.name.endswith(_UNITS)}


def _processes() -> Facts:
    own = _namespaces("self")
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and (theirs := _namespaces(entry.name)) != own:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                kinds = [kind for kind, one, other in zip(_NAMESPACES, own, theirs, strict=True) if one != other]
                if words:  # the kernel's own threads have none
                    found[f"{entry.name} {words[:100]}"] = ", ".join(kinds)
        except OSError:
            continue  # it has ended
    return found


def _namespaces(pid: str) -> tuple[str, ...]:
    return tuple(os.readlink(f"/proc/{pid}/ns/{kind}") for kind in _NAMESPACES)  # noqa: PTH115 - called for each process


def _settings() -> Facts:
    root = Path("/proc/sys")
    found = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if not name.startswith(_RESTLESS) and path.is_file():
            try:
                found[name] = " ".join(path.read_text(errors="replace").split())
            except OSError:
                continue  # it can only be written, or not by this kernel
    return found


def _bpf(debian: Debian) -> Facts:
    found = {}
    for kind in ("prog", "map", "link"):
        for its in json.loads(_said([*debian.command("/usr/sbin/bpftool"), "--json", kind, "show"]) or "[]"):
            found[f"{kind} {its['id']}"] = f"{its.get('type', '')} {its.get('name', '')}".strip()
    pins = Path("/sys/fs/bpf")
    return found | {f"pin {path}": "" for path in pins.rglob("*")}


def _files() -> Facts:
    return {str(path): stamp for place in _PLACES for path, stamp in _stamps(Path(place).expanduser())}


def _stamps(place: Path) -> Iterator[tuple[Path, str]]:
    for path in (place, *place.rglob("*")):
        if path.is_symlink() or path.is_file():
            state = path.lstat()
            yield path, f"{state.st_size} bytes of {state.st_mtime_ns}"
        elif path.is_dir():
            yield path, "a folder"
