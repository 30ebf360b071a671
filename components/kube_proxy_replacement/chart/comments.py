"""The keys that a values.yaml shows in comments only.

Charts write keys without a default as comments, at the place where they would stand:

    # -- session affinity          (helm-docs: a description)
    # sessionAffinity: false       (a key of the map around it)
    resources: {}
    #   limits:                    (deeper than its surroundings: an example for the empty map above)

Prose, annotations (`@schema` … `@schema`) and examples of list items are told apart from them by their
form. Where that is in doubt a line counts as a key: that costs a hint for one misspelling, while a key
that is missed would refuse a good value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

_KEY = r"""(?P<key>[A-Za-z_][\w./-]*|"[^"]+"|'[^']+')"""
_LIVE = re.compile(rf"(?P<indent> *){_KEY}:(?:\s|$)")
_COMMENTED = re.compile(rf"(?P<indent> *)#(?P<inner> *){_KEY}:(?:[ \t]+(?P<value>.*))?$")
_ITEM = re.compile(r"(?P<indent> *)(?:#(?P<inner> *))?- ")
_SCHEMA = re.compile(r" *#\s*@schema\b")
_VALUE = re.compile(
    r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|\[.*\]|\{.*\}|[|>][-+0-9]*|[^\s"'\[{|>&*!%@`][^\s]*)\s*(?:#.*)?$"""
)
_PROSE = re.compile(r"(?:[A-Z][a-z]+|WARNING|NOTE|ref|see|note|default|example|warning)$")
_EMPTY = re.compile(r"(?:\{\s*\}|\[.*\]|[|>].*|~|null|#.*)?$")


class CommentedKey(NamedTuple):
    """One key in a comment: where it stands, and whether anything may stand below it."""

    path: tuple[str, ...]
    free: bool


@dataclass
class _Line:
    indent: int
    path: tuple[str, ...] | None  # None: nothing below this line is a key of the values
    holds_keys: bool


def commented_keys(text: str, values: Mapping[str, Any]) -> Iterator[CommentedKey]:
    """Finds them.

    Args:
        text: values.yaml as it is written.
        values: the same, parsed: it tells maps from lists, texts and single values.
    """
    above: list[_Line] = [_Line(-1, (), True)]
    in_schema = False
    for line in text.splitlines():
        if _SCHEMA.match(line):
            in_schema = not in_schema
            continue
        live = _LIVE.match(line)
        if live is not None:
            _live(above, values, len(live["indent"]), _plain(live["key"]))
            continue
        if in_schema:
            continue
        item = _ITEM.match(line)
        if item is not None:
            _put(above, _Line(_depth(item), None, False))
            continue
        found = _COMMENTED.match(line)
        if found is not None:
            key = _commented(above, values, found)
            if key is not None:
                yield key


def _live(above: list[_Line], values: Mapping[str, Any], indent: int, key: str) -> None:
    parent = _parent(above, indent)
    around = None if parent.path is None else _at(values, parent.path)
    if parent.path is None or not isinstance(around, Mapping) or key not in around:
        _put(above, _Line(indent, None, False))  # inside a list, or a line of some text
    else:
        _put(above, _Line(indent, (*parent.path, key), _is_map(around[key])))


def _commented(above: list[_Line], values: Mapping[str, Any], found: re.Match[str]) -> CommentedKey | None:
    key, value = _plain(found["key"]), (found["value"] or "").strip()
    depth = _depth(found)
    parent = _parent(above, depth)
    line = _Line(depth, None, False)
    _put(above, line)
    if parent.path is None or not parent.holds_keys:
        return None
    if _PROSE.match(key) or (value and not _VALUE.match(value)):
        return None
    # Deeper than the comment itself stands: an example. It belongs to an empty map or to a commented
    # one; in a map that has keys it shows the way from further up, and would be taken for new keys.
    if len(found["inner"]) > 1 and _has_keys(_at(values, parent.path)):
        return None
    line.path = (*parent.path, key)
    line.holds_keys = _EMPTY.match(value) is not None
    return CommentedKey(line.path, free=bool(value) and line.holds_keys)


def _depth(match: re.Match[str]) -> int:
    """How deep a key is: `# key` stands where the `#` stands, `#   key` two deeper."""
    return len(match["indent"]) + max(len(match["inner"] or "") - 1, 0)


def _parent(above: list[_Line], indent: int) -> _Line:
    return next(line for line in reversed(above) if line.indent < indent)


def _put(above: list[_Line], line: _Line) -> None:
    while above[-1].indent >= line.indent:
        above.pop()
    above.append(line)


def _plain(key: str) -> str:
    return key[1:-1] if key[0] in "\"'" else key


def _at(values: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = values
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _is_map(value: Any) -> bool:
    """Keys can stand below it: a map, or nothing yet."""
    return value is None or isinstance(value, Mapping)


def _has_keys(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value)
