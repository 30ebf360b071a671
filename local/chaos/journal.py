"""How far a run of the engine is, from its event log as it is written."""

from __future__ import annotations

import json
import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from local.chaos import plan

_POLL_SECONDS: Final = 0.1
_PREFIX: Final = "kube-proxy-replacement-"

USUAL: Final = {
    "up found": 2.5,
    "up hand-over": 15.0,
    "up daemonset": 3.0,
    "up configmap": 1.0,
    "up cilium": 2.0,
    "up way-back": 0.1,
    "up agents": 6.0,
    "up status": 1.2,
    "destroy way-back": 8.0,
    "destroy cilium": 1.0,
    "destroy configmap": 1.2,
    "destroy daemonset": 1.0,
}
"""Seconds that each step takes on a machine with two cores and nothing else to do; with three nodes, one by one."""

CHANGES: Final = {
    "up found": 1,
    "up hand-over": 30,
    "up daemonset": 9,
    "up configmap": 3,
    "up cilium": 30,
    "up way-back": 1,
    "up agents": 8,
    "up status": 1,
    "destroy way-back": 8,
    "destroy cilium": 30,
    "destroy configmap": 1,
    "destroy daemonset": 1,
}
"""Changes that each step asks the API server for."""


class Journal:
    """What has begun and what has ended.

    A step of `up` begins where the one before it has ended: its check and its diff are in it. One of `destroy` begins
    with its own first event.
    """

    def __init__(self, verb: str, log: Path, haste: float) -> None:
        """`verb`: `up` or `destroy`; `log`: where the engine is to write, a pipe from now on; `haste`: so far."""
        self._verb = verb
        self._haste = haste
        self._order = plan.UP if verb == "up" else plan.DESTROY
        self._changed = threading.Condition()
        self._began: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._over = threading.Event()
        os.mkfifo(log)
        # for writing too: the end of one writer isn't the end of the log
        self._descriptor = os.open(log, os.O_RDWR | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._follow, name="journal", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        os.close(self._descriptor)
        with self._changed:
            self._changed.notify_all()

    @property
    def step(self) -> str:
        """The step that is under way: the last that has begun; the first, where none has yet."""
        with self._changed:
            last = max(self._began, key=lambda name: (self._began[name], self._order.index(name)), default=None)
        return f"{self._verb} {last or self._order[0]}"

    @property
    def haste(self) -> float:
        """How much longer steps take than usual, by what `up` begins with: a look, which waits for nobody."""
        first = self._order[0]
        with self._changed:
            if first not in self._ended or self._verb != "up":
                return self._haste
            took = self._ended[first] - self._began[first]
        return min(max(took / USUAL[f"{self._verb} {first}"], 0.5), 5.0)

    def wait(self, step: str, until: Callable[[str], bool], seconds: float) -> bool:
        """Wait until a step is so, or for so long; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: until(step.partition(" ")[2]), seconds)

    def has_begun(self, name: str) -> bool:
        return name in self._began

    def has_ended(self, name: str) -> bool:
        return name in self._ended

    def _follow(self) -> None:
        begun = b""
        while not self._over.is_set():
            if select.select([self._descriptor], [], [], _POLL_SECONDS)[0]:
                *lines, begun = (begun + os.read(self._descriptor, 1 << 16)).split(b"\n")
                with self._changed:
                    for line in lines:
                        self._note(json.loads(line))
                    self._changed.notify_all()

    def _note(self, event: dict[str, Any]) -> None:
        now = time.monotonic()
        if "preludeEvent" in event and self._verb == "up":
            self._began.setdefault(self._order[0], now)
        for kind, times in (("resourcePreEvent", self._began), ("resOutputsEvent", self._ended)):
            name = _named(event.get(kind))
            if name not in self._order:
                continue
            times.setdefault(name, now)
            if times is self._ended and self._verb == "up":
                following = self._order[self._order.index(name) + 1 :][:1]
                for its in following:
                    self._began.setdefault(its, now)


def _named(event: dict[str, Any] | None) -> str:
    urn = str((event or {}).get("metadata", {}).get("urn", ""))
    return urn.rpartition("::")[2].removeprefix(_PREFIX)
