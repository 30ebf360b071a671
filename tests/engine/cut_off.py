"""Runs that are cut off: what is killed, and at which instant.

An instant is something that the run has said, or that the API server was asked for: never an amount of time.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.engine.acts import Act, act, but_for_proxies_pods, ending, is_kubelets, pods, rules
from tests.engine.harness import (
    RECORD,
    RUNS,
    Cluster,
    Entry,
    Object,
    Run,
    Stack,
    compared,
    picked,
    wait_until,
)

ENGINE: Final = "the engine"
PROGRAM: Final = "the program"
COMMANDS: Final = "the command plugin"
HELM: Final = "the Kubernetes plugin"
DYNAMIC: Final = "the dynamic provider"

_WORDS: Final = {
    PROGRAM: ("pulumi-language-python", "pulumi-language-python-exec"),
    COMMANDS: ("pulumi-resource-command",),
    HELM: ("pulumi-resource-kubernetes",),
    DYNAMIC: ("pulumi.dynamic", "pulumi-resource-pulumi-python"),
}
"""What one of the first words of a process's command line ends in."""

_POLL_SECONDS: Final = 0.01
_RUN_SECONDS: Final = 180.0

_LEASE: Final = f"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{RECORD}"
_RELEASE: Final = "/api/v1/namespaces/kube-system/secrets?labelSelector=owner%3Dhelm%2Cname%3Dcilium"

Instant = Callable[["Begun"], bool]


def asked(verbs: str, resource: str, name: str = "*") -> Instant:
    """The API server was asked for it by the stack, and has answered."""
    return lambda its: bool(picked((entry for entry in its.asked if entry.by_person), verbs, resource, name))


def says(words: str) -> Instant:
    return lambda its: words in its.text


def begins(resource: str) -> Instant:
    return lambda its: its.began(resource)


HELM_BEGINS: Final = asked("create", "secrets", "sh.helm.release.*")


class Begun:
    """A run of the engine that goes on beside the test.

    Attributes:
        asked: what the API server was asked for since the run began, in the order of the answers.
    """

    def __init__(self, cluster: Cluster, stack: Stack, command: str) -> None:
        self._stack, self._name = stack, command
        self._began = time.monotonic()
        folder = stack.folder / "tmp"
        self._text, self._log = (folder / f"{kind}-{time.monotonic_ns()}" for kind in ("text", "events"))
        self._audit = cluster.follow()
        self.asked: list[Entry] = []
        with self._text.open("wb") as stream:
            options = ["--yes", "--skip-preview", "--stack", stack.name, "--event-log", str(self._log)]
            self._process = stack.popen([command, *options], stream)

    @property
    def text(self) -> str:
        """What it has said so far."""
        return self._text.read_text(errors="replace")

    def began(self, resource: str) -> bool:
        """Whether the engine has begun with a resource that it changes."""
        return any(
            metadata["urn"].endswith(f"::{resource}") and metadata["op"] != "same"
            for event in self._events()
            if (metadata := event.get("resourcePreEvent", {}).get("metadata"))
        )

    def until(self, what: str, instant: Instant) -> None:
        """Returns at an instant; fails where the run ends before it."""
        deadline = time.monotonic() + _RUN_SECONDS
        while True:
            over = self._process.poll() is not None
            self.asked += self._audit()
            if instant(self):
                return
            assert not over, f"the run had ended before: {what}\n{self.text}"
            assert time.monotonic() < deadline, f"never: {what}\n{self.text}"
            time.sleep(_POLL_SECONDS)

    def kill(self, *parts: str) -> None:
        """SIGKILL to these parts of it, and only to them; to all of it where none is named."""
        if not parts:
            self._process.kill()  # the engine first, so that it starts nothing more
            for pid, _ in self._session():
                _kill(pid)
            self._process.wait()
            return
        if ENGINE in parts:
            self._process.kill()
            self._process.wait()
        killed = 0
        for pid, words in self._session():
            if any(word.endswith(_WORDS.get(part, ())) for part in parts for word in words[:4]):
                _kill(pid)
                killed += 1
        assert killed or parts == (ENGINE,), f"there is none of {parts}: {self._session()}"

    def halt(self) -> None:
        """SIGSTOP to the engine alone: its plugins end what it has asked of them, and nobody writes it down."""
        self._process.send_signal(signal.SIGSTOP)

    def running(self, module: str) -> set[int]:
        """Which of what it has started runs a Python module, its own end notwithstanding."""
        return {pid for pid, words in self._session() if module in words}

    def ended(self) -> Run:
        """Waits for its end, however it ends, and says how it was."""
        wait_until("the run ends", lambda: self._process.poll() is not None, _RUN_SECONDS)
        seconds = time.monotonic() - self._began
        run = Run(["pulumi", self._name], self._process.returncode, self.text, seconds, list(self._events()))
        RUNS.append(run)
        return run

    def _session(self) -> list[tuple[int, list[str]]]:
        """What it has started, as id and command line. Plugins have groups, but no session, of their own."""
        found = []
        for folder in Path("/proc").iterdir():
            with suppress(ValueError, ProcessLookupError, FileNotFoundError):
                if os.getsid(int(folder.name)) == self._process.pid:
                    words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                    found.append((int(folder.name), words))
        return found

    def _events(self) -> Iterator[Object]:
        lines = self._log.read_text().splitlines(keepends=True) if self._log.exists() else []
        for line in lines:
            if line.endswith("\n") and line.strip():
                yield json.loads(line)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


# A stack whose runs are cut off


@dataclass(frozen=True)
class Left:
    """What a run has left that was cut off.

    Attributes:
        run: how it ended, None where its engine was killed.
        release: the status of Helm's newest revision, "" where there is none.
        safe: kube-proxy is there, or a backup of it that can be restored.
    """

    run: Run | None
    release: str
    safe: bool


class Life:
    """One stack and its cluster.

    Attributes:
        found: the cluster's objects before anybody did anything.
    """

    def __init__(self, cluster: Cluster, stack: Stack) -> None:
        self.cluster = cluster
        self.stack = stack
        self.found = cluster.objects()
        self._kernels = cluster.kernels()
        self._begun: list[Begun] = []

    def begin(self, command: str) -> Begun:
        self._begun.append(Begun(self.cluster, self.stack, command))
        return self._begun[-1]

    def cut(self, command: str, what: str, instant: Instant, *parts: str) -> Left:
        """A run of which parts are killed at an instant, all of it where none is named: what is left of it goes on."""
        begun = self.begin(command)
        begun.until(what, instant)
        begun.kill(*parts)
        if parts and ENGINE not in parts:
            run = begun.ended()
            assert not run.ok, f"it came to its end though {parts} was killed"
            return self._left(run)
        self.cancel()
        if not parts:
            self._release_lock()
        return self._left(None)

    def cut_when_uninstalled(self) -> None:
        """A `destroy` that is killed when Helm has uninstalled Cilium, and the state has the release still."""
        begun = self.begin("destroy")
        begun.until("Helm begins", asked("update", "secrets", "sh.helm.release.*"))
        begun.halt()
        begun.until("Helm has uninstalled", lambda _: not self.cluster.items(_RELEASE))
        begun.kill()
        self.cancel()
        self._release_lock()

    def _release_lock(self) -> None:
        """Nobody is left who could renew it: the next run needn't wait for that."""
        self.cluster.delete(_LEASE)

    def cancel(self) -> None:
        """Takes a dead run's lock away."""
        assert self.stack.run(["cancel", "--yes", "--stack", self.stack.name]).ok

    def through(self, command: str, *outages: tuple[str, Instant], seconds: float) -> Act:
        """A run in which the API server is away for a while again and again, each time from an instant on."""
        begun = self.begin(command)
        for what, instant in outages:
            begun.until(what, instant)
            self.cluster.without_api_server(seconds)
        return self.seen(begun.ended())

    def seen(self, run: Run) -> Act:
        """The cluster as it is now, after a run that was no act of its own."""
        objects = self.cluster.objects()
        outputs = self.stack.outputs() if run.ok else {}
        return Act(run, [], objects, objects, outputs, self.cluster.kernels())

    def to(self, mode: str) -> Act:
        """An `up` in a mode."""
        self.stack.config("mode", mode)
        return act(self.cluster, self.stack, "up")

    def destroyed(self) -> Act:
        """`destroy`, and the cluster when all that was deleted is gone."""
        return self.settled(act(self.cluster, self.stack, "destroy"))

    def settled(self, its: Act) -> Act:
        # controllers take their time to come back to an API server that was away
        wait_until("what was deleted is gone", self._nothing_is_ending, 120)
        return replace(its, after=self.cluster.objects())

    def _nothing_is_ending(self) -> bool:
        assert ending(self.cluster.objects()) == []
        return True

    def as_found(self, its: Act) -> None:
        """Asserts that kube-proxy routes on every node as it did before, and nothing else is there that wasn't."""
        restored = {
            "ConfigMap kube-system/kube-proxy": "made anew",
            "DaemonSet.apps kube-system/kube-proxy": "made anew",
        }
        assert but_for_proxies_pods(compared(self.found, its.after)).items() <= restored.items()
        for node, text in its.kernels.items():
            assert rules(text) == rules(self._kernels[node]), node
        assert self.stack.state()["deployment"].get("resources", []) == []

    def close(self) -> None:
        for begun in self._begun:
            begun.kill()

    def _left(self, run: Run | None) -> Left:
        labels = [item["metadata"]["labels"] for item in self.cluster.items(_RELEASE)]
        newest = max(labels, key=lambda its: int(its["version"]), default={"status": ""})
        return Left(run, newest["status"], self.safe())

    def safe(self) -> bool:
        """Whether kube-proxy's DaemonSet is there, with its ConfigMap, or a backup of what isn't."""
        wanted = {"daemonset.json": ("DaemonSet.apps", "spec"), "configmap.json": ("ConfigMap", "data")}
        live = (self.cluster.daemonset("kube-proxy"), self.cluster.configmap("kube-proxy"))
        data = (self.cluster.configmap(RECORD) or {}).get("data") or {}
        kept = {key: data.get(key) for key in data if key != "sha256"}
        whole = data.get("sha256") == hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
        return all(
            item is not None
            or (whole and json.loads(kept[file])[part] == self.found[f"{kind} kube-system/kube-proxy"][part])
            for item, (file, (kind, part)) in zip(live, wanted.items(), strict=True)
        )


# What is looked for


def switched(its: Act) -> None:
    """Asserts that the agents replace kube-proxy on every node, and that nothing of it is left."""
    assert its.outputs["agents"] == {"desired": 3, "ready": 3, "replacing": 3, "switched": 3, "unreadable": 0}
    assert its.outputs["kubeProxy"] == {"present": False, "backup": f"kube-system/{RECORD}"}
    assert its.outputs["release"]["status"] == "deployed"
    for node, text in its.kernels.items():
        assert [line for line in rules(text) if not is_kubelets(line)] == [], node
    assert _leftovers(its.after) == []


def beside(its: Act, life: Life) -> None:
    """Asserts that kube-proxy is as it was found and routes on every node, and Cilium runs beside it."""
    assert its.outputs["kubeProxyReplacement"] == "False"
    assert its.outputs["kubeProxy"]["present"]
    assert its.outputs["release"]["status"] == "deployed"
    assert its.outputs["agents"]["ready"] == 3
    assert len(pods(its.after, "kube-proxy")) == 3
    for key, part in (("DaemonSet.apps", "spec"), ("ConfigMap", "data")):
        assert its.after[f"{key} kube-system/kube-proxy"][part] == life.found[f"{key} kube-system/kube-proxy"][part]
    for node, text in its.kernels.items():
        assert "KUBE-SVC-" in text, node
    assert _leftovers(its.after) == []


def nothing_to_do(stack: Stack) -> None:
    preview = stack.preview()
    assert preview.changes == {}
    assert "not as wanted" not in preview.notes()


def _leftovers(objects: dict[str, Object]) -> list[str]:
    """The program's own pods, and what they were allowed with."""
    kinds = ("Pod ", "ClusterRole", "ClusterRoleBinding", "ServiceAccount")
    return [key for key in objects if "kube-proxy-replacement-" in key and key.startswith(kinds)]
