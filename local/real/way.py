"""The whole way by the program itself, with traffic all the while: coexist, replace, coexist, destroy."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from local.real import objects, traffic
from local.real.cluster import RealCluster
from local.real.engine import STACK, RealEngine
from local.real.node import counts

Report = Callable[[str], None]

RATE: Final = 10
TIMEOUT: Final = 3.0
"""Seconds; a lost SYN is sent again after one."""
SECONDS: Final = 1500
_PROBE: Final = Path(__file__).with_name("probe.py")
_PYTHON: Final = "/usr/bin/python3"
_CALM: Final = 10.0

# Somebody else's rules: in the kubelet's and kube-router's kind of names, and with kube-proxy's only in a comment.
_FOREIGN: Final = """\
*nat
:MY-KUBE-SERVICES - [0:0]
-A MY-KUBE-SERVICES -d 192.0.2.1/32 -m comment --comment "KUBE-SVC-AAAAAAAAAAAAAAAA is not mine" -j RETURN
COMMIT
*filter
:KUBE-ROUTER-INPUT - [0:0]
-A KUBE-ROUTER-INPUT -s 192.0.2.2/32 -m comment --comment "kubernetes service portals" -j RETURN
COMMIT
"""


@dataclass
class Step:
    """One step of the way."""

    name: str
    start: float
    end: float = 0.0
    code: int = 0
    kernels: dict[str, dict[str, int]] = field(default_factory=dict)


class Way:
    """Steps on a cluster, each noted with its instants and with what is in the kernels after it."""

    def __init__(self, cluster: RealCluster, engine: RealEngine, folder: Path, report: Report) -> None:
        self._cluster, self._engine, self._folder, self._report = cluster, engine, folder, report
        self.steps: list[Step] = []
        self.traffic = folder / "traffic"
        self.traffic.mkdir(parents=True, exist_ok=True)

    def send(self, *services: str, tag: str = "") -> None:
        """New connections to each Service's NodePort from outside, and from each node to its ClusterIP."""
        outside = [
            f"outside-{name}-{node.name}={node.address}:{objects.NODE_PORTS[name]}"
            for name in services
            for node in self._cluster.nodes
        ]
        if not tag:
            # Past every Service: what fails here too is the machine's load, not the routing of Services.
            outside += [f"control-{node.name}={node.address}:{objects.CONTROL_PORT}" for node in self._cluster.nodes]
        self._launch(f"probe-outside{tag}", self._cluster.outside, outside)
        for node in self._cluster.nodes:
            targets = [f"{node.name}-{name}={objects.CLUSTER_IPS[name]}:80" for name in services]
            self._launch(f"probe-{node.name}{tag}", node.joined, targets)

    def watch_health(self) -> None:
        """kube-proxy's health port, as a cloud's load balancer asks it, but twice a second."""
        targets = [f"health-{node.name}=http://{node.address}:10256/healthz" for node in self._cluster.nodes]
        self._launch("probe-health", self._cluster.outside, targets, rate=2)

    def up(self, mode: str) -> Step:
        """A real `pulumi up` in a mode."""
        self._engine.set("mode", mode)
        step = self._step(f"up {mode}", "up", "--yes", "--skip-preview", "--stack", STACK)
        if not step.code:
            (self._folder / f"{len(self.steps):02d}-outputs.json").write_text(
                self._engine.must("stack", "output", "--json", "--stack", STACK)
            )
        return step

    def unchanged(self) -> Step:
        """A second preview, which must show no change."""
        return self._step("no change", "preview", "--expect-no-changes", "--stack", STACK)

    def destroy(self) -> Step:
        """A real `pulumi destroy`."""
        return self._step("destroy", "destroy", "--yes", "--skip-preview", "--stack", STACK)

    def calm(self, seconds: float = _CALM) -> Step:
        """Nothing but traffic."""
        step = Step("calm", time.time())
        time.sleep(seconds)
        return self._done(step)

    def summary(self) -> str:
        """What became of the requests, step by step."""
        lines = []
        for step in self.steps:
            found = traffic.read(self.traffic, step.start, step.end)
            health = {name: its for name, its in found.items() if name.startswith("health-")}
            control = {name: its for name, its in found.items() if name.startswith("control-")}
            found = {name: its for name, its in found.items() if name not in health and name not in control}
            sent = _sent(found)
            failed = [failure for its in found.values() for failure in its.failures]
            slowest = max((its.slowest for its in found.values()), default=0)
            head = f"{step.name:14} {step.end - step.start:6.1f} s  exit {step.code}"
            lines.append(f"{head}  {len(failed)} of {sent} failed, slowest {slowest} ms  {json.dumps(step.kernels)}")
            lines.append(f"    over 1 s: {_late(found)} of {sent}; control: {_late(control)} of {_sent(control)}")
            for name, its in health.items():
                if its.failures:
                    span = [failure.instant - step.start for failure in its.failures]
                    lines.append(
                        f"    {name}: {len(span) / 2:.1f} s without a 200, from +{span[0]:.1f} to +{span[-1]:.1f} s, "
                        f"first {its.failures[0].error}, last {its.failures[-1].error}"
                    )
            lines += [
                f"    +{its.instant - step.start:6.2f} s {its.stream}: {its.error}"
                for its in sorted(failed, key=lambda its: its.instant)[:40]
            ]
        return "\n".join(lines)

    def _step(self, name: str, *arguments: str) -> Step:
        self._report(f"{name} …")
        step = Step(name, time.time())
        step.code = self._engine.run(self._folder / f"{len(self.steps):02d}-{name.replace(' ', '-')}.log", *arguments)
        return self._done(step)

    def _done(self, step: Step) -> Step:
        step.end = time.time()
        step.kernels = kernels(self._cluster)
        self.steps.append(step)
        (self._folder / "steps.json").write_text(json.dumps([vars(its) for its in self.steps], indent=1))
        self._report(f"{step.name}: exit {step.code} after {step.end - step.start:.1f} s {json.dumps(step.kernels)}")
        return step

    def _launch(self, name: str, where: Callable[[list[str]], list[str]], targets: list[str], rate: int = RATE) -> None:
        file = self.traffic / f"{name}.txt"
        probe = [_PYTHON, str(_PROBE), str(file), str(rate), str(TIMEOUT), str(SECONDS), *targets]
        self._cluster.launch(name, where(probe))


def _sent(found: dict[str, traffic.Outcome]) -> int:
    return sum(its.sent for its in found.values())


def _late(found: dict[str, traffic.Outcome]) -> int:
    return sum(its.late + len(its.failures) for its in found.values())


def plant(cluster: RealCluster) -> None:
    """Rules on each node that nobody may touch."""
    for node in cluster.nodes:
        if (done := node.run(["iptables-restore", "--noflush"], _FOREIGN)).returncode:
            raise RuntimeError(f"{node.name}: {done.stderr}")


def kernels(cluster: RealCluster) -> dict[str, dict[str, int]]:
    """What each node's kernel holds: kube-proxy's rules, and eBPF programs at the cgroup's hooks."""
    found = {}
    for node in cluster.nodes:
        saved = node.run(["iptables-save"]).stdout
        rules = counts(saved)
        hooks = node.run(["bpftool", "cgroup", "tree", "/sys/fs/cgroup/unified"]).stdout
        hooked = sum("cgroup_inet" in line for line in hooks.splitlines())
        foreign = sum("MY-KUBE" in line or "KUBE-ROUTER" in line for line in saved.splitlines())
        found[node.name] = rules | {"socket programs": hooked, "foreign lines": foreign}
    return found


def run(cluster: RealCluster, engine: RealEngine, folder: Path, report: Report = print) -> int:
    """All of it; the exit code says whether every step went well."""
    way = Way(cluster, engine, folder, report)
    plant(cluster)
    way.watch_health()
    way.send("hostweb")
    way.calm()
    engine.prepare()
    try:
        if way.up("coexist").code == 0:
            # Pods that ran on the network before Cilium's are cut off until they are made anew: the preview says so.
            cluster.kubectl("delete", "pods", "-l", "app=web", "--wait=true")
            cluster.kubectl("rollout", "status", "daemonset/web", "--timeout=120s")
            way.send("web", "web-local", tag="-pods")
            way.calm()
            way.unchanged()
            for mode in ("replace", "coexist"):
                if way.up(mode).code:
                    break
                way.calm()
                way.unchanged()
        if not any(step.code for step in way.steps if step.name.startswith("up")):
            way.destroy()
            way.calm()
    finally:
        text = way.summary()
        (folder / "summary.txt").write_text(text + "\n")
        report(text)
    return int(any(step.code for step in way.steps))
