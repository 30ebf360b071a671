"""Building a part with Go, from a module that this repository pins."""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from local.toolchain import versions
from local.toolchain.cache import Report
from local.toolchain.errors import ToolchainError
from local.toolchain.processes import end, end_with_parent

SOURCES = Path(__file__).resolve().parent.parent / "go"
"""The folders with go.mod, go.sum and our own few Go files."""

GOOS = sys.platform
GOARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())

_BEAT_SECONDS = 30
_LINES_SHOWN = 30


@dataclass(frozen=True)
class Program:
    """One ``go build``."""

    module: str
    """Folder below ``SOURCES``."""
    package: str
    output: str
    variables: Mapping[str, str] = field(default_factory=dict)
    """Go string variables that the linker sets, as a rule a version."""
    tags: tuple[str, ...] = ()
    """Go's build tags."""


@dataclass(frozen=True)
class Taken:
    """A file or folder that is taken out of a Go module as it is."""

    module: str
    path: str
    """Module path and version, ``sigs.k8s.io/kwok@v0.8.0``."""
    source: str
    target: str
    executable: bool = False


@dataclass(frozen=True)
class Embedded:
    """A JSON file of a Go module, compacted for our own main.go to embed."""

    module: str
    path: str
    source: str
    target: str
    more: Mapping[str, str] = field(default_factory=dict)
    """What is put into it."""


@dataclass(frozen=True)
class GoPart:
    """What is built together, into one folder."""

    name: str
    version: str
    how: str = field(repr=False)
    """How it comes to be, and how long that takes from cold, for a person to read."""
    programs: tuple[Program, ...] = ()
    taken: tuple[Taken, ...] = ()
    embedded: tuple[Embedded, ...] = ()

    @property
    def title(self) -> str:
        """Its name and version, for a person to read."""
        return self.name if self.version == versions.OWN else f"{self.name} {self.version}"

    @property
    def modules(self) -> tuple[str, ...]:
        """The folders below ``SOURCES`` that it's built from."""
        steps: tuple[Program | Taken | Embedded, ...] = (*self.programs, *self.taken, *self.embedded)
        return tuple(dict.fromkeys(step.module for step in steps))

    def folder(self, cache: Path, sources: Path = SOURCES) -> Path:
        """Where it is once it's built."""
        return cache / f"{self.name}-{self.version}-{self.key(sources)}"

    def key(self, sources: Path = SOURCES) -> str:
        """A hash of all that it's built from."""
        # repr shows every version, package, variable and file of the part, and nothing of this machine.
        key = hashlib.sha256(repr((self, GOOS, GOARCH)).encode())
        for module in self.modules:
            for file in source_files(sources / module):
                content = file.read_bytes()
                name = file.relative_to(sources).as_posix()
                key.update(f"\n{name} {len(content)}\n".encode() + content)
        return key.hexdigest()[:12]


def source_files(module: Path) -> list[Path]:
    """What a module is built from: all that it holds but its tests and what Go passes over too."""
    if not (module / "go.mod").is_file():
        raise ToolchainError(f"{module} has no go.mod: this clone is incomplete")
    passed_over = (".*", "_*", "*_test.go", "testdata")
    return sorted(
        file
        for file in module.rglob("*")
        if file.is_file()
        and not any(fnmatch(name, glob) for name in file.relative_to(module).parts for glob in passed_over)
    )


class Go:
    """The Go toolchain of this machine, with what a build of ours sets."""

    def __init__(self) -> None:
        """Find it; raises where there's none, or an old one."""
        needed = versions.text(versions.GO)
        mend = f"Install Go {needed} or newer (https://go.dev/doc/install) and put it on the PATH."
        program = shutil.which("go")
        if program is None:
            raise ToolchainError(f"Go isn't on the PATH, and what is missing is built with it. {mend}")
        self._program = program
        self._environment = os.environ | {
            "CGO_ENABLED": "0",
            "GOOS": GOOS,
            "GOARCH": GOARCH,
            # An empty GOFLAGS would let the one from `go env -w` through.
            "GOFLAGS": "-mod=readonly",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
        }
        said = subprocess.run(
            [program, "env", "GOVERSION"], env=self._environment, capture_output=True, text=True, check=False
        ).stdout.strip()
        numbers = re.search(r"(\d+)\.(\d+)", said)
        if numbers is None or (int(numbers[1]), int(numbers[2])) < versions.GO:
            raise ToolchainError(f"{program} is {said or 'no Go that answers'}, which is too old. {mend}")

    def test(self, module: Path) -> int:
        """Run a module's own tests, and return their exit code."""
        command = [self._program, "test", "./..."]
        return subprocess.run(command, cwd=module, env=self._environment, check=False).returncode

    def build(self, part: GoPart, into: Path, target: Path, log: Path, report: Report, sources: Path = SOURCES) -> None:
        """Build all of a part into a folder that ``build_once`` then makes ``target``."""
        scratch = into / ".scratch"
        scratch.mkdir()
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        run = _Run(part, self._program, self._environment | {"GOTMPDIR": str(scratch)}, scratch, log, report)
        # Built from a copy: nothing is ever written into the clone, and what isn't in the key isn't there.
        copy = scratch / "sources"
        for module in part.modules:
            for file in source_files(sources / module):
                (copy / file.relative_to(sources)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy / file.relative_to(sources))
        if part.folder(target.parent, copy) != target:
            raise ToolchainError(f"the sources of {part.name} changed just now; run this again")
        for item in part.embedded:
            value = json.loads((run.module(copy / item.module, item.path) / item.source).read_bytes())
            compact = json.dumps(value | item.more, separators=(",", ":"))
            (copy / item.module / item.target).write_text(compact)
        for program in part.programs:
            run.build(copy / program.module, program, into / program.output)
        for piece in part.taken:
            source = run.module(copy / piece.module, piece.path) / piece.source
            _take(source, into / piece.target, executable=piece.executable)
        shutil.rmtree(scratch)


@dataclass
class _Run:
    """Go's commands for one part, their output in one log."""

    part: GoPart
    go: str
    environment: Mapping[str, str]
    scratch: Path
    log: Path
    report: Report
    start: float = field(default_factory=time.monotonic)

    def build(self, folder: Path, program: Program, output: Path) -> None:
        # Go parts the linker's flags at spaces, but for what is in quotes.
        link = ["-s -w", *(f"-X '{name}={value}'" for name, value in program.variables.items())]
        # Half of many cores is fast enough, and leaves a person's machine usable.
        at_once = max(2, (os.cpu_count() or 2) // 2)
        arguments = ["build", "-v", "-p", str(at_once), "-trimpath", "-buildvcs=false"]
        arguments += ["-tags", ",".join(program.tags)] if program.tags else []
        arguments += ["-ldflags", " ".join(link), "-o", str(output), program.package]
        self._call(arguments, folder, self.log)

    def module(self, folder: Path, path: str) -> Path:
        """Where Go's module cache has a module, which go.sum in ``folder`` vouches for."""
        answer = self.scratch / "module.json"
        answer.write_bytes(b"")
        self._call(["mod", "download", "-json", path], folder, answer)
        return Path(json.loads(answer.read_bytes())["Dir"])

    def _call(self, arguments: Sequence[str], folder: Path, answer: Path) -> None:
        with self.log.open("ab") as log, answer.open("ab") as output:
            process = subprocess.Popen(
                [self.go, *arguments],
                cwd=folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                preexec_fn=end_with_parent(),
            )
            code = self._wait(process)
            if code != 0 and answer != self.log:
                # With -json Go says in its answer what went wrong.
                log.write(answer.read_bytes())
        if code != 0:
            self._fail(arguments[0])

    def _wait(self, process: "subprocess.Popen[bytes]") -> int:
        try:
            while True:
                try:
                    return process.wait(_BEAT_SECONDS)
                except subprocess.TimeoutExpired:
                    self.report(f"    {elapsed(time.monotonic() - self.start)} {self._progress()}")
        except BaseException:
            end(process)
            raise

    def _progress(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        compiled = sum(not line.startswith("go: ") for line in lines)
        return f"{compiled} Go packages compiled" if compiled else "downloading Go modules"

    def _fail(self, command: str) -> None:
        last = self.log.read_text(errors="replace").splitlines()[-_LINES_SHOWN:]
        shown = "\n".join(f"  {line}" for line in last)
        raise ToolchainError(
            f"{self.part.title} couldn't be built, `go {command}` failed. "
            f"The last lines of its output:\n{shown}\nThe whole of it: {self.log}"
        )


def _take(source: Path, target: Path, *, executable: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
    # Go's module cache is read-only; a copy of ours can be removed like any other folder.
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if executable or path.is_dir() else 0o644)


def elapsed(seconds: float) -> str:
    """``95`` as ``1:35``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
