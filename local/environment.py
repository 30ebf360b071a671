"""The clone's virtual environment, made from the lock file. Only the standard library: this comes before it."""

import hashlib
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Final

from local.clone import LOCK, ROOT, VENV

Report = Callable[[str], None]

_OLDEST: Final = (3, 11)
_DONE: Final = VENV / "installed"


class NoEnvironmentError(Exception):
    """The environment can't be made; the message says why."""


def python() -> Path:
    """The environment's interpreter."""
    return VENV / "bin" / "python"


def is_this() -> bool:
    """Whether this very interpreter is the environment's."""
    return Path(sys.prefix).resolve() == VENV.resolve()


def is_usable() -> bool:
    """Whether some lock file's packages were all installed."""
    return python().exists() and _DONE.exists()


def is_complete() -> bool:
    """Whether all of the lock file as it is now was installed."""
    return is_usable() and _DONE.read_text() == _wanted()


def ensure(report: Report) -> None:
    """Make the environment, or bring it up to the lock file; nothing if it is as it should be."""
    if is_complete():
        return
    if sys.version_info < _OLDEST:
        oldest = ".".join(str(part) for part in _OLDEST)
        raise NoEnvironmentError(
            f"{sys.executable} is Python {sys.version.split()[0]}; {oldest} or newer is needed. "
            "Name one: make PYTHON=/path/to/python3 …"
        )
    count = sum(1 for line in LOCK.read_text().splitlines() if "==" in line and not line.startswith((" ", "#")))
    report(f"The virtual environment {VENV.name}: up to {count} locked packages, checked by their hashes …")
    try:
        if not is_usable():
            # What an interrupted run has left isn't trusted.
            venv.create(VENV, clear=not is_this(), symlinks=True, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoEnvironmentError(f"{VENV} can't be made: {error}") from error
    _DONE.unlink(missing_ok=True)
    _pip("--require-hashes", "-r", str(LOCK))
    # Its dependencies are the lock's, and setuptools is there: nothing more is fetched.
    _pip("--no-deps", "--no-build-isolation", "-e", str(ROOT))
    _DONE.write_text(_wanted())
    report("    done")


def _pip(*arguments: str) -> None:
    command = [str(python()), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise NoEnvironmentError(f"pip install {' '.join(arguments)} has failed (see above)")


def _wanted() -> str:
    """What the environment depends on: the lock, what the project says of itself, Python, and its own place."""
    digest = hashlib.sha256()
    for file in (LOCK, ROOT / "pyproject.toml"):
        digest.update(file.read_bytes())
    digest.update(f"{sys.version_info[:2]} {sys.base_prefix} {VENV}".encode())
    return digest.hexdigest()
