"""Traffic through the cluster's Services: sent, and what became of it."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

from local.real import moving, streams, workload
from local.real.carried import Backends, service
from local.real.cluster import RealCluster
from local.real.moving import Mover, Moves
from local.real.streams import CONTROL, HEALTH, TIMEOUT, Sender

LATE: Final = 1000
"""Milliseconds. An answer after more is late: as a rule a lost SYN that was sent again."""

_MOVES: Final = "moves"
_MOVING: Final = service("moving").name
_SETTLED: Final = TIMEOUT + 0.5
"""Seconds after which a question's outcome is in its file."""
_SECONDS: Final = 90.0
_POLL: Final = 0.1


@dataclass(frozen=True)
class Line:
    """One outcome, as `traffic probe` writes it."""

    instant: float
    source: str
    target: str
    node: str
    """The one that was asked; where it's none in particular, that of the source."""
    stream: str
    kind: str
    milliseconds: int
    answer: str
    """`NODE:PORT` of the server; "" where there was none."""
    error: str

    @property
    def ended(self) -> float:
        return self.instant + self.milliseconds / 1000


@dataclass(frozen=True)
class Failure:
    """A question without an answer or with a wrong one, or a connection that broke."""

    instant: float
    step: str
    stream: str
    source: str
    target: str
    node: str
    milliseconds: int
    error: str


@dataclass
class Outcome:
    """What became of a stream's questions in a span of time."""

    sent: int = 0
    late: int = 0
    slowest: int = 0
    """Milliseconds of the slowest right answer."""
    longest_gap: float = 0.0
    """Seconds between two right answers."""
    failures: list[Failure] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    """Right ones, by the server's `NODE:PORT`."""
    stale: float = 0.0
    """Seconds after a move of the Service's in which a server that it had left was still asked."""
    strayed: int = 0
    """Under session affinity: how often another server answered than the time before."""

    @property
    def failed(self) -> int:
        return len(self.failures)


@dataclass
class LongLived:
    """What became of a stream's kept connection in a span of time."""

    opened: int = 0
    """Anew, after one that broke or wasn't opened."""
    open: int = 0
    """At the end of the span."""
    broken: int = 0
    longest_gap: float = 0.0
    """Seconds that a byte was waited for at most, or that there was no connection."""
    failures: list[Failure] = field(default_factory=list)


@dataclass
class Health:
    """What port 10256 of a node said in a span of time."""

    asked: int = 0
    silent: float = 0.0
    """Seconds without a 200, from the first question that got none to the next that got one."""
    silences: list[tuple[float, float]] = field(default_factory=list)
    """Each of them; instants."""
    failures: list[Failure] = field(default_factory=list)


@dataclass
class Outcomes:
    """All of it, in a span of time."""

    streams: dict[str, Outcome] = field(default_factory=dict)
    long_lived: dict[str, LongLived] = field(default_factory=dict)
    health: dict[str, Health] = field(default_factory=dict)
    """By node."""
    control: dict[str, Outcome] = field(default_factory=dict)
    """By node; past every Service."""
    moves: int = 0
    """How often the one Service's endpoint has moved."""

    @property
    def sent(self) -> int:
        return sum(its.sent for its in self.streams.values())

    @property
    def failed(self) -> int:
        return sum(its.failed for its in self.streams.values())

    @property
    def late(self) -> int:
        return sum(its.late for its in self.streams.values())

    @property
    def slowest(self) -> int:
        return max((its.slowest for its in self.streams.values()), default=0)

    @property
    def longest_gap(self) -> float:
        return max((its.longest_gap for its in self.streams.values()), default=0.0)

    @property
    def answers(self) -> Counter[str]:
        return sum((its.answers for its in self.streams.values()), Counter[str]())

    @property
    def stale(self) -> float:
        return max((its.stale for its in self.streams.values()), default=0.0)

    @property
    def strayed(self) -> int:
        return sum(its.strayed for its in self.streams.values())

    @property
    def broken(self) -> int:
        return sum(its.broken for its in self.long_lived.values())

    @property
    def failures(self) -> list[Failure]:
        """Through Services, new connections' and kept ones', in their order."""
        found = [its for outcome in self.streams.values() for its in outcome.failures]
        found += [its for outcome in self.long_lived.values() for its in outcome.failures]
        return sorted(found, key=lambda its: its.instant)


class Traffic:
    """Senders outside the cluster and on its nodes, their outcomes in one folder."""

    def __init__(self, cluster: RealCluster, folder: Path, seconds: float = 1500) -> None:
        """
        Args:
            folder: Where the outcomes go; no other traffic's.
            seconds: After so many all senders end by themselves.
        """
        self._cluster, self._folder = cluster, folder
        self._seconds, self._until = seconds, time.time() + seconds
        self._launched: list[str] = []
        self._senders: list[Sender] = []
        self._mover: Mover | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, *backends: Backends) -> None:
        """Start sending through the Services with such backends; returns when every sender sends."""
        numbers = [node.number for node in self._cluster.nodes]
        files = []
        if self._mover is None:
            self._mover = Mover(self._cluster, self._folder / _MOVES)
            self._mover.start()
            files.append(self._launch("watched", streams.watched(numbers)))
        for its in backends:
            files.append(self._launch(its, streams.outside(numbers, its)))
            for sender in streams.senders(its):
                self._senders.append(sender)
                for thing in sender.objects(
                    workload.program().parent, self._folder.absolute(), self._until, self._seconds
                ):
                    self._cluster.api.create(thing)
                files += [self._folder / sender.file.replace("$(NODE)", node.name) for node in self._cluster.nodes]
        deadline = time.monotonic() + _SECONDS
        while silent := [file.stem for file in files if not file.exists() or not file.stat().st_size]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"these senders haven't sent within {_SECONDS:.0f} s: {', '.join(silent)}")
            time.sleep(_POLL)

    def stop(self) -> None:
        """End all senders, each after the last answer that it waits for."""
        if self._mover:
            self._mover.stop()
            self._mover = None
        for name in self._launched:
            self._cluster.end(name)
        names = [sender.name for sender in self._senders]
        self._senders, self._launched = [], []
        if names:
            done = self._cluster.kubectl(
                "delete", "daemonsets,configmaps", *names, "--ignore-not-found", "--cascade=foreground"
            )
            if done.returncode:
                raise RuntimeError(f"senders couldn't be ended: {done.stderr.strip()}")

    def outcomes(self, start: float, end: float, step: str = "") -> Outcomes:
        """What became of the questions of a span, once the last of them has been answered or given up."""
        time.sleep(max(0.0, end + _SETTLED - time.time()))
        return read(self._folder, start, end, step)

    def _launch(self, name: str, asked: Sequence[streams.Stream]) -> Path:
        file, spec = self._folder / f"outside-{name}.txt", self._folder / f"outside-{name}.json"
        spec.write_text(streams.spec(asked, self._until, self._seconds))
        launched = f"traffic-{name}"
        command = [str(workload.program()), "probe", "-source", "outside", str(file), str(spec)]
        self._cluster.launch(launched, self._cluster.outside(command))
        self._launched.append(launched)
        return file


def read(folder: Path, start: float = 0.0, end: float = float("inf"), step: str = "") -> Outcomes:
    """What became of the questions that were asked in a span, by the files in a folder."""
    moves = moving.read(folder / _MOVES)
    by_stream: dict[str, list[Line]] = {}
    for line in _lines(folder):
        if start <= line.instant < end:
            by_stream.setdefault(line.stream, []).append(line)
    found = Outcomes(moves=moves.count(start, end))
    for stream, lines in sorted(by_stream.items()):
        lines.sort(key=lambda line: line.instant)
        first = lines[0]
        if first.target == HEALTH:
            found.health[first.node] = _health(lines, step)
        elif first.target == CONTROL:
            found.control[first.node] = _outcome(lines, moves, step)
        elif first.kind == "long":
            found.long_lived[stream] = _long_lived(lines, step)
        else:
            found.streams[stream] = _outcome(lines, moves, step)
    return found


def _lines(folder: Path) -> Iterator[Line]:
    for file in sorted(folder.glob("*.txt")):
        for text in file.read_text().splitlines(keepends=True):
            # The last one may be written just now.
            if text.endswith("\n"):
                yield parse(text.rstrip("\n"))


def parse(text: str) -> Line:
    """One line of `traffic probe`'s."""
    instant, stream, kind, milliseconds, answer = text.split(" ", 4)
    source, _, rest = stream.partition(">")
    target, _, node = rest.partition("@")
    error = answer[2:] if answer.startswith("! ") else ""
    return Line(
        instant=float(instant),
        source=source,
        target=target,
        node=node or source.partition("/")[2],
        stream=stream,
        kind=kind,
        milliseconds=int(milliseconds),
        answer="" if error else answer,
        error=error,
    )


def _kind(line: Line) -> str:
    """The kind of Service that was asked."""
    return line.target.partition("-")[0]


def _wrong(line: Line, moves: Moves) -> str:
    """Why an answer isn't right, as that of a server that mustn't be asked; "" where it is."""
    if _kind(line) in ("local", "internal") and line.answer.partition(":")[0] != line.node:
        return f"{line.answer} answered, on another node"
    if line.target == _MOVING:
        allowed = moves.allowed(line.instant, line.ended)
        if line.answer.partition(":")[0] not in allowed:
            return f"{line.answer} answered, which is no endpoint any more"
    return ""


def _failure(line: Line, step: str, error: str) -> Failure:
    return Failure(line.instant, step, line.stream, line.source, line.target, line.node, line.milliseconds, error)


def _outcome(lines: list[Line], moves: Moves, step: str) -> Outcome:
    outcome = Outcome(sent=len(lines))
    # From the first question to the last: before and after, none was asked.
    answered = [lines[0].instant, lines[-1].instant]
    before = ""
    for line in lines:
        if error := line.error or _wrong(line, moves):
            outcome.failures.append(_failure(line, step, error))
            if line.answer and line.target == _MOVING:
                outcome.stale = max(outcome.stale, moves.age(line.instant))
            continue
        outcome.late += line.milliseconds > LATE
        outcome.slowest = max(outcome.slowest, line.milliseconds)
        outcome.answers[line.answer] += 1
        outcome.strayed += _kind(line) == "sticky" and before not in ("", line.answer)
        before = line.answer
        answered.append(line.ended)
    outcome.longest_gap = max(later - sooner for sooner, later in pairwise(sorted(answered)))
    return outcome


def _health(lines: list[Line], step: str) -> Health:
    health = Health(asked=len(lines))
    since: float | None = None
    for line in lines:
        if line.error:
            health.failures.append(_failure(line, step, line.error))
            since = line.instant if since is None else since
        elif since is not None:
            health.silences.append((since, line.instant))
            since = None
    if since is not None:
        health.silences.append((since, lines[-1].instant))
    health.silent = sum(until - since for since, until in health.silences)
    return health


def _long_lived(lines: list[Line], step: str) -> LongLived:
    found = LongLived()
    since: float | None = None
    for line in lines:
        waited = line.milliseconds / 1000
        if line.error:
            found.failures.append(_failure(line, step, line.error))
            found.broken += line.error.startswith("broken")
            since = line.instant if since is None else since
        elif since is not None:
            found.opened += 1
            waited = max(waited, line.instant - since)
            since = None
        found.longest_gap = max(found.longest_gap, waited)
    found.open = int(since is None)
    return found
