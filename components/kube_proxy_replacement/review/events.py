"""The engine's event log of one preview.

A line is one `EngineEvent`, with one of its members set:
https://github.com/pulumi/pulumi/blob/v3.246.0/sdk/go/common/apitype/events.go. Of a secret the engine writes
`[secret]` there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
"""The key by which the engine tells a secret (and an asset) from an ordinary map."""

SECRET: Final = "[secret]"  # noqa: S105 - what stands for one
UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""What the engine writes for what isn't known before a run."""

STEADY: Final = ("same", "read", "refresh")
"""What changes nothing."""

_COLOUR = re.compile(r"<\{%[^%]*%\}>")
_RESOURCES_NAME = re.compile(r"^\S+ resource '[^']*' has a problem: ")
_SAID_BY_OTHERS = re.compile(r"an unhandled error occurred: program exited with non-zero exit code|^preview failed$")
"""What the engine adds where something else has said why."""


@dataclass(frozen=True)
class Step:
    """What a run would do with one resource.

    Attributes:
        parent: URN of the resource above it.
        op: `same`, `create`, `update`, `delete`, `replace`, `read` …
        before, after: its inputs, {} where there are none; SECRET stands for what is secret.
        paths: of the inputs that differ, where its provider says.
    """

    urn: str
    type: str
    parent: str
    op: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    paths: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.urn.rpartition("::")[2]

    @property
    def changes(self) -> bool:
        return self.op not in STEADY


@dataclass(frozen=True)
class Said:
    """A message; `severity` is `info`, `warning` or `error`, and `urn` "" where no resource says it."""

    urn: str
    severity: str
    text: str


@dataclass(frozen=True)
class Preview:
    """One preview.

    Attributes:
        said: all that isn't the engine's own debugging, each once, in order; a policy's words among them.
        ended: it has come to its end, whatever that was; False where it was cut off or never began.
    """

    steps: Sequence[Step]
    said: Sequence[Said]
    ended: bool

    @property
    def changing(self) -> list[Step]:
        return [step for step in self.steps if step.changes]

    @property
    def noes(self) -> list[str]:
        """Why an `up` would not go on."""
        errors = [its.text for its in self.said if its.severity == "error"]
        return [text for text in errors if not _SAID_BY_OTHERS.search(text)] or errors


def read(lines: Iterable[str], veil: Callable[[str], str]) -> Preview:
    """The event log's lines; `veil` takes out of a text what must not be shown."""
    steps: dict[str, Step] = {}
    said: list[Said] = []
    ended = False
    for line in lines:
        if not line.strip():
            continue
        event = _veiled(json.loads(line), veil)
        if "resourcePreEvent" in event:
            step = _step(event["resourcePreEvent"]["metadata"])
            steps[step.urn] = step
        elif "diagnosticEvent" in event and event["diagnosticEvent"]["severity"] != "debug":
            said.append(_said(event["diagnosticEvent"]))
        elif "policyEvent" in event:
            said.append(_policy(event["policyEvent"]))
        elif "summaryEvent" in event:
            ended = True
    own = [step for step in steps.values() if not _is_default_provider(step.urn)]
    return Preview(own, list(dict.fromkeys(its for its in said if its.text)), ended)


def _step(metadata: Mapping[str, Any]) -> Step:
    old, new = (metadata.get(which) or {} for which in ("old", "new"))
    return Step(
        urn=metadata["urn"],
        type=metadata["type"],
        parent=new.get("parent") or old.get("parent") or "",
        op=metadata["op"],
        before=old.get("inputs") or {},
        after=new.get("inputs") or {},
        paths=tuple(sorted(metadata.get("detailedDiff") or ())),
    )


def _said(its: Mapping[str, Any]) -> Said:
    severity = "info" if its["severity"].startswith("info") else its["severity"]
    text = _RESOURCES_NAME.sub("", _COLOUR.sub("", its["message"]).strip())
    return Said(its.get("urn") or "", severity, text)


def _policy(its: Mapping[str, Any]) -> Said:
    severity = "error" if its["enforcementLevel"] == "mandatory" else "warning"
    text = f"policy {its['policyPackName']}/{its['policyName']}: {_COLOUR.sub('', its['message']).strip()}"
    return Said(its.get("resourceUrn") or "", severity, text)


def _is_default_provider(urn: str) -> bool:
    return "::pulumi:providers:" in urn and "::default" in urn


def _veiled(tree: Any, veil: Callable[[str], str]) -> Any:
    if isinstance(tree, str):
        return veil(tree)
    if isinstance(tree, list):
        return [_veiled(its, veil) for its in tree]
    if isinstance(tree, dict):
        return SECRET if _SIGNATURE in tree else {key: _veiled(its, veil) for key, its in tree.items()}
    return tree
