"""docs/start.md as a stranger follows it: from a built wheel to a switched cluster, and back, by the page alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from local.toolchain import Toolchain
from tests.engine.built import wheel as built_wheel
from tests.engine.harness import REPOSITORY, Cluster, Stack

PAGE = REPOSITORY / "docs" / "start.md"
CHAPTER = "A program of your own"
ELSEWHERE = ("The wheel", "The plugins")
"""Sections whose commands need a network: the wheel is built without one, the plugins are the toolchain's."""

WAY_BACK = "The way back"


class Stranger:
    """An empty folder, and a shell in it that has what the page says one needs.

    Args:
        wheel: the path that the page calls `WHEEL`.
    """

    def __init__(self, cluster: Cluster, toolchain: Toolchain, wheel: Path, folder: Path) -> None:
        self.folder = folder / "an empty folder"
        self.folder.mkdir()
        environment = Stack(toolchain, folder / "person", cluster.kubeconfig, project=self.folder).environ()
        for own in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE"):  # the page sets them
            del environment[own]
        self._environment = environment | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]]),
            "WHEEL": str(wheel),
            "CHART": str(toolchain.cilium_chart),
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            # what the wheel needs is this environment's, to save its installation: pip finds it there. This
            # repository's own package isn't: it is there by a .pth file, which is followed in site-packages alone
            "PYTHONPATH": sysconfig.get_path("purelib"),
        }
        self._exports: list[str] = []

    def write(self, language: str, text: str) -> None:
        """A file whose name stands in its first line."""
        name = text.partition("\n")[0].removeprefix("# ")
        assert name in ("Pulumi.yaml", "__main__.py"), f"a {language} block names no file: {text}"
        (self.folder / name).write_text(text)

    def does(self, commands: str) -> str:
        """Commands in a shell that knows what was exported before. Returns what they say."""
        script = "\n".join(["set -eu", *self._exports, commands])
        self._exports += [line for line in commands.splitlines() if line.startswith("export ")]
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"$ {commands}\n{done.stdout[-8000:]}"
        return done.stdout


def blocks() -> dict[str, list[tuple[str, str]]]:
    """By section of the chapter: its blocks, each a language and a text, but for what is only shown."""
    chapter = re.split(rf"^## {CHAPTER}$", PAGE.read_text(), flags=re.MULTILINE)[1]
    chapter = re.split(r"^## ", chapter, flags=re.MULTILINE)[0]
    found: dict[str, list[tuple[str, str]]] = {}
    for section in re.split(r"^### ", chapter, flags=re.MULTILINE)[1:]:
        title = section.partition("\n")[0]
        found[title] = re.findall(r"^```(\w+)\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
    return found


@pytest.fixture(scope="module")
def stranger(cluster: Cluster, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    wheel = built_wheel(tmp_path_factory.mktemp("build"))
    return Stranger(cluster, toolchain, wheel, tmp_path_factory.mktemp("stranger"))


def test_a_stranger_gets_from_a_wheel_to_a_switched_cluster_and_back_by_the_page_alone(
    cluster: Cluster, stranger: Stranger
) -> None:
    chapter = blocks()
    assert {*ELSEWHERE, WAY_BACK} < set(chapter)
    said = ""
    for title, its in chapter.items():
        if title == WAY_BACK:
            assert '"switched":3' in said
            assert cluster.daemonset("kube-proxy") is None
        for language, text in its:
            if title in ELSEWHERE:
                continue
            if language == "sh":
                said += stranger.does(text)
            else:
                stranger.write(language, text)
    assert cluster.daemonset("kube-proxy") is not None
    assert cluster.daemonset("cilium") is None
    cluster.wait_until_uninstalled()
