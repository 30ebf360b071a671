"""Ending a cluster. Nothing of the toolchain is needed for that, only what was noted at its start."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from local.cluster.layout import Layout
from local.cluster.processes import Processes

Report = Callable[[str], None]

NAMES: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "node-simulator", "kwok")
"""Every program of a cluster, in the order of their starts."""

# The API server waits for whoever still talks to it, and is itself a client of etcd's.
_ORDER: Final = (frozenset(NAMES[2:]), frozenset({"kube-apiserver"}))


def stop(folder: Path, report: Report) -> None:
    """End what was started in a folder, and nothing else. What the cluster held stays."""
    layout = Layout(folder)
    processes = Processes(layout.records, layout.logs)
    if running := processes.running():
        report(f"Ending {', '.join(process.name for process in running)} …")
    for name in processes.end(_ORDER):
        report(f"  {name} didn't end by itself and was killed.")


def remove(folder: Path, report: Report) -> None:
    """Stop, and remove the folder with all that the cluster held."""
    stop(folder, report)
    discard(folder, report)


def discard(folder: Path, report: Report) -> None:
    """Remove the folder of a cluster that has ended, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)
        report(f"The cluster's folder is removed ({folder}).")
