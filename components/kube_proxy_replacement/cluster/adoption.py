"""A Cilium that its owner's Helm ran before this program came: his values are kept, ours lie on top of them.

Whose a value is follows from Helm's own record. Each revision that this program makes says so in its description; what
a later one, made by somebody else, has otherwise than ours, is its owner's, but for what this program sets itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from . import trees
from .helm_release import HelmRelease
from .owner import Owner
from .told import PUT_BACK
from .trees import Change, Path

_ROLLBACK = re.compile(r"Rollback to (\d+)")
"""How Helm describes a revision that `helm rollback` made (helm.sh/helm/v3 pkg/action/rollback.go)."""


def found(release: str, revisions: Iterable[HelmRelease]) -> Owner | None:
    """The owner's values as they are in the revision that runs; None where Helm has none.

    Args:
        release: `NAMESPACE/NAME`; revisions: newest first.

    A revision that failed, or isn't done, isn't what he has: Helm itself goes on from the last one that was deployed.
    Ours are among them where he has had it back from us before, and is taken over once more: then his are those since.
    Or the record was lost: then his are those before ours.
    """
    every = list(revisions)
    back = max((its.revision for its in every if its.description == PUT_BACK), default=0)
    ours = [its.revision for its in every if its.ours and its.revision > back]
    his = [its for its in every if back <= its.revision < min(ours, default=its.revision + 1)]
    chosen = next((its for its in his if its.status in ("deployed", "superseded")), his[0] if his else None)
    return Owner(release, chosen.version, chosen.revision, chosen.values) if chosen else None


def since(owner: Owner, revisions: Iterable[HelmRelease], ours: Mapping[str, Any]) -> tuple[Owner, list[Change]]:
    """The owner with what he has changed since, and those changes.

    Args:
        revisions: newest first; ours: the values that this program sets.

    Three ways: his values as they are recorded, the newest revision of ours, and the one that runs, where it isn't
    ours. What differs between the last two is his, but for the paths that ours differs in from the first: those are
    what this program set, and are mended.
    """
    left = iter(revisions)
    every = list(_until_deployed(left))
    runs = every[-1] if every else None
    if runs is None or runs.status != "deployed" or runs.ours or runs.revision <= owner.revision:
        return owner, []
    every += left
    if _rolled_back_to(runs, every, owner):
        return owner, []
    base = next((its.values for its in every if its.ours and its.revision < runs.revision), None)
    if base is None or _older(every, owner, runs):
        base = trees.merged(owner.values, ours)
    set_by_us = {change.path for change in trees.changes(owner.values, base)} | set(trees.leaves(ours))
    his = [its for each in trees.changes(base, runs.values) for its in _beside(each, set_by_us)]
    return replace(owner, values=trees.changed(owner.values, his), revision=runs.revision, version=runs.version), his


def _beside(change: Change, set_by_us: Collection[Path]) -> Iterator[Change]:
    """What of a change doesn't touch what this program sets."""
    if not trees.touches(change.path, set_by_us):
        yield change
    elif isinstance(change.before, Mapping) and isinstance(change.after, Mapping):  # one of them is empty
        for its in trees.changes(change.before, change.after):
            yield from _beside(replace(its, path=(*change.path, *its.path)), set_by_us)


def _until_deployed(revisions: Iterator[HelmRelease]) -> Iterator[HelmRelease]:
    for its in revisions:
        yield its
        if its.status == "deployed":
            return


def _older(every: list[HelmRelease], owner: Owner, runs: HelmRelease) -> bool:
    """Whether the newest revision of ours is from before one of his that has been looked at."""
    newest = max((its.revision for its in every if its.ours and its.revision < runs.revision), default=0)
    return newest < owner.revision


def _rolled_back_to(runs: HelmRelease, every: list[HelmRelease], owner: Owner) -> bool:
    target = _target(runs)
    return target is not None and (target <= owner.revision or _is_ours(target, every))


def _target(release: HelmRelease) -> int | None:
    match = _ROLLBACK.match(release.description)
    return int(match[1]) if match else None


def _is_ours(revision: int, every: list[HelmRelease]) -> bool:
    return any(its.ours for its in every if its.revision == revision)
