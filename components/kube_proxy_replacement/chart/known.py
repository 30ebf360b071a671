"""Which values a chart knows. Helm takes any other without a word, and nothing comes of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher, get_close_matches
from functools import cached_property
from typing import Any, TypeAlias

from .address import quoted
from .comments import commented_keys
from .model import Chart
from .template_values import usage

Path: TypeAlias = tuple[str, ...]

_PLAIN = re.compile(r"[\w/-]{1,100}")
_MISSPELT = 0.75
_MISPLACED = 0.85
_DISTANT = 0.66
_FEW = 3


@dataclass(frozen=True)
class UnknownValue:
    """One value that the chart doesn't know.

    Attributes:
        path: where it stands, dotted, down to the value or to where it branches.
        name: the part of it that is unknown, dotted from the beginning to the first unknown key.
        nearest: what may be meant, dotted from the beginning; None where nothing is near.
        problem: what the chart has to say to it, with its name and version: the rest of the message.
    """

    path: str
    name: str
    nearest: str | None
    problem: str

    def __str__(self) -> str:
        """The message for a user: `values.loadBalanser.mode: the chart … doesn't know …`."""
        return f"values{'' if self.path.startswith('[') else '.'}{self.path}: {self.problem}"


@dataclass
class _Node:
    """One known key: what is known below it, and whether anything else may stand there."""

    children: dict[str, _Node] = field(default_factory=dict)
    free: bool = False
    single: bool = False

    def at(self, path: Path) -> _Node:
        """The node at a path, made where it isn't there yet."""
        node = self
        for name in path:
            node = node.children.setdefault(name, _Node())
        return node

    @property
    def takes_anything(self) -> bool:
        """Nothing is known below it, nor that it is a single value: a template may do anything with it."""
        return self.free or not (self.children or self.single)


class KnownValues:
    """What a chart knows: its values.yaml (commented keys too), its schema, and what its templates use.

    Below a map that is empty in values.yaml, has no properties in the schema, or is written out whole by
    a template (`toYaml .Values.nodeSelector`), anything goes; inside lists too. Which kinds of value a key
    takes isn't looked at: that is the schema's business, which Helm checks itself.
    """

    def __init__(self, chart: Chart) -> None:
        self._chart = chart.title
        self._root = _Node(single=True)
        _add_defaults(self._root, chart.values)
        if chart.schema is not None:
            _add_schema(self._root, chart.schema)
        self._root.free = False  # a schema that says «and anything else» names no key
        for key in commented_keys(chart.values_text, chart.values):
            node = self._root.at(key.path)
            node.free = node.free or key.free
        used = usage(chart.templates)
        for path in used.used:
            self._root.at(path)
        for path in used.whole:
            self._root.at(path).free = True
        # Subcharts take theirs under their names, and what is global belongs to all of them.
        for name in ("global", *chart.dependencies, *(("tags",) if chart.dependencies else ())):
            self._root.at((name,)).free = True
        self._refused = used.refused

    def knows(self, path: str) -> bool:
        """Whether a dotted path («loadBalancer.mode») is known, or stands where anything goes."""
        node = self._root
        for name in path.split("."):
            if name not in node.children:
                return node.takes_anything
            node = node.children[name]
        return True

    def unknown(self, values: Mapping[str, Any]) -> list[UnknownValue]:
        """The values that the chart doesn't know, in the order in which they were written."""
        return list(self._unknown(self._root, values, ()))

    def _unknown(self, node: _Node, values: Mapping[str, Any], above: Path) -> Iterator[UnknownValue]:
        for key, value in values.items():
            path = (*above, str(key))
            child = node.children.get(path[-1])
            if child is None:
                if not node.takes_anything:
                    yield self._report(node, path, value)
            elif isinstance(value, Mapping) and not child.takes_anything:
                yield from self._unknown(child, value, path)

    def _report(self, node: _Node, path: Path, value: Any) -> UnknownValue:
        whole = path
        while isinstance(value, Mapping) and len(value) == 1:
            key, value = next(iter(value.items()))
            whole = (*whole, str(key))
        name, nearest = dotted(path), None
        refusal = self._refusal(path, whole)
        if refusal:
            problem = f"the chart {self._chart} refuses it: {refusal}"
        elif len(path) > 1 and not node.children:
            problem = f'the chart {self._chart} takes a single value as "{dotted(path[:-1])}", no map'
        else:
            near = self._nearest(node, path, whole)
            nearest = dotted(near) if near else None
            hint = f'did you mean "{nearest}"?' if nearest else "nothing near it is known: leave it out"
            shown = name if "[" in name else f'"{name}"'
            problem = f"the chart {self._chart} doesn't know {shown}; {hint}"
        return UnknownValue(dotted(whole), name, nearest, problem)

    def _refusal(self, path: Path, whole: Path) -> str:
        """The chart's own words, where it names an unknown key only to refuse it."""
        for refused, words in self._refused.items():
            if len(refused) >= len(path) and all(a == b for a, b in zip(refused, whole, strict=False)):
                return " ".join(words.split())
        return ""

    def _nearest(self, node: _Node, path: Path, whole: Path) -> Path | None:
        """A sibling that is spelt much like it, the same name elsewhere, or whatever comes near."""
        above, name = path[:-1], path[-1]
        folded = _folded(name)
        for sibling in node.children:
            if _folded(sibling) == folded:
                return (*above, sibling)
        if "." in name and self.knows(name):  # «a.b» as one key, as `helm --set` writes it
            return tuple(name.split("."))
        if near := get_close_matches(name, node.children, n=1, cutoff=_MISSPELT):
            return (*above, near[0])
        if misplaced := self._misplaced(path, whole):
            return misplaced
        if len(whole) > 1:
            others = {_folded(dotted(known)): known for known in self._paths if known != path[: len(known)]}
            if near := get_close_matches(_folded(dotted(whole)), others, n=1, cutoff=_MISPLACED):
                return others[near[0]]
        if near := get_close_matches(name, node.children, n=1, cutoff=_DISTANT):
            return (*above, near[0])
        return None

    def _misplaced(self, path: Path, whole: Path) -> Path | None:
        """The same keys below another map: `relay.enabled` is `hubble.relay.enabled`."""
        for wanted in (whole, whole[len(path) - 1 :]):
            folded = tuple(map(_folded, wanted))
            ends = [known for known in self._paths if tuple(map(_folded, known[-len(folded) :])) == folded]
            # A key like `enabled` is everywhere: where there are many, none of them is meant.
            if 0 < len(ends) <= _FEW:
                spelt = dotted(path)
                best = max(ends, key=lambda known: SequenceMatcher(None, spelt, dotted(known)).ratio())
                return best[: len(best) - (len(whole) - len(path))]
        return None

    @cached_property
    def _paths(self) -> list[Path]:
        return list(_all(self._root, ()))


def dotted(path: Path) -> str:
    """A path as messages show it: `a.b`, with keys that hold dots or spaces in brackets: `a["b.c"]`."""
    text = ""
    for name in path:
        text += f".{name}" if _PLAIN.fullmatch(name) else f"[{quoted(name)}]"
    return text.removeprefix(".")


def _folded(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")


def _all(node: _Node, above: Path) -> Iterator[Path]:
    for name, child in node.children.items():
        path = (*above, name)
        yield path
        yield from _all(child, path)


def _add_defaults(node: _Node, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        child = node.at((str(key),))
        if isinstance(value, Mapping):
            child.free = child.free or not value
            _add_defaults(child, value)
        elif isinstance(value, list):
            child.free = True
        elif value is not None:
            child.single = True


def _add_schema(node: _Node, schema: Mapping[str, Any]) -> None:
    """What a JSON schema says of one value. References are not followed: anything goes there."""
    for word in ("allOf", "anyOf", "oneOf"):
        for branch in _maps(schema.get(word)):
            _add_schema(node, branch)
    properties = schema.get("properties")
    named = isinstance(properties, Mapping) and bool(properties)
    if isinstance(properties, Mapping):
        for name, described in properties.items():
            child = node.at((str(name),))
            if isinstance(described, Mapping):
                _add_schema(child, described)
    kinds = schema.get("type")
    kinds = {kinds} if isinstance(kinds, str) else set(kinds) if isinstance(kinds, list) else set()
    others = schema.get("additionalProperties")
    open_map = bool(others) or bool(schema.get("patternProperties")) or "$ref" in schema
    if open_map or ("object" in kinds and not named and others is not False):
        node.free = True
    elif (kinds and not (named or kinds & {"object", "array"})) or (others is False and not named):
        node.single = True


def _maps(value: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []
