"""The wheel of this repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.engine.harness import REPOSITORY

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "components")
"""What a wheel is made of."""


def wheel(folder: Path) -> Path:
    """Built in a folder from a copy, as a build writes beside its sources."""
    for name in SOURCES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        elif source.exists():  # a build says best what it lacks
            shutil.copyfile(source, folder / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder / "dist"), str(folder))
    (found,) = (folder / "dist").glob("*.whl")
    return found


def pip(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, f"pip {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
