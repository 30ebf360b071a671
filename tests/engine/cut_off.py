"""Runs that are cut off: what is killed, and at which instant.

An instant is something that the run has said, or that the API server was asked for: never an amount of time.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.engine.harness import RUNS, Cluster, Entry, Object, Run, Stack, wait_until

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

Instant = Callable[["Begun"], bool]


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
