"""Other people's Ciliums and kube-proxies: known by what their programs really leave, and the way that is said works.

One cluster on which other programs (Helm, kubectl) put a Cilium, and others leave their marks on it; step 1's `check`
is asked in this process, against the real API server. What only the engine can show is asked of it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kube_proxy_replacement import finding
from local.toolchain import Toolchain
from tests.engine.acts import act
from tests.engine.conftest import NewStack
from tests.engine.harness import Cluster, Object, Stack, changes_by_person, compared, wait_until

_DAEMONSETS = "/apis/apps/v1/namespaces/kube-system/daemonsets"
_PROXY = f"{_DAEMONSETS}/kube-proxy"
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_ADDON = {"addonmanager.kubernetes.io/mode": "Reconcile"}
VALUES = "ipam:\n  mode: kubernetes\noperator:\n  replicas: 1\nrollOutCiliumPods: true\n"


class People:
    """Who else has credentials for the cluster, and what they run."""

    def __init__(self, cluster: Cluster, toolchain: Toolchain, folder: Path) -> None:
        self._chart = str(toolchain.cilium_chart)
        self._programs = {"helm": str(toolchain.helm), "kubectl": str(toolchain.kubectl)}
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "KUBECONFIG": str(cluster.kubeconfig),
        }
        self.values = folder / "values.yaml"
        self.values.write_text(VALUES)

    def run(self, program: str, *arguments: str, told: str = "") -> str:
        """What it prints; the word CHART stands for the chart's folder."""
        command = [self._programs[program], *(self._chart if word == "CHART" else word for word in arguments)]
        done = subprocess.run(
            command, env=self._environment, input=told, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def said(self, command: str) -> str:
        """Runs a command as a refusal says it, with the chart that is here and the owner's values for FILE."""
        words = command.replace("--repo https://helm.cilium.io ", "").replace("FILE", str(self.values)).split()
        return self.run(words[0], *("CHART" if word == "cilium" and words[at - 1] != "--install" else word
                                    for at, word in enumerate(words[1:], 1)))  # fmt: skip


@pytest.fixture(scope="module")
def people(cluster: Cluster, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> People:
    return People(cluster, toolchain, tmp_path_factory.mktemp("people"))


class Ask:
    """Step 1's `check`, in mode replace."""

    def __init__(self, chart: Path) -> None:
        self.right = {"mode": "replace", "chart": str(chart)}

    def refusal(self, **settings: Any) -> str:
        result = finding.check({}, self.right | settings)
        reasons = [failure.reason for failure in result.failures]
        assert reasons, "it should have been refused"
        return "\n".join(reasons)

    def notes(self, **settings: Any) -> str:
        result = finding.check({}, self.right | settings)
        assert result.failures == []
        return "\n".join(result.inputs["notes"])


@pytest.fixture
def ask(cluster: Cluster, toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    return Ask(toolchain.cilium_chart)


@pytest.fixture(autouse=True)
def nothing_changed(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[None]:
    """No look changes anything; what these people do, they do by other programs."""
    mark = cluster.mark()
    yield
    ours = [each for each in cluster.audit(mark) if not each.agent.startswith(("Helm/", "kubectl/", "engine-tests"))]
    assert changes_by_person(ours) == []


def says(text: str, *words: str) -> None:
    for word in words:
        assert word.lower() in text.lower(), f"«{word}» isn't in: {text}"
    assert "Traceback" not in text


@contextmanager
def marked(cluster: Cluster, path: str, kind: str, **marks: str) -> Iterator[None]:
    """An object with these labels or annotations, for a while."""
    cluster.merge(path, {"metadata": {kind: marks}})
    try:
        yield
    finally:
        cluster.merge(path, {"metadata": {kind: dict.fromkeys(marks)}})


@contextmanager
def resource(cluster: Cluster, group: str, version: str, kind: str) -> Iterator[str]:
    """Another program's resource in the API, for a while; the path of its objects in kube-system."""
    plural = f"{kind.lower()}s"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    cluster.create(
        _CRDS,
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"},
                "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
            },
        },
    )
    path = f"/apis/{group}/{version}/namespaces/kube-system/{plural}"
    try:
        wait_until(f"the API has {plural}", lambda: cluster.find(path) is not None)
        yield path
    finally:
        cluster.delete(f"{_CRDS}/{plural}.{group}")
        wait_until(f"the API has no {plural}", lambda: cluster.find(path) is None)


# kube-proxy's owners


@pytest.mark.parametrize(
    ("kind", "mark", "value", "words"),
    [
        (
            "labels",
            "addonmanager.kubernetes.io/mode",
            "Reconcile",
            ("the cluster's add-on manager", "/etc/kubernetes/addons"),
        ),
        (
            "annotations",
            "argocd.argoproj.io/tracking-id",
            "net:apps/DaemonSet:kube-system/kube-proxy",
            ("Argo CD's Application net", "Prune=false"),
        ),
        ("labels", "kustomize.toolkit.fluxcd.io/name", "net", ("Flux's Kustomization net", "prune: disabled")),
    ],
)
def test_a_controller_that_would_put_kube_proxy_back_is_named(
    ask: Ask, cluster: Cluster, kind: str, mark: str, value: str, words: tuple[str, ...]
) -> None:
    with marked(cluster, _PROXY, kind, **{mark: value}):
        said = ask.refusal()
        says(said, "kube-proxy's DaemonSet", f"{mark}={value}", *words, "nothing was changed")
        assert said.endswith("write managed-by into skipChecks.")
        says(
            ask.notes(skipChecks=["managed-by"]),
            f"skipChecks, managed-by: kube-proxy's DaemonSet belongs to {words[0]}",
        )
        ask.notes(mode="coexist")  # there it stays


# Ciliums


@pytest.fixture(scope="module")
def by_kubectl(cluster: Cluster, people: People) -> Object:
    """The agents' DaemonSet, from plain manifests."""
    manifests = people.run(
        "helm", "template", "cilium", "CHART", "--namespace", "kube-system", "--values", str(people.values)
    )
    people.run("kubectl", "apply", "--filename", "-", told=manifests)
    wait_until("there is an agent on each node", lambda: len(cluster.pods("k8s-app=cilium")) == 3)
    return cluster.get(f"{_DAEMONSETS}/cilium")


CILIUMS_OWNERS: dict[str, tuple[str, dict[str, str], tuple[str, ...]]] = {
    "Argo CD": (
        "annotations",
        {"argocd.argoproj.io/tracking-id": "net:apps/DaemonSet:kube-system/cilium"},
        ("Argo CD's Application net", "argocd app delete net --cascade=false", "--take-ownership"),
    ),
    "Flux": ("labels", {"kustomize.toolkit.fluxcd.io/name": "net"}, ("Kustomization net", "--take-ownership")),
    "K3s": ("annotations", {"objectset.rio.cattle.io/owner-name": "cni"}, ("Addon cni", "server/manifests")),
    "kOps": ("labels", {"app.kubernetes.io/managed-by": "kops"}, ("kOps", "enableNodePort: true", "kops update")),
    "Talos": (
        "annotations",
        {"config.k8s.io/owning-inventory": "talos-bootstrap-manifests-inventory"},
        ("Talos", "cluster.inlineManifests"),
    ),
}


@pytest.mark.usefixtures("by_kubectl")
@pytest.mark.parametrize("name", CILIUMS_OWNERS)
def test_who_applied_cilium_s_manifests_is_named_with_his_way(ask: Ask, cluster: Cluster, name: str) -> None:
    kind, marks, words = CILIUMS_OWNERS[name]
    with marked(cluster, f"{_DAEMONSETS}/cilium", kind, **marks):
        # Helm would refuse to install over it when kube-proxy has gone: nothing skips that
        for skipped in ([], ["managed-by"]):
            said = ask.refusal(skipChecks=skipped)
            says(said, "DaemonSet kube-system/cilium", *words, "nothing was changed")
            assert "skipChecks" not in said


@pytest.mark.usefixtures("by_kubectl")
def test_cilium_s_operator_is_known_by_its_api(ask: Ask, cluster: Cluster) -> None:
    with resource(cluster, "cilium.io", "v1alpha1", "CiliumConfig"):
        says(ask.refusal(), "Operator Lifecycle Manager", "CiliumConfig", "kubeProxyReplacement", "nothing was changed")


@pytest.mark.usefixtures("by_kubectl")
def test_kubespray_is_known_by_where_it_keeps_certificates(ask: Ask, cluster: Cluster) -> None:
    path = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
    was = cluster.get(path)["data"]["ClusterConfiguration"]
    other = re.sub(r"(?m)^certificatesDir:.*$", "", was).rstrip() + "\ncertificatesDir: /etc/kubernetes/ssl\n"
    cluster.merge(path, {"data": {"ClusterConfiguration": other}})
    try:
        says(ask.refusal(), "Kubespray", "kube_proxy_remove", "nothing was changed")
    finally:
        cluster.merge(path, {"data": {"ClusterConfiguration": was}})


@pytest.fixture(scope="module")
def released(
    cluster: Cluster, toolchain: Toolchain, people: People, by_kubectl: Object
) -> tuple[str, dict[str, str], dict[str, Object], dict[str, Object]]:
    """What is said of plain manifests; how the cluster differs, and the agents before and after its command was run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        said = Ask(toolchain.cilium_chart).refusal()
    command = re.search(r"`(helm upgrade [^`]*)`", said)
    assert command is not None, said
    before, agents = cluster.objects(), cluster.pods("k8s-app=cilium")
    people.said(command[1])
    return said, compared(before, cluster.objects()), agents, cluster.pods("k8s-app=cilium")


def test_plain_manifests_are_told_with_the_command_that_makes_them_a_release(released: Any) -> None:
    says(released[0], "plain manifests", "kubectl-client-side-apply", "not by Helm", "--version 1.18.6", "not by Helm")


def test_that_command_makes_them_one_and_restarts_no_agent(released: Any, cluster: Cluster) -> None:
    _, different, before, after = released
    assert "Secret kube-system/sh.helm.release.v1.cilium.v1" in different
    notes = cluster.get(f"{_DAEMONSETS}/cilium")["metadata"]["annotations"]
    assert notes["meta.helm.sh/release-name"] == "cilium"
    uids = [{node: pod["metadata"]["uid"] for node, pod in pods.items()} for pods in (before, after)]
    assert uids[0] == uids[1]
    assert not [path for path in different.values() if "spec" in path]


@pytest.mark.usefixtures("released")
class TestOneOfHelms:
    def test_under_another_name_it_is_told_what_to_set(self, ask: Ask) -> None:
        for settings in ({"releaseName": "mesh"}, {"namespace": "default"}):
            said = ask.refusal(**settings)
            says(said, "Helm release kube-system/cilium (chart 1.18.6, revision 1)", "by Helm", "nothing was changed")
            says(said, "pulumi config set namespace kube-system", "pulumi config set releaseName cilium")

    def test_flux_is_known_by_its_labels(self, ask: Ask, cluster: Cluster) -> None:
        marks = {"helm.toolkit.fluxcd.io/name": "net", "helm.toolkit.fluxcd.io/namespace": "flux-system"}
        with marked(cluster, f"{_DAEMONSETS}/cilium", "labels", **marks):
            said = ask.refusal()
        says(said, "Flux's HelmRelease flux-system/net", "flux suspend helmrelease", "write managed-by into skipChecks")

    def test_a_helm_chart_is_known_by_its_name(self, ask: Ask, cluster: Cluster) -> None:
        with resource(cluster, "helm.cattle.io", "v1", "HelmChart") as path:
            body = {"apiVersion": "helm.cattle.io/v1", "kind": "HelmChart", "metadata": {"name": "cilium"}}
            cluster.create(path, body | {"spec": {"chart": "cilium"}})
            said = ask.refusal()
            says(said, "HelmChart kube-system/cilium", "HelmChartConfig", "write managed-by into skipChecks")
            # as the refusal has it: its controller passes it over then
            cluster.merge(
                f"{path}/cilium", {"metadata": {"annotations": {"helmcharts.helm.cattle.io/unmanaged": "true"}}}
            )
            assert "HelmChart" not in "".join(failure.reason for failure in finding.check({}, ask.right).failures)

    def test_without_helm_s_record_its_values_would_be_lost(self, ask: Ask, cluster: Cluster) -> None:
        path = "/api/v1/namespaces/kube-system/secrets"
        kept = cluster.get(f"{path}/sh.helm.release.v1.cilium.v1")
        cluster.delete(f"{path}/sh.helm.release.v1.cilium.v1")
        try:
            says(ask.refusal(skipChecks=["managed-by"]), "no such release in its Secrets", "HELM_DRIVER")
        finally:
            bare = {key: kept["metadata"][key] for key in ("name", "labels")}
            cluster.create(path, kept | {"metadata": bare})


# Through the engine


@pytest.fixture(scope="module")
def alone(cluster: Cluster, people: People, released: Any, new_stack: NewStack) -> Stack:
    """A stack on the cluster, whose Cilium its owner has uninstalled."""
    people.run("helm", "uninstall", "cilium", "--namespace", "kube-system", "--wait")
    wait_until("its agents are gone", lambda: not cluster.pods("k8s-app=cilium"))
    cluster.merge(_PROXY, {"metadata": {"labels": _ADDON}})
    return new_stack(cluster, mode="replace")


def test_a_refusal_of_the_engine_ends_with_the_name_to_write(cluster: Cluster, alone: Stack) -> None:
    refused = act(cluster, alone, "preview", fails=True)
    says(refused.run.errors(), "add-on manager", "nothing was changed", "write managed-by into skipChecks")
    assert changes_by_person(refused.audit) == []


def test_a_check_that_does_not_exist_is_refused_with_the_nearest(alone: Stack) -> None:
    alone.config("skipChecks", ["managed"])
    says(alone.preview(fails=True).errors(), "skipChecks", "'managed'", "did you mean managed-by?")


def test_what_is_skipped_is_said_in_the_preview(alone: Stack) -> None:
    alone.config("skipChecks", ["managed-by"])
    says(
        alone.preview().notes(),
        "skipChecks, managed-by: kube-proxy's DaemonSet belongs to the cluster's add-on manager",
    )
