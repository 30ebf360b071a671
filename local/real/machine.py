"""What this machine must have, and the settings that are the whole machine's: noted before, put back after."""

import ctypes
import errno
import fcntl
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

CGROUPS: Final = Path("/sys/fs/cgroup")

SETTINGS: Final = (
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/timer_migration",
    "vm/overcommit_memory",
    "fs/inotify/max_user_instances",
)
"""What kubelet and agent write outside any namespace, below /proc/sys."""

ONE_WAY: Final = "kernel/unprivileged_bpf_disabled"
"""What the agent writes there, too: from 2 to 1. No one can put it back before the machine starts anew."""

_PROGRAMS: Final = ("unshare", "nsenter", "apt-get", "dpkg-deb")
_WATCHES: Final = 1024
# CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_BPF
_CAPABILITIES: Final = {12: "CAP_NET_ADMIN", 21: "CAP_SYS_ADMIN", 39: "CAP_BPF"}
_TRIAL: Final = ("unshare", "--net", "--mount", "--uts", "--cgroup", "--pid", "--fork", "--kill-child",
    "mount", "-t", "bpf", "bpf", "/sys/fs/bpf")  # fmt: skip
_BPF_CALL: Final = 321
"""bpf(2) on x86_64."""
_BPF_PROG_GET_NEXT_ID: Final = 11

# Several clusters may run at once, of several clones: the last that ends puts the settings back. The folder is
# locked in place of a file of our own, which could never be removed safely.
_RUN: Final = Path("/run")
_NOTE: Final = _RUN / "kube-proxy-replacement.json"


def missing() -> str:
    """What this machine lacks for real nodes, in one line; "" where it lacks nothing."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"real nodes are built for Linux on x86_64, this is {platform.system()} on {platform.machine()}"
    lacking = [name for bit, name in _CAPABILITIES.items() if not _capabilities() >> bit & 1]
    if os.geteuid() != 0 or lacking:
        return f"real nodes need root with {', '.join(lacking) or 'all of its rights'}"
    if absent := [name for name in _PROGRAMS if shutil.which(name) is None]:
        return f"real nodes are made of Debian's packages by its tools; not on the PATH: {', '.join(absent)}"
    if not (CGROUPS / "unified" / "cgroup.procs").exists():
        there = "cgroup2 alone (boot with systemd.unified_cgroup_hierarchy=0)" if _is_cgroup2() else "other ones"
        return f"real nodes need hybrid cgroups, with cgroup2 at {CGROUPS}/unified; this machine has {there}"
    if not os.access(CGROUPS / "unified", os.W_OK):
        return f"real nodes need cgroups of their own, and {CGROUPS} is read-only here"
    if said := _bpf():
        return f"real nodes need eBPF, and the kernel answers the bpf call with «{said}»"
    trial = subprocess.run(_TRIAL, capture_output=True, text=True, check=False)
    if trial.returncode:
        return f"real nodes need namespaces and mounts of their own: {trial.stderr.strip()}"
    return ""


def lacks_ipvs() -> str:
    """Why kube-proxy can't use IPVS here, in one line; "" where it can."""
    if Path("/proc/net/ip_vs").exists():
        return ""
    modprobe = shutil.which("modprobe")
    if modprobe and not subprocess.run([modprobe, "--dry-run", "--quiet", "ip_vs"], check=False).returncode:
        return ""
    return f"no IPVS in kernel {platform.release()}: ip_vs is neither built in nor a module here"


def controllers() -> list[str]:
    """The cgroup hierarchies by their folder names."""
    return sorted(entry.name for entry in CGROUPS.iterdir() if entry.is_dir() and not entry.is_symlink())


def hold_settings(holder: Path) -> None:
    """Note the machine's settings on behalf of a cluster's folder; then allow more file watches."""
    with _noted() as note:
        note.setdefault("before", {name: setting(name) for name in SETTINGS})
        note["holders"] = sorted({*note.get("holders", []), str(holder)})
    watches = "fs/inotify/max_user_instances"
    if int(setting(watches)) < _WATCHES:
        _set(watches, str(_WATCHES))


def release_settings(holder: Path) -> None:
    """Put them back as they were noted, if no other cluster is there still."""
    with _noted() as note:
        # A folder that somebody has removed by hand holds nothing.
        holders = [its for its in note.get("holders", []) if its != str(holder) and Path(its).exists()]
        if holders:
            note["holders"] = holders
            return
        for name, value in note.get("before", {}).items():
            if setting(name) != value:
                _set(name, value)
        note.clear()


def setting(name: str) -> str:
    """One of the kernel's settings, below /proc/sys."""
    return Path("/proc/sys", name).read_text().strip()


def _set(name: str, value: str) -> None:
    Path("/proc/sys", name).write_text(value)


@contextmanager
def _noted() -> Iterator[dict[str, Any]]:
    """The note, for nobody else at the same time; an empty one is none."""
    folder = os.open(_RUN, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        note: dict[str, Any] = json.loads(_NOTE.read_text()) if _NOTE.exists() else {}
        yield note
        if note:
            draft = _NOTE.with_suffix(".draft")
            draft.write_text(json.dumps(note))
            draft.replace(_NOTE)
        else:
            _NOTE.unlink(missing_ok=True)
    finally:
        os.close(folder)


def _capabilities() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff"))


def _is_cgroup2() -> bool:
    return (CGROUPS / "cgroup.controllers").exists()


def _bpf() -> str:
    """Why the kernel refuses to be asked for its eBPF programs; "" where it doesn't."""
    libc = ctypes.CDLL(None, use_errno=True)
    # From id 0 on; with no program loaded, there is none to name.
    asked = ctypes.create_string_buffer(12)
    if libc.syscall(_BPF_CALL, _BPF_PROG_GET_NEXT_ID, asked, len(asked)) == 0:
        return ""
    number = ctypes.get_errno()
    return "" if number == errno.ENOENT else os.strerror(number)
