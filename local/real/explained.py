"""Failures that are known, with the place in docs/ that shows which packet met which rule or map, and why."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from local.real.figures import MOVING, Figures
from local.real.traffic import Failure

TIMEOUT: Final = 3.5
"""Seconds: a request that was sent before the last agent had switched may fail this much later."""


_RESET: Final = re.compile(r"broken: .*reset by peer")
# Once as a rule. One that was opened anew while its node's programs were being exchanged was reset again.
_TWICE: Final = 2


@dataclass(frozen=True)
class Explanation:
    """A kind of failure that the program can't mend."""

    title: str
    where: str
    """In docs/, with the heading."""
    streams: re.Pattern[str]
    """What the stream's name, `SOURCE>TARGET[@NODE]`, has to match from its beginning."""
    errors: re.Pattern[str]
    most: int = 0
    """For each stream in a leg; 0: as often as it likes, but only until the last agent has switched."""

    def fits(self, failure: Failure) -> bool:
        return self.streams.match(failure.stream) is not None and self.errors.search(failure.error) is not None


MADE_IN_THE_INSTANT: Final = Explanation(
    "a new connection or query from outside in the instant of the exchange lost its answer, as kept ones do",
    "docs/connections.md#6-made-in-the-instant-of-the-exchange",
    re.compile(r"outside>(cluster|local|external|balancer|sticky|dns|ports)-(host|pod)(/2)?@"),
    # Connected, or its first packet translated by one and the answer to it by the other.
    re.compile(r"^((read|write): |dial: (timed out|.*reset by peer))"),
    most=1,
)

KNOWN: Final = (
    Explanation(
        "an open connection from outside, policy Cluster, is reset as its node's agent takes over or lets go",
        "docs/connections.md#3-from-outside-policy-cluster",
        re.compile(r"outside>(cluster|external|balancer|sticky)-(host|pod)/long@"),
        _RESET,
        most=_TWICE,
    ),
    Explanation(
        "an open connection from outside, policy Local, is reset as its node's agent takes over or lets go",
        "docs/connections.md#4-from-outside-policy-local",
        re.compile(r"outside>local-(host|pod)/long@"),
        _RESET,
        most=_TWICE,
    ),
    MADE_IN_THE_INSTANT,
    Explanation(
        "what translates is frozen, there from kube-proxy's removal until the node's agent has switched, back "
        "while the agent restarts: the endpoint of that moment is asked",
        "docs/real-nodes.md#a-service-that-moves",
        MOVING,
        re.compile(r""),
    ),
)


def sorted_out(figures: Figures) -> tuple[list[tuple[Explanation, list[Failure]]], list[Failure]]:
    """The leg's failures by what explains them, and those that nothing explains."""
    left = [*figures.requests, *figures.connections]
    found = []
    for explanation in KNOWN:
        fitting = [its for its in left if explanation.fits(its)]
        mine = _within(explanation, fitting, figures)
        if mine:
            found.append((explanation, mine))
            left = [its for its in left if its not in mine]
    return found, left


def _within(explanation: Explanation, failures: Sequence[Failure], figures: Figures) -> list[Failure]:
    if not explanation.most:
        last = figures.last_settled
        return [its for its in failures if last is not None and its.instant < figures.start + last + TIMEOUT]
    seen: Counter[str] = Counter()
    kept = []
    for its in sorted(failures, key=lambda its: its.instant):
        seen[its.stream] += 1
        if seen[its.stream] <= explanation.most:
            kept.append(its)
    return kept
