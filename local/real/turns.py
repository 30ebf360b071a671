"""Whose turn it is, where nodes are handed over one after the other: the program's label on each node, as it comes."""

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local.cluster.errors import ClusterError
from local.real.cluster import RealCluster

_LABEL: Final = "kube-proxy-replacement/routing"
_EVERY: Final = 0.2


@dataclass(frozen=True)
class Turn:
    """From when a node was labelled until its agent was as wanted, every endpoint ready; instants."""

    start: float
    end: float

    def has(self, instant: float, margin: float) -> bool:
        """Whether an instant is in it, or this many seconds off."""
        return self.start - margin <= instant <= self.end + margin


class Watch:
    """Looks at the nodes' labels, and writes down each change."""

    def __init__(self, cluster: RealCluster, file: Path) -> None:
        self._cluster, self._file = cluster, file
        self._changes: list[tuple[float, str, str]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="turns", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join()

    def labelled(self, start: float, end: float) -> dict[str, float]:
        """By node: the first instant in this span at which it had the label."""
        found: dict[str, float] = {}
        for instant, node, label in list(self._changes):
            if label and start <= instant < end:
                found.setdefault(node, instant)
        return found

    def _run(self) -> None:
        known: dict[str, str] = {}
        while not self._end.wait(_EVERY):
            with contextlib.suppress(OSError, ClusterError):
                for node in self._cluster.api.get("/api/v1/nodes")["items"]:
                    name, label = node["metadata"]["name"], node["metadata"]["labels"].get(_LABEL, "")
                    if label != known.get(name, ""):
                        known[name] = label
                        self._changes.append((time.time(), name, label))
                        with self._file.open("a") as file:
                            file.write(f"{time.time():.3f} {name} {label or '-'}\n")
