"""Failures that are known, with the place in docs/ that shows which packet met which rule or map, and why."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from local.real.figures import Figures
from local.real.traffic import Failure

THERE: Final = "there"
BACK: Final = "back"

# A request that was sent before the last agent had switched may fail this much later.
_TIMEOUT: Final = 3.5


@dataclass(frozen=True)
class Explanation:
    """A kind of failure that the program can't mend."""

    title: str
    where: str
    """In docs/, with the heading."""
    legs: tuple[str, ...]
    streams: re.Pattern[str]
    """What the stream's name, `SOURCE>TARGET[@NODE]`, has to match from its beginning."""
    errors: re.Pattern[str]
    most: int = 0
    """For each stream in a leg; 0: as often as it likes, but only until the last agent has switched."""

    def fits(self, failure: Failure, leg: str) -> bool:
        return (
            leg in self.legs
            and self.streams.match(failure.stream) is not None
            and self.errors.search(failure.error) is not None
        )


KNOWN: Final = (
    Explanation(
        "an open connection from outside to a Service with policy Cluster is reset once",
        "docs/connections.md",
        (THERE, BACK),
        re.compile(r"outside>(cluster|external|balancer|sticky|ports)-(host|pod)/long@"),
        re.compile(r"broken"),
        most=1,
    ),
    Explanation(
        "what translates is frozen, there from kube-proxy's removal until the node's agent has switched, back "
        "while the agent restarts: an endpoint that moves meanwhile isn't found",
        "docs/connections.md",
        (THERE, BACK),
        re.compile(r"(outside|host/[^>]+)>moving(@|$)"),
        re.compile(r""),
    ),
)


def sorted_out(figures: Figures, leg: str) -> tuple[list[tuple[Explanation, list[Failure]]], list[Failure]]:
    """The leg's failures by what explains them, and those that nothing explains."""
    left = [*figures.requests, *figures.connections]
    found = []
    for explanation in KNOWN:
        fitting = [its for its in left if explanation.fits(its, leg)]
        mine = _within(explanation, fitting, figures)
        if mine:
            found.append((explanation, mine))
            left = [its for its in left if its not in mine]
    return found, left


def _within(explanation: Explanation, failures: Sequence[Failure], figures: Figures) -> list[Failure]:
    if not explanation.most:
        last = figures.last_settled
        return [its for its in failures if last is not None and its.instant < figures.start + last + _TIMEOUT]
    seen: Counter[str] = Counter()
    kept = []
    for its in sorted(failures, key=lambda its: its.instant):
        seen[its.stream] += 1
        if seen[its.stream] <= explanation.most:
            kept.append(its)
    return kept
