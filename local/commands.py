"""The commands, inside the environment."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Final

from local import clone, lock, removal, up
from local.cluster import ClusterError, EmbeddedCluster, ending
from local.engine import Engine, EngineError
from local.real import ending as real_ending
from local.real import up as real_up
from local.toolchain import ToolchainError, ensure

_CHECKS: Final = (
    ("lint", ("-m", "ruff", "check", ".")),
    ("format", ("-m", "ruff", "format", "--check", ".")),
    ("types", ("-m", "mypy")),
    ("imports", ("-c", "import sys; from importlinter.cli import lint_imports_command as main; sys.exit(main())")),
)
_WORKFLOWS: Final = ("GitHub workflows", ("-m", "local.workflows"))
_UNIT: Final = ("unit tests", ("-m", "pytest", "tests/unit"))
_GO: Final = ("tests of the programs in Go", ("-m", "local.gotests"))
# Three at a time: each file has a cluster of its own, and most of the time waits for it.
_ENGINE: Final = ("engine tests", ("-m", "pytest", "tests/engine", "--numprocesses=3", "--dist=loadfile"))
_CHAOS: Final = ("chaos", ("-m", "local.chaos", "--runs=8", "--seed=7"))
_REAL: Final = ("tests on real nodes", ("-m", "pytest", "tests/datapath"))


def run(command: str, arguments: Sequence[str]) -> int:
    """Do one command and return the exit code."""
    try:
        return _COMMANDS[command](arguments)
    except (ClusterError, EngineError, ToolchainError, lock.BusyError, up.SettingError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        real = "-real" if command.endswith("-real") else ""
        sys.stderr.write(f"Interrupted. `make up{real}` goes on from here, `make down{real}` ends what was started.\n")
        return 130


def _up(_: Sequence[str]) -> int:
    with lock.held("up"):
        up.run(_say)
    return 0


def _preview(arguments: Sequence[str]) -> int:
    return _engine().run("preview", "--stack", clone.STACK, *arguments)


def _pulumi(arguments: Sequence[str]) -> int:
    """What is asked for on the command line, or else in ARGS, as a shell would part it, but never run by one."""
    wanted = [*arguments] or shlex.split(os.environ.get("ARGS", ""))
    if not wanted:
        sys.stderr.write('say which command: make pulumi ARGS="stack --stack local"\n')
        return 2
    return _engine().run(*wanted)


def _outputs(_: Sequence[str]) -> int:
    outputs = _engine(_quiet).read("stack", "output", "--json", "--stack", clone.STACK)
    if outputs is None:
        sys.stderr.write("there is no stack here yet: run `make up` first\n")
        return 1
    sys.stdout.write(outputs)
    return 0


def _kubeconfig(_: Sequence[str]) -> int:
    print(_running(_quiet).kubeconfig)
    return 0


def _down(_: Sequence[str]) -> int:
    with lock.held("down"):
        ending.remove(clone.CLUSTER, _say)
    return removal.run("down")


def _up_real(_: Sequence[str]) -> int:
    with lock.held("up-real"):
        real_up.run(up.nodes(2, at_most=100), _say)
    return 0


def _bench_real(arguments: Sequence[str]) -> int:
    with lock.held("bench-real"):
        return _python(["-m", "local.real.bench", *arguments])


def _down_real(_: Sequence[str]) -> int:
    with lock.held("down-real"):
        real_ending.remove(clone.REAL, _say)
    return removal.run("down-real")


def _clean(_: Sequence[str]) -> int:
    with lock.held("clean"):
        ending.remove(clone.CLUSTER, _say)
        real_ending.remove(clone.REAL, _say)
    return removal.run("clean")


def _check(_: Sequence[str]) -> int:
    return _all([*_CHECKS, _WORKFLOWS])


def _test_unit(arguments: Sequence[str]) -> int:
    return _all([(_UNIT[0], (*_UNIT[1], *arguments))])


def _test(_: Sequence[str]) -> int:
    # on a machine that is known not to have the toolchain
    engine = [_ENGINE] if os.environ.get("ENGINE_TESTS") == "skip" else [_ENGINE, _CHAOS]
    return _all([*_CHECKS, _WORKFLOWS, _UNIT, _GO, *engine, _REAL])


def _bench(arguments: Sequence[str]) -> int:
    return _python(["-m", "local.bench", *arguments])


def _docs(_: Sequence[str]) -> int:
    from local import docs  # it imports the component, which takes a second

    for file in docs.write():
        _say(f"written: {file.relative_to(clone.ROOT)}")
    return 0


def _chaos(arguments: Sequence[str]) -> int:
    return _python(["-m", "local.chaos", *arguments])


_COMMANDS: Final[dict[str, Callable[[Sequence[str]], int]]] = {
    "up": _up,
    "preview": _preview,
    "outputs": _outputs,
    "kubeconfig": _kubeconfig,
    "pulumi": _pulumi,
    "down": _down,
    "up-real": _up_real,
    "bench-real": _bench_real,
    "down-real": _down_real,
    "clean": _clean,
    "test": _test,
    "test-unit": _test_unit,
    "check": _check,
    "bench": _bench,
    "docs": _docs,
    "chaos": _chaos,
}


def _running(report: Callable[[str], None]) -> EmbeddedCluster:
    found = up.cluster(ensure(report=report))
    if not found.is_running():
        raise ClusterError("no cluster is up here: run `make up` first")
    return found


def _engine(report: Callable[[str], None] | None = None) -> Engine:
    toolchain = ensure(report=report or _say)
    found = up.cluster(toolchain)
    if not found.is_running():
        raise ClusterError("no cluster is up here: run `make up` first")
    return Engine(toolchain, found.kubeconfig)


def _all(steps: Sequence[tuple[str, Sequence[str]]]) -> int:
    """Run steps one after the other, to the first that fails."""
    for number, (title, command) in enumerate(steps, 1):
        _say(f"[{number}/{len(steps)}] {title}")
        if code := _python(command):
            return code
    return 0


def _python(command: Sequence[str]) -> int:
    with subprocess.Popen([sys.executable, *command], cwd=clone.ROOT) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue  # the terminal has told it too, and it ends by itself


def _say(line: str) -> None:
    print(line, flush=True)


def _quiet(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
