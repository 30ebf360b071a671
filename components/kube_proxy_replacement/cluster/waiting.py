"""Waiting for a condition: how long without progress, and how often to look."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

POLL = 0.5


class Standing(NamedTuple):
    """Where something that is awaited stands.

    Attributes:
        done: nothing is left to wait for.
        measure: an int that grows with each step forward (nodes that are ready, pods that are gone).
        text: for a person, «agents 2/3 replacing, restarting: node-2»; said when it changes.
    """

    done: bool
    measure: int
    text: str


def until(look: Callable[[], Standing], *, patience: float, say: Callable[[str], None], poll: float = POLL) -> bool:
    """Looks until it is done, or the measure hasn't grown for `patience` seconds.

    Returns: False where the patience ended first.
    """
    best: int | None = None
    last, since = "", time.monotonic()
    while True:
        standing = look()
        if standing.text and standing.text != last:
            last = standing.text
            say(last)
        if standing.done:
            return True
        if best is None or standing.measure > best:
            best, since = standing.measure, time.monotonic()
        elif time.monotonic() - since > patience:
            return False
        time.sleep(poll)
