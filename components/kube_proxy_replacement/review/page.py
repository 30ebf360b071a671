"""The page that a reviewer reads, in GitHub's Markdown.

What was said by others (errors, names in the cluster) is quoted so that it can be nothing but text: no markup, no
mention of people, no link to an issue.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from .change import Change, changes
from .events import Preview

LONGEST: Final = 65_000
"""Characters; GitHub takes 65,536 in a comment or an issue."""

_CUT = "\n\n*The rest is cut off: a comment can't hold more. The run's log has all of it.*\n"
_NAMED = 100
"""Nodes to which the same happens that are named; of a large cluster all names are more than a comment holds."""

_LONG, _SHOWN = 600, 200
"""Characters of one message from which on it is folded, and how many are shown of one that is."""

_MARKUP = re.compile(r"([\\`*_{}\[\]<>|~])")
_LINKS = re.compile(r"([@#])(?=\w)")

_DIDNT_RUN = "The preview didn't come to its end; the run's log says why."


def comment(preview: Preview, stack: str, source: str) -> str:
    """For a pull request. `source`: which commit and which run, in Markdown."""
    its = changes(preview)
    if preview.noes or not preview.ended:
        title = "refused" if preview.noes else "not finished"
    else:
        title = "; ".join(dict.fromkeys(each.title for each in its)) or "no such component in this stack"
    lines = [_mark("preview", stack), f"### Preview of {code(stack)}: {title}", ""]
    lines += _what_says_no(preview)
    lines += _body(preview, its)
    return _bounded("\n".join([*lines, source, ""]))


def issue(preview: Preview, stack: str, source: str) -> str:
    """For an issue on drift; "" where there is none. A cluster that couldn't be looked at is one."""
    its = changes(preview)
    findings = any(each.findings for each in its)
    if preview.ended and not preview.noes and not preview.changing and not findings:
        return ""
    lines = [_mark("drift", stack)]
    if preview.noes or not preview.ended:
        lines += [f"Stack {code(stack)} couldn't be compared with its cluster.", ""]
    else:
        lines += [
            f"The cluster of stack {code(stack)} isn't as this branch says: somebody has changed it, or what was "
            "merged isn't rolled out yet. An `up` would do what follows. This issue is edited at each look, and closed "
            "when all is as wanted.",
            "",
        ]
    lines += _what_says_no(preview)
    lines += _body(preview, its)
    return _bounded("\n".join([*lines, source, ""]))


def _mark(kind: str, stack: str) -> str:
    """By its first line the workflow finds the comment, or the issue, again."""
    return f"<!-- kube-proxy-replacement: {kind} of {stack} -->"


def _what_says_no(preview: Preview) -> list[str]:
    if preview.noes:
        until = "Until that is mended an `up` stops there too."
        return ["#### What says no", "", *_bullets(preview.noes), "", until, ""]
    if not preview.ended:
        return [_DIDNT_RUN, ""]
    return ["**Nothing says no.**", ""]


def _body(preview: Preview, its: Sequence[Change]) -> list[str]:
    lines = []
    for change in its:
        if len(its) > 1:
            lines += [f"### {code(change.name)}: {change.title}", ""]
        if change.mode_after:
            lines += [*_table(("What", "Value"), _facts(change)), ""]
        for heading, part in (
            ("#### What happens to which nodes", _nodes(change)),
            ("#### Helm values that differ", _values(change)),
            ("#### Not as wanted", list(_bullets(change.findings))),
            ("#### Warnings", list(_bullets(change.warnings))),
            ("#### What will be noticed", list(_bullets(change.notes))),
        ):
            if part:
                lines += [heading, "", *part, ""]
    return lines + _resources(preview)


def _facts(change: Change) -> Iterator[tuple[str, str]]:
    if not change.mode_before:
        yield "Mode", f"{code(change.mode_after)} (this stack's first run)"
    elif change.mode_before == change.mode_after:
        yield "Mode", f"{code(change.mode_after)}, as before"
    else:
        yield "Mode", f"{code(change.mode_before)} → **{code(change.mode_after)}**"
    if change.cluster:
        yield "Cluster", f"{code(change.cluster)} at {code(change.server)}"
    if change.agents_reach:
        yield "Agents reach the API server at", words(change.agents_reach)
    if change.versions:
        yield "Chart", " → ".join(map(code, change.versions))


def _nodes(change: Change) -> list[str]:
    rows = [(_named(group.names), words(group.what)) for group in change.nodes]
    return list(_table(("Nodes", "What an `up` does there"), rows)) if rows else []


def _named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(map(code, names[:_NAMED])) + (f" and {more} more, {len(names)} in all" if more > 0 else "")


def _values(change: Change) -> list[str]:
    rows = []
    for its in change.values:
        hidden = not its.before and not its.after
        after = "encrypted: not shown" if hidden else _value(its.after)
        rows.append((code(its.path), "" if hidden else _value(its.before), after))
    return list(_table(("Value", "Now", "Then"), rows)) if rows else []


def _value(text: str) -> str:
    return text if text in ("not set", "(not shown)", "not known yet") else code(text)


def _resources(preview: Preview) -> list[str]:
    counts: dict[str, int] = {}
    for step in preview.steps:
        counts[step.op] = counts.get(step.op, 0) + 1
    if not counts:
        return []
    summary = ", ".join(f"{number} {op}" for op, number in sorted(counts.items()))
    lines = [f"- {step.op} {code(step.name)}" for step in preview.changing] or ["Nothing changes."]
    return ["<details>", f"<summary>Resources: {summary}</summary>", "", *lines, "", "</details>", ""]


# Markdown


def words(text: str) -> str:
    """A text that is shown as it is."""
    text = _LINKS.sub(r"\1<!-- -->", _MARKUP.sub(r"\\\1", text))
    return "<br>".join(line.strip() for line in text.splitlines() if line.strip())


def code(text: str) -> str:
    """A name or a value, in a table too."""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    pad = " " if "`" in text else ""
    inner = " ".join(text.split()).replace("|", r"\|")
    return f"{fence}{pad}{inner}{pad}{fence}"


def _bullets(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        if len(text) <= _LONG:
            yield f"- {words(text)}"
        else:
            first = text[:_SHOWN].rpartition(" ")[0]
            yield f"- <details><summary>{words(first)} …</summary>{words(text)}</details>"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    for row in (head, tuple(":--" for _ in head), *rows):
        yield f"| {' | '.join(row)} |"


def _bounded(page: str) -> str:
    if len(page) <= LONGEST:
        return page
    return page[: LONGEST - len(_CUT)].rpartition("\n")[0] + _CUT
