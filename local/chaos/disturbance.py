"""What is done to a run at its instant, and where that instant falls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from random import Random
from typing import Final

from local.chaos.engine import Running
from local.chaos.journal import CHANGES, USUAL, Journal
from local.chaos.plan import Instant
from local.chaos.proxy import Answer, Closed, Request, Verdict
from local.cluster import EmbeddedCluster
from local.cluster.api import Api

_PODS: Final = "/api/v1/namespaces/kube-system/pods"
_ROLES_OF_PODS: Final = ("cilium", "kube-proxy")
_TASK: Final = "kube-proxy-replacement/task"
_API_SERVER: Final = "kube-apiserver"
_LOOK_SECONDS: Final = 0.2
_SLOW_FOR_SECONDS: Final = 60.0
_API_SERVER_SHARE: Final = 0.5
"""Of the seconds that are drawn: starting it again takes some too."""


class Quiet:
    """The gate of a run that nothing is done to."""

    def before(self, _request: Request) -> Verdict:
        return None

    def after(self, _request: Request, _status: int) -> Verdict:
        return None


class Disturbance:
    """Waits for the instant, does what was drawn, and takes it back when the run is over.

    Attributes:
        fell: the step that was under way at the instant, "" where the run ended before it came.
        what: what was done, in words.
    """

    def __init__(
        self,
        kind: str,
        instant: Instant,
        *,
        pick: float,
        seconds: float,
        count: int,
        cluster: EmbeddedCluster,
        struck: Callable[[str], None],
        second: Callable[[], str],
    ) -> None:
        """`struck` is told the node whose agent is about to be deleted; `second`: a second run, and how it ended."""
        self._kind = kind
        self._instant = instant
        self._random = Random(pick)
        self._seconds = seconds
        self._count = count
        self._cluster = cluster
        self._api: Api = cluster.api()
        self._struck = struck
        self._second = second
        self._running: Running | None = None
        self._lock = threading.RLock()
        self._fired = threading.Event()
        self._threads: list[threading.Thread] = []
        self._changes = 0
        self._left = 0
        self._until = 0.0
        self.fell = ""
        self.what = ""

    def watch(self, running: Running) -> None:
        """From here on, wait for the instant in this run."""
        self._running = running
        self._begin(lambda: self._await(running))

    def settle(self) -> None:
        """Everything is as it was; the run is over."""
        self._fired.set()
        for thread in self._threads:
            thread.join()
        self._until = self._left = 0

    # The instant

    def _await(self, running: Running) -> None:
        journal, its = running.journal, self._instant
        while not journal.wait(its.step, journal.has_begun, _LOOK_SECONDS):
            if self._fired.is_set() or not running.is_running:
                return
        # what asks for fewer changes than usual has its instant all the same
        fraction = its.fraction if its.by == "time" else (1 + its.fraction) / 2
        end = time.monotonic() + fraction * USUAL[its.step] * journal.haste
        while not self._fired.is_set() and running.is_running:
            left = end - time.monotonic()
            ended = journal.wait(its.step, journal.has_ended, max(min(left, _LOOK_SECONDS), 0))
            if ended:
                self._fire(its.step)  # its very end is the last instant of a step
            elif left <= 0:
                self._fire()

    def _fire(self, step: str = "") -> None:
        with self._lock:
            if self._fired.is_set() or self._running is None or not self._running.is_running:
                return
            self._fired.set()
            self.fell = step or self._running.journal.step
            self._act(self._running)

    # What the proxy asks

    def before(self, request: Request) -> Verdict:
        its, running = self._instant, self._running
        if running is not None and its.by == "request" and not self._fired.is_set() and _counts(request):
            self._count_change(running.journal)
            if self._changes > its.fraction * CHANGES[its.step] and not its.after:
                self._fire()
        return self._verdict(request, done=False)

    def after(self, request: Request, _status: int) -> Verdict:
        its = self._instant
        due = its.by == "request" and its.after and self._changes > its.fraction * CHANGES[its.step]
        if due and _counts(request) and not self._fired.is_set():
            self._fire()
        return self._verdict(request, done=True)

    def _count_change(self, journal: Journal) -> None:
        if journal.step == self._instant.step:
            with self._lock:
                self._changes += 1

    def _verdict(self, request: Request, *, done: bool) -> Verdict:
        if not self._fired.is_set():
            return None
        if self._kind == "kill everything":
            return Closed()  # nobody is there any more to hear an answer
        if self._kind == "connections refused" and time.monotonic() < self._until:
            return Closed()
        if self._kind == "slow exec" and request.is_exec and not done and time.monotonic() < self._until:
            time.sleep(self._seconds)
        if self._kind == "connection closed" and done is self._instant.after and self._taken():
            return Closed()
        if self._kind.startswith("answer ") and not done:
            status = int(self._kind.split()[1])
            if (request.changes or status != 409) and self._taken():
                return Answer(status)
        return None

    def _taken(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0

    # What is done

    def _act(self, running: Running) -> None:
        self.what = self._kind
        self._left = self._count
        if self._kind == "kill everything":
            running.kill_all()
        elif self._kind == "kill one":
            roles = sorted(set(running.members().values()) - {"other"})
            role = self._random.choice(roles or ["engine"])
            self.what = f"kill the {role}"
            running.kill(role)
        elif self._kind == "API server stopped":
            self.what += f" for {self._seconds} s"
            self._begin(self._stopped)
        elif self._kind == "API server killed":
            self.what += f" and started after {self._seconds * _API_SERVER_SHARE:.1f} s"
            self._begin(self._killed)
        elif self._kind == "pod deleted":
            self._delete_pod()
        elif self._kind == "second run":
            self._begin(self._run_second)
        elif self._kind == "slow exec":
            self.what += f", {self._seconds} s each"
            self._until = time.monotonic() + _SLOW_FOR_SECONDS
        elif self._kind == "connections refused":
            self.what += f" for {self._seconds} s"
            self._until = time.monotonic() + self._seconds
        else:
            self.what += f", {self._count} times"

    def _begin(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=self._kind, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _stopped(self) -> None:
        with self._cluster.api_server_stopped():
            time.sleep(self._seconds)

    def _killed(self) -> None:
        self._cluster.kill(_API_SERVER)
        time.sleep(self._seconds * _API_SERVER_SHARE)
        self._cluster.revive()

    def _run_second(self) -> None:
        self.what = f"second run, {self._second()}"

    def _delete_pod(self) -> None:
        pods = self._api.get(_PODS)["items"]
        names = sorted(pod["metadata"]["name"] for pod in pods if _is_ours(pod["metadata"].get("labels") or {}))
        if not names:
            self.what = "pod deleted: there is none"
            return
        name = self._random.choice(names)
        pod = next(its for its in pods if its["metadata"]["name"] == name)
        if pod["metadata"]["labels"].get("k8s-app") == "cilium":
            self._struck(pod["spec"].get("nodeName", ""))
        self.what = f"pod {name} deleted"
        self._api.delete(f"{_PODS}/{name}")


def _counts(request: Request) -> bool:
    return request.changes and not request.is_lease


def _is_ours(labels: dict[str, str]) -> bool:
    return labels.get("k8s-app") in _ROLES_OF_PODS or _TASK in labels
