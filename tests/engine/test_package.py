"""The component as a Pulumi package: its schema, and its life in a plugin, for a program that has no Python of its own.

Pulumi's host for YAML can't be had from the registries that the tests use. So the program is one in Python that has
nothing of this package: it declares the component as a program in any language does, by the engine's own protocol, and
its Pulumi.yaml names no virtual environment, so that what the engine starts looks for `PULUMI_PYTHON_CMD`, as there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from local import docs
from local.toolchain import Toolchain
from tests.engine.conftest import NewStack
from tests.engine.harness import REPOSITORY, Cluster, Object, Run, Stack, compared
from tests.engine.test_failures import denied

TYPE = "kube-proxy-replacement:index:KubeProxyReplacement"
CHECKOUT = ("pyproject.toml", "README.md", "LICENSE", "components", "package")
"""What of a checkout the plugin is made of."""

OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
"""The engine has pip install the plugin's requirements; the third-party ones are there already."""

PROGRAM = """
    import pulumi

    OUTPUTS = (
        *("mode", "kubeProxyReplacement", "agents", "nodes", "handOver"),
        *("apiServer", "kubeProxy", "release", "cluster"),
    )

    class Remote(pulumi.ComponentResource):
        def __init__(self, name, settings, opts):
            told = {**dict.fromkeys(OUTPUTS), **settings}
            super().__init__("kube-proxy-replacement:index:KubeProxyReplacement", name, told, opts, True)

    config = pulumi.Config()
    kubeconfig = open(config.require("kubeconfigFile")).read()
    provider = pulumi.ProviderResource("kubernetes", "provider", {"kubeconfig": pulumi.Output.secret(kubeconfig)})
    cluster = pulumi.ComponentResource("platform:index:Cluster", "cluster")

    def output(value):
        return cluster.urn.apply(lambda _: value)  # a resource's, as from a cluster in the same program

    settings = {
        "mode": "replace",
        "chart": "charts/cilium",
        "kubeconfig": output(kubeconfig),
        "loadBalancer": output({"algorithm": "maglev", "sessionAffinity": True}),
        "timeoutSeconds": output(60),
        **(config.get_object("more") or {}),
    }
    services = Remote("services", settings, pulumi.ResourceOptions(providers={"kubernetes": provider}))
    for name in OUTPUTS:
        pulumi.export(name, getattr(services, name))
"""


@dataclass(frozen=True)
class Checkout:
    """A checkout as a user's, its plugin installed by `pulumi package get-schema`, which printed a schema."""

    folder: Path
    schema: Object

    @property
    def python(self) -> Path:
        """One that has the package."""
        return self.folder / "package" / "venv" / "bin" / "python"


@dataclass(frozen=True)
class Life:
    """What the program has made of the component, from a Python that lacks the package to its end."""

    stack: Stack
    lacking: Run
    refused: Run
    previewed: Run
    failed: Run
    routes: dict[str, Object]
    made: Run
    lease: Object
    outputs: Object
    state: Object
    config: Object
    looked_again: Run
    kept: Run
    still: dict[str, str]
    destroyed: Run
    differences: dict[str, str]


@pytest.fixture(scope="module")
def checkout(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    folder = tmp_path_factory.mktemp("checkout") / "kube-proxy-replacement"
    folder.mkdir()
    for name in CHECKOUT:
        source = REPOSITORY / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "venv")
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copyfile(source, folder / name)
    environment(folder / "package" / "venv")
    stack = Stack(toolchain, tmp_path_factory.mktemp("reader"), None, project=folder, environment=OFFLINE)
    done = subprocess.run(
        [str(toolchain.pulumi), "package", "get-schema", str(folder / "package")],
        cwd=folder,
        env=stack.environ(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Checkout(folder, json.loads(done.stdout))


@pytest.fixture(scope="module")
def lacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has Pulumi's SDK, for the program, and not this package."""
    return environment(tmp_path_factory.mktemp("python") / "venv")


@pytest.fixture(scope="module")
def life(
    cluster: Cluster,
    new_stack: NewStack,
    checkout: Checkout,
    lacks: Path,
    toolchain: Toolchain,
    tmp_path_factory: pytest.TempPathFactory,
) -> Life:
    project = tmp_path_factory.mktemp("platform") / "cluster services"
    project.mkdir()
    packages = {"kube-proxy-replacement": str(checkout.folder / "package")}
    (project / "Pulumi.yaml").write_text(
        yaml.safe_dump({"name": "platform", "runtime": "python", "packages": packages})
    )
    (project / "__main__.py").write_text(dedent(PROGRAM).lstrip())
    shutil.copytree(toolchain.cilium_chart, project / "charts" / "cilium")
    before = cluster.objects()
    without, with_it = ({"PULUMI_PYTHON_CMD": str(python), **OFFLINE} for python in (lacks, checkout.python))
    stack = new_stack(None, project=project, environment=without, chart=None)
    stack.config("platform:kubeconfigFile", str(cluster.kubeconfig))
    lacking = stack.preview(fails=True)
    stack.environment = with_it
    stack.config("platform:more", {"values": {"cluster": {"name": "No Name"}}})  # a chart that fails to render
    refused = stack.preview(fails=True)
    stack.config("platform:more", None)
    previewed = stack.preview()
    with denied(cluster, "apps", "deployments", "cilium-operator"):
        failed = stack.up(fails=True)
    routes = cluster.objects()
    made = stack.up()
    lease = cluster.find("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-proxy-replacement") or {}
    outputs, state = stack.outputs(), stack.state()
    config, switched = cluster.configmap("cilium-config") or {}, cluster.objects()
    looked_again = stack.preview()
    stack.environment = without
    kept = stack.destroy(fails=True)
    still = compared(switched, cluster.objects())
    stack.environment = with_it
    destroyed = stack.destroy()
    cluster.wait_until_uninstalled()
    differences = compared(before, cluster.objects())
    return Life(
        stack,
        lacking,
        refused,
        previewed,
        failed,
        routes,
        made,
        lease,
        outputs,
        state,
        config,
        looked_again,
        kept,
        still,
        destroyed,
        differences,
    )


def test_the_schema_describes_every_setting_and_every_output(checkout: Checkout) -> None:
    component = checkout.schema["resources"][TYPE]
    for described, written in (
        (docs.settings(), component["inputProperties"]),
        (docs.outputs(), component["properties"]),
    ):
        assert set(written) == {its.name for its in described}
        for its in described:
            assert " ".join(written[its.name]["description"].split()).startswith(its.meaning)
    for kind in checkout.schema["types"].values():
        assert kind["description"]
        assert all(its["description"] for its in kind["properties"].values())


def test_the_schema_says_what_is_required_and_what_is_secret(checkout: Checkout) -> None:
    component = checkout.schema["resources"][TYPE]
    assert component["isComponent"]
    assert component["requiredInputs"] == [its.name for its in docs.settings() if its.required] == ["mode"]
    assert [name for name, its in component["inputProperties"].items() if its.get("secret")] == ["kubeconfig"]


def test_the_schema_has_the_packages_name_and_version(checkout: Checkout) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert (checkout.schema["name"], checkout.schema["version"]) == (project["name"], project["version"])
    assert list(checkout.schema["resources"]) == [TYPE]


def test_a_python_that_lacks_the_package_is_told_once_with_the_command(
    life: Life, lacks: Path, checkout: Checkout
) -> None:
    said = life.lacking.errors()
    assert said.count("kube-proxy-replacement: ") == 1
    assert f"{lacks} -m pip install {checkout.folder}" in said
    assert "PULUMI_PYTHON_CMD" in said
    assert "No module named" not in life.lacking.text


def test_a_refusal_in_the_plugin_is_one_in_the_program(life: Life) -> None:
    assert "the chart can't be rendered" in life.refused.errors()
    assert "nothing was changed" in life.refused.errors()


def test_preview_shows_the_same_resources_under_the_same_names(life: Life) -> None:
    types = {step.resource: step.type for step in life.previewed.steps}
    assert types["services"] == TYPE
    for name, its_type in (
        ("found", "pulumi-python:dynamic:Resource"),
        ("daemonset", "command:local:Command"),
        ("configmap", "command:local:Command"),
        ("cilium", "kubernetes:helm.sh/v3:Release"),
        ("way-back", "command:local:Command"),
        ("agents", "command:local:Command"),
        ("status", "pulumi-python:dynamic:Resource"),
    ):
        assert types[f"services-{name}"] == its_type
    assert "services-kubernetes" not in types  # the provider that was passed serves


def test_where_the_release_fails_the_plugin_restores_kube_proxy_in_that_very_run(life: Life) -> None:
    assert "kube-proxy is restored and routes on every node" in life.failed.errors()
    assert "DaemonSet.apps kube-system/kube-proxy" in life.routes


def test_up_switches_every_agent_and_gives_the_outputs(life: Life) -> None:
    assert life.outputs["agents"]["switched"] == 3
    assert life.outputs["kubeProxyReplacement"] == "True"
    assert set(life.outputs) == {its.name for its in docs.outputs()}
    assert life.config["data"]["kube-proxy-replacement"] == "true"


def test_outputs_of_others_reach_the_agents(life: Life) -> None:
    assert life.config["data"]["bpf-lb-algorithm"] == "maglev"
    order = next(
        json.loads(its["inputs"]["environment"]["KUBE_PROXY_REPLACEMENT_ORDER"])
        for its in life.state["deployment"]["resources"]
        if its["urn"].endswith("::services-daemonset")
    )
    assert order["timeout"] == 60


def test_the_lock_is_given_up_when_the_run_ends(life: Life) -> None:
    assert not life.lease["spec"].get("holderIdentity")


def test_a_second_preview_sees_no_change(life: Life) -> None:
    assert life.looked_again.changes == {}


def test_no_credentials_and_no_path_are_in_the_state(life: Life, cluster: Cluster, checkout: Checkout) -> None:
    text = json.dumps(life.state)
    for secret in yaml.safe_load(cluster.kubeconfig.read_text())["users"][0]["user"].values():
        assert secret not in text
    for its in life.state["deployment"]["resources"]:
        if its["type"] == "command:local:Command":
            assert str(checkout.folder) not in json.dumps(its["inputs"])


def test_destroy_in_a_python_that_lacks_the_package_says_so_and_changes_nothing(life: Life, lacks: Path) -> None:
    assert life.kept.errors().count(f"isn't installed in {lacks},") == 1
    assert f"{lacks} -m pip install" in life.kept.errors()
    assert life.still == {}


def test_destroy_brings_kube_proxy_back(life: Life) -> None:
    assert {key: what for key, what in life.differences.items() if "kube-system/kube-proxy-" not in key} == {
        "ConfigMap kube-system/kube-proxy": "made anew",
        "DaemonSet.apps kube-system/kube-proxy": "made anew",
    }


def environment(folder: Path) -> Path:
    """A virtual environment with this one's third-party packages; .pth files aren't followed from there, and so this
    repository isn't in it. Returns its Python.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (site / "third-party.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return folder / "bin" / "python"
