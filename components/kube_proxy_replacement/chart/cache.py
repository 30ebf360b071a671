"""Archives that were downloaded, kept by their digest for the next run.

What is kept is only ever a shortcut: a cache that can't be read or written is as good as an empty one,
and an archive whose content no longer has its digest is left aside.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def folder() -> Path:
    """`$XDG_CACHE_HOME/kube-proxy-replacement/charts`, by default under `~/.cache`.

    Raises:
        OSError: this user has no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        home = Path(base) if base.startswith("/") else Path("~/.cache").expanduser()
    except RuntimeError as error:
        raise OSError(str(error)) from None
    return home / "kube-proxy-replacement" / "charts"


def digest_of(data: bytes) -> str:
    """The sha256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def archive(digest: str) -> bytes | None:
    """The archive with this sha256 (hexadecimal), or None."""
    try:
        data = (folder() / f"{digest}.tgz").read_bytes()
    except OSError:
        return None
    return data if digest_of(data) == digest else None


def keep_archive(digest: str, data: bytes) -> None:
    """Keeps an archive whose sha256 has been checked."""
    _write(f"{digest}.tgz", data)


def note(*key: str) -> dict[str, Any] | None:
    """What was last noted under this key, or None."""
    try:
        found = json.loads((folder() / _note_name(key)).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def keep_note(*key: str, content: dict[str, Any]) -> None:
    """Notes something small under a key, in place of what was there."""
    _write(_note_name(key), json.dumps(content).encode())


def _note_name(key: tuple[str, ...]) -> str:
    return f"{digest_of(json.dumps(key).encode())}.json"


def _write(file_name: str, data: bytes) -> None:
    # Two runs can write at once: each writes its own file, and the rename puts it in place whole.
    with contextlib.suppress(OSError):
        path = folder() / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
