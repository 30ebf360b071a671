"""Pulumi's engine, as a user calls it: one folder with a program, one stack."""

import json
import os
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.bench.errors import BenchError
from local.bench.events import EventLog, Span, spans
from local.toolchain import Toolchain

_NAME = "bench"
_LAST_LINES = 40


@dataclass(frozen=True)
class Run:
    """One command.

    Attributes:
        seconds: its wall time.
        processor: the seconds of processors that Pulumi and all that it started have had.
        spans: what the wall time was spent on.
    """

    seconds: float
    processor: float
    spans: list[Span]


class Stack:
    """The stack of one program, with a backend and a PULUMI_HOME of its own.

    Args:
        program: its folder.
        home: what is its own of Pulumi's lies in here.
    """

    def __init__(self, program: Path, home: Path, toolchain: Toolchain, kubeconfig: Path) -> None:
        self._program = program
        self._pulumi = toolchain.pulumi
        self._log = EventLog(_made(home) / "events")
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("PULUMI_", "KUBE"))}
        self._environment = ours | {
            "PATH": os.pathsep.join(
                [str(toolchain.pulumi.parent), str(toolchain.helm.parent), os.environ.get("PATH", os.defpath)]
            ),
            "PULUMI_HOME": str(toolchain.pulumi_home(home / "pulumi")),
            "PULUMI_BACKEND_URL": f"file://{_made(home / 'state')}",
            "PULUMI_CONFIG_PASSPHRASE": "nothing here is worth hiding",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DEBUG_COMMANDS": "true",  # --event-log is one of them
            "KUBECONFIG": str(kubeconfig),
        }
        self._said("stack", "init", _NAME)

    def configure(self, settings: dict[str, str]) -> None:
        self._said("config", "set-all", "--path", *(f"--plaintext={name}={value}" for name, value in settings.items()))

    def preview(self) -> list[dict[str, Any]]:
        """The steps that a preview plans."""
        steps: list[dict[str, Any]] = json.loads(self._said("preview", "--json"))["steps"]
        return steps

    def resources(self) -> list[dict[str, Any]]:
        """The state's resources."""
        found: list[dict[str, Any]] = json.loads(self._said("stack", "export"))["deployment"]["resources"]
        return found

    def up(self) -> Run:
        """``pulumi up --yes``: a preview and an update."""
        return self._run("up")

    def destroy(self) -> Run:
        return self._run("destroy")

    def _run(self, command: str) -> Run:
        with self._log.read():
            began, used = time.monotonic(), _used()
            self._said(command, "--yes", f"--event-log={self._log.path}")
            seconds, processor = time.monotonic() - began, _used() - used
        return Run(seconds, processor, spans(self._log.events, seconds))

    def _said(self, *arguments: str) -> str:
        command = [str(self._pulumi), *arguments, "--non-interactive", "--color=never"]
        done = subprocess.run(command, cwd=self._program, env=self._environment, capture_output=True, text=True)
        if done.returncode:
            lines = (done.stdout + done.stderr).strip().splitlines()[-_LAST_LINES:]
            raise BenchError(f"`pulumi {arguments[0]}` of {self._program} failed:\n  " + "\n  ".join(lines))
        return done.stdout


def _used() -> float:
    """Seconds of processors that all of our ended children have had, and theirs."""
    its = resource.getrusage(resource.RUSAGE_CHILDREN)
    return its.ru_utime + its.ru_stime


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
