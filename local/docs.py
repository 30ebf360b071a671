"""What is written from the docstrings of the settings and outputs: docs/settings.md, and `config:` in Pulumi.yaml.

Names, types and descriptions are read by Pulumi's own analyzer of components, which makes a package's schema too, so
all of them say the same. A test says when what is written is stale.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Final

import yaml
from pulumi.provider.experimental.analyzer import Analyzer, PropertyDefinition

from kube_proxy_replacement import KubeProxyReplacement
from kube_proxy_replacement.config import ProgramSettings
from kube_proxy_replacement.settings import Settings
from local import clone

PAGE: Final = clone.ROOT / "docs" / "settings.md"
PROJECT: Final = clone.ROOT / "Pulumi.yaml"

_PACKAGE: Final = "kube-proxy-replacement"
_NOT_SET: Final[dict[str, Any]] = {"string": "", "integer": 0, "boolean": False, "object": {}, "array": []}
_DEFAULT: Final = re.compile(r"\s*\bDefault: (?P<default>.+)\.$", re.DOTALL)
_CODE: Final = re.compile(r"`([^`]*)`")
_OTHER_PAGE: Final = re.compile(r"\bdocs/([\w-]+\.md)\b")

_TEMPLATE: Final = """\
<!-- Written by `make docs` from the docstrings of the settings and outputs: change those. -->

# Settings and outputs

In a stack's file, or with `pulumi config set NAME VALUE`, the settings have these names. In a program of your own
they are the arguments of `KubeProxyReplacement` in snake case (`apiServerHost` is `api_server_host`), each of them a
`pulumi.Input`, and the outputs are its attributes, in snake case too.

Only `mode` must be set; `""`, `0`, `{{}}` and `[]` mean «not set». A value of a wrong type is refused by Pulumi, by
`Pulumi.yaml`, before the program starts; whatever else is wrong is told in the preview, all at once, with what to
write instead. A setting that doesn't exist is refused with the nearest name.

## Settings

{settings}

{details}

## Settings of the program alone

In a program of your own the component's `pulumi.ResourceOptions` have them.

{program}

{program_details}

## Outputs

They are read when something changes or isn't as wanted; an agent that can't be read is a line with the reason.

{outputs}

{output_details}
"""


class UndescribedError(Exception):
    """A setting or an output without a docstring, or whose docstring says another default than the code has."""


@dataclass(frozen=True)
class Described:
    """A setting, or an output.

    Attributes:
        name: as in a stack's file; argument: as in Python.
        kind: its JSON type: `string`, `integer`, `boolean`, `object`, `array of string` …
        required: whether it must be set.
        meaning: the first paragraph, without its default; default: what follows «Default:», "" where nothing does.
        more: the paragraphs after it, or a table of an object's keys, as Markdown.
    """

    name: str
    argument: str
    kind: str
    required: bool
    meaning: str
    default: str
    more: str


def write() -> list[Path]:
    """Writes what is stale, and returns it."""
    stale = {file: text for file, text in written().items() if not file.exists() or file.read_text() != text}
    for file, text in stale.items():
        file.write_text(text)
    return list(stale)


def written() -> dict[Path, str]:
    """What the files have to be. Raises UndescribedError."""
    return {PAGE: page(), PROJECT: project(PROJECT.read_text())}


def page() -> str:
    """docs/settings.md."""
    own, program, its_outputs = settings(), program_settings(), outputs()
    return _TEMPLATE.format(
        settings=_settings_table(own),
        details=_details(own),
        program=_settings_table(program),
        program_details=_details(program),
        outputs=_table(("output", "type", "meaning"), [(f"`{o.name}`", o.kind, o.meaning) for o in its_outputs]),
        output_details=_details(its_outputs, of="Output "),
    )


def project(text: str) -> str:
    """Pulumi.yaml with every setting declared: all that comes after the line `config:` is written anew."""
    declared = {its.name: _declaration(its) for its in (*settings(), *program_settings())}
    head, _, _ = text.partition("\nconfig:\n")
    return f"{head}\n{yaml.safe_dump({'config': declared}, allow_unicode=True, sort_keys=False, width=116)}"


def settings() -> list[Described]:
    """The component's settings, in their order."""
    analyzer = Analyzer(_PACKAGE)
    component = analyzer.analyze_component(KubeProxyReplacement)
    described = _described(component.inputs, component.inputs_mapping, analyzer)
    for its in described:
        if (real := _real_default(its)) and its.default != f"`{real}`":
            raise UndescribedError(f"{its.name}: its docstring says «Default: {its.default}.», the code has `{real}`")
    return described


def program_settings() -> list[Described]:
    """The program's own settings."""
    analyzer = Analyzer(_PACKAGE)
    return _described(*analyzer.analyze_type(ProgramSettings, is_component_output=False), analyzer)


def outputs() -> list[Described]:
    """The component's outputs, in their order."""
    analyzer = Analyzer(_PACKAGE)
    component = analyzer.analyze_component(KubeProxyReplacement)
    return _described(component.outputs, component.outputs_mapping, analyzer)


def _described(
    properties: Mapping[str, PropertyDefinition], arguments: Mapping[str, str], analyzer: Analyzer
) -> list[Described]:
    return [_one(name, arguments[name], its, analyzer) for name, its in properties.items()]


def _one(name: str, argument: str, its: PropertyDefinition, analyzer: Analyzer) -> Described:
    if not its.description:
        raise UndescribedError(f"{name} has no docstring")
    first, _, more = inspect.cleandoc(its.description).partition("\n\n")
    first = " ".join(first.split())
    default = _DEFAULT.search(first)
    own_type = analyzer.type_definitions.get((its.ref or "").rpartition(":")[2])
    if own_type:
        keys = _described(own_type.properties, own_type.properties_mapping, analyzer)
        more = _table(("key", "type", "meaning"), [(f"`{key.name}`", key.kind, _whole_meaning(key)) for key in keys])
    return Described(
        name=name,
        argument=argument,
        kind=_kind(its),
        required=not its.optional,
        meaning=first[: default.start()] if default else first,
        default=default["default"] if default else "",
        more=more,
    )


def _kind(its: PropertyDefinition) -> str:
    if its.type is None:  # a type of our own, or anything
        return "object"
    kind = its.type.value
    return f"array of {_kind(its.items)}" if its.items else kind


def _real_default(setting: Described) -> Any:
    """What `Settings` has where nothing is set; None where that means «to be found» or «not said»."""
    for its in fields(Settings):
        if its.name == setting.argument and its.default is not MISSING:
            return its.default or None
    return None


def _declaration(setting: Described) -> dict[str, Any]:
    """As Pulumi.yaml has it, with the default that means «not set» where the code has none of its own."""
    kind, _, item = setting.kind.partition(" of ")
    if kind == "boolean" and setting.default != "`false`":
        kind = "string"  # true or false: a boolean's default couldn't be «not set»
    declared: dict[str, Any] = {"type": kind}
    if item:
        declared["items"] = {"type": item}
    if not setting.required:
        declared["default"] = _real_default(setting) or _NOT_SET[kind]
    return declared | {"description": _CODE.sub(r"\1", _whole_meaning(setting))}


def _whole_meaning(its: Described) -> str:
    return f"{its.meaning} Default: {its.default}." if its.default else its.meaning


def _settings_table(all_of_them: Sequence[Described]) -> str:
    return _table(("setting", "type", "default", "meaning"), [_row(its) for its in all_of_them])


def _row(its: Described) -> tuple[str, ...]:
    name = f"[`{its.name}`](#{its.name.lower()})" if its.more else f"`{its.name}`"
    return name, its.kind, "none, it must be set" if its.required else its.default or "none", its.meaning


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _details(all_of_them: Sequence[Described], of: str = "") -> str:
    parts = [f"### {of}`{its.name}`\n\n{its.more}" for its in all_of_them if its.more]
    return _OTHER_PAGE.sub(r"[\1](\1)", "\n\n".join(parts))
