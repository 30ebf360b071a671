"""Chart versions: compared without the leading v, ordered as SemVer 2 orders them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")
_BEGINNING = re.compile(r"[^0-9]*(\d+)(?:\.(\d+))?")

_Key = tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]


def bare(version: str) -> str:
    """The version without a leading v: «v1.18.6» and «1.18.6» are the same."""
    return version[1:] if re.match(r"v\d", version) else version


def same(one: str, other: str) -> bool:
    """Whether both name the same version."""
    return bare(one.strip()) == bare(other.strip())


def order(version: str) -> _Key | None:
    """A key that sorts versions, oldest first; None for what is no version."""
    match = _VERSION.fullmatch(version)
    if match is None:
        return None
    major, minor, patch, pre = match.groups()
    parts = tuple(
        (not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in (pre.split(".") if pre else ())
    )
    return int(major), int(minor), int(patch), pre is None, parts


def advice(wanted: str, available: Iterable[str]) -> str:
    """What to write instead of `wanted`: the newest of its minor version, the nearest, the newest.

    Pre-releases are named only where nothing else is there. "" where nothing is available.
    """
    keyed = sorted((key, bare(version)) for version in set(available) if (key := order(version)) is not None)
    if not keyed:
        return ""
    stable = [entry for entry in keyed if entry[0][3]] or keyed
    newest = stable[-1][1]
    found: list[tuple[str, str]] = []
    beginning = _BEGINNING.match(wanted)
    if beginning and beginning[2]:
        line = (int(beginning[1]), int(beginning[2]))
        of_line = [version for key, version in stable if key[:2] == line]
        if of_line:
            found.append((of_line[-1], f"the newest {line[0]}.{line[1]}"))
    known = [version for _, version in keyed]
    if order(wanted) is not None and (near := get_close_matches(bare(wanted), known, n=1, cutoff=0.8)):
        found.append((near[0], "the nearest"))
    found.append((newest, "the newest"))
    named: dict[str, str] = {}
    for version, why in found:
        named.setdefault(version, why)
    return ", ".join(f"{version} ({why})" for version, why in named.items())
