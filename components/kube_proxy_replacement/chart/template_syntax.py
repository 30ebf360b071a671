"""As much of the syntax of Go templates (text/template) as it takes to see which values they use.

A template becomes a list of statements, an action's pipeline an expression; both are plain tuples.
What can't be understood is left out: a chart that Helm refuses is Helm's to explain.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import NamedTuple, TypeAlias

Names: TypeAlias = tuple[str, ...]


class Dot(NamedTuple):
    """`.a.b`; no names for `.` alone."""

    names: Names


class Variable(NamedTuple):
    """`$name.a.b`; the name is "" for `$`."""

    name: str
    names: Names


class Sub(NamedTuple):
    """`(pipeline).a.b`."""

    expression: Expression
    names: Names


class Literal(NamedTuple):
    """A string, or None for any other constant but a whole number, which is kept as text."""

    text: str | None


class Call(NamedTuple):
    """A function with its arguments, a piped one last; "" for a method or anything else unknown."""

    function: str
    arguments: tuple[Expression, ...]


Expression: TypeAlias = Dot | Variable | Sub | Literal | Call


class Output(NamedTuple):
    """`{{ pipeline }}`."""

    expression: Expression


class Assign(NamedTuple):
    """`{{ $name := pipeline }}`, or with `=`, which changes the variable that is there."""

    name: str
    declares: bool
    expression: Expression


class Block(NamedTuple):
    """`{{ if | with | range }} … {{ else }} … {{ end }}`."""

    kind: str
    variables: Names
    expression: Expression
    body: list[Statement]
    otherwise: list[Statement]


Statement: TypeAlias = Output | Assign | Block


class Template(NamedTuple):
    """A parsed text: its own statements, and those of each `define` in it."""

    body: list[Statement]
    defines: dict[str, list[Statement]]


_ACTION = re.compile(
    r"""\{\{-?\s*+(?:/\*.*?\*/\s*+-?\}\}|((?:[^}"'`]++|"(?:\\.|[^"\\])*+"|`[^`]*+`|'(?:\\.|[^'\\])'|\}(?!\}))*+)\}\})""",
    re.DOTALL,
)
_TOKEN = re.compile(
    r"""\s*+(?:
      (?P<string>"(?:\\.|[^"\\])*+"|`[^`]*+`)
    | (?P<variable>\$\w*+(?:\.\w++)*+)
    | (?P<number>[-+]?\d[\w.+]*+)
    | (?P<field>(?:\.[A-Za-z_]\w*+)++|\.)
    | (?P<word>[A-Za-z_]\w*+)
    | (?P<mark>:=|.)
    )""",
    re.DOTALL | re.VERBOSE,
)
_HEADS = frozenset({"if", "with", "range", "define", "block", "else", "end", "template", "break", "continue"})


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


class _Action(NamedTuple):
    head: str
    variables: Names
    declares: bool
    expression: Expression
    name: str


def parse(text: str) -> Template:
    """Parses one template file."""
    root: list[Statement] = []
    template = Template(root, {})
    current = root
    # Each open block: what follows its end, and the statement lists that an `else` goes on with.
    open_blocks: list[tuple[list[Statement], Block | None, int]] = []
    depth = 0
    for match in _ACTION.finditer(text):
        source = match[1]
        if not source:
            continue
        action = _action(source)
        head = action.head
        if head == "end":
            if not open_blocks:
                continue
            current, _, depth = open_blocks.pop()
            # `else if` opens a block inside the `else`, which the same `end` closes.
            while depth and open_blocks:
                current, _, depth = open_blocks.pop()
        elif head in ("define", "block"):
            body: list[Statement] = template.defines.setdefault(action.name, [])
            if head == "block":
                current.append(Output(Call("include", (Literal(action.name), action.expression))))
            open_blocks.append((current, None, 0))
            current = body
        elif head == "else":
            if not open_blocks or (block := open_blocks[-1][1]) is None:
                continue
            current = block.otherwise
            if action.name:
                current = _open(open_blocks, current, action, action.name, 1)
        elif head in ("if", "with", "range"):
            current = _open(open_blocks, current, action, head, 0)
        elif head == "template":
            current.append(Output(Call("include", (Literal(action.name), action.expression))))
        elif head == "":
            if action.variables:
                current.append(Assign(action.variables[0], action.declares, action.expression))
            else:
                current.append(Output(action.expression))
    return template


def _open(
    open_blocks: list[tuple[list[Statement], Block | None, int]],
    current: list[Statement],
    action: _Action,
    kind: str,
    chained: int,
) -> list[Statement]:
    block = Block(kind, action.variables, action.expression, [], [])
    current.append(block)
    open_blocks.append((current, block, chained))
    return block.body


@lru_cache(maxsize=8192)
def _action(source: str) -> _Action:
    tokens = _tokens(source)
    head = name = ""
    at = 0
    if tokens and tokens[0].kind == "word" and tokens[0].text in _HEADS:
        head = tokens[0].text
        at = 1
    if head == "else" and len(tokens) > 1 and tokens[1].text in ("if", "with"):
        name = tokens[1].text
        at = 2
    if head in ("define", "block", "template") and len(tokens) > 1:
        name = _string(tokens[1].text)
        at = 2
    variables, declares, at = _declared(tokens, at)
    expression, _ = _pipeline(tokens, at)
    return _Action(head, variables, declares, expression, name)


def _tokens(source: str) -> list[_Token]:
    # `{{ x -}}`: the minus belongs to the closing braces where there is a space before it.
    source = re.sub(r"(?:^|\s)-$", "", source.rstrip()) if source.endswith("-") else source
    return [
        _Token(match.lastgroup or "", match[match.lastgroup or 0], match.start(match.lastgroup or 0), match.end())
        for match in _TOKEN.finditer(source)
        if match.lastgroup and not match[match.lastgroup].isspace()
    ]


def _declared(tokens: list[_Token], at: int) -> tuple[Names, bool, int]:
    """`$a, $b :=` at the beginning of an action."""
    names: list[str] = []
    here = at
    while here < len(tokens) and tokens[here].kind == "variable":
        names.append(tokens[here].text[1:])
        here += 1
        if here < len(tokens) and tokens[here].text in (":=", "="):
            return tuple(names), tokens[here].text == ":=", here + 1
        if here >= len(tokens) or tokens[here].text != ",":
            break
        here += 1
    return (), False, at


def _pipeline(tokens: list[_Token], at: int) -> tuple[Expression, int]:
    """Everything up to the closing parenthesis or the end."""
    piped: Expression | None = None
    while True:
        expression, at = _command(tokens, at, piped)
        if at < len(tokens) and tokens[at].text == "|":
            piped = expression
            at += 1
            continue
        return expression, at


def _command(tokens: list[_Token], at: int, piped: Expression | None) -> tuple[Expression, int]:
    function: str | None = None
    operands: list[Expression] = []
    while at < len(tokens) and tokens[at].text not in (")", "|"):
        token = tokens[at]
        if token.kind == "word" and function is None and not operands:
            function = token.text
            at += 1
            continue
        operand, at = _operand(tokens, at)
        if operand is not None:
            operands.append(operand)
    if piped is not None:
        operands.append(piped)
    if function is not None and function not in ("true", "false", "nil"):
        return Call(function, tuple(operands)), at
    if function is None and len(operands) == 1:
        return operands[0], at
    return (Call("", tuple(operands)) if operands else Literal(None)), at


def _operand(tokens: list[_Token], at: int) -> tuple[Expression | None, int]:
    token = tokens[at]
    if token.text == "(" and token.kind == "mark":
        expression, at = _pipeline(tokens, at + 1)
        if at < len(tokens):
            closing = tokens[at]
            at += 1
            if at < len(tokens) and tokens[at].kind == "field" and tokens[at].start == closing.end:
                return Sub(expression, _names(tokens[at].text)), at + 1
        return expression, at
    at += 1
    if token.kind == "field":
        return Dot(_names(token.text)), at
    if token.kind == "variable":
        name, _, rest = token.text[1:].partition(".")
        return Variable(name, tuple(rest.split(".")) if rest else ()), at
    if token.kind == "string":
        return Literal(_string(token.text)), at
    if token.kind == "number":
        return Literal(token.text if token.text.isdigit() else None), at
    if token.kind == "word":
        return Call(token.text, ()), at
    return None, at


def _names(text: str) -> Names:
    return tuple(text[1:].split(".")) if len(text) > 1 else ()


def _string(text: str) -> str:
    if text.startswith("`"):
        return text[1:-1]
    try:
        return str(json.loads(text))  # Go's escapes are JSON's, but for a few that charts don't use
    except ValueError:
        return text.strip('"')
