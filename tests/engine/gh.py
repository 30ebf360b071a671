"""GitHub's program `gh`, as far as the workflows in ci/github use it, on comments and issues in a file.

    python gh.py FILE api …

Its `--jq` is real jq. https://cli.github.com/manual/gh_api, https://docs.github.com/en/rest/issues
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import jq

REPOSITORY: Final = "example/platform"
BOT: Final = "github-actions[bot]"
"""Whose the workflows' token is."""

_PAGE: Final = 2
"""Items of a page: so few that what isn't paged through is missed."""


def _gh(file: Path, arguments: Sequence[str]) -> int:
    assert os.environ["GH_TOKEN"], "gh: GH_TOKEN isn't set"
    command, *rest = arguments
    assert command == "api", command
    method, path, query, fields = "", "", ".", {}
    silent = paginate = False
    while rest:
        word = rest.pop(0)
        if word == "--method":
            method = rest.pop(0)
        elif word == "--jq":
            query = rest.pop(0)
        elif word in ("--field", "--raw-field"):
            key, _, value = rest.pop(0).partition("=")
            read = word == "--field" and value.startswith("@")
            fields[key] = Path(value[1:]).read_text() if read else value
        elif word == "--silent":
            silent = True
        elif word == "--paginate":
            paginate = True
        else:
            assert not word.startswith("-"), word
            path = word
    store = json.loads(file.read_text())
    answer = _answered(store, method or ("POST" if fields else "GET"), path, fields)
    file.write_text(json.dumps(store))
    pages = [answer[at : at + _PAGE] for at in range(0, len(answer), _PAGE)] if isinstance(answer, list) else [answer]
    for page in pages if paginate else pages[:1]:
        for its in jq.compile(query).input_value(page):
            if not silent:
                print(its if isinstance(its, str) else json.dumps(its))
    return 0


def _answered(store: dict[str, Any], method: str, path: str, fields: Mapping[str, str]) -> Any:
    path, _, query = path.removeprefix(f"repos/{REPOSITORY}/").partition("?")
    match method, *path.split("/"):
        case "GET", "issues", number, "comments":
            return [its for its in store["comments"] if its["pull"] == int(number)]
        case "POST", "issues", number, "comments":
            return _made(store["comments"], {"id": 9000 + len(store["comments"]), "pull": int(number)}, fields)
        case "PATCH", "issues", "comments", identity:
            return _edited(next(its for its in store["comments"] if its["id"] == int(identity)), fields)
        case "GET", "issues":
            assert "state=open" in query
            return [its for its in store["issues"] if its["state"] == "open"]
        case "POST", "issues":
            return _made(store["issues"], {"number": 100 + len(store["issues"]), "state": "open"}, fields)
        case "PATCH", "issues", number:
            return _edited(next(its for its in store["issues"] if its["number"] == int(number)), fields)
    raise AssertionError(f"{method} {path}")


def _made(items: list[dict[str, Any]], item: dict[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    assert 0 < len(fields["body"]) <= 65_536
    items.append({**item, **fields, "user": {"login": BOT}, "edits": 0})
    return items[-1]


def _edited(item: dict[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    item.update(fields, edits=item["edits"] + 1)
    return item


if __name__ == "__main__":
    sys.exit(_gh(Path(sys.argv[1]), sys.argv[2:]))
