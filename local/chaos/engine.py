"""Pulumi's engine, whose runs can be killed: all of one, or one process of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import yaml

from local import clone, engine
from local.chaos.errors import ChaosError
from local.chaos.journal import Journal
from local.toolchain import Toolchain

_STACK: Final = "chaos"
_SETTINGS: Final = Path("project", "stacks", f"Pulumi.{_STACK}.yaml")
_NAMESPACE: Final = "kube-proxy-replacement"
_RUN_SECONDS: Final = 300.0
_SHORT_SECONDS: Final = 60.0
_TRIES: Final = 5
_POLL_SECONDS: Final = 0.05

_ROLES: Final = (
    ("step", "kube_proxy_replacement.run"),
    ("plugin kubernetes", "pulumi-resource-kubernetes"),
    ("plugin command", "pulumi-resource-command"),
    ("dynamic provider", "pulumi-resource-pulumi-python"),
    ("dynamic provider", "pulumi/dynamic/__main__.py"),
    ("dynamic provider", "pulumi.dynamic"),
    ("program", "pulumi-language-python-exec"),
    ("language host", "pulumi-language-python"),
)
"""What the processes of a run are, by what their command lines hold; the first that fits."""


@dataclass(frozen=True)
class Done:
    """A command that has ended: its exit code (negative: a signal) and all that it said."""

    code: int
    text: str


class Running:
    """A command under way, with all that it starts, in a session of its own."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, journal: Journal) -> None:
        self._process = process
        self._output = output
        self.journal = journal
        self._gone = False
        """Nothing of its session is left: from now on its id may be somebody else's."""

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait(self) -> Done:
        """Until the engine ends; killed with all that it started where that takes too long."""
        try:
            self._process.wait(_RUN_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill_all()
        except BaseException:
            self.kill_all()
            raise
        finally:
            self.journal.close()
        return Done(self._process.returncode, self._output.read_text(errors="replace"))

    def members(self) -> dict[int, str]:
        """The processes of its session that haven't ended: what each is, by its id."""
        found: dict[int, str] = {}
        if self._gone:
            return found
        for folder in Path("/proc").iterdir():
            with suppress(ValueError, OSError):
                pid = int(folder.name)
                if os.getsid(pid) == self._process.pid and _lives(folder):
                    found[pid] = "engine" if pid == self._process.pid else _role(folder)
        return found

    def kill(self, role: str) -> None:
        """SIGKILL to every process of a role."""
        for pid, its in self.members().items():
            if its == role:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """SIGKILL to the engine and all that it has started, until nothing of it is left."""
        self._process.kill()
        while members := self.members():
            for pid in members:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.poll()
            time.sleep(_POLL_SECONDS)
        self._process.wait()
        self._gone = True

    def leave(self, seconds: float) -> list[str]:
        """Let what is left of its session end by itself for so long; what was still there, and was killed then."""
        deadline = time.monotonic() + seconds
        while (left := self.members()) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        self.kill_all()
        return sorted(set(left.values()))


class Stack:
    """The program's stack on one cluster; everything of it lies in one folder, which is made."""

    def __init__(self, folder: Path, toolchain: Toolchain, kubeconfig: Path) -> None:
        self._folder = folder
        self._toolchain = toolchain
        self._kubeconfig = kubeconfig
        self._project = folder / "project"
        self._logs = folder / "logs"
        self._state = folder / "state"
        self._count = 0
        self._haste = 1.0
        (self._project / "stacks").mkdir(parents=True)
        self._logs.mkdir()
        (folder / "tmp").mkdir()
        (self._project / ".venv").symlink_to(clone.VENV)
        for name in ("Pulumi.yaml", "__main__.py"):
            (self._project / name).symlink_to(clone.ROOT / name)

    def create(self) -> Stack:
        """The stack in its backend."""
        self._said("stack", "init", _STACK)
        return self

    def second(self, folder: Path) -> Stack:
        """Another person's, on another backend, with the state that this one has at this moment."""
        other = Stack(folder, self._toolchain, self._kubeconfig)
        for _ in range(_TRIES):
            with suppress(shutil.Error):  # a file that was replaced meanwhile
                shutil.copytree(self._state, folder / "state", ignore=shutil.ignore_patterns("locks"))
                break
            shutil.rmtree(folder / "state")
        else:
            raise ChaosError(f"the state can't be copied from {self._state}")
        for file in (Path("passphrase"), _SETTINGS):
            shutil.copyfile(self._folder / file, folder / file)
        return other

    def configure(self, **settings: str | int) -> None:
        file = self._folder / _SETTINGS
        content = yaml.safe_load(file.read_text())
        content.setdefault("config", {}).update({f"{_NAMESPACE}:{key}": its for key, its in settings.items()})
        file.write_text(yaml.safe_dump(content))

    def start(self, verb: str, *options: str) -> Running:
        """Begin an `up` or a `destroy`, without a preview before it."""
        self._count += 1
        output, log = self._logs / f"{self._count}-{verb}.txt", self._folder / "tmp" / f"events-{self._count}"
        journal = Journal(verb, log, self._haste)
        arguments = [verb, "--yes", "--skip-preview", "--stack", _STACK, "--event-log", str(log), *options]
        with output.open("wb") as stream:
            process = self._popen(arguments, stream)
        return Running(process, output, journal)

    def end(self, running: Running) -> Done:
        """Wait for the end of what `start` began."""
        done = running.wait()
        self._haste = running.journal.haste
        return done

    def unlock(self) -> bool:
        """`pulumi cancel`, where a killed run has left its lock; whether there was one."""
        if not any((self._state / ".pulumi" / "locks").rglob("*.json")):
            return False
        self._said("cancel", "--yes", "--stack", _STACK)
        return True

    def preview(self) -> Done:
        """Fails where anything would change."""
        return self._run("preview", "--expect-no-changes", "--stack", _STACK)

    def resources(self) -> list[dict[str, Any]]:
        """What is in the state."""
        exported = json.loads(self._said("stack", "export", "--stack", _STACK))
        found: list[dict[str, Any]] = exported["deployment"].get("resources") or []
        return found

    def _said(self, *arguments: str) -> str:
        done = self._run(*arguments)
        if done.code:
            raise ChaosError(f"`pulumi {' '.join(arguments)}` has failed:\n{done.text[-4000:]}")
        return done.text

    def _run(self, *arguments: str) -> Done:
        self._count += 1
        output = self._logs / f"{self._count}-{arguments[0]}.txt"
        with output.open("wb") as stream, self._popen(arguments, stream) as process:
            try:
                process.wait(_SHORT_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return Done(process.returncode, output.read_text(errors="replace"))

    def _popen(self, arguments: list[str] | tuple[str, ...], stream: IO[bytes]) -> subprocess.Popen[bytes]:
        more = {"PULUMI_DEBUG_COMMANDS": "true", "TMPDIR": str(self._folder / "tmp")}
        environment = engine.environment(self._toolchain, self._kubeconfig, self._folder) | more
        return subprocess.Popen(
            [str(self._toolchain.pulumi), *arguments, "--non-interactive", "--color=never"],
            cwd=self._project,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _lives(folder: Path) -> bool:
    return folder.joinpath("stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")


def _role(folder: Path) -> str:
    line = folder.joinpath("cmdline").read_text(errors="replace").replace("\0", " ")
    return next((role for role, words in _ROLES if words in line), "other")
