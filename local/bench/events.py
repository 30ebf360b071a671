"""Where the time of one ``pulumi`` command goes, from the engine's event log.

The log's own times are whole seconds. So it is written to a pipe, and each event is given the time of its arrival.
"""

import json
import os
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_POLL_SECONDS = 0.05
_LONGEST = 60
_SAID = {
    "registering resource: ty=pulumi:pulumi:Stack": "Python's start, with Pulumi's SDK",
    "Waiting for outstanding RPCs": "the program's own code, with its imports",
}

Event = tuple[float, dict[str, Any]]
"""Seconds since the command's start, and the event."""


@dataclass(frozen=True)
class Span:
    """A stretch of one command."""

    title: str
    seconds: float


class EventLog:
    """A pipe for ``--event-log``; an engine opens it anew for its preview and for its update."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: list[Event] = []
        os.mkfifo(path)

    @contextmanager
    def read(self) -> Iterator[None]:
        """Read while the command runs."""
        self.events.clear()
        # Opened for writing too: the end of the engine's preview isn't the end of the log.
        descriptor = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        over = threading.Event()
        thread = threading.Thread(target=self._follow, args=(descriptor, over, time.monotonic()), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            os.close(descriptor)

    def _follow(self, descriptor: int, over: threading.Event, start: float) -> None:
        begun = b""
        while True:
            last = over.is_set()
            if select.select([descriptor], [], [], 0 if last else _POLL_SECONDS)[0]:
                *lines, begun = (begun + os.read(descriptor, 1 << 16)).split(b"\n")
                now = time.monotonic() - start
                self.events += [(now, json.loads(line)) for line in lines]
            elif last:
                return


def spans(events: list[Event], seconds: float) -> list[Span]:
    """What the command was at, stretch by stretch: one thing after another, as each resource waits for the one before.

    A resource's stretch begins where the one before it ended: what comes before its first event (its plugin's start,
    its check and diff) is in it.

    Args:
        seconds: the whole command's.
    """
    previews = any((event.get("summaryEvent") or {}).get("isPreview") for _, event in events)
    phase = "preview" if previews else "update"
    found: list[Span] = []
    done: set[tuple[str, str]] = set()
    since = 0.0
    for now, event in events:
        title = _ended(event)
        if title and (phase, title) not in done:
            done.add((phase, title))
            found.append(Span(f"{phase}: {title}", now - since))
            since = now
        if "summaryEvent" in event:
            phase = "update"
    return [*found, Span("the engine's end", seconds - since)]


def _ended(event: dict[str, Any]) -> str:
    """What has ended with this event, "" where nothing has."""
    if "preludeEvent" in event:
        return "the engine's start, until the program is started"
    if "summaryEvent" in event:
        return "the program's end"
    if "resOutputsEvent" in event:
        its = event["resOutputsEvent"]["metadata"]
        return f"{its['op']} {its['type'].split(':')[-1]} {its['urn'].split('::')[-1]}"
    diagnostic = event.get("diagnosticEvent") or {}
    said, urn = str(diagnostic.get("message") or "").strip(), str(diagnostic.get("urn") or "")
    if "command:local:Command::" in urn:
        return f"{urn.split('::')[-1]}, until it says «{said[:_LONGEST]}»"
    return next((title for begin, title in _SAID.items() if said.startswith(begin)), "")
