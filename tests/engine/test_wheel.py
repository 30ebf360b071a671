"""The component from an installed wheel, in another Pulumi program, in another folder."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tomllib
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path
from textwrap import dedent
from zipfile import ZipFile

import pytest
import yaml

from local.toolchain import Toolchain
from tests.engine import built
from tests.engine.conftest import NewStack
from tests.engine.harness import REPOSITORY, Cluster, Object, Run, Stack, compared

PACKAGE = "kube_proxy_replacement"
PROGRAM = """
    from pathlib import Path

    import pulumi
    import kube_proxy_replacement
    from kube_proxy_replacement import KubeProxyReplacement, KubeProxyReplacementArgs, LoadBalancerArgs

    config = pulumi.Config()
    arguments: KubeProxyReplacementArgs = {
        "mode": "replace",
        "chart": config.require("chart"),
        "kubeconfig": pulumi.Output.secret(Path(config.require("kubeconfigFile")).read_text()),
        "load_balancer": LoadBalancerArgs(algorithm="maglev", session_affinity=True),
        "timeout_seconds": pulumi.Output.from_input(60),
    }
    services = KubeProxyReplacement("services", arguments)
    pulumi.export("switched", services.agents["switched"])
    pulumi.export("package", kube_proxy_replacement.__file__)
"""


@dataclass(frozen=True)
class Life:
    """What another program has made of the component, from its first preview to its end."""

    stack: Stack
    previewed: Run
    made: Run
    outputs: Object
    state: Object
    config: Object
    looked_again: Run
    destroyed: Run
    before: dict[str, Object]
    after: dict[str, Object]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built.wheel(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def project(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another program's folder, with a virtual environment that has the wheel and not this repository."""
    folder = tmp_path_factory.mktemp("platform") / "cluster services"
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True, timeout=60)
    built.pip("--python", str(folder / "venv"), "install", "--no-deps", "--no-index", str(wheel))
    # third-party packages are this environment's, to save their installation; its .pth files aren't followed from there
    _site_packages(folder / "venv").joinpath("third-party.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    (folder / "Pulumi.yaml").write_text(
        yaml.safe_dump({"name": "platform", "runtime": {"name": "python", "options": {"virtualenv": "venv"}}})
    )
    (folder / "__main__.py").write_text(dedent(PROGRAM).lstrip())
    return folder


@pytest.fixture(scope="module")
def life(cluster: Cluster, new_stack: NewStack, project: Path, toolchain: Toolchain) -> Life:
    before = cluster.objects()
    # no KUBECONFIG: the program gives the component what it needs; no PYTHONPATH: the package is the wheel's
    stack = new_stack(None, project=project, environment={"PYTHONPATH": ""}, chart=None)
    stack.config("platform:chart", str(toolchain.cilium_chart))
    stack.config("platform:kubeconfigFile", str(cluster.kubeconfig))
    previewed, made = stack.preview(), stack.up()
    outputs, state = stack.outputs(), stack.state()
    config = cluster.configmap("cilium-config") or {}
    looked_again, destroyed = stack.preview(), stack.destroy()
    cluster.wait_until_uninstalled()
    return Life(stack, previewed, made, outputs, state, config, looked_again, destroyed, before, cluster.objects())


def test_the_wheel_brings_the_package_its_parts_and_its_types(project: Path) -> None:
    installed = _site_packages(project / "venv") / PACKAGE
    sources = REPOSITORY / "components" / PACKAGE
    expected = {file.relative_to(sources) for file in sources.rglob("*.py")} | {Path("py.typed")}
    files = {file.relative_to(installed) for file in installed.rglob("*") if file.is_file()}
    assert {file for file in files if file.suffix != ".pyc"} == expected


def test_the_wheel_says_its_version_and_that_it_is_typed(wheel: Path) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    assert metadata["Version"] == project["version"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Typing :: Typed" in (metadata.get_all("Classifier") or [])


def test_the_program_runs_what_the_wheel_has_brought(life: Life, project: Path) -> None:
    assert Path(life.outputs["package"]).is_relative_to(project)


def test_preview_in_another_program_shows_the_component_under_its_name(life: Life) -> None:
    assert life.previewed.changes["services"] == "create"
    assert {step.type for step in life.previewed.steps} >= {
        "kube-proxy-replacement:index:KubeProxyReplacement",
        "command:local:Command",
        "kubernetes:helm.sh/v3:Release",
        "pulumi-python:dynamic:Resource",
    }


def test_up_in_another_program_switches_every_agent(life: Life) -> None:
    assert life.outputs["switched"] == 3
    assert life.config["data"]["kube-proxy-replacement"] == "true"


def test_typed_arguments_reach_the_agents(life: Life) -> None:
    assert life.config["data"]["bpf-lb-algorithm"] == "maglev"


def test_another_program_sees_no_change_afterwards(life: Life) -> None:
    assert life.looked_again.changes == {}


def test_no_credentials_are_in_plain_state_or_display(life: Life, cluster: Cluster) -> None:
    user = yaml.safe_load(cluster.kubeconfig.read_text())["users"][0]["user"]
    shown = [run.text for run in (life.previewed, life.made, life.looked_again, life.destroyed)]
    for secret in user.values():
        assert secret not in json.dumps(life.state)
        for text in shown:
            assert secret not in text


def test_destroy_in_another_program_brings_kube_proxy_back(life: Life) -> None:
    differences = compared(life.before, life.after)
    assert {key: what for key, what in differences.items() if "kube-system/kube-proxy-" not in key} == {
        "ConfigMap kube-system/kube-proxy": "made anew",
        "DaemonSet.apps kube-system/kube-proxy": "made anew",
    }


def test_no_recorded_input_names_a_path_of_the_package(life: Life) -> None:
    """A Command's delete runs as it was recorded, perhaps on another machine."""
    commands = [
        its["inputs"] for its in life.state["deployment"]["resources"] if its["type"] == "command:local:Command"
    ]
    assert commands
    for inputs in commands:
        for places in (str(REPOSITORY), str(life.stack.project), sys.prefix):
            assert places not in json.dumps(inputs)


def _site_packages(environment: Path) -> Path:
    return Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
