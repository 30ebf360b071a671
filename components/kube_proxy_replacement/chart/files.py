"""The files of a chart, read from a folder or out of an archive that is never unpacked to disk."""

from __future__ import annotations

import io
import stat
import tarfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from .download import gunzip

ARCHIVE_LIMIT = 32 << 20
"""Bytes of a packed chart. Helm's own limit for a chart is below that."""

UNPACKED_LIMIT = 128 << 20
_FILE_LIMIT = 16 << 20
_COUNT_LIMIT = 20_000


class Files(Protocol):
    """The files of one chart, by their path from the chart's root, with `/` between the parts."""

    def read(self, name: str) -> bytes | None:
        """A file's content, or None where there is no such file."""

    def matching(self, pattern: str) -> Iterator[str]:
        """The names of the files that match a pattern with `*` (any characters, `/` too)."""


class FolderFiles:
    """The files of a chart in a folder. Links are followed, as Helm follows them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes | None:
        """Raises OSError for what is there and can't be read, ValueError for what is too big."""
        path = self._folder / name
        try:
            info = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(info.st_mode):
            return None
        if info.st_size > _FILE_LIMIT:
            raise ValueError(f"{name} is bigger than {_FILE_LIMIT >> 20} MiB")
        return path.read_bytes()

    def matching(self, pattern: str) -> Iterator[str]:
        """Looks only below the part of the pattern that has no `*`."""
        fixed = pattern.partition("*")[0].rpartition("/")[0]
        for count, path in enumerate(sorted((self._folder / fixed).rglob("*"))):
            if count > _COUNT_LIMIT:
                raise ValueError(f"more than {_COUNT_LIMIT} files in {fixed or 'the folder'}")
            name = path.relative_to(self._folder).as_posix()
            if fnmatchcase(name, pattern):
                yield name


class ArchiveFiles:
    """The files of a chart in a .tgz: one folder at the top, named after the chart.

    Raises:
        ValueError: from the constructor, with half a sentence on what is wrong with the archive.
    """

    def __init__(self, packed: bytes) -> None:
        if len(packed) > ARCHIVE_LIMIT:
            raise ValueError(f"bigger than {ARCHIVE_LIMIT >> 20} MiB")
        tar = gunzip(packed, UNPACKED_LIMIT)
        try:
            self._files = _members(tar)
        except (tarfile.TarError, EOFError) as error:
            raise ValueError(f"not a tar file inside ({error})") from None

    def read(self, name: str) -> bytes | None:
        return self._files.get(name)

    def matching(self, pattern: str) -> Iterator[str]:
        return (name for name in sorted(self._files) if fnmatchcase(name, pattern))


def _members(tar: bytes) -> dict[str, bytes]:
    """The regular files of the chart at the archive's top, without that folder's name.

    Nothing is written anywhere, so a name like `../x` is a name like any other. Links are left out, and
    subcharts are not read.
    """
    packed: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
        for count, member in enumerate(archive):
            if count > _COUNT_LIMIT:
                raise ValueError(f"more than {_COUNT_LIMIT} files")
            parts = member.name.removeprefix("./").split("/")
            if not member.isreg() or "charts" in parts[1:-1]:
                continue
            if member.size > _FILE_LIMIT:
                raise ValueError(f"{member.name} is bigger than {_FILE_LIMIT >> 20} MiB")
            file = archive.extractfile(member)
            if file is not None:
                packed["/".join(parts)] = file.read()
    top = next(
        (name.partition("/")[0] for name in packed if name.count("/") == 1 and name.endswith("/Chart.yaml")),
        None,
    )
    if top is None:
        raise ValueError("there is no Chart.yaml in its top folder")
    return {name[len(top) + 1 :]: data for name, data in packed.items() if name.startswith(f"{top}/")}
