"""GitHub, as far as the workflows in ci/github need it: a runner of jobs, comments and issues, and its program `gh`.

A job's `run:` steps are run as they stand in the YAML, by the shell and with the environment that GitHub gives them.
What an action does (`uses:`) is played: the checkout is the folder that is given, Python and Pulumi are on the PATH
already, artifacts are files in a folder. `gh` is played by gh.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from tests.engine import gh
from tests.engine.harness import _ended

FOLDER: Final = Path(__file__).resolve().parents[2] / "ci" / "github" / "workflows"
SUCCESS, ALWAYS = None, "${{ !cancelled() }}"
"""A step's `if`: after a step that has failed it runs in the second case alone."""

_EXPRESSION = re.compile(r"\$\{\{\s*([\w.-]+)\s*\}\}")
_PLAYED = ("actions/checkout", "actions/setup-python", "pulumi/actions")
_NOT_RUN = ("Install",)
"""Steps that are not run: what is installed is installed here (tests/engine/test_wheel.py installs it anew)."""

_SECONDS = 600.0
"""A step that hasn't come to its end by then hangs."""


@dataclass
class GitHub:
    """One repository's comments and issues, in a file that `gh` reads and writes."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        (self.folder / "artifacts").mkdir()
        self._write({"comments": [], "issues": []})
        program = self.bin / "gh"
        self.bin.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {gh.__file__} "{self._file}" "$@"\n')
        program.chmod(0o755)

    @property
    def _file(self) -> Path:
        return self.folder / "github.json"

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def comments(self) -> list[dict[str, Any]]:
        """`{id, pull, body, user, edits}`."""
        return list(json.loads(self._file.read_text())["comments"])

    @property
    def issues(self) -> list[dict[str, Any]]:
        """`{number, title, body, state, user, edits}`."""
        return list(json.loads(self._file.read_text())["issues"])

    def put(self, kind: str, item: dict[str, Any]) -> None:
        """Somebody else's comment or issue."""
        store = json.loads(self._file.read_text())
        store[kind].append(item)
        self._write(store)

    def _write(self, store: dict[str, Any]) -> None:
        self._file.write_text(json.dumps(store))


@dataclass
class Job:
    """What a job has done.

    Attributes:
        failed: names of the steps that failed.
        text: what they said, by name.
        left: files in its temporary folder.
    """

    failed: list[str] = field(default_factory=list)
    text: dict[str, str] = field(default_factory=dict)
    summary: str = ""


def workflow(name: str) -> dict[str, Any]:
    """`preview`, `up` or `drift`, as YAML has it."""
    parsed: dict[str, Any] = yaml.safe_load((FOLDER / f"kube-proxy-replacement-{name}.yml").read_text())
    return parsed


def run(
    github: GitHub,
    job: Mapping[str, Any],
    *,
    workspace: Path,
    machine: Mapping[str, str],
    contexts: Mapping[str, str],
    temporary: Path,
) -> Job:
    """Runs a job as a runner does.

    Args:
        workspace: the checkout.
        machine: the runner's environment.
        contexts: by its name in an expression (`secrets.KUBECONFIG`, `matrix.stack`), what it is; a name that isn't
            there is an error, but for a secret and a variable, which are empty.
        temporary: the runner's temporary folder; emptied.
    """
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    said, files = Job(), {name: temporary / name.lower() for name in ("GITHUB_ENV", "GITHUB_STEP_SUMMARY")}
    for file in files.values():
        file.touch()
    environment = {
        **machine,
        "PATH": os.pathsep.join([str(github.bin), machine["PATH"]]),
        "RUNNER_TEMP": str(temporary),
        "GITHUB_REPOSITORY": gh.REPOSITORY,
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_RUN_ID": "4711",
        **{name: str(file) for name, file in files.items()},
        **_filled(job.get("env") or {}, contexts),
    }
    for number, step in enumerate(job["steps"]):
        if said.failed and step.get("if", SUCCESS) == SUCCESS:
            continue
        assert step.get("if", SUCCESS) in (SUCCESS, ALWAYS), step["if"]
        name = step.get("name") or step["uses"]
        if "uses" in step:
            ok = _used(step["uses"].partition("@")[0], _filled(step.get("with") or {}, contexts), github, workspace)
        elif name in _NOT_RUN:
            ok = True
        else:
            script = temporary / f"{number}.sh"
            script.write_text(step["run"])
            # https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstepsshell
            code, said.text[name] = _ended(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
                workspace,
                {**environment, **_told(files["GITHUB_ENV"]), **_filled(step.get("env") or {}, contexts)},
                None,
                _SECONDS,
            )
            ok = code == 0
        if not ok:
            said.failed.append(name)
    said.summary = files["GITHUB_STEP_SUMMARY"].read_text()
    return said


def _filled(values: Mapping[str, Any], contexts: Mapping[str, str]) -> dict[str, str]:
    def of(match: re.Match[str]) -> str:
        name = match[1]
        return contexts.get(name, "") if name.startswith(("secrets.", "vars.")) else contexts[name]

    return {name: _EXPRESSION.sub(of, str(value)) for name, value in values.items()}


def _told(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


def _used(action: str, told: Mapping[str, str], github: GitHub, workspace: Path) -> bool:
    artifact = github.folder / "artifacts" / told.get("name", "")
    if action == "actions/upload-artifact":
        artifact.mkdir(exist_ok=True)
        if not (workspace / told["path"]).exists():
            return False
        shutil.copy(workspace / told["path"], artifact)
    elif action == "actions/download-artifact":
        if not artifact.is_dir():
            return False
        shutil.copytree(artifact, workspace, dirs_exist_ok=True)
    else:
        assert action in _PLAYED, action
    return True
