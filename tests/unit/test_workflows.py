"""The workflows in ci/github: least rights, pinned actions, nothing for forks, nobody's text in a shell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.toolchain import versions
from local.workflows import FOLDER

FILES = sorted(FOLDER.glob("*.yml"))
TEXTS = {file.stem.rpartition("-")[2]: file.read_text() for file in FILES}
WORKFLOWS: dict[str, dict[str, Any]] = {name: yaml.safe_load(text) for name, text in TEXTS.items()}
JOBS = [(f"{name}.{job}", its) for name, workflow in WORKFLOWS.items() for job, its in workflow["jobs"].items()]
README = (Path(FOLDER).parents[2] / "README.md").read_text()

_ACTION = re.compile(r"^\s+- uses: ([\w-]+/[\w-]+)@(\S+)( # (v\d+\.\d+\.\d+))?$", re.M)

jobs = pytest.mark.parametrize("job", [job for _, job in JOBS], ids=[name for name, _ in JOBS])


def test_there_are_three_of_them() -> None:
    assert set(WORKFLOWS) == {"preview", "up", "drift"}


@pytest.mark.parametrize("name", TEXTS)
def test_actions_are_pinned_by_their_commit_with_the_version_beside_it(name: str) -> None:
    found = _ACTION.findall(TEXTS[name])
    assert len(found) == TEXTS[name].count("uses:")
    for action, commit, _, version in found:
        assert re.fullmatch(r"[0-9a-f]{40}", commit), action
        assert version, action


def test_one_action_is_one_commit() -> None:
    commits: dict[str, set[str]] = {}
    for text in TEXTS.values():
        for action, commit, *_ in _ACTION.findall(text):
            commits.setdefault(action, set()).add(commit)
    assert {action for action, its in commits.items() if len(its) > 1} == set()


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_job_has_the_rights_that_it_names_and_no_others(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {}
    granted = {job: its["permissions"] for job, its in WORKFLOWS[name]["jobs"].items()}
    assert (
        granted
        == {
            "preview": {"preview": {"contents": "read"}, "comment": {"pull-requests": "write"}},
            "drift": {"look": {"contents": "read"}, "issue": {"issues": "write"}},
            "up": {job: {"contents": "read"} for job in ("dev", "staging", "prod")},
        }[name]
    )


@jobs
def test_who_may_write_runs_nothing_of_the_branch_and_has_no_credentials(job: dict[str, Any]) -> None:
    if "write" not in job["permissions"].values():
        return
    assert "environment" not in job
    assert "secrets." not in yaml.safe_dump(job)
    assert [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step] == ["actions/download-artifact"]


@jobs
def test_a_checkout_leaves_no_token_behind(job: dict[str, Any]) -> None:
    for step in job["steps"]:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"] == {"persist-credentials": False}


@jobs
def test_a_shell_is_given_nothing_but_by_its_environment(job: dict[str, Any]) -> None:
    """https://docs.github.com/en/actions/concepts/security/script-injections"""
    assert [step["run"] for step in job["steps"] if "${{" in step.get("run", "")] == []


def test_nothing_runs_for_a_fork() -> None:
    workflow = WORKFLOWS["preview"]
    assert set(workflow[True]) == {"pull_request"}, (
        "`on` is YAML's true; pull_request_target would have a fork's secrets"
    )
    for job in workflow["jobs"].values():
        assert "github.event.pull_request.head.repo.full_name == github.repository" in job["if"]


def test_environments_come_one_after_the_other_with_an_approval_each() -> None:
    its = WORKFLOWS["up"]["jobs"]
    assert [(job["environment"], job.get("needs")) for job in its.values()] == [
        ("dev", None),
        ("staging", "dev"),
        ("prod", "staging"),
    ]
    assert [job["env"]["STACK"] for job in its.values()] == list(its)
    assert its["dev"]["if"] == "github.ref == 'refs/heads/main'"
    assert WORKFLOWS["up"]["concurrency"]["cancel-in-progress"] is False


def test_what_only_looks_has_environments_of_its_own() -> None:
    for name, job in (("preview", "preview"), ("drift", "look")):
        assert WORKFLOWS[name]["jobs"][job]["environment"] == "${{ matrix.stack }}-preview"
        assert "pulumi up" not in TEXTS[name]


@jobs
def test_what_is_installed_is_what_the_readme_says(job: dict[str, Any]) -> None:
    for step in job["steps"]:
        if step.get("name") == "Install":
            for line in step["run"].splitlines():
                assert line.replace(" --quiet", "") in README.replace(" && ", "\n"), line
        if step.get("uses", "").startswith("pulumi/actions@"):
            assert step["with"] == {"pulumi-version": versions.PULUMI}
