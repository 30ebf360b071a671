"""The Python that Commands and dynamic providers run in, where it isn't the program's own.

A program in Python has its environment in common with them. A plugin that serves the component to other languages has
one of its own, which they never see: they run in what the engine finds, `PULUMI_PYTHON_CMD` or `python3`, and this
package must be installed there too.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import pulumi
from pulumi.dynamic import ResourceProvider

PACKAGE = "kube-proxy-replacement"
"""For pip, and for Pulumi too: the component's type, which is in people's states, begins with it."""

FIND = (
    'venv="${PULUMI_RUNTIME_VIRTUALENV:-}"; '
    'if [ -z "$venv" ]; then case "${PULUMI_RUNTIME_TOOLCHAIN:-}" in '
    'uv) venv=.venv;; poetry) venv="$(poetry env info --path)";; esac; fi; '
    'if [ -n "$venv" ]; then set -- "$venv/bin/python"; else set -- "${PULUMI_PYTHON_CMD:-python3}"; fi; '
)
"""Shell: the Python as Pulumi's own `pulumi-resource-pulumi-python` finds it (sdk/python/dist in pulumi/pulumi), from
what the engine hands to every plugin. It is recorded in states."""

_GUARDED = """\
__import__("importlib").import_module({module!r}).{name}()
if __import__("importlib.util").util.find_spec("kube_proxy_replacement")
else (_ for _ in ()).throw(ModuleNotFoundError(
    "The Python package kube-proxy-replacement isn't installed in {{0}}, in which this step runs. It has changed "
    "nothing. Install the version that this stack was last changed with: {{0}} -m pip install FROM, where FROM is its "
    "wheel, a checkout of it or git+https://ADDRESS@TAG; or set PULUMI_PYTHON_CMD to a Python that has it. Then run "
    "again.".format(__import__("sys").executable)))
"""
"""A Python expression: the provider, or one message where the package is missing. It is recorded in states of programs
in other languages, so that `destroy`, which starts no program and no plugin of ours, has it; it never changes."""

_ASKED = """
import importlib.metadata, importlib.util, json, sys
found = all(importlib.util.find_spec(name) for name in ("kube_proxy_replacement", "pulumi"))
try:
    version = importlib.metadata.version("kube-proxy-replacement") if found else None
except importlib.metadata.PackageNotFoundError:
    version = ""
print(json.dumps([sys.executable, version]))
"""

_SECONDS = 30.0

_elsewhere: ContextVar[bool] = ContextVar("elsewhere", default=False)


@contextmanager
def elsewhere() -> Iterator[None]:
    """Within, components are constructed whose steps run in a Python that isn't this one."""
    token = _elsewhere.set(True)
    try:
        yield
    finally:
        _elsewhere.reset(token)


def guarded(provider: ResourceProvider) -> ResourceProvider:
    """A dynamic provider as it is recorded: by its class's name alone, which the package must be there for."""
    return _Guarded(provider) if _elsewhere.get() else provider


class _Guarded(ResourceProvider):
    def __init__(self, provider: ResourceProvider) -> None:
        its = type(provider)
        self._expression = _GUARDED.format(module=its.__module__, name=its.__name__)

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        # pickle's own way to say what is called when it is read; it knows no statement, and so no `try`
        return eval, (f"({self._expression})",)


def version() -> str:
    """This package's, from its metadata, which pyproject.toml is the one source of."""
    return importlib.metadata.version(PACKAGE)


def demand(source: Path) -> None:
    """Raises pulumi.RunError where the Python of the steps lacks this package, or has another version of it.

    Args:
        source: what pip can install this very version from.
    """
    wanted = version()
    done = subprocess.run(
        ["/bin/sh", "-c", f'{FIND}command -v "$1" || printf "%s\\n" "$1"; exec "$@" -c {shlex.quote(_ASKED)}'],
        env={**os.environ, "PATH": _path()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    named, _, answer = done.stdout.partition("\n")
    try:
        python, found = json.loads(answer)
    except ValueError:
        words = " ".join(done.stderr.split()) or f"it ended with {done.returncode}"
        raise pulumi.RunError(_message(f"{named} can't be run ({words})", "python3", source)) from None
    if found is None:
        raise pulumi.RunError(_message(f"{python} hasn't got it", python, source))
    if found and found != wanted:
        raise pulumi.RunError(_message(f"{python} has version {found}, and the plugin is {wanted}", python, source))


def _message(what: str, python: str, source: Path) -> str:
    return (
        f"The steps of {PACKAGE} run in the Python that the engine finds, with the Python package {PACKAGE}: {what}. "
        f"Nothing was changed. Install it: `{shlex.quote(python)} -m pip install {shlex.quote(str(source))}`; or set "
        "PULUMI_PYTHON_CMD to a Python that has it, in a virtual environment of its own, say."
    )


def _path() -> str:
    """The PATH of the engine: that of a plugin in a virtual environment may begin with this one's own programs."""
    own = Path(sys.prefix, "bin")
    return os.pathsep.join(part for part in os.environ.get("PATH", "").split(os.pathsep) if Path(part) != own)
