"""What this machine must have, and the settings that are the whole machine's: noted before, put back after."""

import json
import os
import platform
import shutil
from pathlib import Path
from typing import Final

PACKAGES: Final = (
    "containerd", "runc", "containernetworking-plugins", "iptables", "nftables", "conntrack", "ipset", "ethtool",
    "kmod", "iproute2", "bpftool", "clang-19", "procps", "util-linux",
)  # fmt: skip
_PROGRAMS: Final = (
    "containerd", "ctr", "runc", "iptables", "ip", "nsenter", "unshare", "clang-19", "dpkg-query", "bpftool",
)  # fmt: skip
CGROUPS: Final = Path("/sys/fs/cgroup")

# What kubelet and the agent write outside any namespace.
_SETTINGS: Final = (
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "kernel/timer_migration",
    "fs/inotify/max_user_instances",
)
_WATCHES: Final = 1024
# CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_BPF
_CAPABILITIES: Final = {12: "CAP_NET_ADMIN", 21: "CAP_SYS_ADMIN", 39: "CAP_BPF"}


def missing() -> str:
    """What this machine lacks for real nodes, in one line; "" where it lacks nothing."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"real nodes are built for Linux on x86_64, this is {platform.system()} on {platform.machine()}"
    effective = next(
        int(line.split()[1], 16)
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("CapEff")
    )
    lacking = [name for bit, name in _CAPABILITIES.items() if not effective >> bit & 1]
    if os.geteuid() != 0 or lacking:
        return f"real nodes need root with {', '.join(lacking) or 'all of its rights'}"
    if not (CGROUPS / "unified" / "cgroup.procs").exists():
        return f"real nodes need hybrid cgroups, with cgroup2 at {CGROUPS}/unified"
    if absent := [name for name in _PROGRAMS if shutil.which(name) is None]:
        return f"not on the PATH: {', '.join(absent)}; apt-get install --no-install-recommends {' '.join(PACKAGES)}"
    return ""


def controllers() -> list[str]:
    """The cgroup hierarchies by their folder names."""
    return sorted(entry.name for entry in CGROUPS.iterdir() if entry.is_dir() and not entry.is_symlink())


def note_settings(file: Path) -> None:
    """Write the machine's settings down, unless a run before this one has; then allow more file watches."""
    if not file.exists():
        found = {name: _setting(name).read_text().strip() for name in _SETTINGS}
        file.write_text(json.dumps(found))
    watches = _setting("fs/inotify/max_user_instances")
    if int(watches.read_text()) < _WATCHES:
        watches.write_text(str(_WATCHES))


def restore_settings(file: Path) -> None:
    """Put them back as they were noted."""
    if not file.exists():
        return
    for name, value in json.loads(file.read_text()).items():
        if _setting(name).read_text().strip() != value:
            _setting(name).write_text(value)
    file.unlink()


def _setting(name: str) -> Path:
    return Path("/proc/sys", name)
