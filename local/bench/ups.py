"""``pulumi up`` of this program beside that of a minimal one with the same Release."""

from collections.abc import Callable
from contextlib import ExitStack
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

_MOST = 4

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
    """Run both programs in turn, each on a cluster of its own, so that what is compared is seconds apart."""
    with ExitStack() as ending:
        clusters = []
        for name in ("cluster", "minimal-cluster"):
            cluster = EmbeddedCluster(folder / name, toolchain, nodes=nodes)
            ending.callback(cluster.remove, report)
            cluster.start(report)
            clusters.append(cluster)
        report("Previews of both programs, not counted: Python's and the system's caches are filled …")
        ours = switched(folder, toolchain, clusters[0])
        release = programs.release_inputs([step["newState"] for step in ours.preview()])
        project = programs.minimal(folder / "minimal", release, clusters[1].server)
        minimal = Stack(project, folder / "minimal-home", toolchain, clusters[1].kubeconfig)
        minimal.preview()
        asked = [Cluster(toolchain.kubectl, cluster.kubeconfig) for cluster in clusters]
        return _compare(ours, minimal, asked, nodes, rounds, report)


def switched(folder: Path, toolchain: Toolchain, cluster: EmbeddedCluster) -> Stack:
    """This program's stack for a cluster, in mode replace, not yet up."""
    stack = Stack(programs.ours(folder / "ours"), folder / "ours-home", toolchain, cluster.kubeconfig)
    stack.configure({"mode": "replace", "chart": str(toolchain.cilium_chart)})
    return stack


def _compare(ours: Stack, minimal: Stack, asked: list[Cluster], nodes: int, rounds: int, report: Report) -> Ups:
    series: list[Series] = []
    runs: dict[str, Run] = {}
    for its in ("first", "unchanged"):
        series += [
            Series(f"{its} up, this program"),
            Series(f"{its} up, minimal program, the same Release awaited by Helm"),
        ]
    for number in range(1, rounds + 1):
        for cluster in asked:
            cluster.wait_until_fresh(nodes)
        for stack, its_series in zip((ours, minimal) * 2, series, strict=True):
            run = runs[its_series.title] = stack.up()
            its_series.seconds.append(run.seconds)
            report(f"[{number}/{rounds}] {its_series.title}: {run.seconds:.2f} s")
        if not programs.same(*(programs.release_inputs(stack.resources()) for stack in (ours, minimal))):
            raise BenchError("The two programs' Releases differ: what was measured can't be compared.")
        for stack in (ours, minimal):
            stack.destroy()

    def most(its: Series) -> str:
        spans = sorted(runs[its.title].spans, key=lambda span: span.seconds, reverse=True)
        return ", ".join(f"{span.seconds:.1f} s {span.title}" for span in spans[:_MOST])

    return Ups(
        series,
        [
            Ratio("first up beside the minimal program's", series[0], series[1], FIRST_BOUND, most(series[0])),
            Ratio("unchanged up beside the minimal program's", series[2], series[3], UNCHANGED_BOUND, most(series[2])),
        ],
        runs,
    )
