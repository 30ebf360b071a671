"""Streams of new connections through the cluster's Services, and what became of them."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_LATE: Final = 1000


@dataclass(frozen=True)
class Failure:
    """One request that wasn't answered."""

    instant: float
    stream: str
    milliseconds: int
    error: str


@dataclass
class Outcome:
    """What became of a stream's requests in a span of time."""

    sent: int = 0
    slowest: int = 0
    late: int = 0
    """Answered, but after more than a second: as a rule a lost SYN that was sent again."""
    failures: list[Failure] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)


def read(folder: Path, start: float = 0.0, end: float = float("inf")) -> dict[str, Outcome]:
    """Every stream's outcome of the requests that were sent in a span, by the stream's name."""
    found: dict[str, Outcome] = {}
    for file in sorted(folder.glob("*.txt")):
        for line in file.read_text().splitlines():
            words = line.split(" ", 3)
            if len(words) < 4 or not start <= float(words[0]) < end:
                continue
            outcome = found.setdefault(words[1], Outcome())
            outcome.sent += 1
            if words[3].startswith("!"):
                outcome.failures.append(Failure(float(words[0]), words[1], int(words[2]), words[3][2:]))
            else:
                outcome.late += int(words[2]) > _LATE
                outcome.slowest = max(outcome.slowest, int(words[2]))
                outcome.answers[words[3]] += 1
    return dict(sorted(found.items()))
