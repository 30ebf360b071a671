"""`make up-real`: from nothing to a cluster of real nodes."""

from collections.abc import Callable

from local import clone
from local.cluster.errors import ClusterError
from local.real import machine
from local.real.cluster import PARTS, RealCluster
from local.toolchain import ensure

Report = Callable[[str], None]


def run(nodes: int, report: Report) -> None:
    """Everything that isn't there yet; what is missing on this machine before anything is built."""
    if lacking := machine.missing():
        raise ClusterError(lacking)
    report("[1/2] The toolchain")
    toolchain = ensure(PARTS, report)
    report("[2/2] The cluster of real nodes")
    RealCluster(clone.REAL, toolchain, nodes).start(report)
    fabric = clone.REAL.relative_to(clone.ROOT) / "run" / "fabric"
    report(
        "Next: make bench-real; make down-real. Its API server is reached in its own network alone:\n"
        f"  nsenter --net=/proc/$(cut -d' ' -f1 {fabric})/ns/net "
        f"kubectl --kubeconfig {clone.REAL.relative_to(clone.ROOT)}/kubeconfig get pods -A"
    )
