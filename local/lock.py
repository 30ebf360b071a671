"""One command at a time changes what a clone has."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from local.clone import FOLDER


class BusyError(Exception):
    """Another command is at work in this clone."""


@contextmanager
def held(command: str, name: str = "lock") -> Iterator[None]:
    """Hold the clone's lock, or another one of the clone's; the kernel lets go of it however we end."""
    FOLDER.mkdir(exist_ok=True, mode=0o700)
    # Programs that are started don't inherit the descriptor: a cluster mustn't hold the lock after us.
    descriptor = os.open(FOLDER / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.read(descriptor, 100).decode(errors="replace").strip()
            raise BusyError(f"`make {who}` is still at work in this clone; let it end, or interrupt it") from None
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{command} (process {os.getpid()})\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
