"""The status of many agents: read by this program, and by ``kubectl exec``."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from local.bench.cluster import Cluster
from local.bench.errors import BenchError
from local.bench.figures import Ratio, Series
from local.bench.ups import Report, switched
from local.cluster import EmbeddedCluster
from local.toolchain import Toolchain

BOUND = 0.2
"""A fifth."""

_TRIES = 3
"""On a machine with much else to do kubectl has lost an answer and said nothing of it (seen once in 700)."""

_ROOT = Path(__file__).resolve().parents[2]
_STATUS = ("cilium-dbg", "status", "-o", "json")


@dataclass(frozen=True)
class Status:
    """What was measured.

    Attributes:
        series: all times.
        ratios: ours beside kubectl's.
        where: a line for each of our ways, on what its last time was spent.
    """

    series: list[Series]
    ratios: list[Ratio]
    where: list[str]


def measure(folder: Path, toolchain: Toolchain, nodes: int, rounds: int, report: Report) -> Status:
    """Switch a cluster of this many nodes, then read its agents in turn by each of the ways."""
    cluster = EmbeddedCluster(folder / "cluster", toolchain, nodes=nodes)
    try:
        cluster.start(report)
        run = switched(folder, toolchain, cluster).up()
        report(f"{nodes} nodes are switched after {run.seconds:.1f} s; reading their agents …")
        return _compare(Cluster(toolchain.kubectl, cluster.kubeconfig), cluster.kubeconfig, nodes, rounds, report)
    finally:
        cluster.remove(report)


def _compare(cluster: Cluster, kubeconfig: Path, nodes: int, rounds: int, report: Report) -> Status:
    where: dict[str, str] = {}

    def by(which: str, of: str = "") -> Callable[[], int]:
        def read() -> int:
            said = _read(which, kubeconfig)
            where[which] = (
                f"{of}: {said['imports']:.2f} s imports, {said['reading']:.2f} s reading; "
                f"of both {said['processor']:.2f} s of processors in this process, the rest in the cluster's"
            )
            return int(said["replacing"])

        return read

    def execs(at_a_time: int) -> Callable[[], int]:
        return lambda: _exec_all(cluster, at_a_time)

    ways = [
        (Series(f"{nodes} agents, this program, status"), by("status", "status alone")),
        (
            Series(f"{nodes} agents, this program, status, endpoints and rules"),
            by("all", "all that it reads: status, endpoints, rules"),
        ),
        (Series(f"{nodes} agents, a loop of kubectl exec, status"), execs(1)),
        (Series(f"{nodes} agents, kubectl exec, 10 at a time, status"), execs(10)),
    ]
    by("status")()  # not counted: Python's caches are filled
    for number in range(1, rounds + 1):
        for series, way in ways:
            began = time.monotonic()
            count = way()
            series.seconds.append(time.monotonic() - began)
            report(f"[{number}/{rounds}] {series.title}: {series.seconds[-1]:.2f} s")
            if count != nodes:
                raise BenchError(f"{series.title}: {count} of {nodes} were read and said True.")
    plain, everything, loop, parallel = (series for series, _ in ways)
    ratios = [
        Ratio("status beside a loop of kubectl exec, like for like", plain, loop, BOUND, where["status"]),
        Ratio("all that this program reads beside that loop", everything, loop, BOUND, where["all"]),
        Ratio("status beside kubectl exec, 10 at a time, like for like", plain, parallel, None),
        Ratio("all that this program reads beside those", everything, parallel, None),
    ]
    return Status([plain, everything, loop, parallel], ratios, list(where.values()))


def _read(which: str, kubeconfig: Path) -> dict[str, float]:
    """What `reading` says, in a process of its own, as kubectl's are."""
    command = [sys.executable, "-m", "local.bench.reading", which]
    environment = os.environ | {"KUBECONFIG": str(kubeconfig)}
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"The agents couldn't be read: {done.stderr.strip()}")
    said: dict[str, float] = json.loads(done.stdout)
    return said


def _exec_all(cluster: Cluster, at_a_time: int) -> int:
    """How many agents say that they replace kube-proxy."""

    def replaces(pod: str) -> bool:
        command = [*cluster.kubectl, "exec", "--namespace=kube-system", pod, "--container=cilium-agent", "--", *_STATUS]
        for _ in range(_TRIES):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.stdout:
                return not done.returncode and json.loads(done.stdout)["kube-proxy-replacement"]["mode"] == "True"
        return False

    with ThreadPoolExecutor(at_a_time) as pool:
        return sum(pool.map(replaces, cluster.agents()))
