"""Ending a cluster of real nodes. Nothing of the toolchain is needed for that, only what was noted at its start."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from local.cluster.ending import discard
from local.cluster.layout import Layout
from local.cluster.processes import Processes
from local.real import machine, namespaces, node

Report = Callable[[str], None]

HOLDERS: Final = ("fabric", "outside")
"""The processes that hold the network namespaces beside the nodes'."""


def stop(folder: Path, report: Report) -> None:
    """End it all, and leave nothing but logs in the folder, also after a start that was killed."""
    if not folder.exists():
        return
    began = time.monotonic()
    layout = Layout(folder)
    processes = Processes(layout.records, layout.logs)
    nodes, running = node.noted(folder, processes), processes.running()
    # What came into these namespaces by itself, as a run of Pulumi that was killed may have left.
    networks = {namespaces.network_of(its.pid) for its in running if its.name in HOLDERS} - {
        namespaces.network_of("self")
    }
    for its in nodes:
        its.kill()
    # Nothing of it is wanted any more: no program has to end in order.
    for process in running:
        process.signal(signal.SIGKILL)
    for pid in namespaces.members(networks):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    processes.end()
    for its in nodes:
        its.clear()
    machine.release_settings(folder)
    for name in (layout.etcd, layout.pki, layout.configurations):
        shutil.rmtree(name, ignore_errors=True)
    for name in (layout.kubeconfig, layout.settings):
        name.unlink(missing_ok=True)
    if running:
        report(f"The cluster of real nodes has ended, after {time.monotonic() - began:.1f} s.")


def remove(folder: Path, report: Report) -> None:
    """Stop, and remove the folder."""
    stop(folder, report)
    discard(folder, report)
