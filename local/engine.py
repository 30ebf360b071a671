"""Pulumi's CLI in the clone's own environment: its own backend, plugins and secrets, the embedded cluster."""

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from local.clone import FOLDER, ROOT, STACK, VENV
from local.toolchain import Toolchain

Report = Callable[[str], None]

_STATE: Final = "state"
_LOCKS: Final = FOLDER / _STATE / ".pulumi" / "locks"


class EngineError(Exception):
    """A command of Pulumi's has failed; it has said why itself."""


class Engine:
    """Runs Pulumi's commands."""

    def __init__(self, toolchain: Toolchain, kubeconfig: Path) -> None:
        self._toolchain = toolchain
        self._kubeconfig = kubeconfig

    def environment(self) -> dict[str, str]:
        """What every command runs with."""
        return environment(self._toolchain, self._kubeconfig, FOLDER)

    def run(self, *arguments: str) -> int:
        """Run a command before the user's eyes, and return its exit code."""
        with subprocess.Popen(self._command(arguments), cwd=ROOT, env=self.environment()) as process:
            return _wait(process)

    def must(self, *arguments: str) -> None:
        """Run a command that has to succeed."""
        if code := self.run(*arguments):
            raise EngineError(f"pulumi {' '.join(arguments)} ended with exit code {code}; what it said is above")

    def read(self, *arguments: str) -> str | None:
        """What a command prints, or None when it fails."""
        command = self._command([*arguments, "--non-interactive", "--color=never"])
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        return done.stdout if done.returncode == 0 else None

    def has_stack(self) -> bool:
        """Whether the stack is in the backend."""
        return any(of["name"] == STACK for of in json.loads(self.read("stack", "ls", "--json") or "[]"))

    def release(self, report: Report) -> None:
        """Take away the lock that a run of Pulumi has left that was killed."""
        for lock in _LOCKS.rglob("*.json"):
            if not _runs(json.loads(lock.read_text()).get("pid")):
                report("A run before this one was killed and has left its lock on the stack: releasing it.")
                self.must("cancel", "--yes", "--stack", STACK)
                return

    def _command(self, arguments: Sequence[str]) -> list[str]:
        return [str(self._toolchain.pulumi), *arguments]


def environment(toolchain: Toolchain, kubeconfig: Path, folder: Path) -> dict[str, str]:
    """What Pulumi's commands run with. The user's own settings for Pulumi don't get in the way.

    Args:
        folder: what the backend, the plugins and the secrets' passphrase lie in; made where they aren't there.
    """
    state = folder / _STATE
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    first = (VENV / "bin", toolchain.pulumi.parent, toolchain.helm.parent)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PULUMI_")}
    return kept | {
        "KUBECACHEDIR": str(folder / "kube-cache"),  # kubectl's and helm's, which else lies in the user's home
        "KUBECONFIG": str(kubeconfig),
        "PATH": os.pathsep.join([*map(str, first), kept.get("PATH", os.defpath)]),
        "PULUMI_BACKEND_URL": state.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": _passphrase(folder / "passphrase"),
        "PULUMI_HOME": str(toolchain.pulumi_home(folder / "pulumi-home")),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "VIRTUAL_ENV": str(VENV),
    }


def _wait(process: "subprocess.Popen[bytes]") -> int:
    """Wait for a run of Pulumi to its end.

    At an interrupt the terminal has told it as well, and it ends in order: it must not be killed for it.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGINT))
    try:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue
    finally:
        signal.signal(signal.SIGTERM, before)


def _runs(pid: object) -> bool:
    return isinstance(pid, int) and Path(f"/proc/{pid}").exists()


def _passphrase(file: Path) -> str:
    if not file.exists():
        draft = file.with_suffix(".draft")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            stream.write(secrets.token_urlsafe(32))
        draft.replace(file)
    return file.read_text()
