"""One cluster and one stack, for run after run."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Final

from local.chaos import looking
from local.chaos.disturbance import Disturbance, Quiet
from local.chaos.engine import Done, Running, Stack
from local.chaos.errors import ChaosError
from local.chaos.owner import Owner
from local.chaos.plan import Command, Instant, Plan, Strategy, Where
from local.chaos.promises import KubeProxy, Promises
from local.chaos.proxy import Proxy, Request, Verdict
from local.chaos.watcher import Watcher
from local.cluster import EmbeddedCluster
from local.cluster.ports import LOOPBACK
from local.toolchain import Toolchain

_TIMEOUT_SECONDS: Final = 30
_SECONDS_TO_END: Final = 30.0
_AT_ONCE: Final = 0.5
_PROXY: Final = ("/apis/apps/v1/namespaces/kube-system/daemonsets", "/api/v1/namespaces/kube-system/configmaps")


class World:
    """What all runs on one cluster have in common.

    Attributes:
        changes: of the cluster, how many were followed so far; unseen: of these, while nobody could watch.
    """

    def __init__(self, folder: Path, cluster: EmbeddedCluster, toolchain: Toolchain) -> None:
        """`cluster`: up, as kubeadm leaves it."""
        self._cluster = cluster
        self._gate: Disturbance | Quiet = Quiet()
        self._where: Where = "fresh"
        self.changes = self.unseen = 0
        api = cluster.api()
        nodes = frozenset(node["metadata"]["name"] for node in api.get("/api/v1/nodes")["items"])
        daemonset, configmap = (api.get(f"{collection}/kube-proxy") for collection in _PROXY)
        self._promises = Promises(KubeProxy(daemonset, configmap), nodes)
        self._owner = Owner(api, toolchain, cluster.kubeconfig, len(nodes))
        self._owned = False
        self._new_looker = partial(looking.Looker, api, toolchain.kubectl, cluster.kubeconfig, nodes)
        self._looker = self._new_looker(None)
        port = int(cluster.server.rpartition(":")[2])
        self._proxy = Proxy(port, cluster.pki(), self)
        self._proxy.start()
        self._watcher = Watcher(api)
        self._watcher.start()
        self._folder = folder
        self._leftovers: list[Running] = []
        self._stack = Stack(folder / "first", toolchain, _kubeconfig(cluster, self._proxy.port)).create()
        self._stack.configure(chart=str(toolchain.cilium_chart), timeoutSeconds=_TIMEOUT_SECONDS)

    def end(self) -> None:
        """The cluster goes on."""
        for running in self._leftovers:
            running.kill_all()
        self._watcher.stop()
        self._proxy.stop()

    # What the proxy asks

    def before(self, request: Request) -> Verdict:
        return self._gate.before(request)

    def after(self, request: Request, status: int) -> Verdict:
        return self._gate.after(request, status)

    # What is done

    def bring(self, where: Where, *, owned: bool, strategy: Strategy) -> None:
        """The cluster to a start, undisturbed; from there on by this strategy."""
        self._stack.configure(strategy=strategy)
        if owned != self._owned:
            self._bring("fresh")
            if owned:
                self._owner.install()
            else:
                self._owner.uninstall()
            self._owned = owned
            self._looker = self._new_looker(self._owner if owned else None)
        self._bring(where)

    def _bring(self, where: Where) -> None:
        if self._where == where:
            return
        done = self.undisturbed("destroy" if where == "fresh" else where)
        if done.code:
            raise ChaosError(f"the cluster can't be brought from {self._where} to {where}:\n{done.text[-4000:]}")
        self._where = where

    def undisturbed(self, command: Command, *options: str) -> Done:
        done = self._stack.end(self._start(command, *options))
        for running in self._leftovers:
            running.leave(_SECONDS_TO_END)
        self._leftovers.clear()
        return done

    def disturbed(self, command: Command, kind: str, instant: Instant, plan: Plan) -> tuple[Done, Disturbance]:
        """One command, and what was done to it. The lock of a dead run is taken away.

        Where one process alone was killed, what is left of its run is at work still, in one of two.
        """
        gate = Disturbance(
            kind,
            instant,
            pick=plan.pick,
            seconds=plan.seconds,
            count=plan.count,
            cluster=self._cluster,
            struck=self._promises.struck.add,
            second=lambda: self._second(command),
        )
        self._gate = gate
        try:
            running = self._start(command)
            gate.watch(running)
            done = self._stack.end(running)
            gate.settle()
            self._leftovers.append(running)
            if kind != "kill one" or plan.pick < _AT_ONCE:
                running.leave(_SECONDS_TO_END)
        finally:
            self._gate = Quiet()
        self._stack.unlock()
        return done, gate

    def problems(self, command: Command) -> list[str]:
        """What isn't as the command wanted it, after it went well."""
        self._where = "fresh" if command == "destroy" else command
        found = self._looker.problems(self._where)
        if command == "destroy":
            left = [its["urn"].rpartition("::")[2] for its in self._stack.resources()]
            found += [f"left in the stack's state: {', '.join(left)}"] if left else []
        else:
            preview = self._stack.preview()
            found += [f"the next preview shows a change:\n{preview.text}"] if preview.code else []
        return found

    def broken(self) -> list[str]:
        """Which promise was broken since the last call, at which resource version."""
        events = self._watcher.taken()
        self.changes += len(events)
        self.unseen += sum(1 for event in events if not event.seen)
        found = self._promises.follow(events)
        self._promises.struck.clear()
        return found

    def _second(self, command: Command) -> str:
        """The same command, from another machine with a backend of its own."""
        folder = self._folder / "second"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        stack = self._stack.second(folder)
        running = stack.start("destroy" if command == "destroy" else "up")
        self._leftovers.append(running)
        return f"which ended with exit code {stack.end(running).code}"

    def _start(self, command: Command, *options: str) -> Running:
        if command != "destroy":
            self._stack.configure(mode=command)
        return self._stack.start("destroy" if command == "destroy" else "up", *options)


def _kubeconfig(cluster: EmbeddedCluster, port: int) -> Path:
    """The administrator's, by way of the proxy."""
    content = json.loads(cluster.kubeconfig.read_text())
    content["clusters"][0]["cluster"]["server"] = f"https://{LOOPBACK}:{port}"
    file = cluster.kubeconfig.with_name("kubeconfig-of-the-proxy")
    file.touch(mode=0o600)
    file.write_text(json.dumps(content))
    return file
