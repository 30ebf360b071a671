"""The nodes that a run waits for, as they come and go while it waits.

A node that goes away in the middle mustn't hold up all others, nor undo their switch-over: it is dropped, and the first
run after it is back finishes it, as one that wasn't Ready at the start. One that joins in the middle gets its agent,
and may get pods, like any other: it is awaited too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from . import nodes
from .api import Api
from .nodes import Node

_SECONDS = 2.0
"""From one reading of the nodes to the next: a wait looks much more often, and a cluster may have thousands."""


class Awaited:
    """Nodes to wait for.

    Args:
        first: those that were Ready when the run began.
        say: is told of each that is dropped, or is awaited too.
    Attributes:
        nodes: those that are awaited now.
    """

    def __init__(self, api: Api, first: Sequence[Node], say: Callable[[str], None]) -> None:
        self.nodes = tuple(first)
        self._api = api
        self._say = say
        self._read_at = time.monotonic()

    @property
    def names(self) -> set[str]:
        return {node.name for node in self.nodes}

    def look(self) -> tuple[Node, ...]:
        """Those that are awaited now, as read some seconds ago at most."""
        if time.monotonic() - self._read_at >= _SECONDS:
            self._read()
        return self.nodes

    def settled(self) -> bool:
        """Before a wait is called done: whether those that are there at this moment are the ones that were awaited."""
        were = {node.uid for node in self.nodes}
        self._read()
        return {node.uid for node in self.nodes} == were

    def _read(self) -> None:
        self._read_at = time.monotonic()
        found = nodes.read(self._api)
        if not found.ready:
            return  # all at once: that is no node's own end, and nothing would be left to wait for
        there, were = {node.uid for node in found.all}, {node.uid for node in self.nodes}
        ready = {node.uid for node in found.ready}
        for node in self.nodes:
            if node.uid not in there:
                self._say(f"{node.name} has left the cluster: it isn't awaited any more")
            elif node.uid not in ready:
                self._say(
                    f"{node.name} isn't Ready any more: it isn't awaited, and the first `pulumi up` after it is back "
                    "finishes it"
                )
        for node in found.ready:
            if node.uid not in were:
                self._say(f"{node.name} has joined, or is Ready again: it is awaited too")
        self.nodes = found.ready
