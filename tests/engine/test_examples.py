"""The programs in examples/, as they are, on clusters of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.toolchain import Toolchain
from tests.engine.acts import cleaning, helms_changes
from tests.engine.conftest import NewStack
from tests.engine.harness import REPOSITORY, Cluster, Stack, in_order, meanwhile, picked

EXAMPLES = REPOSITORY / "examples"

NewProgram = Callable[..., Stack]


@pytest.fixture(scope="module")
def program(new_stack: NewStack, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> NewProgram:
    """A copy of an example, with this environment as its `venv`, and a stack of it: `program("after_it", cluster)`.

    Its settings are the program's own; the chart is the toolchain's, so that no network is used.
    """

    def new(example: str, cluster: Cluster | None, **settings: Any) -> Stack:
        folder = copied(example, tmp_path_factory.mktemp("example") / "project")
        project = yaml.safe_load((folder / "Pulumi.yaml").read_text())
        stack = new_stack(cluster, project=folder, chart=None)
        known = {"chart": str(toolchain.cilium_chart)} if "chart" in project["config"] else {}
        for key, value in {**known, **settings}.items():
            stack.config(f"{project['name']}:{key}", value)
        return stack

    return new


def context_of(cluster: Cluster) -> str:
    return str(yaml.safe_load(cluster.kubeconfig.read_text())["current-context"])


def copied(example: str, to: Path) -> Path:
    """A copy of an example, with this environment as its `venv`."""
    shutil.copytree(EXAMPLES / example, to)
    (to / "venv").symlink_to(sys.prefix)
    return to


def test_by_reference_to_the_stack_that_makes_the_cluster(
    program: NewProgram, cluster: Cluster, toolchain: Toolchain, tmp_path: Path
) -> None:
    its = program("stack_reference/cluster", None, kubeconfigFile=str(cluster.kubeconfig))
    its.up()
    # on its backend; the ambient kubeconfig leads nowhere
    project = copied("stack_reference/network", tmp_path / "network")
    network = Stack(toolchain, tmp_path / "person", None, project=project, backend=its.backend).create()
    network.config("network:cluster", f"organization/cluster/{its.name}")
    network.config("network:mode", "replace")
    network.config("network:chart", str(toolchain.cilium_chart))
    network.preview()
    network.up()
    assert network.outputs()["agents"]["switched"] == len(cluster.node_names)
    user = yaml.safe_load(cluster.kubeconfig.read_text())["users"][0]["user"]
    plain = json.dumps([network.state(), its.state()])
    assert all(part not in plain for part in user.values())
    network.destroy()
    assert cluster.daemonset("kube-proxy") is not None
    cluster.wait_until_uninstalled()


def test_in_one_program_with_the_cluster_the_first_preview_says_what_it_could_not_look_at(
    program: NewProgram, cluster: Cluster
) -> None:
    platform = program("one_program", None, adminConf=str(cluster.kubeconfig), mode="replace")
    previewed = platform.preview()
    assert "was not looked at: apiServerHost, apiServerPort, kubeconfig isn't known" in previewed.text
    platform.up()
    outputs = platform.outputs()
    assert outputs["agents"]["switched"] == len(cluster.node_names)
    assert (outputs["apiServer"]["host"], int(outputs["apiServer"]["port"])) == (cluster.host, cluster.port)
    again = platform.preview("--expect-no-changes")
    assert "was not looked at" not in again.text
    user = yaml.safe_load(cluster.kubeconfig.read_text())["users"][0]["user"]
    shown = json.dumps(platform.state()) + "".join(run.text for run in (previewed, again))
    assert all(part not in shown for part in user.values())
    platform.destroy()
    cluster.wait_until_uninstalled()


def test_what_needs_the_network_comes_after_it_and_goes_before_it(program: NewProgram, cluster: Cluster) -> None:
    shop = program("after_it", cluster, kubeContext=context_of(cluster), mode="replace")
    with operator(cluster):
        shop.preview()
        mark = cluster.mark()
        shop.up()
    audit = cluster.audit(mark)
    in_order(
        ("nodes cleaned", cleaning(audit)),
        ("the policy", picked(audit, "create patch", "ciliumnetworkpolicies", "only-from-within")),
    )
    assert shop.preview("--expect-no-changes").changes == {}
    mark = cluster.mark()
    shop.destroy()
    audit = cluster.audit(mark)
    in_order(
        ("the policy", picked(audit, "delete", "ciliumnetworkpolicies", "only-from-within")),
        ("kube-proxy", picked(audit, "create patch", "daemonsets", "kube-proxy")),
    )
    cluster.wait_until_uninstalled()


def test_options_are_passed_on_and_a_rename_leaves_the_network_as_it_is(program: NewProgram, cluster: Cluster) -> None:
    stack = program("options", cluster, kubeContext=context_of(cluster), mode="coexist", protect=True)
    stack.up()
    resources = {its["urn"].rpartition("::")[2]: its for its in stack.state()["deployment"]["resources"]}
    inside = {name: its for name, its in resources.items() if name.startswith("network") and not its.get("external")}
    assert {name for name, its in inside.items() if not its.get("protect")} == set()
    release = inside["network-cilium"]
    assert release["inputs"]["maxHistory"] == 5
    assert release["provider"].rpartition("::")[0].endswith("::cluster"), "the provider that was passed"
    assert "network-kubernetes" not in resources, "none of its own"
    stack.destroy(fails=True)
    assert cluster.daemonset("cilium") is not None

    stack.config("options:name", "routing")
    stack.config("options:formerName", "network")
    renamed = stack.preview()
    assert set(renamed.changes.values()) <= {"update"}, renamed.changes
    mark = cluster.mark()
    stack.up()
    assert helms_changes(cluster.audit(mark)) == []
    stack.config("options:protect", False)
    stack.up()
    stack.destroy()
    cluster.wait_until_uninstalled()


@contextmanager
def operator(cluster: Cluster) -> Iterator[None]:
    """As Cilium's operator does on a real cluster: registers Cilium's own kinds once it runs."""

    def registered(over: threading.Event) -> None:
        path = "/apis/apps/v1/namespaces/kube-system/deployments/cilium-operator"
        while not over.wait(0.1):
            found = cluster.find(path)
            if found and found.get("status", {}).get("readyReplicas"):
                cluster.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", POLICY_KIND)
                return

    with meanwhile(registered):
        yield


POLICY_KIND = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "ciliumnetworkpolicies.cilium.io"},
    "spec": {
        "group": "cilium.io",
        "scope": "Namespaced",
        "names": {"kind": "CiliumNetworkPolicy", "plural": "ciliumnetworkpolicies", "singular": "ciliumnetworkpolicy"},
        "versions": [
            {
                "name": "v2",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


def test_several_clusters_from_one_program(
    program: NewProgram, cluster: Cluster, toolchain: Toolchain, tmp_path: Path
) -> None:
    other = Cluster(toolchain, tmp_path / "other", nodes=1)
    try:
        other.start()
        both = tmp_path / "both.yaml"
        both.write_text(yaml.safe_dump(as_contexts(east=cluster, west=other)))
        clusters = [
            {"name": "west", "kubeContext": "west", "mode": "replace"},
            {"name": "east", "kubeContext": "east", "mode": "coexist"},
        ]
        fleet = program("several_clusters", cluster, clusters=clusters)
        fleet.kubeconfig = both
        marks = other.mark(), cluster.mark()
        fleet.up()
        audits = other.audit(marks[0]), cluster.audit(marks[1])
        in_order(
            *zip(
                ("west", "east"),
                ([entry for entry in audit if entry.by_person and entry.changes] for audit in audits),
                strict=True,
            )
        )
        outputs = fleet.outputs()
        assert outputs["clusters"] == {
            name: its.uid("/api/v1/namespaces/kube-system") for name, its in (("east", cluster), ("west", other))
        }
        assert outputs["agents"]["west"]["switched"] == 1
        assert outputs["agents"]["east"]["replacing"] == 0
        assert cluster.daemonset("kube-proxy") is not None
        assert other.daemonset("kube-proxy") is None
        assert fleet.preview("--expect-no-changes").changes == {}
        a_provider_that_is_called_otherwise_is_the_same(fleet)
        fleet.destroy()
        assert other.daemonset("kube-proxy") is not None
        cluster.wait_until_uninstalled()
    finally:
        other.remove()


def a_provider_that_is_called_otherwise_is_the_same(stack: Stack) -> None:
    """A provider with another identifier is replaced, and its Release with it: Cilium would be uninstalled."""
    renamed = stack.run(["stack", "rename", f"{stack.name}-renamed", "--stack", stack.name])
    assert renamed.ok, renamed.text
    stack.name = f"{stack.name}-renamed"
    assert stack.preview("--expect-no-changes").changes == {}
    state = stack.state()
    for resource in state["deployment"]["resources"]:
        if resource["type"] == "pulumi:providers:kubernetes":
            for kept in (resource["inputs"], resource["outputs"]):
                assert kept.pop("clusterIdentifier")
                kept["clusterIdentifier"] = "of-another-version"
    imported = stack.run(["stack", "import", "--stack", stack.name], told=json.dumps(state))
    assert imported.ok, imported.text
    assert stack.preview("--expect-no-changes").changes == {}


def as_contexts(**clusters: Cluster) -> dict[str, Any]:
    """One kubeconfig with a context for each cluster."""
    contents = {name: yaml.safe_load(its.kubeconfig.read_text()) for name, its in clusters.items()}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{**its["clusters"][0], "name": name} for name, its in contents.items()],
        "users": [{**its["users"][0], "name": name} for name, its in contents.items()],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in contents],
    }


def test_by_the_automation_api(program: NewProgram, cluster: Cluster, toolchain: Toolchain, tmp_path: Path) -> None:
    stack = Stack(toolchain, tmp_path / "person", cluster.kubeconfig, project=EXAMPLES / "automation")

    def roll_out(mode: str) -> str:
        done = subprocess.run(
            [
                sys.executable,
                str(EXAMPLES / "automation" / "roll_out.py"),
                mode,
                context_of(cluster),
                "--chart",
                str(toolchain.cilium_chart),
            ],
            cwd=tmp_path,
            env=stack.environ(),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    roll_out("replace")
    assert cluster.daemonset("kube-proxy") is None
    roll_out("coexist")
    assert cluster.daemonset("kube-proxy") is not None
