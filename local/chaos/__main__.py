"""``python -m local.chaos``: run after run, each disturbed at an instant that a seed draws, each done again.

The last line is `N of N converged`; exit status 0 where all did, 1 where one didn't, 2 where it couldn't be tried. A
call after one that was interrupted goes on where that stopped.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from http.client import HTTPException
from itertools import islice
from pathlib import Path
from typing import Final, get_args

from local import clone, lock
from local.chaos import plan as plans
from local.chaos.errors import ChaosError
from local.chaos.plan import STEPS, Plan, Strategy
from local.chaos.progress import Progress, Result
from local.chaos.world import World
from local.cluster import ClusterError, EmbeddedCluster, ending
from local.toolchain import Toolchain, ToolchainError, ensure

_NODES: Final = 3
_LAST_LINES: Final = 40
_RUNS: Final = 50
_SEED: Final = 7

_REFRESH: Final = "with --refresh"

_UNINSTALLED: Final = ("Release not loaded: cilium: release: not found", "Run the same command with --refresh")
"""Helm had uninstalled, and the run was killed before the state knew: then one refreshes, as the docs say."""


def main(arguments: list[str]) -> int:
    """Do what the command line says."""
    told = _parsed(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended then too
    folder = clone.FOLDER / "chaos"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = f"seed-{told.seed}" + (f"-from-{told.first}" if told.first else "")
    name += f"-{told.strategy}" if told.strategy else ""
    progress = Progress(folder / f"{name}.json", told.seed)
    wanted = range(told.first or 1, (told.first or 1) + told.runs)
    if all(number in progress.results for number in wanted):
        progress.forget()
    try:
        with lock.held("chaos", f"chaos/{name}.lock"):
            _go(folder / name, told.seed, wanted, progress, told.strategy)
    except (ChaosError, ClusterError, ToolchainError, lock.BusyError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted. What was started is ended; the same command goes on from here.", file=sys.stderr)
        return 130
    return _summed_up([progress.results[number] for number in wanted])


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.chaos", description="Runs that are cut off, done again.")
    runs, seed, first, strategy = (os.environ.get(name) or None for name in ("RUNS", "SEED", "FROM", "STRATEGY"))
    parser.add_argument("--runs", type=int, default=int(runs or _RUNS), help=f"how many ({_RUNS})")
    parser.add_argument("--seed", type=int, default=int(seed or _SEED), help=f"what draws them ({_SEED})")
    parser.add_argument("--from", type=int, dest="first", default=int(first or 0), help="the first one's number")
    parser.add_argument("--strategy", choices=get_args(Strategy), default=strategy, help="of all of them (drawn)")
    return parser.parse_args(arguments)


def _go(folder: Path, seed: int, wanted: range, progress: Progress, strategy: Strategy | None) -> None:
    toolchain = ensure(report=_say)
    todo = [its for its in islice(plans.draw(seed, strategy), wanted.stop - 1) if its.number in wanted]
    todo = [its for its in todo if its.number not in progress.results]
    if len(todo) < len(wanted):
        _say(f"{len(wanted) - len(todo)} of {len(wanted)} runs are done; going on with number {todo[0].number}.")
    left = deque(todo)
    for world in _worlds(folder, toolchain):
        while left:
            plan = left.popleft()
            result = _one(world, plan)
            progress.note(result)
            _tell(result, seed, strategy)
            if result.problems:
                _keep(folder, plan.number)
                break  # the next one on a new cluster
        if not left:
            return


def _worlds(folder: Path, toolchain: Toolchain) -> Iterator[World]:
    """A cluster, and another one when it is asked for the next."""
    while True:
        ending.remove(folder / "cluster", _say)  # what a call that was killed has left
        shutil.rmtree(folder / "stack", ignore_errors=True)
        (folder / "stack" / "first").mkdir(parents=True)
        cluster = EmbeddedCluster(folder / "cluster", toolchain, nodes=_NODES)
        with ExitStack() as ends:
            ends.callback(cluster.remove, _say)
            cluster.start(_say)
            world = World(folder / "stack", cluster, toolchain)
            ends.callback(cluster.kill, "kube-apiserver")  # else it waits for the watches to end
            ends.callback(world.end)
            yield world


def _one(world: World, plan: Plan) -> Result:
    began, changes, unseen = time.monotonic(), world.changes, world.unseen
    fell, what, problems = "", "", []
    try:
        world.bring(plan.start, owned=plan.owned, strategy=plan.strategy)
        problems += [f"on the way to the start: {its}" for its in world.broken()]
        began = time.monotonic()
        if plan.halfway:
            world.disturbed(plan.halfway.command, "kill everything", plan.halfway.instant, plan)
        first, disturbance = world.disturbed(plan.command, plan.kind, plan.instant, plan)
        fell, what = disturbance.fell, f"{disturbance.what or 'nothing: it was over before'} (exit code {first.code})"
        again = world.undisturbed(plan.command)
        if again.code and any(words in again.text for words in _UNINSTALLED):
            what += f"; again {_REFRESH}"
            again = world.undisturbed(plan.command, "--refresh")
        if again.code:
            last = "\n".join(again.text.strip().splitlines()[-_LAST_LINES:])
            problems.append(f"the same command again ends with exit code {again.code}:\n{last}")
        else:
            problems += world.problems(plan.command)
        problems += world.broken()
    except (ChaosError, ClusterError, OSError, HTTPException) as error:
        problems.append(f"it couldn't be looked at: {error or type(error).__name__}")
    return Result(
        number=plan.number,
        plan=str(plan),
        fell=fell,
        what=what,
        problems=problems,
        seconds=round(time.monotonic() - began, 1),
        changes=world.changes - changes,
        unseen=world.unseen - unseen,
    )


def _keep(folder: Path, number: int) -> None:
    """What the engine said in a run that failed, for a look."""
    kept = folder / f"failed-{number}"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(folder / "stack" / "first" / "logs", kept)
    shutil.copyfile(folder / "cluster" / "logs" / "audit.log", kept / "audit.log")


def _tell(result: Result, seed: int, strategy: Strategy | None) -> None:
    word = "NOT converged" if result.problems else "converged"
    _say(f"[{result.number}] {result.plan}\n    {result.what}; {word}, {result.seconds:.0f} s")
    for problem in result.problems:
        _say("    " + problem.replace("\n", "\n      "))
    if result.problems:
        more = f" STRATEGY={strategy}" if strategy else ""
        again = f"make chaos RUNS=1 SEED={seed} FROM={result.number}{more}"
        _say(f"    again: {again} (the instant fell into «{result.fell}»)")


def _summed_up(results: list[Result]) -> int:
    fell = Counter(its.fell for its in results)
    what = Counter(its.what.partition(" (exit")[0] for its in results)
    _say("\nInstants by step:")
    _lines((step, fell[step]) for step in STEPS)
    if fell[""]:
        _say(f"  {'(over before)':<24} {fell['']:>4}")
    _say("What was done:")
    _lines(sorted(_grouped(what).items()))
    seconds = sorted(its.seconds for its in results)
    _say(f"Seconds of a run: median {seconds[len(seconds) // 2]:.0f}, longest {seconds[-1]:.0f}.")
    changes, unseen = sum(its.changes for its in results), sum(its.unseen for its in results)
    _say(f"Changes of the cluster that were followed: {changes}, {unseen} of them while the API server was away.")
    refreshed = sum(1 for its in results if its.what.endswith(_REFRESH))
    _say(f"Again {_REFRESH}, where Helm had uninstalled before the state knew it: {refreshed}.")
    good = sum(1 for its in results if not its.problems)
    for its in results:
        if its.problems:
            _say(f"NOT converged: run {its.number}, in «{its.fell}»: {its.problems[0].splitlines()[0]}")
    _say(f"{good} of {len(results)} converged")
    return 0 if good == len(results) else 1


def _grouped(what: Counter[str]) -> Counter[str]:
    """Without the seconds, names and counts of each."""
    found: Counter[str] = Counter()
    for words, count in what.items():
        kind = next((its for its in plans.KINDS if words.startswith(its)), words)
        found["pod deleted" if words.startswith("pod ") else kind] += count
    return found


def _lines(counted: Iterable[tuple[str, int]]) -> None:
    for name, count in counted:
        _say(f"  {name:<24} {count:>4}")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
