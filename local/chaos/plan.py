"""What is done in each run, drawn from a seed: the same for the same seed and number, whatever ran before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Final, Literal

Where = Literal["fresh", "coexist", "replace"]
"""A cluster as it was before this program came; Cilium beside kube-proxy; Cilium instead of it."""
Command = Literal["coexist", "replace", "destroy"]
"""`pulumi up` to one of the modes, or `pulumi destroy`."""
Strategy = Literal["all-at-once", "node-by-node"]

UP: Final = ("found", "hand-over", "daemonset", "configmap", "cilium", "way-back", "agents", "status")
DESTROY: Final = ("way-back", "cilium", "configmap", "daemonset")
STEPS: Final = tuple(f"up {step}" for step in UP) + tuple(f"destroy {step}" for step in DESTROY)
"""Every step that an instant can fall into, as `up cilium`."""

KINDS: Final = (
    *("kill everything",) * 7,
    *("kill one",) * 4,
    "API server stopped",
    "API server killed",
    "connections refused",
    "connection closed",
    "answer 409",
    "answer 429",
    "answer 500",
    "slow exec",
    "pod deleted",
    "second run",
)
"""What is done at the instant, as often as it is drawn in 21 runs."""

_HALFWAY: Final = 0.25
_OWNED: Final = 1 / 3
_STAY: Final = 0.8
_BY_REQUEST: Final = 0.5
_BY_NODE: Final = 0.5


@dataclass(frozen=True)
class Instant:
    """When it is done.

    Attributes:
        step: one of `STEPS`.
        fraction: how far into the step, from 0 to 1.
        by: of its usual time, or of the changes that it usually asks the API server for.
        after: with `request`, whether that change is made, and only its answer never comes.
    """

    step: str
    fraction: float
    by: Literal["time", "request"]
    after: bool


@dataclass(frozen=True)
class Halfway:
    """An earlier run that was killed, and never done again."""

    command: Command
    instant: Instant


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        owned: whether somebody else's Cilium was there before this program came.
        start: where the cluster is before it, before `halfway` too.
        kind: one of `KINDS`; pick: from 0 to 1, whom it strikes; seconds, count: how long, and how many requests.
    """

    number: int
    owned: bool
    strategy: Strategy
    start: Where
    halfway: Halfway | None
    command: Command
    instant: Instant
    kind: str
    pick: float
    seconds: float
    count: int

    @property
    def end(self) -> Where:
        return "fresh" if self.command == "destroy" else self.command

    def __str__(self) -> str:
        """`replace, adopted (after destroy, killed in «…») → coexist, all-at-once, «up agents» at …: kill one`."""
        its, before = self.instant, ", adopted" if self.owned else ""
        if self.halfway:
            before += f" (after {self.halfway.command}, killed in «{self.halfway.instant.step}»)"
        way = "of its requests" if its.by == "request" else "of its time"
        what = f"{self.command}, {self.strategy}"
        return f"{self.start}{before} → {what}, «{its.step}» at {its.fraction:.0%} {way}: {self.kind}"


def draw(seed: int, strategy: Strategy | None = None) -> Iterator[Plan]:
    """Run after run, from number 1 on. Each step comes once in as many runs as there are steps.

    Args:
        strategy: of all of them; None where that is drawn too.
    """
    where: Where = "fresh"
    owned = False
    number = 0
    while True:
        number += 1
        plan = _drawn(
            Random(f"{seed}/{number}"), number, where, owned, _dealt(seed, number, STEPS), _dealt(seed, number, KINDS)
        )
        where, owned = plan.end, plan.owned
        yield replace(plan, strategy=strategy or plan.strategy)


def _dealt(seed: int, number: int, cards: tuple[str, ...]) -> str:
    """From a deck that is shuffled anew when it is used up."""
    deck, card = divmod(number - 1, len(cards))
    shuffled = list(cards)
    Random(f"{seed}/{deck}/{len(cards)}").shuffle(shuffled)
    return shuffled[card]


def _drawn(random: Random, number: int, where: Where, owned: bool, step: str, kind: str) -> Plan:
    verb, _, name = step.partition(" ")
    start: Where = where if random.random() < _STAY else random.choice(("fresh", "coexist", "replace"))
    halfway = random.random() < _HALFWAY
    if verb == "destroy" and start == "fresh" and not halfway:
        start = random.choice(("coexist", "replace"))
    if name == "hand-over" and start == "fresh":
        start = random.choice(("coexist", "replace"))  # without agents there is nothing to hand over
    earlier = _halfway(random, start, verb, name) if halfway else None
    by_node = random.random() < _BY_NODE or name == "hand-over"
    return Plan(
        number=number,
        owned=random.random() < _OWNED if start == "fresh" else owned,
        strategy="node-by-node" if by_node else "all-at-once",
        start=start,
        halfway=earlier,
        command="destroy" if verb == "destroy" else _up(random, start, earlier),
        instant=_instant(random, step),
        kind=kind,
        pick=random.random(),
        seconds=round(random.uniform(2, 12), 1),
        count=random.randint(1, 4),
    )


def _halfway(random: Random, start: Where, verb: str, name: str) -> Halfway:
    """Cut off where the step that the next run is to be disturbed in has something to do."""
    if start == "fresh":
        command: Command = random.choice(("coexist", "replace", "replace"))
        steps: tuple[str, ...] = UP
        if verb == "destroy":
            steps = ("agents", "status") if name in ("way-back", "cilium") else ("cilium", "way-back", "agents")
        return Halfway(command, _instant(random, f"up {random.choice(steps)}"))
    if verb == "up" and random.random() < 1 / 3:
        return Halfway("destroy", _instant(random, f"destroy {random.choice(DESTROY)}"))
    return Halfway(_other(start), _instant(random, f"up {random.choice(UP)}"))


def _up(random: Random, start: Where, earlier: Halfway | None) -> Command:
    if start == "fresh":
        if earlier and random.random() < 1 / 2:
            return earlier.command
        return random.choice(("coexist", "replace", "replace"))
    # on where the run before it was to go, or back again
    return start if earlier and random.random() < 1 / 3 else _other(start)


def _other(where: Where) -> Literal["coexist", "replace"]:
    return "coexist" if where == "replace" else "replace"


def _instant(random: Random, step: str) -> Instant:
    by: Literal["time", "request"] = "request" if random.random() < _BY_REQUEST else "time"
    return Instant(step, round(random.random(), 3), by, random.random() < 1 / 2)
