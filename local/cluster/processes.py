"""The cluster's processes: started in the background, found again later, ended without mistake."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

_LAUNCH = Path(__file__).with_name("launch.py")
# Lists that come over a watch need an etcd that is newer than the one of the package registries. Each
# program of Kubernetes would try, and some of them, kwok for one, would go on trying.
_ENVIRONMENT = {"KUBE_FEATURE_WatchListClient": "false"}
_POLL_SECONDS = 0.05
_END_SECONDS = 10.0
_KILL_SECONDS = 5.0


@dataclass(frozen=True)
class Process:
    """A process by its id and the time it started at, in the kernel's ticks: no other has both."""

    name: str
    pid: int
    started: str

    @property
    def is_running(self) -> bool:
        """Whether it is this very process that has the id, and hasn't ended."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return False
        return fields[19] == self.started and fields[0] not in ("Z", "X")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it, and to no process that came after it under its id."""
        try:
            # The descriptor keeps meaning one process: looked at once more, it is the right one.
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.is_running:
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return
        finally:
            os.close(descriptor)


class Processes:
    """What was started and noted in a folder."""

    def __init__(self, records: Path, logs: Path) -> None:
        self._records = records
        self._logs = logs
        self._children: list[int] = []

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a program that goes on after us, its output in a log file."""
        record = self._records / name
        record.unlink(missing_ok=True)
        launch = [sys.executable, "-I", "-S", str(_LAUNCH), str(record), *command]
        log = (os.POSIX_SPAWN_OPEN, 1, str(self.log(name)), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        # A session of its own: an interrupt of ours at the terminal isn't one of the cluster.
        self._children.append(
            os.posix_spawn(
                sys.executable,
                launch,
                os.environ | _ENVIRONMENT,
                file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), log, (os.POSIX_SPAWN_DUP2, 1, 2)],
                setsid=True,
            )
        )
        while not record.exists() and self._reap():
            time.sleep(_POLL_SECONDS / 10)

    def log(self, name: str) -> Path:
        """Where a program's output is."""
        return self._logs / f"{name}.log"

    def all(self) -> list[Process]:
        """Everything that was noted, running or not."""
        found = []
        if self._records.is_dir():
            for record in sorted(self._records.iterdir()):
                words = [] if record.suffix else record.read_text().split()
                if len(words) == 2:
                    found.append(Process(record.name, int(words[0]), words[1]))
        return found

    def running(self) -> list[Process]:
        """What of it runs now."""
        self._reap()
        return [process for process in self.all() if process.is_running]

    def ended(self) -> list[str]:
        """The names of those that have ended by themselves."""
        self._reap()
        return [process.name for process in self.all() if not process.is_running]

    def end(self, order: Sequence[Collection[str]] = ()) -> list[str]:
        """End what runs, in this order, then all others; return the names of what had to be killed."""
        killed: list[str] = []
        for names in (*order, None):
            chosen = [process for process in self.running() if names is None or process.name in names]
            for process in chosen:
                process.signal(signal.SIGTERM)
            for process in self._left_after(chosen, _END_SECONDS):
                killed.append(process.name)
                process.signal(signal.SIGKILL)
            self._left_after(chosen, _KILL_SECONDS)
        for record in self._records.iterdir() if self._records.is_dir() else ():
            record.unlink()
        return killed

    def kill(self, names: Collection[str]) -> None:
        """End some with no chance to clear up, and return when they are gone; they stay noted."""
        chosen = [process for process in self.running() if process.name in names]
        for process in chosen:
            process.signal(signal.SIGKILL)
        self._left_after(chosen, _KILL_SECONDS)

    def end_only(self, name: str) -> None:
        """End one, and forget it."""
        chosen = [process for process in self.running() if process.name == name]
        for process in chosen:
            process.signal(signal.SIGTERM)
        for process in self._left_after(chosen, _END_SECONDS):
            process.signal(signal.SIGKILL)
        self._left_after(chosen, _KILL_SECONDS)
        (self._records / name).unlink(missing_ok=True)

    def _left_after(self, processes: Sequence[Process], seconds: float) -> list[Process]:
        deadline = time.monotonic() + seconds
        while left := [process for process in processes if process.is_running]:
            if time.monotonic() > deadline:
                return left
            time.sleep(_POLL_SECONDS)
        self._reap()
        return []

    def _reap(self) -> bool:
        """Let go of children that have ended, so that their ids become free; whether one still runs."""
        left = []
        for child in self._children:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(child, os.WNOHANG)[0] == 0:
                    left.append(child)
        self._children = left
        return bool(left)
