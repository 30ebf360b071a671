"""The way that the real nodes are taken, act after act, and what was seen in each.

One ground is started for a whole run of tests. An act is taken when the first test asks for it, after all acts before
it; the tests only look at what it has left. So they may run in any order, and alone.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import yaml

from local.real import control_plane, foreign, kernel, service_table, workload
from local.real.cluster import RealCluster
from local.real.engine import VALUES
from local.real.kernel import Kernel
from local.real.node import Node
from local.real.traffic import Outcomes, Traffic
from local.toolchain import Toolchain
from tests.engine.harness import Object, Run, Stack

PATIENCE = 60
"""The setting timeoutSeconds: how long agents may take without progress."""
IMPATIENCE = 20
"""The same, where a run is to fail by waiting."""
CALM = 5.0
"""Seconds of nothing but traffic after an act."""
_LOOKING = 15.0


@dataclass(frozen=True)
class Act:
    """A run of the engine's, the traffic all the while, and what it has left.

    Attributes:
        afterwards: the traffic of a few seconds more.
        foreign: everybody else's rules by node, as text.
        tables: by node, how the agent's service table differs from the API's Services; [] where it doesn't.
        objects: kube-proxy's own in the API, `KIND NAME`.
    """

    run: Run
    outputs: Object
    traffic: Outcomes
    afterwards: Outcomes
    kernels: dict[str, Kernel]
    foreign: dict[str, str]
    objects: list[str]
    tables: list[str] = field(default_factory=list)


class Ground:
    """The cluster, its Services, the traffic through them, and a stack of the repository's own program."""

    def __init__(self, toolchain: Toolchain, folder: Path) -> None:
        self.cluster = RealCluster(folder / "cluster", toolchain)
        self._toolchain = toolchain
        self._folder = folder
        self.traffic = Traffic(self.cluster, self.cluster.folder / "traffic")  # which the nodes see
        self.said: list[str] = []

    def start(self) -> Ground:
        self.cluster.start(self.said.append)
        for node in self.nodes:
            foreign.plant(node)
        workload.deploy(self.cluster, self.said.append)
        self.traffic.start("host")
        return self

    def remove(self) -> None:
        self.traffic.stop()
        self.cluster.remove(self.said.append)

    @property
    def nodes(self) -> list[Node]:
        return self.cluster.nodes

    @cached_property
    def stack(self) -> Stack:
        stack = Stack(self._toolchain, self._folder / "person", self.cluster.kubeconfig, within=self.cluster.in_fabric)
        stack.create()
        settings = {"chart": str(self._toolchain.cilium_chart), "hubble": False, "values": VALUES}
        for key, value in {**settings, "timeoutSeconds": PATIENCE}.items():
            stack.config(key, value)
        return stack

    def kernels(self) -> dict[str, Kernel]:
        return {node.name: kernel.read(node) for node in self.nodes}

    def foreign(self) -> dict[str, str]:
        return {node.name: foreign.saved(node) for node in self.nodes}

    def objects(self) -> list[str]:
        items = json.loads(self.kubectl("get", "daemonset,configmap", "-n", "kube-system", "--output=json"))["items"]
        return sorted(its["kind"] for its in items if its["metadata"]["name"] == "kube-proxy")

    def set_proxy_mode(self, mode: str) -> None:
        """As a person would: in kube-proxy's ConfigMap, and its pods made anew."""
        path = "/api/v1/namespaces/kube-system/configmaps/kube-proxy"
        data = self.cluster.api.get(path)["data"]
        changed = yaml.safe_dump(yaml.safe_load(data["config.conf"]) | {"mode": mode})
        self.cluster.api.patch(path, {"data": {"config.conf": changed}})
        for arguments in (("restart",), ("status", "--timeout=60s")):
            self.kubectl("rollout", *arguments, "-n", "kube-system", "daemonset/kube-proxy")

    def forget(self) -> None:
        """Take from the nodes' connection tables what has found no rule while a test's own fault kept it from one.

        Such an entry has no translation, and stays for two minutes: the next connection from that port to that address
        meets it, and gets no answer (docs/connections.md, 7).
        """
        for node in self.nodes:
            node.run(["conntrack", "--delete", "--proto=tcp", "--state=SYN_SENT"])

    def kubectl(self, *arguments: str) -> str:
        done = self.cluster.kubectl(*arguments)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def act(self, command: str, *, fails: bool = False, tables: bool = False, **settings: object) -> Act:
        """Set settings, and run `preview`, `up` or `destroy` with them."""
        for key, value in settings.items():
            self.stack.config(key, value)
        start = time.time()
        run: Run = getattr(self.stack, command)(fails=fails)
        outputs = self.stack.outputs() if command == "up" and not fails else {}
        end = time.time()
        time.sleep(CALM)
        afterwards = self.traffic.outcomes(end, time.time(), f"after {command}")
        return Act(
            run,
            outputs,
            self.traffic.outcomes(start, end, command),
            afterwards,
            self.kernels(),
            self.foreign(),
            self.objects(),
            self._tables() if tables else [],
        )

    def _tables(self) -> list[str]:
        """What differs still after some looks: one Service's endpoints move while they are looked at."""
        deadline = time.monotonic() + _LOOKING
        while (differences := service_table.compared(self.cluster)) and time.monotonic() < deadline:
            pass
        return differences


class Story:
    """The acts, in the order in which they depend on one another."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.near, self.far = ground.nodes[0], ground.nodes[-1]

    # 1. kube-proxy in iptables mode

    @cached_property
    def untouched(self) -> dict[str, Kernel]:
        """Before anything is done."""
        return self.ground.kernels()

    @cached_property
    def foreign(self) -> dict[str, str]:
        """Everybody else's rules before anything is done."""
        return self.ground.foreign()

    @cached_property
    def beside(self) -> Act:
        """The first `up`: Cilium beside kube-proxy, on a cluster that had none."""
        _ = self.untouched, self.foreign
        act = self.ground.act("up", mode="coexist")
        workload.renew_pods(self.ground.cluster)  # they were on another network, as the preview says
        self.ground.traffic.start("pod")
        return act

    @cached_property
    def cut_off(self) -> Act:
        """To replace, with an address of the API server's that one node doesn't reach."""
        _ = self.beside
        with unreachable(self.far, control_plane.OTHER_ADDRESS):
            act = self.ground.act(
                "up", fails=True, mode="replace", apiServerHost=control_plane.OTHER_ADDRESS, timeoutSeconds=IMPATIENCE
            )
        self.ground.stack.config("apiServerHost", None)
        self.ground.stack.config("timeoutSeconds", PATIENCE)
        return act

    @cached_property
    def translated(self) -> tuple[dict[str, Kernel], dict[str, Kernel]]:
        """Twice beside kube-proxy, with a few seconds of traffic in between."""
        _ = self.cut_off
        first = self.ground.kernels()
        time.sleep(CALM)
        return first, self.ground.kernels()

    @cached_property
    def switched(self) -> Act:
        """To replace."""
        _ = self.translated
        return self.ground.act("up", mode="replace", tables=True)

    @cached_property
    def unchanged(self) -> Run:
        _ = self.switched
        return self.ground.stack.preview("--expect-no-changes")

    @cached_property
    def leftover(self) -> tuple[Run, Act]:
        """A rule of kube-proxy's that is left on one node: what a preview says, and what an `up` does."""
        _ = self.unchanged
        self.near.run(["iptables-restore", "--noflush"], _LEFTOVER)
        return self.ground.stack.preview(), self.ground.act("up")

    @cached_property
    def detached(self) -> tuple[Run, Act]:
        """An eBPF program that is taken off one node's hook by hand: what a preview says, and what an `up` does."""
        _ = self.leftover
        self.far.run(["rm", _CONNECT])
        shown, mended = self.ground.stack.preview(), self.ground.act("up")
        self.ground.forget()
        return shown, mended

    @cached_property
    def blocked(self) -> Act:
        """To coexist, with a kube-proxy on one node whose pod runs and that writes no rule."""
        _ = self.detached
        with halted(self.far):
            act = self.ground.act("up", fails=True, mode="coexist", timeoutSeconds=IMPATIENCE)
        self.ground.stack.config("timeoutSeconds", PATIENCE)
        return act

    @cached_property
    def back(self) -> Act:
        """To coexist."""
        _ = self.blocked
        return self.ground.act("up", mode="coexist")

    @cached_property
    def translated_again(self) -> tuple[dict[str, Kernel], dict[str, Kernel]]:
        """Twice after the way back, with a few seconds of traffic in between."""
        _ = self.back
        first = self.ground.kernels()
        time.sleep(CALM)
        return first, self.ground.kernels()

    @cached_property
    def undone(self) -> tuple[Act, Run]:
        """To replace, with an agent on one node that can't be restarted: undone in the same run; a preview after it."""
        _ = self.translated_again
        with kept(self.ground, self.far):
            act = self.ground.act("up", fails=True, mode="replace", timeoutSeconds=IMPATIENCE)
        return act, self.ground.stack.preview()

    @cached_property
    def stuck(self) -> Act:
        """The same, and left as it is for a look."""
        _ = self.undone
        with kept(self.ground, self.far):
            act = self.ground.act("up", fails=True, onFailure="keep")
        self.ground.stack.config("timeoutSeconds", PATIENCE)
        self.ground.stack.config("onFailure", None)
        return act

    @cached_property
    def resumed(self) -> Act:
        """The next `up`, from halfway to replace."""
        _ = self.stuck
        return self.ground.act("up")

    @cached_property
    def gone(self) -> Act:
        """Destroyed, straight from replace."""
        _ = self.resumed
        return self.ground.act("destroy")

    # 2. kube-proxy in nftables mode

    @cached_property
    def nftables(self) -> dict[str, Kernel]:
        """kube-proxy in nftables mode, before anything is done."""
        _ = self.gone
        self.ground.set_proxy_mode("nftables")
        workload.await_answers(self.ground.cluster, "host")
        self.ground.forget()
        return self.ground.kernels()

    @cached_property
    def straight(self) -> Act:
        """The first `up` straight to replace, on a cluster without Cilium."""
        _ = self.nftables
        return self.ground.act("up", mode="replace")

    @cached_property
    def gone_again(self) -> Act:
        """Destroyed, straight from replace."""
        _ = self.straight
        return self.ground.act("destroy")


_KEPT = """\
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: agent-kept}}
spec:
  matchConstraints:
    resourceRules: [{{apiGroups: [""], apiVersions: [v1], operations: [DELETE], resources: [pods]}}]
  matchConditions:
  - name: by-the-controller
    expression: request.userInfo.username == 'system:serviceaccount:kube-system:daemon-set-controller'
  validations:
  - expression: "!({agent})"
    message: this agent stays
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: agent-kept}}
spec: {{policyName: agent-kept, validationActions: [Deny]}}
"""

# The link that holds the agent's program at the hook of IPv4's connect; without a name it ends.
_CONNECT = "/sys/fs/bpf/cilium/socketlb/links/cgroup/cil_sock4_connect"

_CATCH = "until pkill -STOP -x kube-proxy; do :; done"

# One chain of kube-proxy's, as it writes them, that leads nowhere.
_LEFTOVER = """\
*nat
:KUBE-SVC-LEFTOVERLEFTOVER - [0:0]
-A KUBE-SVC-LEFTOVERLEFTOVER -d 192.0.2.9/32 -m comment --comment "default/left-over" -j RETURN
COMMIT
"""


@contextmanager
def kept(ground: Ground, node: Node) -> Iterator[None]:
    """The agent of a node, whose deletion the API server refuses to the DaemonSet's controller."""
    agent = f"oldObject.spec.nodeName == '{node.name}' && oldObject.metadata.?labels['k8s-app'].orValue('') == 'cilium'"
    file = ground.cluster.folder / "kept.yaml"
    file.write_text(_KEPT.format(agent=agent))
    ground.kubectl("apply", "-f", str(file))
    try:
        yield
    finally:
        ground.kubectl("delete", "-f", str(file))


@contextmanager
def halted(node: Node) -> Iterator[None]:
    """The next kube-proxy of a node, stopped as soon as it is started: it has no probe, so its pod is Ready."""
    catching = threading.Thread(target=node.run, args=[["timeout", "60", "sh", "-c", _CATCH]])
    catching.start()
    try:
        yield
    finally:
        catching.join()
        node.run(["pkill", "-CONT", "-x", "kube-proxy"])


@contextmanager
def unreachable(node: Node, address: str) -> Iterator[None]:
    """An address that one node doesn't reach, and its kubelet doesn't need."""
    node.run(["ip", "route", "add", "prohibit", f"{address}/32"])
    try:
        yield
    finally:
        node.run(["ip", "route", "del", "prohibit", f"{address}/32"])
