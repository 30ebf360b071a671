"""Which values a chart's templates use: every template is walked through, both ways at every fork.

`.Values.a.b` is the simple case. `with`, `range`, variables, `include` with a part of the values,
`index`, `get`, `dig`, `hasKey` and their like are followed; what goes through any other function
counts as used, and is followed no further.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from .template_syntax import (
    Assign,
    Block,
    Call,
    Dot,
    Expression,
    Literal,
    Output,
    Statement,
    Sub,
    Variable,
    parse,
)

Path: TypeAlias = tuple[str, ...]

_WHOLE = frozenset(
    {
        "keys",
        "mustToJson",
        "mustToPrettyJson",
        "mustToRawJson",
        "toJson",
        "toPrettyJson",
        "toRawJson",
        "toToml",
    }
    | {"toYaml", "toYamlPretty", "values"}
)
_SAME = frozenset({"coalesce", "deepCopy", "default", "mustDeepCopy", "and", "or", "required", "ternary"})
_MERGE = frozenset({"merge", "mergeOverwrite", "mustMerge", "mustMergeOverwrite"})
_CHECKSUM = frozenset({"adler32sum", "sha1sum", "sha256sum", "sha512sum"})
_LIST = frozenset({"list", "tuple"})
_NEGATION = frozenset({"empty", "ne", "not"})


@dataclass
class Usage:
    """What templates do with the values.

    Attributes:
        used: every path that is read.
        whole: maps that are written out or gone through as they are: anything below them has an effect.
        refused: paths that are looked at only to say that the chart doesn't take them (any more), and
            the chart's own words for it.
    """

    used: set[Path] = field(default_factory=set)
    whole: set[Path] = field(default_factory=set)
    refused: dict[Path, str] = field(default_factory=dict)


def usage(templates: Mapping[str, str]) -> Usage:
    """Walks through all templates of a chart, by their names."""
    walker = _Walker()
    bodies = []
    for _, text in sorted(templates.items()):
        template = parse(text)
        walker.defines.update(template.defines)
        bodies.append(template.body)
    for body in bodies:
        walker.walk(body, _Scope(_ROOT))
    for name in walker.defines:
        if name not in walker.visited_names:  # for packagers, or included by a name that is put together
            walker.include(name, _ROOT)
    return walker.usage


@dataclass(frozen=True)
class _Value:
    """What an expression can be: parts of the context (`("Values", "a")`), or a list or dict of such."""

    paths: frozenset[Path] = frozenset()
    parts: tuple[tuple[str, _Value], ...] = ()


_ROOT = _Value(frozenset({()}))
_NOTHING = _Value()


def _either(values: Iterable[_Value]) -> _Value:
    known = [value for value in values if value is not _NOTHING]
    if not known:
        return _NOTHING
    if len(known) == 1:
        return known[0]
    return _Value(
        frozenset().union(*(value.paths for value in known)),
        tuple(part for value in known for part in value.parts),
    )


class _Scope:
    """The dot, and the variables of this block and of those around it."""

    def __init__(self, dot: _Value, outer: _Scope | None = None) -> None:
        self.dot = dot
        self.outer = outer
        self.variables: dict[str, _Value] = {} if outer else {"": dot}

    def inner(self, dot: _Value | None = None) -> _Scope:
        return _Scope(self.dot if dot is None else dot, self)

    def declare(self, name: str, value: _Value) -> None:
        self.variables[name] = value

    def change(self, name: str, value: _Value) -> None:
        """`$x = …` may or may not be reached: from here on the variable can be either."""
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.variables:
                scope.variables[name] = _either((scope.variables[name], value))
                return
            scope = scope.outer

    def variable(self, name: str) -> _Value:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.variables:
                return scope.variables[name]
            scope = scope.outer
        return _NOTHING


class _Walker:
    def __init__(self) -> None:
        self.usage = Usage()
        self.defines: dict[str, list[Statement]] = {}
        self.visited_names: set[str] = set()
        self._visited: set[tuple[str, _Value]] = set()
        self._refusal: str | None = None
        self._checksum = False

    def walk(self, statements: list[Statement], scope: _Scope) -> None:
        for statement in statements:
            if isinstance(statement, Output):
                self._evaluate(statement.expression, scope)
            elif isinstance(statement, Assign):
                value = self._evaluate(statement.expression, scope)
                (scope.declare if statement.declares else scope.change)(statement.name, value)
            else:
                self._block(statement, scope)

    def include(self, name: str, argument: _Value) -> None:
        self.visited_names.add(name)
        if name in self.defines and (name, argument) not in self._visited:
            self._visited.add((name, argument))
            self.walk(self.defines[name], _Scope(argument))

    def _block(self, block: Block, scope: _Scope) -> None:
        self._refusal = _refusal(block)
        value = self._evaluate(block.expression, scope)
        self._refusal = None
        inner = scope
        if block.kind == "if":
            inner = scope.inner()
        elif block.kind == "with":
            inner = scope.inner(value)
        else:
            self._whole(value, parts=False)
            value = _either(part for _, part in value.parts)
            inner = scope.inner(value)
        for name in block.variables:
            # `range $key, $value`: taking the key for an element too does no harm.
            inner.declare(name, value)
        self.walk(block.body, inner)
        self.walk(block.otherwise, scope.inner())

    def _evaluate(self, expression: Expression, scope: _Scope) -> _Value:
        if isinstance(expression, Dot):
            return self._fields(scope.dot, expression.names)
        if isinstance(expression, Variable):
            return self._fields(scope.variable(expression.name), expression.names)
        if isinstance(expression, Sub):
            return self._fields(self._evaluate(expression.expression, scope), expression.names)
        if isinstance(expression, Call):
            return self._call(expression, scope)
        return _NOTHING

    def _fields(self, value: _Value, names: tuple[str, ...]) -> _Value:
        if not names or value is _NOTHING:
            return value
        for name in names:
            if name != "AsMap":  # what Helm calls the values when they are handed to a function
                value = _field(value, name)
        self._use(value)
        return value

    def _use(self, value: _Value) -> None:
        for path in value.paths:
            if len(path) > 1 and path[0] == "Values":
                if self._refusal is None:
                    self.usage.used.add(path[1:])
                else:
                    self.usage.refused.setdefault(path[1:], self._refusal)

    def _whole(self, value: _Value, *, parts: bool = True) -> None:
        # All the values at once are only ever written out to be looked at, or to be hashed.
        if not self._checksum:
            self.usage.whole.update(path[1:] for path in value.paths if len(path) > 1 and path[0] == "Values")
        if parts:
            for _, part in value.parts:
                self._whole(part)

    def _call(self, call: Call, scope: _Scope) -> _Value:
        function = call.function
        before = self._refusal, self._checksum
        if function in _NEGATION:
            self._refusal = None  # «fail if it isn't there» asks for a value, it doesn't refuse one
        self._checksum = self._checksum or function in _CHECKSUM
        arguments = [self._evaluate(argument, scope) for argument in call.arguments]
        self._refusal, self._checksum = before
        texts = [argument.text if isinstance(argument, Literal) else None for argument in call.arguments]
        if function in ("include", "tpl"):
            if function == "include" and texts and texts[0] is not None:
                self.include(texts[0], arguments[1] if len(arguments) > 1 else _NOTHING)
            return _NOTHING
        if not arguments:
            return _NOTHING
        return self._applied(function, arguments, texts)

    def _applied(self, function: str, arguments: list[_Value], texts: list[str | None]) -> _Value:
        if function in _SAME:
            return _either(arguments)
        if function in _WHOLE or function == "omit":
            self._whole(arguments[-1] if function in _WHOLE else arguments[0])
            return _NOTHING
        if function in _MERGE:
            return _either(arguments)
        if function == "dict":
            pairs = zip(texts[::2], arguments[1::2], strict=False)
            return _Value(parts=tuple((name, value) for name, value in pairs if name is not None))
        if function in _LIST:
            return _Value(parts=tuple((str(index), value) for index, value in enumerate(arguments)))
        if function in ("get", "index", "hasKey", "unset", "pick"):
            return self._keyed(function, arguments[0], texts[1:])
        if function == "dig":
            return self._keyed("index", arguments[-1], texts[:-2])
        if function == "pluck":
            return _either(self._keyed("get", argument, texts[:1]) for argument in arguments[1:])
        return _NOTHING

    def _keyed(self, function: str, value: _Value, keys: list[str | None]) -> _Value:
        if function == "pick":
            for key in keys:
                if key is not None:
                    self._use(_field(value, key))
            return value
        for key in keys:
            if key is None:  # a key that is known only when the template runs: any can be
                self._whole(value, parts=False)
                return _either(part for _, part in value.parts)
            value = _field(value, key)
        self._use(value)
        return value


def _field(value: _Value, name: str) -> _Value:
    found = _NOTHING
    if value.paths:
        found = _Value(frozenset((*path, name) for path in value.paths))
    if value.parts:
        found = _either((found, *(part for key, part in value.parts if key == name)))
    return found


def _refusal(block: Block) -> str | None:
    """The chart's words where all that the block does is to fail."""
    if block.kind != "if" or len(block.body) != 1:
        return None
    statement = block.body[0]
    if not isinstance(statement, Output) or not isinstance(statement.expression, Call):
        return None
    if statement.expression.function != "fail" or not statement.expression.arguments:
        return None
    reason = statement.expression.arguments[0]
    return reason.text if isinstance(reason, Literal) and reason.text else None
