"""Removing what `make up` has made, once no process of it runs. Only the standard library."""

import shutil
import sys

from local import lock
from local.clone import FOLDER, REAL, ROOT, STACK_FILE, VENV


def run(command: str) -> int:
    """`down`, `down-real` or `clean`, for a clone without the cluster in question."""
    try:
        with lock.held(command):
            if command != "down-real":
                remove_state()
    except lock.BusyError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        _remove_empty()
    if command == "clean":
        remove_environment()
    return 0


def remove_state() -> None:
    """Remove the stack's state and settings, all but the lock that is held and a cluster of real nodes."""
    for path in sorted(FOLDER.iterdir()):
        if path == REAL or path.name == "lock":
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        print(f"removed {path.relative_to(ROOT)}")
    if STACK_FILE.exists():
        STACK_FILE.unlink()
        print(f"removed {STACK_FILE.relative_to(ROOT)}")


def remove_environment() -> None:
    """Remove the virtual environment."""
    if VENV.exists():
        shutil.rmtree(VENV)
        print(f"removed {VENV.relative_to(ROOT)}")


def _remove_empty() -> None:
    if FOLDER.exists() and [path.name for path in FOLDER.iterdir()] == ["lock"]:
        shutil.rmtree(FOLDER)
