"""A whole cluster of real nodes in one folder: started, found again, ended without a trace."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from local.cluster import kubeconfig
from local.cluster.api import Object
from local.cluster.certificates import Pki
from local.cluster.errors import ClusterError
from local.cluster.layout import Layout
from local.cluster.processes import Processes
from local.real import control_plane, ending, images, machine, namespaces, objects
from local.real.control_plane import FabricApi, FabricCommands
from local.real.node import Node
from local.toolchain import REAL, Toolchain

Report = Callable[[str], None]

OUTSIDE_ADDRESS: Final = "10.10.0.200"
PARTS: Final = REAL
"""What it needs of the toolchain."""

_FABRIC, _OUTSIDE = ending.HOLDERS
_ROUTES: Final = {
    "iptables": (("iptables-save", "--table=nat"), "KUBE-SEP-"),
    "nftables": (("nft", "list", "table", "ip", "kube-proxy"), "endpoint-"),
    "ipvs": (("cat", "/proc/net/ip_vs"), "0A600001:"),
}
"""By kube-proxy's mode what it writes into a node's kernel for Services: how that is read, and what is in it."""
_SECONDS: Final = 120.0
_POLL: Final = 0.1


class RealCluster:
    """etcd, the API server, controllers and scheduler in a namespace of their own; nodes in theirs; a client outside.

    Every namespace lives as long as a process that is noted in the folder: nothing is mounted and nothing has a name
    on the machine but the nodes' cgroups.
    """

    def __init__(
        self,
        folder: Path,
        toolchain: Toolchain,
        nodes: int = 2,
        *,
        bridge: bool = True,
        proxy_mode: str = "iptables",
    ) -> None:
        """
        Args:
            bridge: pods have a network before Cilium comes (CNI plugin `bridge`, static routes), so nodes are Ready.
            proxy_mode: kube-proxy's: ``iptables``, ``nftables`` or ``ipvs``.
        """
        self._layout = Layout(folder.absolute())
        self._toolchain = toolchain
        self._bridge = bridge
        self._processes = Processes(self._layout.records, self._layout.logs)
        self._shape = {"nodes": nodes, "bridge": bridge, "proxy_mode": proxy_mode}
        self._mode = proxy_mode
        self.nodes = [Node(number, self._layout.folder, self._processes) for number in range(1, nodes + 1)]

    @property
    def folder(self) -> Path:
        return self._layout.folder

    @property
    def kubeconfig(self) -> Path:
        """The administrator's; its address is reached in the fabric only."""
        return self._layout.kubeconfig

    @property
    def api(self) -> FabricApi:
        pki = Pki(self._layout.pki)
        return FabricApi(
            pki, pki.client("super-admin", "kubernetes-super-admin", "system:masters"), lambda: self._pid(_FABRIC)
        )

    def in_fabric(self, command: Sequence[str]) -> list[str]:
        """A command that runs where the API server is: kubectl, helm, pulumi."""
        return [*namespaces.entered(self._pid(_FABRIC)), *command]

    def outside(self, command: Sequence[str]) -> list[str]:
        """A command that runs as a client outside the cluster."""
        return [*namespaces.entered(self._pid(_OUTSIDE)), *command]

    def kubectl(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [str(self._toolchain.kubectl), f"--kubeconfig={self.kubeconfig}", *arguments]
        environment = os.environ | {"KUBECACHEDIR": str(self._layout.folder / "kubectl")}
        return subprocess.run(self.in_fabric(command), capture_output=True, text=True, check=False, env=environment)

    def launch(self, name: str, command: Sequence[str]) -> None:
        """Start a program that ends with the cluster at the latest."""
        self._processes.start(name, command)

    def end(self, name: str) -> None:
        """Ask a program that was launched under this name to end, and wait until it has."""
        self._processes.end_only(name)

    def is_running(self) -> bool:
        return {process.name for process in self._processes.running()} >= {
            _FABRIC,
            "kube-apiserver",
            *(node.name for node in self.nodes),
        }

    def outside_ip(self, *commands: str) -> None:
        """Run commands of `ip` where the client outside is: routes to what lies behind the nodes."""
        namespaces.ip(self._toolchain.debian, self._pid(_OUTSIDE), *commands)

    def start(self, report: Report = print) -> None:
        """From nothing to a cluster whose nodes are Ready and whose Services kube-proxy routes on each of them.

        Raises:
            ClusterError: the machine lacks something, a program has ended, or it took too long.
        """
        if lacking := machine.missing() or (machine.lacks_ipvs() if self._mode == "ipvs" else ""):
            raise ClusterError(lacking)
        if self._processes.running() and (shape := json.loads(self._layout.settings.read_text())) != self._shape:
            its = ", ".join(f"{name} {value}" for name, value in shape.items())
            raise ClusterError(f"in {self.folder} another cluster of real nodes runs ({its}): end that one first")
        if self.is_running():
            report(f"The cluster of real nodes runs already, with {len(self.nodes)} nodes ({self.folder}).")
            return
        golden = images.golden(self._toolchain, report)
        # Leftovers of a start that was killed, too.
        self.stop(report)
        began = time.monotonic()
        self._layout.make()
        self._layout.settings.write_text(json.dumps(self._shape))
        machine.hold_settings(self.folder)
        pki = Pki(self._layout.pki)
        for node in self.nodes:
            node.prepare(pki, golden, bridge=self._bridge)
        self._start_fabric()
        api = self._start_control_plane(pki)
        report(f"The API server is ready after {time.monotonic() - began:.1f} s.")
        # Before the kubelets, so that each node gets the addresses that its network's configuration has.
        api.create_all([objects.node(node.number) for node in self.nodes])
        for node in self.nodes:
            node.start(self._toolchain, self._pid(_FABRIC))
        if self._bridge:
            for node in self.nodes:
                node.routes(self._toolchain, [other for other in self.nodes if other != node])
        for namespace in ("kube-public", "kube-system", "default"):
            path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
            self._wait(f"namespace {namespace} is there", partial(_exists, api, path))
        for thing in objects.kubeadm(pki.ca.certificate, self._mode):
            api.create(thing)
        if self._bridge:
            self._wait("every node is Ready", partial(_all_ready, api, "/api/v1/nodes", len(self.nodes)))
        for node in self.nodes:
            self._wait(f"kube-proxy routes on {node.name}", partial(self._is_routed, node))
        report(f"{len(self.nodes)} real nodes are ready after {time.monotonic() - began:.1f} s.")

    def stop(self, report: Report = print) -> None:
        """End it all, and leave nothing but the logs in the folder."""
        ending.stop(self.folder, report)

    def remove(self, report: Report = print) -> None:
        """Stop, and remove the folder."""
        ending.remove(self.folder, report)

    def _start_fabric(self) -> None:
        for name in (_FABRIC, _OUTSIDE):
            self._processes.start(name, namespaces.HOLDER)
            self._wait(f"{name} has its namespace", partial(self._has_own_network, name))
        fabric, outside = self._pid(_FABRIC), self._pid(_OUTSIDE)
        namespaces.ip(
            self._toolchain.debian,
            fabric,
            "link set lo up",
            "link add br0 type bridge",
            f"addr add {control_plane.ADDRESS}/24 dev br0",
            f"addr add {control_plane.OTHER_ADDRESS}/24 dev br0",
            "link set br0 up",
            f"link add outside type veth peer name eth0 netns {outside}",
            "link set outside master br0 up",
        )
        namespaces.ip(
            self._toolchain.debian,
            outside,
            "link set lo up",
            f"addr add {OUTSIDE_ADDRESS}/24 dev eth0",
            "link set eth0 up",
        )

    def _start_control_plane(self, pki: Pki) -> FabricApi:
        commands = FabricCommands(self._toolchain, self._layout, control_plane.PORTS, pki, len(self.nodes))
        self._processes.start("etcd", self.in_fabric(commands.etcd()))
        self._processes.start("kube-apiserver", self.in_fabric(commands.kube_apiserver()))
        api = self.api
        self._wait("the API server is ready", api.is_ready)
        admin = pki.client("admin", "kubernetes-admin", "kubeadm:cluster-admins")
        kubeconfig.write(self.kubeconfig, f"https://{commands.server}", "kubernetes-admin", pki, admin)
        self._processes.start("kube-controller-manager", self.in_fabric(commands.kube_controller_manager()))
        self._processes.start("kube-scheduler", self.in_fabric(commands.kube_scheduler()))
        return api

    def _is_routed(self, node: Node) -> bool:
        command, sign = _ROUTES[self._mode]
        return sign in node.run(command).stdout

    def _has_own_network(self, name: str) -> bool:
        return namespaces.network_of(self._pid(name)) != namespaces.network_of("self")

    def _pid(self, name: str) -> int:
        for process in self._processes.running():
            if process.name == name:
                return process.pid
        raise ClusterError(f"{name} doesn't run; logs are in {self._layout.logs}")

    def _wait(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _SECONDS
        while not condition():
            if ended := self._processes.ended():
                log = self._processes.log(ended[0]).read_text(errors="replace")[-1500:]
                raise ClusterError(f"{ended[0]} has ended while this was awaited: {what}\n{log}")
            if time.monotonic() > deadline:
                said = "".join(f"\n{node.name}: {node.last_words()}" for node in self.nodes)
                raise ClusterError(f"not within {_SECONDS:.0f} s: {what}; logs are in {self._layout.folder}{said}")
            time.sleep(_POLL)


def _exists(api: FabricApi, path: str) -> bool:
    try:
        api.get(path)
    except ClusterError:
        return False
    return True


def _all_ready(api: FabricApi, path: str, wanted: int) -> bool:
    items: list[Object] = api.get(path)["items"]
    ready = sum(
        any(of["type"] == "Ready" and of["status"] == "True" for of in item.get("status", {}).get("conditions") or [])
        for item in items
    )
    return ready >= wanted
