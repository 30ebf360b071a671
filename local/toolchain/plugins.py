"""Pulumi's plugins: the released ones where they can be had, and a plugin folder as Pulumi lays it out."""

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local.toolchain import versions
from local.toolchain.cache import Report, build_once
from local.toolchain.errors import ToolchainError
from local.toolchain.gobuild import GOARCH, GOOS
from local.toolchain.processes import end, end_with_parent

_SECONDS_WITHOUT_A_BYTE = 6
_SECONDS_BETWEEN_TRIES = 24 * 3600

STAND_IN: Final = "STAND-IN"
_STAND_IN_TEXT: Final = """\
What lies here is not Pulumi's plugin. It is a small stand-in from this project's own folder local/go/,
for machines that can't download the real one.
"""


@dataclass(frozen=True)
class Plugin:
    """A resource plugin of Pulumi's."""

    name: str
    version: str

    @property
    def program(self) -> str:
        """Name of its program."""
        return f"pulumi-resource-{self.name}"

    @property
    def folder(self) -> str:
        """Name of its folder among Pulumi's plugins."""
        return f"resource-{self.name}-v{self.version}"

    def released(self, cache: Path) -> Path:
        """Where the released one is kept, once it's there."""
        return cache / f"{self.program}-{self.version}-released-{GOOS}-{GOARCH}"


KUBERNETES: Final = Plugin("kubernetes", versions.KUBERNETES_PLUGIN)
COMMAND: Final = Plugin("command", versions.COMMAND_PLUGIN)


@dataclass(frozen=True)
class Placed:
    """A plugin, and the program that serves it."""

    plugin: Plugin
    program: Path
    stand_in: bool = False


class Releases:
    """How a released plugin is had: from the user's own Pulumi, or by a download."""

    def __init__(self, cache: Path) -> None:
        """Keep them in this cache folder."""
        self._cache = cache
        self._failed = cache / ".plugin-download-failed"

    def may_be_had(self, plugin: Plugin) -> bool:
        """Whether a try is due; one that failed isn't repeated for a day."""
        if _users_own(plugin) is not None:
            return True
        try:
            return time.time() - self._failed.stat().st_mtime > _SECONDS_BETWEEN_TRIES
        except FileNotFoundError:
            return True

    def bring(self, plugin: Plugin, pulumi: Path, report: Report) -> bool:
        """Try to have the released plugin in the cache; says whether it's there."""

        def fill(folder: Path) -> None:
            own = _users_own(plugin)
            if own is not None:
                report(f"    copied from {own}")
                shutil.copytree(own, folder, dirs_exist_ok=True)
            else:
                _download(plugin, pulumi, folder)

        try:
            build_once(plugin.released(self._cache), plugin.program, fill, report)
        except _NoDownloadError as error:
            self._failed.touch()
            report(f"    can't be downloaded ({error})")
            return False
        return True


class _NoDownloadError(Exception):
    pass


def _users_own(plugin: Plugin) -> Path | None:
    home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    folder = home / "plugins" / plugin.folder
    program = folder / plugin.program
    under_way = folder.with_name(folder.name + ".partial").exists()
    # A link is our own doing: this may be running with a PULUMI_HOME that we made.
    if program.is_file() and not program.is_symlink() and not under_way:
        return folder
    return None


def _download(plugin: Plugin, pulumi: Path, into: Path) -> None:
    # A PULUMI_HOME and a TMPDIR for this alone: the user's isn't touched, and bytes can be seen to arrive.
    home, temporary = into / ".home", into / ".tmp"
    home.mkdir()
    temporary.mkdir()
    log = into / ".log"
    environment = os.environ | {
        "PULUMI_HOME": str(home),
        "TMPDIR": str(temporary),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [pulumi, "plugin", "install", "resource", plugin.name, plugin.version],
            env=environment,
            cwd=into,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent(),
        )
        try:
            arrived = _wait_while_bytes_arrive(process, (home, temporary))
        except BaseException:
            end(process)
            raise
    if not arrived:
        raise _NoDownloadError(f"nothing arrived in {_SECONDS_WITHOUT_A_BYTE} seconds")
    if process.returncode != 0:
        lines = log.read_text(errors="replace").strip().splitlines() or ["pulumi said nothing"]
        raise _NoDownloadError(lines[-1])
    for path in (home / "plugins" / plugin.folder).iterdir():
        path.rename(into / path.name)
    if not (into / plugin.program).is_file():
        raise ToolchainError(f"Pulumi's plugin {plugin.name} {plugin.version} came without {plugin.program}")
    for left in (home, temporary):
        shutil.rmtree(left)
    log.unlink()


def _wait_while_bytes_arrive(process: "subprocess.Popen[bytes]", folders: Sequence[Path]) -> bool:
    """Wait for its end; ends it and says False where it's been standing still."""
    size, since = 0, time.monotonic()
    while process.poll() is None:
        now = sum(_size(folder) for folder in folders)
        if now != size:
            size, since = now, time.monotonic()
        if time.monotonic() - since > _SECONDS_WITHOUT_A_BYTE:
            end(process)
            return False
        time.sleep(0.1)
    return True


def _size(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        try:
            size += path.lstat().st_size
        except FileNotFoundError:
            continue  # a temporary file that has just been renamed
    return size


def plugin_folder(cache: Path, placed: Iterable[Placed]) -> Path:
    """Where a Pulumi plugin folder with these is, or would be."""
    key = hashlib.sha256(repr([(str(p.program), p) for p in placed]).encode()).hexdigest()[:12]
    return cache / f"plugins-{key}"


def lay_out(cache: Path, placed: Iterable[Placed], report: Report) -> Path:
    """Have a folder laid out as Pulumi lays out its plugins, with these in it.

    One that isn't changed once it's there: a clone with another stand-in, or a real plugin that becomes
    available, makes another folder, and no running Pulumi sees its plugins change.
    """
    placed = tuple(placed)
    target = plugin_folder(cache, placed)

    def fill(folder: Path) -> None:
        for item in placed:
            # Pulumi passes over a link to a folder, but takes a link to a program.
            home = folder / item.plugin.folder
            home.mkdir()
            (home / item.plugin.program).symlink_to(Path(os.path.relpath(item.program, target / home.name)))
            if item.stand_in:
                (home / STAND_IN).write_text(_STAND_IN_TEXT)

    build_once(target, "plugins", fill, report)
    return target


def make_pulumi_home(folder: Path, plugins: Path) -> Path:
    """Make ``folder`` a PULUMI_HOME whose plugins are these."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "plugins"
    if link.is_symlink() and link.readlink() == plugins:
        return folder
    if link.exists() and not link.is_symlink():
        raise ToolchainError(f"{link} is a folder; remove it, so that it can become a link to {plugins}")
    fresh = folder / f".plugins-{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(plugins)
    fresh.replace(link)
    return folder
