"""Network namespaces without a name on the machine: each lives as long as the process that holds it."""

import ctypes
import os
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from local.cluster.errors import ClusterError
from local.toolchain.debian import Debian

_CLONE_NEWNET: Final = 0x40000000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)

HOLDER: Final = ("/usr/bin/unshare", "--net", "/usr/bin/sleep", "infinity")
"""A process that holds a network namespace and does nothing else."""


def entered(pid: int) -> list[str]:
    """What a command is prefixed with to run in the network namespace of a process."""
    return ["/usr/bin/nsenter", f"--net=/proc/{pid}/ns/net", "--"]


def ip(debian: Debian, pid: int, *commands: str) -> None:
    """Run commands of `ip` in the network namespace of a process."""
    done = subprocess.run(
        [*entered(pid), *debian.command("/usr/sbin/ip"), "-batch", "-"],
        input="\n".join(commands) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ClusterError(f"ip {'; '.join(commands)}: {done.stderr.strip()}")


def network_of(pid: int | str) -> int:
    """What tells a process's network namespace from others."""
    return Path(f"/proc/{pid}/ns/net").stat().st_ino


def members(networks: Collection[int]) -> list[int]:
    """The processes that are in one of these network namespaces."""
    found = []
    for entry in Path("/proc").iterdir():
        # One may end while it is looked at.
        with suppress(OSError):
            if entry.name.isdecimal() and network_of(entry.name) in networks:
                found.append(int(entry.name))
    return found


@contextmanager
def inside(pid: int) -> Iterator[None]:
    """This thread in the network namespace of a process: what it connects stays there."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    other = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(other)
        try:
            yield
        finally:
            _enter(own)
    finally:
        os.close(own)
        os.close(other)


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
