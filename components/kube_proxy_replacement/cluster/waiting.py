"""Waiting for a condition: how long without progress, and how often to look."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 0.5
_GROWTH = 1.5


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


def pauses(longest: float = _LONGEST_PAUSE) -> Iterator[float]:
    """Seconds to wait before each next look: short at first, as much is done within a second, then `longest`."""
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * _GROWTH, longest)


def until(look: Callable[[], Standing], *, patience: float, say: Callable[[str], None]) -> bool:
    """Looks until it is done, or the measure hasn't grown for `patience` seconds.

    Returns: False where the patience ended first.
    """
    best: int | None = None
    last, since = "", time.monotonic()
    for pause in pauses():
        standing = look()
        if standing.text and standing.text != last:
            last = standing.text
            say(last)
        if standing.done:
            return True
        if best is None or standing.measure > best:
            best, since = standing.measure, time.monotonic()
        elif time.monotonic() - since > patience:
            break
        time.sleep(pause)
    return False
