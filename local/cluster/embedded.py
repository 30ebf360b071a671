"""A whole cluster in one folder: started, found again, ended."""

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from local.cluster import ending, kubeconfig, objects
from local.cluster.api import Api, Object
from local.cluster.certificates import Pki
from local.cluster.commands import Commands, Programs
from local.cluster.errors import ClusterError, PortTakenError
from local.cluster.layout import Layout
from local.cluster.ports import LOOPBACK, Ports
from local.cluster.processes import Processes

Report = Callable[[str], None]

__all__ = ["EmbeddedCluster", "Programs"]

_API_SERVER: Final = "kube-apiserver"
_NODE_LEASES: Final = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_POLL_SECONDS: Final = 0.1
_CONTROL_PLANE_SECONDS: Final = 60.0
_SECONDS: Final = 90.0
_SECONDS_PER_NODE: Final = 1.0
_PORT_TRIES: Final = 3
_LOG_LINES: Final = 15


class EmbeddedCluster:
    """A cluster that looks as `kubeadm init` leaves one, with simulated nodes, on loopback.

    Args:
        folder: for all that it holds and writes.
        agent_ready: how long after its start a Cilium agent is Ready, in seconds; real ones take about 15.
    """

    def __init__(self, folder: Path, toolchain: Programs, nodes: int = 3, agent_ready: float = 1.0) -> None:
        if nodes < 1:
            raise ValueError("a cluster has at least one node")
        self._layout = Layout(folder.absolute())
        self._programs = toolchain
        self._nodes = nodes
        self._agent_ready = agent_ready
        self._processes = Processes(self._layout.records, self._layout.logs)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self._layout.kubeconfig

    @property
    def audit_log(self) -> Path:
        """Every change that the API server was asked for, one JSON object a line, level Metadata."""
        return self._layout.audit_log

    @property
    def server(self) -> str:
        """The API server's address, host:port."""
        return f"{LOOPBACK}:{Ports.load(self._layout.settings).api_server}"

    @property
    def _seconds(self) -> float:
        return _SECONDS + self._nodes * _SECONDS_PER_NODE

    def is_running(self) -> bool:
        """Whether every process of the cluster runs."""
        return {process.name for process in self._processes.running()} >= set(ending.NAMES)

    def start(self, report: Report = print) -> None:
        """Start what isn't running, and return when kube-proxy runs on every node.

        Its rules are in the nodes' kernels a second later, as on real ones: its pods have no readiness probe.
        A cluster that was stopped goes on with what it held, its nodes as after a reboot.
        """
        self._keep_size(report)
        if self.is_running():
            report(f"The cluster runs already: {self.server}, {self._nodes} nodes.")
            return
        began = time.monotonic()
        for attempt in range(_PORT_TRIES):
            ending.stop(self._layout.folder, report)
            try:
                api = self._start_control_plane(report)
                break
            except PortTakenError:
                # Between the choice of a port and its use others may take it. With nothing made yet
                # that names it, others will do.
                if attempt == _PORT_TRIES - 1 or self.kubeconfig.exists():
                    raise
                self._layout.settings.unlink()
        if not self._layout.filled.exists():
            self._fill(api, report)
            self._layout.filled.write_text(f"{self._nodes}\n")
        self._wait("the simulated nodes answer", self._simulator_answers, self._seconds)
        report(f"The cluster is ready after {time.monotonic() - began:.1f} s: {self.server}, {self._nodes} nodes.")

    def stop(self, report: Report = print) -> None:
        """End what was started, and nothing else. What the cluster held stays in its folder."""
        ending.stop(self._layout.folder, report)

    def kill(self, *names: str) -> None:
        """End programs of the cluster by SIGKILL, all of them where none is named, as when the power goes."""
        self._processes.kill(names or ending.NAMES)

    @contextmanager
    def api_server_stopped(self) -> Iterator[None]:
        """The API server hangs: its connections stay open, and nobody answers."""
        its = [process for process in self._processes.running() if process.name == _API_SERVER]
        for process in its:
            process.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in its:
                process.signal(signal.SIGCONT)

    def revive(self) -> None:
        """Start the API server again after it was killed, and return when it is ready; the others go on with it.

        After `kill()` of all of them, `start` it is.
        """
        self._processes.start(_API_SERVER, self._commands().kube_apiserver())
        self._wait("the API server is ready", self.api().is_ready, _CONTROL_PLANE_SECONDS)

    def remove(self, report: Report = print) -> None:
        """Stop, and remove the folder with all that the cluster held."""
        ending.remove(self._layout.folder, report)

    def pki(self) -> Pki:
        """Its authority and its certificates."""
        return Pki(self._layout.pki)

    def api(self) -> Api:
        """A client of the API server's that may do everything."""
        port, pki = Ports.load(self._layout.settings).api_server, self.pki()
        return Api(port, pki, pki.client("super-admin", "kubernetes-super-admin", "system:masters"))

    def _keep_size(self, report: Report) -> None:
        """Go by the size that the cluster was made with."""
        if self._layout.filled.exists():
            nodes = int(self._layout.filled.read_text())
            if nodes != self._nodes:
                report(f"The cluster stays as it was made, with {nodes} nodes rather than {self._nodes}.")
            self._nodes = nodes

    def _start_control_plane(self, report: Report) -> Api:
        self._layout.make()
        settings = self._layout.settings
        if not settings.exists():
            Ports.choose().save(settings)
        commands, pki = self._commands(), self.pki()
        report(f"Starting etcd and the API server on {commands.server} …")
        self._processes.start("etcd", commands.etcd())
        self._processes.start(_API_SERVER, commands.kube_apiserver())
        api = self.api()
        self._wait("the API server is ready", api.is_ready, _CONTROL_PLANE_SECONDS)
        admin = pki.client("admin", "kubernetes-admin", "kubeadm:cluster-admins")
        kubeconfig.write(self.kubeconfig, f"https://{commands.server}", "kubernetes-admin", pki, admin)
        report("Starting the controllers, the scheduler and the simulated nodes …")
        self._processes.start("kube-controller-manager", commands.kube_controller_manager())
        self._processes.start("kube-scheduler", commands.kube_scheduler())
        self._processes.start("node-simulator", commands.node_simulator(self._agent_ready))
        # a node's lease of before is of a kwok that is gone, and a new one would leave that node alone for good
        api.delete(_NODE_LEASES)
        self._processes.start("kwok", commands.kwok())
        return api

    def _commands(self) -> Commands:
        ports = Ports.load(self._layout.settings)
        return Commands(self._programs, self._layout, ports, self.pki(), self._nodes)

    def _fill(self, api: Api, report: Report) -> None:
        """Create what a cluster of kubeadm's holds, and wait until all of it runs."""
        ports, shop = Ports.load(self._layout.settings), objects.shop()
        seconds = self._seconds
        namespaces = [thing for thing in shop if thing["kind"] == "Namespace"]
        api.create_all([objects.node(number, ports.simulator) for number in range(1, self._nodes + 1)])
        api.create_all(namespaces)
        # The controllers make these on their own, soon after they are ready.
        for namespace in ("kube-public", "kube-system", *(thing["metadata"]["name"] for thing in namespaces)):
            self._wait(f"namespace {namespace} is there", partial(_has_account, api, namespace), seconds)
        report(f"Waiting for {self._nodes} nodes and their pods …")
        # Before there are pods: one on a node without a range would get an address from nowhere.
        self._wait("every node is Ready and has its pod addresses", lambda: self._nodes_ready(api), seconds)
        api.create_all(objects.kubeadm(ports, Pki(self._layout.pki).ca.certificate))
        api.create_all([thing for thing in shop if thing["kind"] != "Namespace"])
        self._wait("kube-proxy runs on every node", lambda: self._kube_proxy_runs(api), seconds)
        for namespace, name in (("kube-system", "coredns"), ("shop", "web")):
            path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
            self._wait(f"{namespace}/{name} is available", partial(_available, api, path), seconds)

    def _simulator_answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, Ports.load(self._layout.settings).simulator), timeout=1):
                return True
        except OSError:
            return False

    def _nodes_ready(self, api: Api) -> bool:
        nodes = api.get("/api/v1/nodes?resourceVersion=0")["items"]
        return sum(1 for node in nodes if _is(node, "Ready") and node["spec"].get("podCIDR")) >= self._nodes

    def _kube_proxy_runs(self, api: Api) -> bool:
        found = api.get("/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-proxy")["items"]
        return sum(1 for pod in found if _is(pod, "Ready")) >= self._nodes

    def _wait(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if ended := self._processes.ended():
                raise self._failure(ended[0])
            if time.monotonic() > deadline:
                raise ClusterError(f"not within {seconds:.0f} s: {what}; logs are in {self._layout.logs}")
            time.sleep(_POLL_SECONDS)

    def _failure(self, name: str) -> ClusterError:
        lines = self._processes.log(name).read_text(errors="replace").splitlines()[-_LOG_LINES:]
        text = f"{name} has ended:\n" + "\n".join(f"  {line}" for line in lines)
        kind = PortTakenError if "address already in use" in text else ClusterError
        return kind(text)


def _has_account(api: Api, namespace: str) -> bool:
    try:
        api.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/default")
    except ClusterError:
        return False
    return True


def _is(thing: Object, condition: str) -> bool:
    conditions = thing.get("status", {}).get("conditions") or []
    return any(of["type"] == condition and of["status"] == "True" for of in conditions)


def _available(api: Api, path: str) -> bool:
    deployment = api.get(path)
    wanted: int = deployment["spec"]["replicas"]
    available: int = deployment.get("status", {}).get("availableReplicas", 0)
    return available >= wanted
