"""Ports of the cluster, free when they are chosen and the same at each later start."""

import json
import secrets
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

# Below the range that kernels take for outgoing connections, so that none of those gets in the way.
_LOWEST, _HIGHEST = 20000, 32000
_TRIES = 500

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """One for each program that listens."""

    api_server: int
    etcd_client: int
    etcd_peer: int
    simulator: int

    def save(self, file: Path) -> None:
        """Write them down for the next start."""
        file.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, file: Path) -> "Ports":
        """Read what ``save`` wrote."""
        return cls(**json.loads(file.read_text()))

    @classmethod
    def choose(cls) -> "Ports":
        """Four that nobody listens on, at random: two clones that start at once take different ones."""
        free: set[int] = set()
        for _ in range(_TRIES):
            port = _LOWEST + secrets.randbelow(_HIGHEST - _LOWEST)
            if port not in free and _is_free(port):
                free.add(port)
            if len(free) == 4:
                return cls(*free)
        raise OSError(f"no four free ports between {_LOWEST} and {_HIGHEST}")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
