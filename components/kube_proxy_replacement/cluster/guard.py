"""Asked before every change: whether the lock on the cluster is still held by those who are meant.

The API server knows no fencing: a request that was on its way when the lock was lost can't be called back. So the
holder's processes stop some seconds before anybody else may begin.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from . import lease
from .api import Api
from .errors import LockError
from .lease import LOCATION, Lease

_MARGIN = 5.0
"""Seconds by which these processes stop earlier than others may begin."""

_AHEAD = 2.0
"""Seconds by which a renewal may seem to lie in the future, as clocks are set."""

_STOPPED = "This step has stopped before its next change; what was done until then stays."
_AGAIN = "Run again: the next run goes on from what is there."


class Guard:
    """One for each process; see `cluster.api.Api.guard`.

    Whether the Lease is renewed is told by the clock where that can be: its holder is on this machine. Where the
    clock says no, or makes no sense, a renewal is waited for: the machine may have slept, the API server been away.

    Args:
        ours: whether a holder's identity is one of those who are meant.
        alive: whether what started this process is still there.
    """

    def __init__(self, api: Api, ours: Callable[[str], bool], alive: Callable[[], bool] = lambda: True) -> None:
        self._api = api.beside()
        self._ours = ours
        self._alive = alive

    def __call__(self) -> None:
        """Raises LockError saying what has become of the lock."""
        first: str | None = None
        began = time.monotonic()
        while True:
            if not self._alive():
                raise LockError(f"The run that started this step has ended. {_STOPPED} {_AGAIN}")
            found = lease.read(self._api)
            if found is not None and not (found.holder and self._ours(found.holder)):
                raise LockError(_lost(found))
            now = found.renewed if found else ""
            first = now if first is None else first
            if found is not None and (now != first or _fresh(found)):
                return
            if time.monotonic() - began > lease.DURATION:
                raise LockError(
                    f"The lock on this cluster (Lease {LOCATION}) is no longer renewed by the program that started "
                    f"this step: it has ended, or doesn't reach the API server. {_STOPPED} {_AGAIN}"
                )
            time.sleep(lease.LOOK)


def _lost(found: Lease) -> str:
    if found.holder:
        return (
            f"Another run has taken over the lock on this cluster (Lease {LOCATION}), as it wasn't renewed: {found}. "
            f"{_STOPPED} Run again when that run has ended."
        )
    return (
        f"The run of this step has ended: it gave up the lock on this cluster (Lease {LOCATION}). {_STOPPED} {_AGAIN}"
    )


def _fresh(found: Lease) -> bool:
    try:
        age = time.time() - datetime.fromisoformat(found.renewed).timestamp()
    except ValueError:
        return False
    return -_AHEAD <= age < found.duration - _MARGIN
