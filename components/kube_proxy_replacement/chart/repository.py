"""Charts out of an http(s) repository: its index, the archive that it names, both checked and kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from . import cache, versions
from .address import quoted, shown
from .download import Answer, DownloadError, get, gunzip
from .errors import ChartError
from .files import ARCHIVE_LIMIT
from .reading import parse_yaml

CILIUM = "https://helm.cilium.io"
"""Cilium's repository (documented in its installation guide), taken where `chart` is empty."""

_INDEX_LIMIT = 64 << 20
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


@dataclass(frozen=True)
class _Entry:
    version: str
    url: str
    digest: str | None


def fetch(repository: str, name: str, version: str) -> bytes:
    """The archive of one version of a chart.

    The repository is asked in every run, so that one which can't be reached is noticed before anything
    is changed; its index and the archive travel again only when the index is a new one.

    Raises:
        ChartError: the repository, the chart, the version or the archive isn't to be had.
    """
    index_url = f"{repository.rstrip('/')}/index.yaml"
    key = (index_url, name, versions.bare(version))
    note = cache.note(*key) or {}
    kept = cache.archive(str(note.get("digest", "")))
    answer = _index(index_url, _validators(note) if kept is not None else {})
    if kept is not None and answer.status == 304:
        return kept
    if answer.status != 200:
        raise _unreachable(index_url, f"it answered {answer.status}")
    entry = _choose(_body(answer, index_url), repository, index_url, name, version)
    data = cache.archive(entry.digest) if entry.digest else None
    if data is None:
        data = _archive(entry, index_url)
    digest = cache.digest_of(data)
    cache.keep_archive(digest, data)
    cache.keep_note(
        *key,
        content={
            "digest": digest,
            "etag": answer.headers.get("ETag", ""),
            "lastModified": answer.headers.get("Last-Modified", ""),
        },
    )
    return data


def _validators(note: Mapping[str, Any]) -> dict[str, str]:
    pairs = {"If-None-Match": note.get("etag"), "If-Modified-Since": note.get("lastModified")}
    return {header: str(value) for header, value in pairs.items() if value}


def _index(index_url: str, validators: Mapping[str, str]) -> Answer:
    try:
        return get(index_url, limit=_INDEX_LIMIT, headers={"Accept-Encoding": "gzip", **validators})
    except DownloadError as error:
        raise _unreachable(index_url, str(error)) from None


def _body(answer: Answer, index_url: str) -> str:
    try:
        # A server may hand out index.yaml.gz under this name without saying so.
        data = gunzip(answer.body, _INDEX_LIMIT) if answer.body[:2] == b"\x1f\x8b" else answer.body
        return data.decode()
    except ValueError as error:
        raise _unreachable(index_url, f"what came is no index ({error})") from None


def _unreachable(index_url: str, why: str) -> ChartError:
    return ChartError(
        "chart",
        f"{shown(index_url)} can't be read: {why}",
        "Give the address of a Helm repository (the one that `helm repo add` takes), an oci:// address, or "
        "a local folder or archive; behind a proxy, set HTTPS_PROXY",
    )


def _choose(index: str, repository: str, index_url: str, name: str, version: str) -> _Entry:
    found = _scan(index, name)
    raw = next((text for known, text in found.items() if versions.same(known, version)), None)
    entry = _parse_item(raw, name, version) if raw is not None else None
    if entry is not None:
        return entry
    # Written in another way than Helm writes it, or not there: only now is the whole of it parsed.
    entries = _parse_all(index, index_url)
    releases = entries.get(name)
    if not isinstance(releases, list) or not releases:
        others = ", ".join(sorted(str(other) for other in entries)[:10]) or "none"
        raise ChartError(
            "chart",
            f"the repository {shown(repository)} has no chart {quoted(name)} (it has: {others})",
            f"Give a repository that has a chart named {name}, or leave chart out for Cilium's own",
        )
    for release in releases:
        if isinstance(release, dict) and versions.same(str(release.get("version")), version):
            return _entry(release, version)
    known = [str(release.get("version")) for release in releases if isinstance(release, dict)]
    raise ChartError(
        "ciliumVersion",
        f"the repository {shown(repository)} has no version {quoted(version)} of the chart {name}",
        f"Write one that it has, in full: {versions.advice(version, known)}",
    )


def _scan(index: str, name: str) -> dict[str, str]:
    """The items of one chart by their version, found by indentation, without parsing.

    Cilium's index is several MB, and parsing it takes a second, where finding one item takes 20 ms.
    Helm writes the file by machine: charts indented by two spaces, their items' fields by four.
    """
    start = re.search(rf"^  {re.escape(name)}:\n", index, re.M)
    if start is None:
        return {}
    end = re.compile(r"^(?:  )?[^\s#-]", re.M).search(index, start.end())
    block = index[start.end() : end.start() if end else len(index)]
    found: dict[str, str] = {}
    for item in re.split(r"^  - ", block, flags=re.M)[1:]:
        version = re.search(r'^(?:    )?version: ["\']?([^"\'\s]+)', item, re.M)
        if version is not None:
            found.setdefault(version[1], f"    {item}")
    return found


def _parse_item(text: str, name: str, version: str) -> _Entry | None:
    try:
        release = parse_yaml(text)
    except ValueError:
        return None
    if not isinstance(release, dict) or release.get("name") != name:
        return None
    if not versions.same(str(release.get("version")), version):
        return None
    return _entry(release, version)


def _parse_all(index: str, index_url: str) -> Mapping[str, Any]:
    try:
        parsed = parse_yaml(index)
    except ValueError as error:
        raise _unreachable(index_url, f"what came is no index ({error})") from None
    entries = parsed.get("entries") if isinstance(parsed, dict) else None
    if not isinstance(entries, dict):
        raise _unreachable(index_url, "what came is no index of a Helm repository (no `entries`)")
    return entries


def _entry(release: Mapping[str, Any], version: str) -> _Entry:
    urls = release.get("urls")
    if not isinstance(urls, list) or not urls:
        raise ChartError(
            "chart",
            f"the repository's index names no archive for version {quoted(version)}",
            "Write another ciliumVersion, or take the chart from another place",
        )
    digest = _DIGEST.fullmatch(str(release.get("digest") or "").lower())
    return _Entry(str(release.get("version")), str(urls[0]), digest[1] if digest else None)


def _archive(entry: _Entry, index_url: str) -> bytes:
    url = urljoin(index_url, entry.url)
    if url.startswith("oci://"):
        raise ChartError(
            "chart",
            f"the repository {shown(index_url)} keeps its archives in a registry",
            f"Write that address itself: chart: {shown(url)}",
        )
    try:
        answer = get(url, limit=ARCHIVE_LIMIT)
    except DownloadError as error:
        raise _no_archive(url, str(error)) from None
    if answer.status != 200:
        raise _no_archive(url, f"it answered {answer.status}")
    if entry.digest is not None and cache.digest_of(answer.body) != entry.digest:
        raise ChartError(
            "chart",
            f"{shown(url)} isn't the archive that its repository's index names: sha256 "
            f"{cache.digest_of(answer.body)}, where the index says {entry.digest}",
            "Try again later; if it stays so, don't use this repository",
        )
    return answer.body


def _no_archive(url: str, why: str) -> ChartError:
    return ChartError(
        "chart",
        f"the archive {shown(url)}, which the repository's index names, can't be read: {why}",
        "Try again later, write another ciliumVersion, or give a local folder or archive",
    )
