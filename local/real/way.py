"""A way that is taken on real nodes, step by step: when each was, how it ended, what the kernels held in between."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from local.real import foreign, kernel
from local.real.cluster import RealCluster
from local.real.node import Node

Report = Callable[[str], None]
Action = Callable[[Path], int]
"""Does one thing, writes what it has to say to the log file, and returns an exit code."""

CALM: Final = "calm"
"""The step in which there is nothing but traffic."""

_CALM_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Held:
    """What a node's kernel held.

    Attributes:
        rules: everything of kube-proxy's, each with its place.
        socket_programs: eBPF programs that translate Services at sockets.
        foreign: somebody else's rules, as text; "" where there are none.
    """

    rules: tuple[str, ...]
    socket_programs: int
    foreign: str


@dataclass
class Step:
    """One step of a way."""

    name: str
    leg: str
    start: float
    """``time.time()``, as the traffic's instants."""
    end: float = 0.0
    code: int = 0
    held: dict[str, Held] = field(default_factory=dict)
    """By node, at the end of a calm."""

    @property
    def seconds(self) -> float:
        return self.end - self.start


class Way:
    """Steps on a cluster, in legs: there, back. Everything is written to a folder as it happens."""

    def __init__(self, cluster: RealCluster, folder: Path, report: Report = print) -> None:
        self.cluster, self.folder = cluster, folder
        self.steps: list[Step] = []
        self._report = report
        self._leg = ""
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def leg(self, name: str) -> Iterator[None]:
        """The steps of this block belong together."""
        self._leg = name
        try:
            yield
        finally:
            self._leg = ""

    def step(self, name: str, action: Action, expected: int = 0) -> Step:
        """Do one thing, and note it. Another exit code than the expected one is a fault that the step keeps."""
        self._report(f"{name} …")
        step = Step(name, self._leg, time.time())
        done = action(self.folder / f"{len(self.steps):02d}-{_file_name(name)}.log")
        step.code = 0 if done == expected else done or -1
        return self._noted(step)

    def calm(self, seconds: float = _CALM_SECONDS) -> Step:
        """Nothing but traffic; then a look into the kernels."""
        step = Step(CALM, self._leg, time.time())
        time.sleep(seconds)
        step.held = {node.name: held(node) for node in self.cluster.nodes}
        return self._noted(step)

    def of(self, leg: str) -> list[Step]:
        """The leg's steps, in order."""
        return [step for step in self.steps if step.leg == leg]

    def before(self, leg: str) -> Step:
        """The last calm before the leg's first step."""
        first = self.steps.index(self.of(leg)[0])
        return next(step for step in reversed(self.steps[:first]) if step.name == CALM)

    def at(self, instant: float) -> str:
        """The name of the step that ran then, or had just ended; "" before the first."""
        return next((step.name for step in reversed(self.steps) if step.start <= instant), "")

    @property
    def failed(self) -> list[Step]:
        """The steps that didn't end as they must."""
        return [step for step in self.steps if step.code]

    def _noted(self, step: Step) -> Step:
        step.end = time.time()
        self.steps.append(step)
        (self.folder / "steps.json").write_text(json.dumps([asdict(its) for its in self.steps], indent=1))
        self._report(f"    exit {step.code} after {step.seconds:.1f} s")
        return step


def held(node: Node) -> Held:
    """What the node's kernel holds now. RuntimeError where it can't be read."""
    found = kernel.read(node)
    return Held(tuple(kernel.kube_proxys(found)), found.socket_programs, foreign.saved(node))


def logged(command: list[str], log: Path, cwd: Path, environment: dict[str, str]) -> int:
    """Run a command with nothing to read, what it says in a log file, and return its exit code."""
    with log.open("ab") as output:
        return subprocess.run(
            command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        ).returncode


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)[:60].strip("-")
