"""Many nodes handed over some at a time, beside a roll-out by Helm that may take as many at a time.

Both restart every agent of one cluster, whose agents take as long to get ready as real ones. Measured once each: nearly
all of it is waiting for them. Helm's way goes on when an agent is Ready, ours when its endpoints are ready too: until
then it doesn't route everything. So ours is measured as it is, and once more where the endpoints are ready with their
agents: there both wait for the same, and that has a bound.
"""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from local.bench.engine import Run
from local.bench.errors import BenchError
from local.bench.figures import Ratio, Series
from local.bench.ups import Report, switched
from local.cluster import EmbeddedCluster
from local.toolchain import Toolchain

BOUND = 1.15

_AT_A_TIME = 10
_AGENT_READY = 15.0
"""Seconds from an agent's start until it is Ready."""
_ENDPOINTS_DELAY = "simulator/endpoint-delay"
_STEP = "-hand-over"
_LONGEST = 3600


@dataclass(frozen=True)
class Nodes:
    """What was measured.

    Attributes:
        series: all times.
        ratios: ours beside Helm's.
        runs: both ways, by their titles.
    """

    series: list[Series]
    ratios: list[Ratio]
    runs: dict[str, Run]


def measure(folder: Path, toolchain: Toolchain, nodes: int, report: Report) -> Nodes:
    """There, back and there node by node, then a roll-out by Helm, on one cluster of this many nodes."""
    cluster = EmbeddedCluster(folder / "cluster", toolchain, nodes=nodes, agent_ready=_AGENT_READY)
    title = f"{nodes} nodes, {_AT_A_TIME} at a time"
    try:
        cluster.start(report)
        stack = switched(folder, toolchain, cluster)
        stack.configure({"mode": "coexist", "strategy": "node-by-node", "nodeByNode.batchSize": str(_AT_A_TIME)})
        report(f"{nodes} nodes with Cilium beside kube-proxy after {stack.up().seconds:.1f} s")
        runs = {}
        for mode, leg in (("replace", "handed over"), ("coexist", "handed back"), ("replace", "handed over, alike")):
            if leg.endswith("alike"):
                _endpoints_come_with_their_agents(toolchain, cluster)
            stack.configure({"mode": mode})
            runs[f"{title}, {leg}"] = stack.up()
            report(f"{title}, {leg}: {_of_the_step(runs[f'{title}, {leg}']):.1f} s")
        helm = Series(f"{title}, a roll-out by Helm, maxUnavailable {_AT_A_TIME}")
        helm.seconds.append(_rolled_out(folder, toolchain, cluster))
        report(str(helm))
    finally:
        cluster.remove(report)
    steps = [Series(f"{its}: the step", [_of_the_step(run)]) for its, run in runs.items()]
    wholes = [Series(f"{its}: the whole `pulumi up`", [run.seconds]) for its, run in runs.items()]
    there, back, alike = steps
    helms = "beside a roll-out by Helm"
    return Nodes(
        [*steps, *wholes, helm],
        [
            Ratio(f"nodes handed over, endpoints ready with their agents, {helms}", alike, helm, BOUND),
            Ratio(f"nodes handed over {helms}", there, helm, None),
            Ratio(f"nodes handed back {helms}", back, helm, None),
            Ratio(f"the whole `pulumi up` there {helms}", wholes[0], helm, None),
        ],
        runs,
    )


def _endpoints_come_with_their_agents(toolchain: Toolchain, cluster: EmbeddedCluster) -> None:
    command = [str(toolchain.kubectl), f"--kubeconfig={cluster.kubeconfig}", "annotate", "nodes", "--all"]
    done = subprocess.run([*command, f"{_ENDPOINTS_DELAY}=0"], capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"kubectl annotate failed: {done.stderr.strip()}")


def _of_the_step(run: Run) -> float:
    """Seconds from the end of the step before it to its own: its backup and its last cleaning are in it."""
    its = [span.seconds for span in run.spans if span.title.startswith("update: ") and _STEP in span.title]
    if not its:
        raise BenchError(f"No step of this run was {_STEP}.")
    return sum(its)


def _rolled_out(folder: Path, toolchain: Toolchain, cluster: EmbeddedCluster) -> float:
    """Seconds until Helm has restarted every agent, with the same release and chart."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))}
    environment |= {f"HELM_{its}_HOME": str(folder / "helm") for its in ("CACHE", "CONFIG", "DATA")}
    environment |= {"KUBECONFIG": str(cluster.kubeconfig), "KUBECACHEDIR": str(folder / "kubectl")}
    upgrade = [str(toolchain.helm), "upgrade", "cilium", str(toolchain.cilium_chart), "--namespace=kube-system"]
    settings = (f"updateStrategy.rollingUpdate.maxUnavailable={_AT_A_TIME}", "podAnnotations.rolled=out")
    # Helm's own --wait ends while the last ones aren't ready yet
    status = [str(toolchain.kubectl), "rollout", "status", "daemonset/cilium", "--namespace=kube-system"]
    began = time.monotonic()
    for command in (
        [*upgrade, "--reuse-values", *(f"--set={its}" for its in settings)],
        [*status, f"--timeout={_LONGEST}s"],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise BenchError(f"{command[0]} {command[1]} failed: {done.stderr.strip()}")
    return time.monotonic() - began
