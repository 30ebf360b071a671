"""One node: its folder, its cgroups, its namespaces, and their end."""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from local.cluster import kubeconfig, network
from local.cluster.certificates import Pki
from local.cluster.errors import ClusterError
from local.cluster.processes import Process, Processes
from local.real import control_plane, images, machine, namespaces, objects
from local.toolchain import Toolchain
from local.toolchain.cache import cache_folder

_HERE: Final = Path(__file__).parent
_SECONDS: Final = 10.0
_LAST_WORDS: Final = 1500

_CONTAINERD: Final = """\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.internal.v1.opt"]
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
BinaryName = "{runc}"
"""


def noted(folder: Path, processes: Processes) -> list["Node"]:
    """The nodes that a cluster's folder has, running or not."""
    found = (path.name.removeprefix(objects.node_name("")) for path in folder.glob(objects.node_name("[0-9]*")))
    return [Node(number, folder, processes) for number in sorted(map(int, found))]


@dataclass(frozen=True)
class Node:
    """A node by its number."""

    number: int
    cluster: Path
    """The cluster's folder."""
    processes: Processes

    @property
    def name(self) -> str:
        return objects.node_name(self.number)

    @property
    def folder(self) -> Path:
        return self.cluster / self.name

    @property
    def group(self) -> str:
        """Its cgroups' name on the machine."""
        return f"kpr-{hashlib.sha256(str(self.cluster).encode()).hexdigest()[:8]}-{self.number}"

    @property
    def address(self) -> str:
        return network.node_address(self.number)

    @property
    def process(self) -> Process | None:
        """The process whose namespaces are the node's, and with which it ends."""
        return next((its for its in self.processes.running() if its.name == self.name), None)

    def prepare(self, pki: Pki, golden: Path, *, bridge: bool) -> None:
        """Write what its programs are started with."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        (self.folder / "kubelet").mkdir(exist_ok=True)
        if not (self.folder / "containerd").exists():
            images.copy(golden, self.folder / "containerd")
        runc = self.folder / "runc.sh"
        shutil.copy(_HERE / "runc.sh", runc)
        (self.folder / "containerd.toml").write_text(_CONTAINERD.format(pause=images.PAUSE, runc=runc))
        conflist = self.folder / "cni.conflist"
        conflist.unlink(missing_ok=True)
        if bridge:
            conflist.write_text(objects.cni(self.number))
        client = pki.client(self.name, f"system:node:{self.name}", "system:nodes")
        kubeconfig.write(self.folder / "kubelet.kubeconfig", f"https://{control_plane.SERVER}", self.name, pki, client)
        serving = pki.server(f"{self.name}-serving", [self.name, self.address])
        (self.folder / "kubelet.yaml").write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "kubelet.config.k8s.io/v1beta1",
                    "kind": "KubeletConfiguration",
                    "authentication": {
                        "anonymous": {"enabled": False},
                        "webhook": {"enabled": True},
                        "x509": {"clientCAFile": str(pki.ca.certificate)},
                    },
                    "authorization": {"mode": "Webhook"},
                    "cgroupDriver": "cgroupfs",
                    "clusterDNS": ["10.96.0.10"],
                    "clusterDomain": "cluster.local",
                    "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
                    "enforceNodeAllocatable": ["pods"],
                    "evictionHard": {
                        "memory.available": "50Mi",
                        "nodefs.available": "1%",
                        "imagefs.available": "1%",
                        "nodefs.inodesFree": "1%",
                        "imagefs.inodesFree": "1%",
                    },
                    "failCgroupV1": False,
                    "failSwapOn": False,
                    "imageGCHighThresholdPercent": 100,
                    "oomScoreAdj": 0,
                    "resolvConf": "",
                    "tlsCertFile": str(serving.certificate),
                    "tlsPrivateKeyFile": str(serving.key),
                }
            )
        )

    def start(self, toolchain: Toolchain, fabric: int) -> None:
        """Start it, and join its network to the fabric's bridge."""
        ready = self.folder / "network-is-there"
        ready.unlink(missing_ok=True)
        controllers = machine.controllers()
        for controller in controllers:
            group = machine.CGROUPS / controller / self.group
            group.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):
                if (group / name).exists():
                    (group / name).write_text((group.parent / name).read_text())
        words = {
            "NODE": self.name,
            "FOLDER": self.folder,
            "ADDRESS": self.address,
            "GROUP": self.group,
            "CONTROLLERS": " ".join(controllers),
            "RUN": ready,
            "KUBELET": toolchain.kubelet,
            "LOWER": f"{toolchain.debian.more}:{toolchain.debian.base}",
            # The cluster's folder, as there are certificates in it, and the cache, whose programs run in pods.
            "SHARED": f"{self.cluster}\n{cache_folder()}",
        }
        environment = [f"{name}={value}" for name, value in words.items()]
        self.processes.start(self.name, ["/usr/bin/env", *environment, str(_HERE / "node.sh")])
        pid = self._own_network(fabric)
        namespaces.ip(
            toolchain.debian,
            fabric,
            f"link add {self.name} type veth peer name eth0 netns {pid}",
            f"link set {self.name} master br0 up",
        )
        namespaces.ip(
            toolchain.debian,
            pid,
            "link set lo up",
            f"addr add {self.address}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {control_plane.ADDRESS}",
        )
        ready.touch()

    def routes(self, toolchain: Toolchain, others: Sequence["Node"]) -> None:
        """Static routes to the other nodes' pods, as the bridge network has no other way."""
        process = self._running()
        namespaces.ip(
            toolchain.debian,
            process.pid,
            *(f"route add {objects.pod_range(other.number)} via {other.address}" for other in others),
        )

    def joined(self, command: Sequence[str]) -> list[str]:
        """A command that runs as a process of the node's own: in its network and its cgroups."""
        group = machine.CGROUPS / "unified" / self.group / "cgroup.procs"
        return [
            "/bin/sh",
            "-c",
            'echo $$ >"$0"; exec "$@"',
            str(group),
            *namespaces.entered(self._running().pid),
            *command,
        ]

    def run(self, command: Sequence[str], said: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a command in all of the node's namespaces, with this on its standard input."""
        enter = ["/usr/bin/nsenter", f"--target={self._first()}", "--all", "--"]
        return subprocess.run([*enter, *command], input=said, capture_output=True, text=True, check=False)

    def inside(self, path: str) -> Path:
        """Where this machine sees a file of the node's."""
        return Path(f"/proc/{self._first()}/root", path)

    def last_words(self) -> str:
        """What its containerd and its kubelet said last, for who waits for the node."""
        logs = [self.folder / f"{name}.log" for name in ("containerd", "kubelet")]
        return "\n".join(log.read_text(errors="replace")[-_LAST_WORDS:] for log in logs if log.exists())

    def kill(self) -> None:
        """As a power cut: everything in the node ends."""
        if process := self.process:
            process.signal(signal.SIGKILL)

    def clear(self) -> None:
        """Wait until what was killed is gone, and remove what is left of it: cgroups, and files but for the logs."""
        deadline = time.monotonic() + _SECONDS
        while self._members() and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in self._members():
            # Left by a start that was killed between the cgroup and the namespace.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._remove_groups()
        for name in ("containerd", "kubelet", "over", "work", "root"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _own_network(self, fabric: int) -> int:
        """The pid, once the process is in a network of its own."""
        before = namespaces.network_of(fabric), namespaces.network_of("self")
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            process = self._running()
            with contextlib.suppress(OSError):
                if namespaces.network_of(process.pid) not in before:
                    return process.pid
            time.sleep(0.02)
        raise ClusterError(f"{self.name} came to no network of its own")

    def _first(self) -> str:
        """The pid, on this machine, of the node's process 1; raises ClusterError where it doesn't run."""
        pid = self._running().pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not children:
            raise ClusterError(f"{self.name} has no process 1 yet")
        return children[0]

    def _running(self) -> Process:
        process = self.process
        if process is None:
            log = self.processes.log(self.name)
            raise ClusterError(f"{self.name} doesn't run: {log.read_text()[-500:] if log.exists() else ''}")
        return process

    def _members(self) -> list[int]:
        found: set[int] = set()
        for controller in machine.controllers():
            for file in (machine.CGROUPS / controller / self.group).rglob("cgroup.procs"):
                with contextlib.suppress(OSError):
                    found |= {int(pid) for pid in file.read_text().split()}
        return sorted(found)

    def _remove_groups(self) -> None:
        deadline = time.monotonic() + _SECONDS
        for controller in machine.controllers():
            top = machine.CGROUPS / controller / self.group
            while top.exists():
                for folder in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
                    with contextlib.suppress(OSError):
                        folder.rmdir()
                with contextlib.suppress(OSError):
                    top.rmdir()
                if time.monotonic() > deadline:
                    return
                if top.exists():
                    time.sleep(0.1)
