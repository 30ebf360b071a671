"""The Commands' line, run by a real shell; a stub stands where Python is looked for."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime import mocks, rpc_manager, set_mocks
from pulumi.runtime.settings import SETTINGS

from kube_proxy_replacement import command, run

WORDS = ["-u", "-m", "kube_proxy_replacement.run", "kube-proxy-daemonset", "create"]
LINE = command.line("kube-proxy-daemonset", "create")


def stub(path: Path, exit_status: int = 0) -> Path:
    """A program that says which one it is, what it was told, and under which process number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"#!{sys.executable} -SE\n"
        "import json, os, sys\n"
        f"print(json.dumps({{'which': {str(path)!r}, 'words': sys.argv[1:], 'pid': os.getpid()}}))\n"
        f"sys.exit({exit_status})\n"
    )
    path.chmod(0o755)
    return path


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the line in the folder `program`; only `bin` is on the PATH, with a `python3` that says so."""
    (tmp_path / "program").mkdir()
    stub(tmp_path / "bin" / "python3")

    def run_line(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", "-c", LINE],
            cwd=tmp_path / "program",
            env={"PATH": str(tmp_path / "bin"), **environment},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    return run_line


def ran(result: subprocess.CompletedProcess[str]) -> Path:
    """Which stub ran; it must have been told the words, and nothing else may be printed."""
    assert result.stderr == ""
    told = json.loads(result.stdout)
    assert told["words"] == WORDS
    return Path(told["which"])


class TestWhichPython:
    def test_the_virtual_environment_that_the_engine_names(self, shell: Any, tmp_path: Path) -> None:
        python = stub(tmp_path / "venv" / "bin" / "python")
        assert ran(shell(PULUMI_RUNTIME_VIRTUALENV=str(tmp_path / "venv"))) == python

    @pytest.mark.parametrize("given", ["venv", "./venv", "venv/"])
    def test_a_relative_one_is_of_the_program_s_folder(self, shell: Any, tmp_path: Path, given: str) -> None:
        python = stub(tmp_path / "program" / "venv" / "bin" / "python")
        assert ran(shell(PULUMI_RUNTIME_VIRTUALENV=given)) == python

    @pytest.mark.parametrize("name", ["with space", "qu'ote", 'do"uble', "dol$lar", "$(touch owned)", "é «»", "a;b&c"])
    def test_its_name_is_never_read_by_the_shell(self, shell: Any, tmp_path: Path, name: str) -> None:
        python = stub(tmp_path / name / "bin" / "python")
        assert ran(shell(PULUMI_RUNTIME_VIRTUALENV=str(tmp_path / name))) == python
        assert list((tmp_path / "program").iterdir()) == []

    @pytest.mark.parametrize("empty", [{}, {"PULUMI_RUNTIME_VIRTUALENV": ""}])
    def test_uv_has_its_own_in_dot_venv(self, shell: Any, tmp_path: Path, empty: dict[str, str]) -> None:
        python = stub(tmp_path / "program" / ".venv" / "bin" / "python")
        assert ran(shell(PULUMI_RUNTIME_TOOLCHAIN="uv", **empty)) == python

    def test_poetry_is_asked_for_its_own(self, shell: Any, tmp_path: Path) -> None:
        python = stub(tmp_path / "poetry's venv" / "bin" / "python")
        answer = f'[ "$*" = "env info --path" ] && echo "{tmp_path}/poetry\'s venv"'
        script(tmp_path / "bin" / "poetry", answer)
        assert ran(shell(PULUMI_RUNTIME_TOOLCHAIN="poetry")) == python

    @pytest.mark.parametrize("toolchain", ["uv", "poetry", "pip"])
    def test_a_named_one_wins_over_the_toolchain_s(self, shell: Any, tmp_path: Path, toolchain: str) -> None:
        python = stub(tmp_path / "venv" / "bin" / "python")
        stub(tmp_path / "program" / ".venv" / "bin" / "python")
        script(tmp_path / "bin" / "poetry", "echo /nowhere")
        found = ran(shell(PULUMI_RUNTIME_VIRTUALENV=str(tmp_path / "venv"), PULUMI_RUNTIME_TOOLCHAIN=toolchain))
        assert found == python

    def test_without_a_virtual_environment_the_command_that_pulumi_was_told(self, shell: Any, tmp_path: Path) -> None:
        python = stub(tmp_path / "own python")
        assert ran(shell(PULUMI_PYTHON_CMD=str(python))) == python

    def test_a_virtual_environment_wins_over_that_command(self, shell: Any, tmp_path: Path) -> None:
        python = stub(tmp_path / "venv" / "bin" / "python")
        other = stub(tmp_path / "own-python")
        assert ran(shell(PULUMI_RUNTIME_VIRTUALENV=str(tmp_path / "venv"), PULUMI_PYTHON_CMD=str(other))) == python

    @pytest.mark.parametrize(
        "environment",
        [{}, {"PULUMI_RUNTIME_TOOLCHAIN": "pip"}, {"PULUMI_PYTHON_CMD": ""}, {"PULUMI_RUNTIME": "python"}],
    )
    def test_else_python3_of_the_path(self, shell: Any, tmp_path: Path, environment: dict[str, str]) -> None:
        assert ran(shell(**environment)) == tmp_path / "bin" / "python3"

    def test_a_command_with_shell_words_is_the_name_of_a_program_and_not_run(self, shell: Any, tmp_path: Path) -> None:
        result = shell(PULUMI_PYTHON_CMD="python3; touch owned")
        assert result.returncode == 127
        assert list((tmp_path / "program").iterdir()) == []


class TestTheProcess:
    def test_it_takes_the_shell_s_place_so_that_cancelling_ends_it(self, tmp_path: Path) -> None:
        python = stub(tmp_path / "python")
        with subprocess.Popen(
            ["/bin/sh", "-c", LINE], env={"PULUMI_PYTHON_CMD": str(python)}, stdout=subprocess.PIPE, text=True
        ) as process:
            output, _ = process.communicate(timeout=20)
        assert json.loads(output)["pid"] == process.pid

    @pytest.mark.parametrize("status", [0, 1, 2])
    def test_its_exit_status_is_the_line_s(self, shell: Any, tmp_path: Path, status: int) -> None:
        python = stub(tmp_path / "python", status)
        assert shell(PULUMI_PYTHON_CMD=str(python)).returncode == status

    def test_a_virtual_environment_without_python_fails_and_nothing_else_is_taken(self, shell: Any) -> None:
        result = shell(PULUMI_RUNTIME_VIRTUALENV="/nowhere/venv")
        assert result.returncode == 127
        assert "/nowhere/venv/bin/python" in result.stderr

    def test_this_very_package_runs_by_it(self) -> None:
        venv = Path(sys.executable).parents[1]
        result = subprocess.run(
            ["/bin/sh", "-c", command.line("no-such-step", "create")],
            cwd="/",
            env={"PATH": os.environ["PATH"], "PULUMI_RUNTIME_VIRTUALENV": str(venv)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert result.returncode == 2
        assert "usage: STEP VERB" in result.stderr


class TestTheLine:
    @pytest.mark.parametrize(("step", "verb"), sorted(run.STEPS))
    def test_no_path_of_this_machine_is_in_it(self, step: str, verb: str) -> None:
        line = command.line(step, verb)
        assert str(Path.cwd()) not in line
        assert sys.prefix not in line
        assert line.replace("$venv/bin/python", "").count("/") == 0

    def test_it_names_the_module_step_and_verb_last(self) -> None:
        assert command.line("agents", "update").endswith(" -u -m kube_proxy_replacement.run agents update")


class Inputs(mocks.Mocks):
    def __init__(self) -> None:
        self.given: dict[str, Any] = {}

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.given = args.inputs
        return f"{args.name}-id", dict(args.inputs)

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:
        return {}


class Requests(mocks.MockMonitor):
    """Keeps the last registration as it came over the wire, where a secret is marked."""

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - gRPC's name
        self.last = request
        return super().RegisterResource(request)


SECRET = "4dabf18193072939515e22adb298388d"
"""Pulumi's mark of a special value, with the kind «secret» behind it (sdk/proto, resource plugins)."""


@pytest.fixture
def declared() -> Iterator[Callable[..., tuple[dict[str, Any], Any]]]:
    """Declares one Command and returns its inputs, and the request as it came."""

    def declare(
        step: str = "kube-proxy-daemonset", verbs: Sequence[str] = command.VERBS, **told: Any
    ) -> tuple[dict[str, Any], Any]:
        inputs = Inputs()
        monitor = Requests(inputs)
        set_mocks(inputs, project="p", stack="s", preview=False, monitor=monitor)

        @pulumi.runtime.test
        def program() -> Any:
            parent = pulumi.ComponentResource("a:b:C", "parent")
            nothing = {"order": "{}", "mark": "", "run": "", "kubeconfig": None, "context": None}
            steps = command.Steps(parent, **nothing | told)
            return steps.command("it", step, verbs=verbs, depends_on=[], more={"REVISION": "7"}).id

        program()
        return inputs.given, monitor.last

    yield declare
    SETTINGS.rpc_manager = rpc_manager.RPCManager()
    asyncio.set_event_loop(None)


class TestTheCommand:
    def test_each_verb_has_its_line(self, declared: Any) -> None:
        inputs, _ = declared("agents")
        assert [inputs[verb].split()[-2:] for verb in command.VERBS] == [["agents", verb] for verb in command.VERBS]

    def test_a_verb_that_does_nothing_has_none(self, declared: Any) -> None:
        inputs, _ = declared("way-back", verbs=["delete"])
        assert inputs["delete"] == command.line("way-back", "delete")
        assert not {"create", "update"} & set(inputs)

    def test_nothing_in_it_replaces_it(self, declared: Any) -> None:
        inputs, _ = declared()
        assert not {"triggers", "dir", "interpreter", "stdin"} & set(inputs)

    def test_the_previous_output_is_not_passed_on(self, declared: Any) -> None:
        inputs, _ = declared()
        assert inputs["addPreviousOutputInEnv"] is False

    def test_what_it_is_told_is_in_its_environment(self, declared: Any) -> None:
        inputs, _ = declared(order='{"cluster": "c"}', mark="m", run="p/s/1", context="prod")
        assert inputs["environment"] == {
            "KUBE_PROXY_REPLACEMENT_RUN": "p/s/1",
            "KUBE_PROXY_REPLACEMENT_ORDER": '{"cluster": "c"}',
            "KUBE_PROXY_REPLACEMENT_MARK": "m",
            "KUBE_PROXY_REPLACEMENT_CONTEXT": "prod",
            "KUBE_PROXY_REPLACEMENT_REVISION": "7",
        }

    def test_the_kubeconfig_is_a_secret_whoever_passes_it(self, declared: Any) -> None:
        _, request = declared(kubeconfig="hunter2")
        environment = request.object["environment"]
        assert environment["KUBE_PROXY_REPLACEMENT_KUBECONFIG"]["value"] == "hunter2"
        assert environment["KUBE_PROXY_REPLACEMENT_KUBECONFIG"][SECRET]
        assert str(request).count("hunter2") == 1
