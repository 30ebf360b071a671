"""README.md and docs/: what is written from the code is not stale, and no link leads nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NotRequired, TypedDict
from unittest.mock import Mock
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from kube_proxy_replacement import KubeProxyReplacement
from kube_proxy_replacement.config import PROGRAM
from kube_proxy_replacement.settings import NAMES
from local import clone, docs

PAGES = [clone.ROOT / "README.md", *sorted((clone.ROOT / "docs").glob("*.md"))]


# What is written from the code


@pytest.mark.parametrize("file", [docs.PAGE, docs.PROJECT], ids=lambda file: file.name)
def test_what_is_written_from_the_code_is_not_stale(file: Path) -> None:
    assert file.read_text() == docs.written()[file], "`make docs` writes it anew"


def test_every_setting_and_every_output_is_on_the_page() -> None:
    outputs = list(KubeProxyReplacement.outputs(Mock()))
    assert [its.name for its in docs.settings()] == list(NAMES)
    assert [its.name for its in docs.program_settings()] == list(PROGRAM)
    assert [its.name for its in docs.outputs()] == outputs
    its_settings, _, its_outputs = docs.page().partition("## Outputs")
    for part, names in ((its_settings, (*NAMES, *PROGRAM)), (its_outputs, outputs)):
        assert [name for name in names if not re.search(rf"^\| \[?`{name}`.* \|$", part, flags=re.MULTILINE)] == []


def test_a_setting_without_a_word_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(TypedDict):
        colour: NotRequired[bool]

    monkeypatch.setattr(docs, "ProgramSettings", Silent)
    with pytest.raises(docs.UndescribedError, match="colour has no docstring"):
        docs.program_settings()


def test_a_docstring_with_another_default_than_the_codes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs, "_real_default", lambda its: 900 if its.name == "timeoutSeconds" else None)
    with pytest.raises(docs.UndescribedError, match=r"timeoutSeconds: .*`600`.*`900`"):
        docs.settings()


# Links


@cache
def tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text())


def links(page: Path) -> Iterator[str]:
    for token in tokens(page):
        for inner in token.children or []:
            if inner.type in ("link_open", "image"):
                yield str(inner.attrs.get("href") or inner.attrs.get("src") or "")


@cache
def anchors(page: Path) -> set[str]:
    """A page's headings as GitHub makes anchors of them: https://docs.github.com/en/get-started/writing-on-github/
    getting-started-with-writing-and-formatting-on-github/basic-writing-and-formatting-syntax#section-links.
    """
    found: set[str] = set()
    for opening, heading in zip(tokens(page), tokens(page)[1:], strict=False):
        if opening.type == "heading_open":
            text = "".join(inner.content for inner in heading.children or [] if inner.type in ("text", "code_inline"))
            slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            repeated = (f"{slug}-{number}" for number in range(1, len(found) + 1))
            found.add(slug if slug not in found else next(each for each in repeated if each not in found))
    return found


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere, each with why."""
    found = []
    for link in links(page):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:  # of another site only the form is looked at
            if parts.scheme not in ("http", "https") or not re.fullmatch(r"[\w-]+(\.[\w-]+)+(:\d+)?", parts.netloc):
                found.append(f"{link}: no address of a page")
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if not target.exists():
            found.append(f"{link}: no such file")
        elif parts.fragment and unquote(parts.fragment) not in (anchors(target) if target.suffix == ".md" else ()):
            found.append(f"{link}: no such heading in {target.name}")
    return found


def test_every_page_is_in_the_readmes_list_once() -> None:
    _, _, documentation = PAGES[0].read_text().partition("\n## Documentation\n")
    listed = re.findall(r"^\| \[.+?\]\((docs/.+?\.md)\)", documentation.partition("\n## ")[0], flags=re.MULTILINE)
    assert sorted(listed) == [str(page.relative_to(clone.ROOT)) for page in PAGES[1:]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_is_broken(page: Path) -> None:
    assert broken(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# What «this» is: `kube-proxy`, and more\n## Twice\n## Twice\n```\n# no heading\n```\n")
    right = (
        "other.md",
        "other.md#what-this-is-kube-proxy-and-more",
        "other.md#twice-1",
        "#here",
        "https://a.example/x#y",
    )
    wrong = (
        "another.md",
        "other.md#thrice",
        "other.md#no-heading",
        "#there",
        "https://",
        "htp://a.example",
        "//a.example",
    )
    page.write_text("# Here\n" + "\n".join(f"| a |\n| - |\n| [x]({link}) |\n" for link in (*right, *wrong)))
    assert len(list(links(page))) == len(right) + len(wrong)
    assert [reason.partition(": ")[0] for reason in broken(page)] == list(wrong)
