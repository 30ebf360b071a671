"""Trees of Helm values: merged as Helm merges them, compared value by value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Path: TypeAlias = tuple[str, ...]


class _Absent:
    """Nothing stands there; None is a value of its own: in Helm it takes the chart's default away."""

    def __repr__(self) -> str:
        return "nothing"


ABSENT: Final = _Absent()


@dataclass(frozen=True)
class Change:
    """What is different at one path: a single value, a list, an empty map, or ABSENT on either side."""

    path: Path
    before: Any
    after: Any


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two trees of values, as Helm merges them: maps key by key, anything else replaced."""
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """What is different, in the order of its paths; a whole map that came or went is told value by value."""
    return sorted(_changes(before, after, ()), key=lambda its: its.path)


def changed(tree: Mapping[str, Any], todo: Iterable[Change]) -> dict[str, Any]:
    """A copy of the tree with these changes made."""
    result = merged(tree, {})
    for change in todo:
        result = _put(result, change.path, change.after)
    return result


def leaves(tree: Mapping[str, Any], above: Path = ()) -> Iterator[Path]:
    """The paths of all that is no map with something in it."""
    for key, value in tree.items():
        path = (*above, key)
        if isinstance(value, Mapping) and value:
            yield from leaves(value, path)
        else:
            yield path


def at(tree: Mapping[str, Any], path: Path) -> Any:
    """What stands there, or ABSENT."""
    found: Any = tree
    for name in path:
        if not isinstance(found, Mapping) or name not in found:
            return ABSENT
        found = found[name]
    return found


def texts(tree: Any) -> Iterator[str]:
    """Every text that stands in it as a value."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, Mapping):
        for its in tree.values():
            yield from texts(its)
    elif isinstance(tree, list):
        for its in tree:
            yield from texts(its)


def touches(path: Path, others: Iterable[Path]) -> bool:
    """Whether one of the others is this path, lies below it or above it."""
    return any(path[: len(other)] == other[: len(path)] for other in others)


def same(one: Any, other: Any) -> bool:
    """As JSON: 1 and 1.0 are the same number, 1 and true aren't the same."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def as_yaml(tree: Any) -> bytes:
    """A file that Helm reads as what was in its own record: nulls, integers of any size, empty lists and maps.

    JSON is YAML, but for the line breaks that YAML knows in a text and JSON doesn't.
    """
    text = json.dumps(tree, ensure_ascii=False)
    for code in (0x7F, 0x85, 0x2028, 0x2029, 0xFEFF):
        text = text.replace(chr(code), f"\\u{code:04x}")
    return text.encode()


def _changes(before: Any, after: Any, path: Path) -> Iterator[Change]:
    old, new = _filled(before), _filled(after)
    if (old and new) or (path == ()) or (old and after is ABSENT) or (new and before is ABSENT):
        for key in sorted((old or {}).keys() | (new or {}).keys()):
            yield from _changes((old or {}).get(key, ABSENT), (new or {}).get(key, ABSENT), (*path, key))
    elif not same(before, after):
        yield Change(path, before, after)


def _filled(value: Any) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) and value else None


def _put(tree: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    key, rest = path[0], path[1:]
    result = dict(tree)
    if rest:
        below = result.get(key)
        inner = _put(below if isinstance(below, Mapping) else {}, rest, value)
        if value is ABSENT and not inner:
            result.pop(key, None)  # the map came with it, and goes with it
        else:
            result[key] = inner
    elif value is ABSENT:
        result.pop(key, None)
    else:
        result[key] = value
    return result
