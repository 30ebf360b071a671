"""Somebody with docs/when-something-goes-wrong.md open, who runs what stands there, as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import time
from typing import Final

from local.toolchain import Toolchain
from tests.engine.harness import REPOSITORY, RUNS, Cluster, Run, Stack

PAGE: Final = REPOSITORY / "docs" / "when-something-goes-wrong.md"

_SECONDS: Final = 240.0


def blocks() -> dict[tuple[str, int], list[str]]:
    """The page's commands, by the heading that they stand under and their block's place below it, from 0."""
    found: dict[tuple[str, int], list[str]] = {}
    for part in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        heading = part.partition("\n")[0]
        for number, block in enumerate(re.findall(r"^```sh\n(.*?)^```$", part, flags=re.MULTILINE | re.DOTALL)):
            found[heading, number] = [line for line in block.splitlines() if line.strip()]
    return found


class Reader:
    """Runs the page's blocks, each line in a shell of its own, for one stack, the one that is selected, on one cluster.

    Attributes:
        done: the blocks that were run to their end.
    """

    def __init__(self, toolchain: Toolchain, cluster: Cluster, stack: Stack) -> None:
        self.done: set[tuple[str, int]] = set()
        self._path = os.pathsep.join(str(program.parent) for program in (toolchain.pulumi, toolchain.kubectl))
        self._cluster = cluster
        self._stack = stack

    def does(self, heading: str, block: int = 0, **variables: str) -> list[Run]:
        """Asserts that each command of a block succeeds, and returns what they said.

        Args:
            variables: what the page takes to be set, `NODE` and the like.
        """
        runs = [self._run(command, variables) for command in blocks()[heading, block]]
        self.done.add((heading, block))
        return runs

    def _run(self, command: str, variables: dict[str, str]) -> Run:
        began = time.monotonic()
        its = self._stack.environ()
        its |= {
            "PATH": f"{self._path}{os.pathsep}{its['PATH']}",
            "KUBECACHEDIR": str(self._stack.folder / "kubectl"),
            "PULUMI_SKIP_CONFIRMATIONS": "true",  # nobody is there to say yes
        }
        if "kubectl" in command:
            its["KUBECONFIG"] = str(self._cluster.kubeconfig)
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self._stack.project,
            env=its | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
        run = Run([command], done.returncode, done.stdout, time.monotonic() - began)
        RUNS.append(run)
        assert run.ok, run.report()
        return run
