"""A Service whose endpoints change: its EndpointSlice is moved from node to node, and the instants are noted."""

import contextlib
import threading
import time
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local.cluster.api import collection
from local.cluster.errors import ClusterError
from local.real import objects
from local.real.carried import moved_to
from local.real.cluster import RealCluster

GRACE: Final = 1.0
"""Seconds in which a change has to get to every node."""

_SECONDS: Final = 5.0


class Mover:
    """Moves the Service without a selector to another node every few seconds, in a thread of its own."""

    def __init__(self, cluster: RealCluster, file: Path, seconds: float = _SECONDS) -> None:
        self._cluster, self._file, self._seconds = cluster, file, seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mover", daemon=True)

    def start(self) -> None:
        """Begin with the first node's."""
        self._move(0)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        turn = 1
        while not self._stop.wait(self._seconds):
            # An API server that doesn't answer moves nothing; the next turn tries the same.
            with contextlib.suppress(OSError, ClusterError):
                self._move(turn)
                turn += 1

    def _move(self, turn: int) -> None:
        node = self._cluster.nodes[turn % len(self._cluster.nodes)]
        slice_ = moved_to(node.number)
        began = time.time()
        self._cluster.api.patch(
            f"{collection(slice_)}/{slice_['metadata']['name']}", {"endpoints": slice_["endpoints"]}
        )
        with self._file.open("a") as file:
            file.write(f"{began:.3f} {time.time():.3f} {objects.node_name(node.number)}\n")


@dataclass(frozen=True)
class Move:
    """One change: asked for, done, and the node whose server is the only endpoint from then on."""

    began: float
    done: float
    node: str


class Moves:
    """Where the Service has been."""

    def __init__(self, moves: list[Move]) -> None:
        self._moves = sorted(moves, key=lambda move: move.began)
        self._begins = [move.began for move in self._moves]

    def allowed(self, start: float, end: float) -> set[str]:
        """Whose answer is right for a question that was asked and answered at these instants.

        A server is right from the moment that the change to it was asked for until `GRACE` seconds after that to the
        next was done.
        """
        last = bisect_right(self._begins, end)
        found = {move.node for move in self._moves[max(last - 1, 0) : last]}
        for move, following in zip(self._moves[:last], self._moves[1:last], strict=False):
            if following.done + GRACE >= start:
                found.add(move.node)
        return found

    def count(self, start: float, end: float) -> int:
        """How many changes were asked for in a span."""
        return sum(start <= began < end for began in self._begins)

    def age(self, instant: float) -> float:
        """How many seconds before an instant the Service was moved last."""
        last = bisect_right(self._begins, instant)
        return instant - self._moves[last - 1].done if last else 0.0


def read(file: Path) -> Moves:
    """What a mover has noted."""
    lines = file.read_text().splitlines() if file.exists() else []
    return Moves([Move(float(began), float(done), node) for began, done, node in map(str.split, lines)])
