"""The lock held for as long as something lasts: renewed by a thread, left to another process, given up or removed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from . import lease
from .api import Api
from .errors import LockError, ProcedureError
from .guard import Guard
from .lease import LOCATION, Lease

RENEWAL = 3.0
"""Seconds from one renewal to the next."""

_RETRY = 1.0
"""Seconds from a renewal that failed to the next try."""

_REQUEST = (2.0, 4.0)
"""Seconds for a connection and for an answer: one that hangs must not keep the next renewal waiting."""

_PARTING = 10.0
"""Seconds for which it is tried to give the Lease up. One that is left is a run's that was cut off: the next looks at
everything again."""


class Renewing:
    """Renews a Lease that is held, in a thread of its own, until it is told to stop, or the Lease is lost.

    Args:
        needed: asked before each renewal; what isn't needed any more is given up.
    """

    def __init__(self, api: Api, held: Lease, needed: Callable[[], bool] = lambda: True) -> None:
        self._api = api.beside(patience=0, timeout=_REQUEST)
        self._parting = api.beside(patience=_PARTING, timeout=_REQUEST)
        self._held = held
        self._needed = needed
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True, name="lease")

    def start(self) -> Renewing:
        self._thread.start()
        return self

    def once(self) -> float | None:
        """One renewal. Returns the seconds to the next one, None where there is none."""
        try:
            if not self._needed():
                lease.give_up(self._api, self._held.holder)
                return None
            self._held = lease.renew(self._api, self._held)
        except LockError:
            return None  # told by whoever is about to change something
        except ProcedureError:
            return _RETRY  # the API server is away, or busy
        return RENEWAL

    def leave(self) -> None:
        """Who holds it stays, and isn't renewed here any more."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(sum(_REQUEST))

    def give_up(self) -> None:
        self.leave()
        with suppress(ProcedureError):  # it runs out by itself
            lease.give_up(self._parting, self._held.holder)

    def remove(self) -> None:
        self.leave()
        with suppress(ProcedureError):
            lease.remove(self._parting, self._held.holder)

    def _renew(self) -> None:
        pause: float | None = 0.0
        while pause is not None and not self._end.wait(pause):
            pause = self.once()


@contextmanager
def taken(api: Api, run: str) -> Iterator[None]:
    """Takes the lock for a run, and leaves it to the run's program; given up where what is done within fails.

    Raises LockError where another run holds it.
    """
    who = lease.identity(run)
    try:
        held = lease.take(api, who)
    except LockError as error:
        raise LockError(f"{error} Nothing was changed. Run again when that run has ended.") from None
    renewing = Renewing(api, held).start()
    api.guard = Guard(api, who.__eq__)
    try:
        yield
    except BaseException:
        renewing.give_up()
        raise
    renewing.leave()


@contextmanager
def step(api: Api, run: str, *, deletes: bool, last: bool, say: Callable[[str], None]) -> Iterator[None]:
    """The lock while a step of a run is done: its program's, where that holds it, else taken and renewed here.

    So it is in `destroy`, where no program runs: its deletes take it one after the other, as they have one parent.
    And where a Command changes, but not what was found: after an update of this very package.

    Args:
        run: as it was recorded.
        deletes: the step is a delete's; last: the last one's, which removes the Lease.
    Raises LockError where another run holds it.
    """
    if not deletes and (found := lease.read(api)) is not None:
        if found.run != run:
            which = "is at work" if found.holder else "has been at work"
            raise LockError(f"Another run {which} on this cluster since this one looked at it: {found}.")
        guard = Guard(api, lambda holder: lease.is_program_of(holder, run))
        if found.holder and _passes(guard):
            api.guard = guard
            try:
                yield
            except BaseException:
                over(api, run)
                raise
            return
    parent = os.getppid()
    who = lease.identity(run, own=str(parent))
    held = lease.take(api, who)
    if held.taken_over:
        say(took_over(held))

    def alive() -> bool:
        return os.getppid() == parent

    renewing = Renewing(api, held, alive).start()
    api.guard = Guard(api, who.__eq__, alive)
    try:
        yield
    except BaseException:
        renewing.give_up()
        raise
    if last:
        renewing.remove()
    elif deletes:
        renewing.leave()
    else:
        renewing.give_up()


def over(api: Api, run: str) -> None:
    """A run has failed. The engine ends its program without giving it the time to give up what it holds: so that is."""
    with suppress(ProcedureError):
        found = lease.read(api.beside())
        if found is not None and lease.is_program_of(found.holder, run):
            lease.give_up(api.beside(), found.holder)


def took_over(held: Lease) -> str:
    """For people: a run that doesn't renew its lock is taken to be dead."""
    return (
        f"the lock on this cluster (Lease {LOCATION}) was taken over, as nobody renewed it for {held.duration:.0f} s "
        f"(a run that was killed?); it was held by {held.taken_over}"
    )


def _passes(guard: Guard) -> bool:
    try:
        guard()
    except LockError:
        return False
    return True
