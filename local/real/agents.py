"""What each node's Cilium agent says, second by second, over its own socket on the node: no exec, next to no load."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from local.real.node import Node

READY: Final = "ready"
SILENT: Final = "no answer"

_SOCKET: Final = "run/cilium/cilium.sock"
_TIMEOUT: Final = 2.0
_EVERY: Final = 0.5
_HOST: Final = "reserved:host"


@dataclass(frozen=True)
class Change:
    """From this instant on an agent said this."""

    instant: float
    node: str
    mode: str
    """``kube-proxy-replacement.mode`` in its status, "True" or "False"; "" where it doesn't answer."""
    state: str
    """READY, SILENT, or why it isn't ready."""


class Watch:
    """Asks every node's agent twice a second, each in a thread of its own, and writes down each change."""

    def __init__(self, nodes: Sequence[Node], file: Path) -> None:
        self._file = file
        self._changes: list[Change] = []
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(node,), daemon=True) for node in nodes]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def changes(self) -> list[Change]:
        """Up to now, oldest first."""
        return sorted(self._changes, key=lambda its: its.instant)

    def _run(self, node: Node) -> None:
        last = None
        while not self._end.wait(_EVERY):
            try:
                now = _ask(node)
            except TimeoutError:
                # Busy, as agents are while they compile: what it said last holds.
                continue
            if now != last:
                last, change = now, Change(time.time(), node.name, *now)
                self._changes.append(change)
                with self._file.open("a") as file:
                    file.write(f"{change.instant:.3f} {change.node} {change.mode or '-'} {change.state}\n")


def settled(changes: Sequence[Change], mode: str, start: float, end: float) -> dict[str, float | None]:
    """Seconds from the start until each node's agent was first in the mode with every endpoint ready.

    An agent that ended afterwards counts anew; endpoints that are regenerated later, as pods come and go, don't.

    Args:
        start, end: instants; what was said after the end doesn't count. None where it wasn't so by then.
    """
    found: dict[str, float | None] = {}
    for change in changes:
        if change.instant >= end:
            break
        if change.mode != mode:
            found[change.node] = None
        elif change.state == READY and found.get(change.node) is None:
            found[change.node] = max(0.0, change.instant - start)
        else:
            found.setdefault(change.node)
    return found


def _ask(node: Node) -> tuple[str, str]:
    """Mode and state; raises TimeoutError where it's too busy to answer."""
    try:
        client = _Connection(node.inside(_SOCKET))
        health, endpoints = client.read("/v1/healthz"), client.read("/v1/endpoint")
    except TimeoutError:
        raise
    except (OSError, http.client.HTTPException, RuntimeError, ValueError):
        return "", SILENT
    return said(health, endpoints)


def said(health: Any, endpoints: Any) -> tuple[str, str]:
    """Mode and state, of an agent's ``/v1/healthz`` and ``/v1/endpoint`` (cilium/cilium api/v1/models)."""
    mode = str((health.get("kube-proxy-replacement") or {}).get("mode") or "")
    states = [(its.get("status") or {}) for its in endpoints or []]
    waiting = sum(its.get("state") != "ready" for its in states)
    labels = [label for its in states for label in (its.get("identity") or {}).get("labels") or []]
    if _HOST not in labels:
        return mode, "no endpoint for the node itself"
    return mode, f"{waiting} endpoints not ready" if waiting else READY


class _Connection(http.client.HTTPConnection):
    """HTTP over the agent's unix socket, which is reached from outside the node's namespaces by its path."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

    def read(self, path: str) -> Any:
        try:
            self.request("GET", path)
            answer = self.getresponse()
            body = answer.read()
        finally:
            self.close()
        if answer.status != http.client.OK:
            raise http.client.HTTPException(f"{path}: {answer.status}")
        return json.loads(body)
