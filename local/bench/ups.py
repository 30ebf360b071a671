"""``pulumi up`` of this program beside that of a minimal one with the same Release."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from local.bench import programs
from local.bench.cluster import Cluster
from local.bench.engine import Run, Stack
from local.bench.errors import BenchError
from local.bench.figures import Ratio, Series
from local.cluster import EmbeddedCluster
from local.toolchain import Toolchain

FIRST_BOUND = 1.5
UNCHANGED_BOUND = 1.6

Report = Callable[[str], None]


@dataclass(frozen=True)
class Ups:
    """What was measured.

    Attributes:
        series: all times.
        ratios: the first `up`, and the unchanged one.
        runs: each program's last first and last unchanged `up`, by the series' titles.
    """

    series: list[Series]
    ratios: list[Ratio]
    runs: dict[str, Run]


def measure(folder: Path, toolchain: Toolchain, nodes: int, rounds: int, report: Report) -> Ups:
    """Run both programs in turn on one cluster, from the same fresh state each time."""
    cluster = EmbeddedCluster(folder / "cluster", toolchain, nodes=nodes)
    try:
        cluster.start(report)
        return _compare(folder, toolchain, cluster, nodes, rounds, report)
    finally:
        cluster.remove(report)


def switched(folder: Path, toolchain: Toolchain, cluster: EmbeddedCluster) -> Stack:
    """This program's stack for a cluster, in mode replace, not yet up."""
    stack = Stack(programs.ours(folder / "ours"), folder / "ours-home", toolchain, cluster.kubeconfig)
    stack.configure({"mode": "replace", "chart": str(toolchain.cilium_chart)})
    return stack


def _compare(
    folder: Path, toolchain: Toolchain, cluster: EmbeddedCluster, nodes: int, rounds: int, report: Report
) -> Ups:
    asked = Cluster(toolchain.kubectl, cluster.kubeconfig)
    ours = switched(folder, toolchain, cluster)
    report("Previews of both programs, not counted: Python's and the system's caches are filled …")
    release = programs.release_inputs([step["newState"] for step in ours.preview()])
    minimals = programs.minimal(folder / "minimal", release)
    minimal = Stack(minimals, folder / "minimal-home", toolchain, cluster.kubeconfig)
    minimal.preview()

    series: list[Series] = []
    runs: dict[str, Run] = {}
    for title in ("this program", "minimal program, the same Release awaited by Helm"):
        series += [Series(f"first up, {title}"), Series(f"unchanged up, {title}")]
    for number in range(1, rounds + 1):
        installed = []
        for stack, (first, unchanged) in ((ours, series[:2]), (minimal, series[2:])):
            asked.wait_until_fresh(nodes)
            for its in (first, unchanged):
                runs[its.title] = stack.up()
                its.seconds.append(runs[its.title].seconds)
                report(f"[{number}/{rounds}] {its.title}: {its.seconds[-1]:.2f} s")
            installed.append(programs.release_inputs(stack.resources()))
            stack.destroy()
        if not programs.same(*installed):
            raise BenchError("The two programs' Releases differ: what was measured can't be compared.")
    return Ups(
        series,
        [
            Ratio("first up beside the minimal program's", series[0], series[2], FIRST_BOUND),
            Ratio("unchanged up beside the minimal program's", series[1], series[3], UNCHANGED_BOUND),
        ],
        runs,
    )
