"""What a cluster of real nodes refuses to start, and what its end leaves; no node is started here."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.cluster import ClusterError
from local.cluster.layout import Layout
from local.cluster.processes import Process, Processes
from local.real import RealCluster, ending, machine, namespaces
from local.toolchain import ensure


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A cluster's folder, on a machine that lacks nothing and whose settings are nobody's."""
    monkeypatch.setattr(machine, "missing", lambda: "")
    monkeypatch.setattr(machine, "_RUN", tmp_path)
    monkeypatch.setattr(machine, "_NOTE", tmp_path / "note.json")
    its = Layout(tmp_path / "real")
    its.make()
    return its


@pytest.fixture
def fabric(layout: Layout) -> Iterator[Process]:
    """A process that was noted as a cluster's first one is."""
    processes = Processes(layout.records, layout.logs)
    processes.start("fabric", ["/usr/bin/sleep", "60"])
    [process] = processes.running()
    yield process
    processes.end()


def cluster(layout: Layout) -> RealCluster:
    return RealCluster(layout.folder, ensure([]), 2)


def test_another_size_doesnt_take_a_running_clusters_place(layout: Layout, fabric: Process) -> None:
    layout.settings.write_text(json.dumps({"nodes": 3, "bridge": True, "proxy_mode": "nftables"}))
    with pytest.raises(ClusterError, match=r"another cluster of real nodes runs .nodes 3, bridge True, proxy_mode nft"):
        cluster(layout).start()
    assert fabric.is_running


def test_what_the_machine_lacks_is_said_before_anything_is_done(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "missing", lambda: "real nodes need root")
    with pytest.raises(ClusterError, match=r"^real nodes need root$"):
        cluster(layout).start()
    assert not layout.settings.exists()


def test_a_mode_that_the_kernel_lacks_is_refused(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "lacks_ipvs", lambda: "no IPVS here")
    with pytest.raises(ClusterError, match=r"^no IPVS here$"):
        RealCluster(layout.folder, ensure([]), proxy_mode="ipvs").start()


def test_the_end_leaves_logs_alone(layout: Layout, fabric: Process) -> None:
    for path in (layout.kubeconfig, layout.settings, layout.pki / "ca.key", layout.etcd / "db", layout.logs / "a.log"):
        path.write_text("")
    (layout.folder / "node-1" / "over" / "etc").mkdir(parents=True)
    (layout.folder / "node-1" / "kubelet.log").write_text("")
    ending.stop(layout.folder, lambda _: None)
    assert not fabric.is_running
    left = sorted(str(path.relative_to(layout.folder)) for path in layout.folder.rglob("*") if path.is_file())
    assert left == ["logs/a.log", "logs/fabric.log", "node-1/kubelet.log"]
    assert not (layout.folder / "node-1" / "over").exists()


def test_what_has_come_into_a_clusters_network_ends_with_it(
    layout: Layout, fabric: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a run of Pulumi that was killed may have left: it is noted nowhere."""
    stranger = Processes(layout.folder.parent / "elsewhere", layout.logs)
    (layout.folder.parent / "elsewhere").mkdir()
    stranger.start("stranger", ["/usr/bin/sleep", "60"])
    [process] = stranger.running()
    networks = {fabric.pid: 7, process.pid: 7}
    monkeypatch.setattr(namespaces, "network_of", lambda pid: 1 if pid == "self" else networks.get(int(pid), 1))
    ending.stop(layout.folder, lambda _: None)
    deadline = time.monotonic() + 5
    while process.is_running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not process.is_running


def test_without_a_cluster_there_is_nothing_to_end(tmp_path: Path) -> None:
    said: list[str] = []
    ending.remove(tmp_path / "none", said.append)
    assert said == []
