"""``python -m local.bench``: measure, and say whether every bound held.

Each thing is measured several times, in turn with what it is set beside, so that what else the machine does falls on
both. Bounds are on the ratios of the medians. Exit status 0 where all held, 1 where one didn't, 2 where it couldn't be
measured.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from local.bench import imports, nodes, status, ups
from local.bench.engine import Run
from local.bench.errors import BenchError
from local.bench.figures import Ratio
from local.cluster import ClusterError
from local.toolchain import ToolchainError, ensure

_SHORTEST = 0.05
_BUSY = 1.5


def main(arguments: list[str]) -> int:
    """Do what the command line says."""
    told = _parsed(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended then too
    try:
        with tempfile.TemporaryDirectory(prefix="kube-proxy-replacement-bench-") as folder:
            ratios = _measured(Path(folder), told)
    except (BenchError, ClusterError, ToolchainError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted. What was started is ended.", file=sys.stderr)
        return 130
    load, count = os.getloadavg()[1], os.cpu_count() or 1
    if load > _BUSY * count:
        print(f"This machine had much else to do: a load of {load:.0f} on {count} processors. Ratios are rough.")
    failed = [f"{its.title}: {its.value:.2f} instead of {its.bound} ({its.where})" for its in ratios if not its.held]
    print(f"bounds: NOT held: {'; '.join(failed)}" if failed else "bounds: all held")
    return 1 if failed else 0


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.bench", description="How fast the program is.")
    parser.add_argument("--rounds", type=int, default=3, help="how often each thing is measured (3)")
    parser.add_argument("--nodes", type=int, default=3, help="nodes of the cluster for `pulumi up` (3)")
    parser.add_argument("--agents", type=int, default=100, help="nodes of the other two clusters (100)")
    parser.add_argument("--only", choices=("up", "status", "nodes"), help="one of the three parts")
    parser.add_argument("--where", action="store_true", help="say where the time goes also where every bound held")
    return parser.parse_args(arguments)


def _measured(folder: Path, told: argparse.Namespace) -> list[Ratio]:
    toolchain = ensure(report=_say)
    ratios: list[Ratio] = []
    if told.only in (None, "up"):
        found = ups.measure(_made(folder / "up"), toolchain, told.nodes, told.rounds, _say)
        _show([*found.series, *found.ratios])
        ratios += found.ratios
        if told.where or not all(its.held for its in found.ratios):
            _where(found.runs, told.rounds)
    if told.only in (None, "status"):
        read = status.measure(_made(folder / "status"), toolchain, told.agents, told.rounds, _say)
        _show([*read.series, *read.ratios])
        ratios += read.ratios
        if told.where or not all(its.held for its in read.ratios):
            _show(read.where)
    if told.only in (None, "nodes"):
        went = nodes.measure(_made(folder / "nodes"), toolchain, told.agents, _say)
        _show([*went.series, *went.ratios])
        ratios += went.ratios
        if told.where or not all(its.held for its in went.ratios):
            _where(went.runs, told.rounds)
    return ratios


def _where(runs: dict[str, Run], rounds: int) -> None:
    """Where the time went, in the last round."""
    for title, run in runs.items():
        print(f"\n{title}: {run.seconds:.2f} s, {run.processor:.2f} s of processors; at least {_SHORTEST:.2f} s each:")
        for span in run.spans:
            if span.seconds >= _SHORTEST:
                print(f"  {span.seconds:7.2f} s  {span.title}")
    _show(imports.measure(rounds))


def _show(lines: Sequence[object]) -> None:
    print()
    for line in lines:
        print(line)
    print(flush=True)


def _say(line: str) -> None:
    print(line, flush=True)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
