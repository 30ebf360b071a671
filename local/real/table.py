"""The table: this program beside the manual way, and whether the bounds held."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from local.real.explained import TIMEOUT, sorted_out
from local.real.figures import BACK, THERE, Figures, kinds

Legs = Mapping[str, Figures]
"""A way's figures: of the leg there, and of the leg back."""

_TITLES: Final = {THERE: "switch-over", BACK: "switch-back"}
_MODES: Final = {THERE: "replaces", BACK: "has let go"}
_WIDTH: Final = 52
_COLUMN: Final = 18
_SHOWN: Final = 12


@dataclass(frozen=True)
class Verdict:
    """Which bounds didn't hold, in words; and what is explained, by leg."""

    broken: tuple[str, ...]
    explained: tuple[str, ...]
    unexplained: tuple[str, ...]

    @property
    def line(self) -> str:
        """The last line."""
        return f"bounds: NOT held: {'; '.join(self.broken)}" if self.broken else "bounds: all held"


def text(ways: Mapping[str, Legs]) -> str:
    """The table, a column for each way, by its name."""
    lines: list[str] = []
    for leg, title in _TITLES.items():
        sides = [way.get(leg) for way in ways.values()]
        if not any(sides):
            continue
        lines += ["", f"{title:{_WIDTH}}" + "".join(f"{name:>{_COLUMN}}" for name in ways)]
        lines += [_row(name, sides, cell) for name, cell in _rows(leg, [its for its in sides if its])]
    return "\n".join(lines[1:])


def together(verdicts: Mapping[str, Verdict]) -> Verdict:
    """One of several, each line with its way's name."""

    def all_of(lines: Callable[[Verdict], Iterable[str]]) -> tuple[str, ...]:
        return tuple(f"{name}: {line}" for name, its in verdicts.items() for line in lines(its))

    return Verdict(
        all_of(lambda its: its.broken), all_of(lambda its: its.explained), all_of(lambda its: its.unexplained)
    )


def verdict(program: Legs, manual: Legs, faults: Iterable[str] = (), *, one_by_one: bool = False) -> Verdict:
    """
    Args:
        faults: steps of the program's that didn't end as they must.
        one_by_one: each node had a turn of its own: the others aren't to notice.
    """
    broken, explained, unexplained = list(faults), [], []
    for leg, title in _TITLES.items():
        figures, other = program.get(leg), manual.get(leg)
        if figures is None or other is None:
            broken.append(f"{title}: not taken to its end")
            continue
        known, left = sorted_out(figures)
        explained += [f"{title}: {len(its)} × {of.title} ({of.where})" for of, its in known]
        if left:
            broken.append(f"{title}: {len(left)} failures that nothing explains")
            unexplained += [
                f"{title}: +{its.instant - figures.start:.2f} s {its.stream}: {its.error}" for its in left[:_SHOWN]
            ]
        if figures.last_settled is None:
            broken.append(f"{title}: not every node's agent {_MODES[leg]}")
        broken += [f"{title}: {count} foreign rules lost on {node}" for node, count in figures.lost.items() if count]
        if one_by_one:
            broken += [f"{title}: {words}" for words in _of_turns(figures)]
    there, back = program.get(THERE), program.get(BACK)
    if there:
        broken += [f"switch-over: {count} rules left on {node}" for node, count in there.rules.items() if count]
    if back:
        broken += [f"switch-back: no rule on {node}" for node, count in back.rules.items() if not count]
    # Both legs together: in one of them, chance decides when an endpoint moves and which connection lives.
    for what, count in (("failed requests", _requests), ("broken connections", _connections)):
        mine, others = count(program), count(manual)
        if mine > others:
            broken.append(f"{mine} {what} there and back, {others} the manual way")
    return Verdict(tuple(broken), tuple(explained), tuple(unexplained))


def _of_turns(figures: Figures) -> list[str]:
    """What isn't as it must be where nodes have their turns one after the other."""
    found = [f"{node} had no turn" for node in figures.settled if node not in figures.turns]
    if others := figures.out_of_turn(TIMEOUT):
        first = others[0]
        found.append(
            f"{len(others)} failures on nodes that weren't being handed over, first "
            f"+{first.instant - figures.start:.2f} s "
            f"{first.stream}: {first.error}"
        )
    if figures.most_silent > 1:
        found.append(f"{figures.most_silent} nodes were silent on port 10256 at a time")
    for node, its in figures.outcomes.health.items():
        if len(its.silences) > 1:
            found.append(f"{node} was silent on port 10256 {len(its.silences)} times")
    return found


def _requests(legs: Legs) -> int:
    return sum(len(its.requests) for its in legs.values())


def _connections(legs: Legs) -> int:
    return sum(len(its.connections) for its in legs.values())


Cell = Callable[[Figures], str]


def _rows(leg: str, sides: list[Figures]) -> list[tuple[str, Cell]]:
    nodes = sorted({node for its in sides for node in its.silent})
    errors = sorted({kind for its in sides for kind in kinds(its.requests)})
    rows: list[tuple[str, Cell]] = [
        ("time until the last command ended", lambda its: f"{its.seconds:.1f} s"),
        (
            f"last agent {_MODES[leg]}, every endpoint ready",
            lambda its: "never" if its.last_settled is None else f"{its.last_settled:.1f} s",
        ),
        ("new connections and queries sent", lambda its: f"{its.outcomes.sent:,}"),
        ("  failed", lambda its: f"{len(its.requests):,}"),
        *((f"    {kind}", _of_kind(kind)) for kind in errors),
        ("    of all, of the Service whose endpoint moves", lambda its: f"{len(its.of_the_moving):,}"),
        ("    its moves; age of the last wrong answer", _followed),
        ("  answered after more than 1 s", lambda its: f"{its.outcomes.late:,}"),
        ("  longest gap of a stream", lambda its: f"{its.outcomes.longest_gap:.1f} s"),
        ("long-lived connections broken", lambda its: f"{len(its.connections):,} of {its.open_before}"),
        *((f"port 10256 silent, {node}", _silent(node)) for node in nodes),
        ("  nodes at a time, at most", lambda its: str(its.most_silent)),
        *((f"kube-proxy's rules afterwards, {node}", _count("rules", node)) for node in nodes),
        *((f"foreign rules lost, {node}", _count("lost", node)) for node in nodes),
        ("control, past every Service: failed, late, sent", _control),
    ]
    return rows


def _row(name: str, sides: list[Figures | None], cell: Cell) -> str:
    return f"{name:{_WIDTH}}" + "".join(f"{cell(its) if its else '–':>{_COLUMN}}" for its in sides)


def _of_kind(kind: str) -> Cell:
    return lambda its: f"{kinds(its.requests).get(kind, 0):,}"


def _silent(node: str) -> Cell:
    return lambda its: f"{its.silent[node]:.1f} s" if node in its.silent else "–"


def _count(what: str, node: str) -> Cell:
    return lambda its: str(getattr(its, what).get(node, "–"))


def _followed(figures: Figures) -> str:
    its = figures.outcomes
    return f"{its.moves}; {its.stale:.1f} s" if its.stale else f"{its.moves}; none"


def _control(figures: Figures) -> str:
    every = figures.outcomes.control.values()
    failed, late, sent = (sum(getattr(its, name) for its in every) for name in ("failed", "late", "sent"))
    return f"{failed:,}, {late:,}, {sent:,}"
