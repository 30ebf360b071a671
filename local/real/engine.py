"""Pulumi's CLI for a cluster of real nodes: in its fabric's namespace, with a project, backend and stack of its own."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final

import yaml

from local.clone import ROOT, VENV
from local.engine import environment
from local.real.cluster import RealCluster
from local.toolchain import Toolchain

STACK: Final = "real"

VALUES: Final[dict[str, Any]] = {
    # Its images are made on this machine, and no registry has these digests.
    "image": {"useDigest": False, "pullPolicy": "IfNotPresent"},
    "operator": {"image": {"useDigest": False, "pullPolicy": "IfNotPresent"}, "replicas": 1},
    # There is no Envoy: it isn't made of Go.
    "envoy": {"enabled": False},
    "l7Proxy": False,
}


class RealEngine:
    """Runs Pulumi's commands on this very program."""

    def __init__(self, cluster: RealCluster, toolchain: Toolchain, folder: Path) -> None:
        self._cluster = cluster
        self._toolchain = toolchain
        self._folder = folder
        self.project = folder / "project"

    def prepare(self, strategy: str = "all-at-once") -> None:
        """A project with the repository's own program in it, and an empty stack."""
        self.project.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.project / "stacks").mkdir(exist_ok=True)
        for name in ("Pulumi.yaml", "__main__.py"):
            shutil.copyfile(ROOT / name, self.project / name)
        link = self.project / VENV.name
        if not link.is_symlink():
            link.symlink_to(VENV)
        self.must("stack", "init", STACK)
        file = self.project / "stacks" / f"Pulumi.{STACK}.yaml"
        content = yaml.safe_load(file.read_text()) if file.exists() else {}
        settings = {
            "chart": str(self._toolchain.cilium_chart),
            "hubble": False,
            "strategy": strategy,
            "values": VALUES,
        }
        own = {f"kube-proxy-replacement:{name}": value for name, value in settings.items()}
        content["config"] = (content.get("config") or {}) | own
        file.write_text(yaml.safe_dump(content))

    def set(self, key: str, value: str) -> None:
        """Set a setting of the program's."""
        self.must("config", "set", key, value, "--stack", STACK)

    def run(self, log: Path, *arguments: str) -> int:
        """Run a command, its output in a log file."""
        with log.open("ab") as output:
            return self._ended(arguments, output).returncode

    def must(self, *arguments: str) -> str:
        """Run a command that has to succeed, and return what it prints."""
        done = self._ended(arguments, subprocess.PIPE)
        if done.returncode != 0:
            raise RuntimeError(f"pulumi {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def _ended(self, arguments: Sequence[str], output: int | IO[bytes]) -> "subprocess.CompletedProcess[str]":
        command = [str(self._toolchain.pulumi), *arguments, "--non-interactive", "--color=never"]
        return subprocess.run(
            self._cluster.in_fabric(command),
            cwd=self.project,
            env=environment(self._toolchain, self._cluster.kubeconfig, self._folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            check=False,
        )
