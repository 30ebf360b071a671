"""Programs that are on this machine already: on the PATH, or in the running interpreter's packages."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from local.toolchain import versions
from local.toolchain.errors import ToolchainError
from local.toolchain.versions import Version

_QUESTIONS = {
    "pulumi": ("version",),
    "kubectl": ("version", "--client", "--output=json"),
    "helm": ("version", "--template", "{{.Version}}"),
}
_OTHERWISE = ("--version",)
_SECONDS_TO_ANSWER = 20


@dataclass(frozen=True)
class Look:
    """What came of looking for a program on the PATH."""

    path: Path | None
    """Where it is, if its version serves."""
    said: str
    """The same in words."""


class SearchPath:
    """The PATH, and what its programs said of their versions.

    Asking ``pulumi version`` takes a third of a second, so a compiled program's answer is remembered for as
    long as the file is the same. A script is asked each time: it may be a version manager's, which answers as
    its settings say.
    """

    def __init__(self, cache: Path) -> None:
        """Remember in this cache folder."""
        self._memory = cache / "versions-on-path.json"
        # A virtual environment's own are wrappers in Python: slow to start, and signals end in them.
        wrappers = Path(sys.prefix, "bin") if sys.prefix != sys.base_prefix else None
        entries = (Path(entry) for entry in os.get_exec_path() if entry)
        self._path = os.pathsep.join(str(entry) for entry in entries if entry != wrappers)

    def which(self, program: str) -> Path | None:
        """The first of that name."""
        found = shutil.which(program, path=self._path)
        return Path(found) if found else None

    def look(self, program: str) -> Look:
        """Find a program whose version serves."""
        path = self.which(program)
        if path is None:
            return Look(None, f"{program} isn't on the PATH")
        version = self._version(program, path)
        if version is None:
            return Look(None, f"{path} doesn't say its version")
        at_least, below = versions.SERVES[program]
        if not at_least <= version < below:
            wanted = f"from {versions.text(at_least)} to below {versions.text(below)}"
            return Look(None, f"{path} is {versions.text(version)}, wanted is {wanted}")
        return Look(path, f"{path} ({versions.text(version)})")

    def pulumi(self) -> Look:
        """Pulumi's CLI, which serves only with its language host and the plugin for dynamic providers."""
        look = self.look("pulumi")
        if look.path is None:
            return look
        beside = look.path.resolve().parent
        for program in ("pulumi-language-python", "pulumi-resource-pulumi-python"):
            # In the order of its own search: the PATH, and then beside the program that a link leads to.
            if self.which(program) is None and not os.access(beside / program, os.X_OK):
                return Look(None, f"{look.path} has no {program} beside it or on the PATH")
        return look

    def _version(self, program: str, path: Path) -> Version | None:
        real = path.resolve()
        state = real.stat()
        name = f"{real} {state.st_size} {state.st_mtime_ns}"
        memory = self._remembered()
        if name in memory:
            return tuple(memory[name])
        version = _ask(path, _QUESTIONS.get(program, _OTHERWISE))
        if not _is_script(real) and version is not None and self._memory.parent.is_dir():
            self._remember(memory | {name: list(version)})
        return version

    def _remembered(self) -> dict[str, list[int]]:
        try:
            memory: dict[str, list[int]] = json.loads(self._memory.read_bytes())
        except (OSError, ValueError):
            return {}
        return memory

    def _remember(self, memory: dict[str, list[int]]) -> None:
        # Renamed into place, as another run may be reading it.
        with tempfile.NamedTemporaryFile(
            "w", dir=self._memory.parent, prefix=f".{self._memory.name}.", delete=False
        ) as file:
            json.dump(memory, file)
        Path(file.name).rename(self._memory)


def _ask(path: Path, question: tuple[str, ...]) -> Version | None:
    quiet = os.environ | {"PULUMI_SKIP_UPDATE_CHECK": "true"}
    try:
        answer = subprocess.run(
            [path, *question],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS_TO_ANSWER,
            env=quiet,
            stdin=subprocess.DEVNULL,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    numbers = re.search(r"\bv?(\d+)\.(\d+)(?:\.(\d+))?", answer.stdout)
    return tuple(int(number) for number in numbers.groups("0")) if numbers else None


def _is_script(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def in_package(distribution: str, program: str) -> Path:
    """The program that an installed Python package brings; raises where the package isn't installed."""
    try:
        files = importlib.metadata.distribution(distribution).files or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    candidates = [Path(str(file.locate())).resolve() for file in files if file.name == program]
    # Beside the program itself there may be a wrapper of the same name, in Python.
    compiled = [path for path in candidates if path.is_file() and not _is_script(path)]
    if not compiled:
        at_least = versions.text(versions.SERVES[program][0])
        raise ToolchainError(
            f"{program} is missing: {sys.executable} has no package {distribution}. Install the locked "
            f"dependencies into its environment, or put {program} {at_least} or newer on the PATH."
        )
    return compiled[0]
