"""From the settings `chart` and `ciliumVersion` to the chart that they mean."""

from __future__ import annotations

from pathlib import Path

from . import registry, repository, versions
from .address import quoted, shown, split
from .errors import ChartError
from .files import ARCHIVE_LIMIT, ArchiveFiles, FolderFiles
from .model import Chart
from .reading import read_chart

CHART_NAME = "cilium"
"""The chart that is looked for in a repository."""

_ACCEPTED = (
    "Write a local folder or archive (./charts/cilium, ./cilium-1.18.6.tgz), a Helm repository's "
    "https:// address, an oci://HOST/PATH/cilium address, or leave chart out for Cilium's own repository"
)


def load(chart: str, version: str | None, *, folder: Path | None = None) -> Chart:
    """Finds and reads the chart.

    Args:
        chart: the setting `chart`: a local folder or archive, an `oci://…` address, an http(s) address
            of a Helm repository, or "" for Cilium's own repository.
        version: the setting `ciliumVersion`, with or without a leading v; None or "" where it isn't
            set. A repository and a registry need it; a local chart that is another version is refused.
        folder: what a relative local path is relative to (the project's folder); the working folder
            where None.

    Raises:
        ChartError: the chart can't be found or read, or isn't the version that was asked for.
    """
    chart = chart.strip()
    wanted = (version or "").strip()
    if is_local(chart):
        return _local(chart, wanted, folder or Path.cwd())
    data, source = _fetched(chart, wanted)
    return _archived(data, wanted, source)


def is_local(chart: str) -> bool:
    """Whether the setting `chart` is a path: of a folder, or of an archive."""
    return bool(chart.strip()) and "://" not in chart


def fetch(chart: str, version: str) -> bytes:
    """The archive of a chart that comes from a repository or a registry. Raises ChartError."""
    return _fetched(chart.strip(), version.strip())[0]


def _fetched(chart: str, wanted: str) -> tuple[bytes, str]:
    """The archive, and where it comes from, for messages."""
    scheme = chart.partition("://")[0].lower()
    if not chart or scheme in ("http", "https"):
        return _from_repository(chart or repository.CILIUM, wanted)
    if scheme == "oci":
        return _from_registry(chart, wanted)
    raise ChartError("chart", f"{shown(chart)} is no address that charts are read from", _ACCEPTED)


def _from_repository(address: str, wanted: str) -> tuple[bytes, str]:
    parts = split(address)
    if parts is None:
        raise ChartError("chart", f"{shown(address)} is no address", _ACCEPTED)
    _without_credentials(address)
    if parts.path.endswith((".tgz", ".tar.gz")):
        raise ChartError(
            "chart",
            f"{shown(address)} is the address of an archive, not of a repository",
            "Write the repository's address, and the version in ciliumVersion; or download the archive "
            "and give its path",
        )
    source = f"the repository {shown(address)}"
    _needs_version(source, wanted)
    return repository.fetch(address, CHART_NAME, wanted), source


def _from_registry(address: str, wanted: str) -> tuple[bytes, str]:
    _without_credentials(address)
    source = f"the registry's {shown(address)}"
    _needs_version(source, wanted)
    return registry.fetch(address, wanted), source


def _without_credentials(address: str) -> None:
    parts = split(address)
    if parts is not None and "@" in parts.netloc:
        raise ChartError(
            "chart",
            f"the address of {shown(address)} holds credentials, which would be readable in the state",
            "Write the address without them; for a chart that needs credentials, `helm pull` it and give the archive",
        )


def _needs_version(source: str, wanted: str) -> None:
    if not wanted:
        raise ChartError(
            "ciliumVersion",
            f"the chart comes from {source}, which has many versions, and none was chosen",
            "Write the one to use, in full, as in: pulumi config set ciliumVersion 1.18.6",
        )


def _archived(data: bytes, wanted: str, source: str) -> Chart:
    try:
        files = ArchiveFiles(data)
    except ValueError as error:
        raise ChartError(
            "chart",
            f"the archive of version {quoted(wanted)} from {source} can't be read: {error}",
            "Write another ciliumVersion, or take the chart from another place",
        ) from None
    return _of_version(read_chart(files, source=source), wanted)


def _local(chart: str, wanted: str, folder: Path) -> Chart:
    try:
        path = (folder / chart).absolute()
        if path.is_dir():
            return _of_version(read_chart(FolderFiles(path), source=f"the folder {path}"), wanted)
        if path.is_file():
            return _of_version(_local_archive(path), wanted)
        missing = not path.exists()
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ChartError("chart", f"{quoted(chart)} can't be looked up as a path: {why}", _ACCEPTED) from None
    what = "there is nothing at" if missing else "neither a folder nor a file is at"
    raise ChartError("chart", f"{quoted(chart)} is taken for a local path, and {what} {quoted(path)}", _ACCEPTED)


def _local_archive(path: Path) -> Chart:
    source = f"the archive {path}"
    try:
        if path.stat().st_size > ARCHIVE_LIMIT:
            raise ValueError(f"bigger than {ARCHIVE_LIMIT >> 20} MiB")
        files = ArchiveFiles(path.read_bytes())
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ChartError("chart", f"{source} can't be read: {why}", _ACCEPTED) from None
    return read_chart(files, source=source)


def _of_version(chart: Chart, wanted: str) -> Chart:
    if wanted and not versions.same(chart.version, wanted):
        raise ChartError(
            "ciliumVersion",
            f"{quoted(wanted)} was asked for, but {chart.source} holds {chart.title}",
            f"Leave ciliumVersion out or write {versions.bare(chart.version)}, or give another chart",
        )
    return chart
