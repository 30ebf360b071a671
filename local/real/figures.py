"""What a leg of a way was, in figures."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from local.real.traffic import Failure, Outcomes
from local.real.turns import Turn

THERE: Final = "there"
BACK: Final = "back"
"""The two legs of a way: the switch-over, and the switch-back."""

MOVING: Final = re.compile(r"(outside|host/[^>]+)>moving(@|$)")
"""Streams to the Service whose only endpoint moves from node to node."""

_LONG: Final = re.compile(r"/long(@|$)")

# What an error is called in the table, by what it says.
_KINDS: Final = (
    ("reset", "reset"),
    ("refused", "refused"),
    ("unreachable", "unreachable"),
    ("no route", "unreachable"),
    ("closed", "closed"),
    ("EOF", "closed"),
    (" answered,", "wrong server"),
    ("timeout", "no answer in 3 s"),
    ("timed out", "no answer in 3 s"),
    ("no answer", "no answer in 3 s"),
)


@dataclass(frozen=True)
class Figures:
    """One leg: there, or back."""

    start: float
    """The instant of the first command."""
    seconds: float
    """Until the last command had ended."""
    settled: dict[str, float | None]
    """By node: seconds until its agent was in the leg's mode with every endpoint ready, and stayed so; None: never."""
    outcomes: Outcomes
    """From the first command to the end of the calm after the last."""
    rules: dict[str, int]
    """By node: kube-proxy's own rules afterwards."""
    lost: dict[str, int]
    """By node: how many lines of somebody else's rules are gone, or another than they were."""
    turns: dict[str, Turn] = field(default_factory=dict)
    """By node, where each had one of its own."""

    @property
    def last_settled(self) -> float | None:
        """Seconds until the last node's agent was there; None where one never was."""
        known = [seconds for seconds in self.settled.values() if seconds is not None]
        return max(known) if known and len(known) == len(self.settled) else None

    @property
    def silent(self) -> dict[str, float]:
        """By node: seconds without an answer on port 10256."""
        return {node: its.silent for node, its in sorted(self.outcomes.health.items())}

    @property
    def most_silent(self) -> int:
        """How many nodes were silent on port 10256 at a time."""
        spans = [span for its in self.outcomes.health.values() for span in its.silences]
        return max((sum(start <= at < end for start, end in spans) for at, _ in spans), default=0)

    def out_of_turn(self, margin: float) -> list[Failure]:
        """Failures on a node that wasn't being handed over then, nor this many seconds before or after."""
        every = self.outcomes.failures if self.turns else []
        return [its for its in every if its.node not in self.turns or not self.turns[its.node].has(its.instant, margin)]

    @property
    def requests(self) -> list[Failure]:
        """New connections and queries that failed; attempts to open a broken long-lived one again, too."""
        return [its for its in self.outcomes.failures if not is_break(its)]

    @property
    def of_the_moving(self) -> list[Failure]:
        """Of the requests that failed, those to the Service whose endpoint moves."""
        return [its for its in self.requests if MOVING.match(its.stream)]

    @property
    def connections(self) -> list[Failure]:
        """Long-lived connections that broke."""
        return [its for its in self.outcomes.failures if is_break(its)]

    @property
    def open_before(self) -> int:
        """Long-lived connections that the leg began with: each stream keeps one open."""
        return len(self.outcomes.long_lived)


def is_break(failure: Failure) -> bool:
    """A kept connection broke."""
    return _LONG.search(failure.stream) is not None and failure.error.startswith("broken")


def kinds(failures: Iterable[Failure]) -> dict[str, int]:
    """How many failed in which way, the most first."""
    return dict(Counter(kind(its.error) for its in failures).most_common())


def kind(error: str) -> str:
    """What an error is called in the table."""
    return next((name for word, name in _KINDS if word.lower() in error.lower()), error)
