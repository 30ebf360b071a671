"""The Python that the steps run in: asked for by the plugin, and by the Commands' line itself."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pulumi
import pytest
from pulumi.dynamic import ResourceProvider
from pulumi.dynamic.dynamic import serialize_provider

from kube_proxy_replacement import interpreter
from kube_proxy_replacement.agent_status import AgentStatusProvider
from kube_proxy_replacement.found import FoundProvider

SOURCE = Path("/checkouts/kube-proxy replacement")


def python(path: Path, *options: str) -> Path:
    """A real Python, with options; where it is told to run a module it only says which."""
    real = " ".join(shlex.quote(word) for word in (sys.executable, *options))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nif [ "$1" = -c ]; then exec {real} "$@"; fi\necho "$@"\n')
    path.chmod(0o755)
    return path


def without_packages(path: Path) -> Path:
    return python(path, "-I", "-S")


def read(recorded: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """A provider as it was recorded, read as the engine's process for dynamic providers reads it, in another Python."""
    script = f"import base64, dill, sys\n{before}\nprint(type(dill.loads(base64.b64decode(sys.argv[1]))).__qualname__)"
    return subprocess.run(
        [sys.executable, "-c", script, recorded], capture_output=True, text=True, timeout=20, check=False
    )


@pytest.mark.parametrize("provider", [FoundProvider(), AgentStatusProvider()])
class TestWhatIsRecorded:
    def test_where_the_package_is_missing_there_is_one_message(self, provider: ResourceProvider) -> None:
        with interpreter.elsewhere():
            recorded = serialize_provider(interpreter.guarded(provider))
        *_, said = read(recorded, 'sys.modules["kube_proxy_replacement"] = None').stderr.splitlines()
        assert f"kube-proxy-replacement isn't installed in {sys.executable}," in said
        assert f"{sys.executable} -m pip install" in said

    def test_where_the_package_is_there_it_is_the_provider(self, provider: ResourceProvider) -> None:
        with interpreter.elsewhere():
            recorded = serialize_provider(interpreter.guarded(provider))
        done = read(recorded)
        assert (done.stdout.strip(), done.stderr) == (type(provider).__name__, "")

    def test_in_a_program_in_python_it_is_as_it_was(self, provider: ResourceProvider) -> None:
        """It stands in people's states: another one is an update."""
        assert interpreter.guarded(provider) is provider


class TestWhatThePluginAsks:
    def test_a_python_with_this_package_is_taken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PULUMI_PYTHON_CMD", str(python(tmp_path / "python")))
        interpreter.demand(SOURCE)

    def test_one_without_it_is_named_with_the_command(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PULUMI_PYTHON_CMD", str(without_packages(tmp_path / "python")))
        with pytest.raises(pulumi.RunError, match="hasn't got it") as refused:
            interpreter.demand(SOURCE)
        assert f"{sys.executable} -m pip install '{SOURCE}'" in str(refused.value)

    def test_one_with_another_version_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        other = tmp_path / "python"
        answer = json.dumps(["/usr/bin/python3", "0.0.1"])
        other.write_text(f"#!/bin/sh\necho '{answer}'\n")
        other.chmod(0o755)
        monkeypatch.setenv("PULUMI_PYTHON_CMD", str(other))
        with pytest.raises(pulumi.RunError, match=r"/usr/bin/python3 has version 0\.0\.1, and the plugin is"):
            interpreter.demand(SOURCE)

    def test_one_that_is_not_there_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PULUMI_PYTHON_CMD", str(tmp_path / "nowhere"))
        with pytest.raises(pulumi.RunError, match="nowhere can't be run"):
            interpreter.demand(SOURCE)

    def test_a_plugins_own_python_on_the_path_is_passed_over(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own, users = tmp_path / "plugin", without_packages(tmp_path / "bin" / "python3")
        python(own / "bin" / "python3")
        monkeypatch.setattr(sys, "prefix", str(own))
        monkeypatch.setenv("PATH", f"{own / 'bin'}:{users.parent}")
        for name in ("PULUMI_PYTHON_CMD", "PULUMI_RUNTIME_VIRTUALENV", "PULUMI_RUNTIME_TOOLCHAIN"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(pulumi.RunError, match="hasn't got it"):
            interpreter.demand(SOURCE)
