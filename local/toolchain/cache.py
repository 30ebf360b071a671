"""The cache folder that all clones on a machine share, in which each part is built once.

A part's folder is there whole or not at all: it's built in a folder beside and renamed. So being there is all
that is ever asked of it, and a build that was killed leaves nothing but a folder that the next one removes.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Report = Callable[[str], None]


def cache_folder() -> Path:
    """Where the parts are kept."""
    own = os.environ.get("KUBE_PROXY_REPLACEMENT_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    # Only an absolute XDG_CACHE_HOME counts, says its specification.
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "kube-proxy-replacement"


def build_once(target: Path, part: str, build: Callable[[Path], None], report: Report) -> bool:
    """Let ``build`` fill ``target``, unless it's there already; says whether it did.

    Of two runs that want the same part at once one builds, and the other waits and finds it.
    """
    if target.is_dir():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with _lock(target.parent / f".{part}.lock", part, report):
        if target.is_dir():
            return False
        for left in target.parent.glob(f".{part}.building-*"):
            shutil.rmtree(left, ignore_errors=True)
        under_way = Path(tempfile.mkdtemp(prefix=f".{part}.building-", dir=target.parent))
        try:
            build(under_way)
            under_way.chmod(0o755)
            under_way.rename(target)
        except BaseException:
            shutil.rmtree(under_way, ignore_errors=True)
            raise
    return True


@contextmanager
def _lock(path: Path, part: str, report: Report) -> Iterator[None]:
    # The file is left lying: were it removed, a third run could lock a new one while a second holds the old.
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"  {part}: another run on this machine is at it; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
