"""`python -m kube_proxy_replacement.review comment|issue EVENTS --stack STACK`: the page, on standard output.

    EVENTS: what `pulumi preview --event-log EVENTS` has written (it wants PULUMI_DEBUG_COMMANDS=true). A file that
        isn't there is a preview that never began, and the page says so.
    comment: for a pull request. issue: for an issue on drift; nothing at all where there is none.

Environment: GITHUB_SERVER_URL, GITHUB_REPOSITORY and GITHUB_RUN_ID, for the link to the run; whatever holds a secret,
and KUBECONFIG, so that none is shown.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from . import events, page, veil

_PAGES = {"comment": page.comment, "issue": page.issue}


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m kube_proxy_replacement.review", description=__doc__.split("\n")[0])
    parser.add_argument("page", choices=_PAGES)
    parser.add_argument("events", type=Path)
    parser.add_argument("--stack", required=True)
    parser.add_argument("--commit", default="", help="the commit that was previewed")
    told = parser.parse_args(arguments)
    lines = told.events.read_text().splitlines() if told.events.exists() else []
    preview = events.read(lines, veil.of(environment))
    sys.stdout.write(_PAGES[told.page](preview, told.stack, _source(told.commit, environment)))
    return 0


def _source(commit: str, environment: Mapping[str, str]) -> str:
    of = f"Commit {commit}, looked at" if commit else "Looked at"
    said = f"{of} {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    server, repository, run = (environment.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    return f"{said}; [the run's log]({server}/{repository}/actions/runs/{run})." if run else f"{said}."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
