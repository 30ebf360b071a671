"""Bad input: each refusal of issue 4, said before anything is changed, in words that name the setting or the object.

Most ask step 1's `check` in this process, against a real API server; what only the engine can show is asked of it.
Every test here leaves the cluster as it was: `nothing_changed` looks at the API server's own log after each.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from kube_proxy_replacement import finding
from local.toolchain import Toolchain
from tests.engine.conftest import NewStack
from tests.engine.harness import (
    RECORD,
    REPOSITORY,
    STEPS,
    Cluster,
    Object,
    Run,
    Stack,
    compared,
    wait_until,
)

HOSTILE = "a'\"\n$(touch {file})`touch {file}`;ü日"
SECRET = "hunter2isnotforlogs"
TEXTS = (
    "mode", "apiServerHost", "ciliumVersion", "chart", "namespace", "releaseName", "kubeContext", "strategy", "verify",
)  # fmt: skip
"""The settings that are texts."""

NO_KUBECONFIGS = (
    f"{SECRET} {{{{",
    f"/home/me/{SECRET}",
    f"users: [{{name: u, user: {{token: {SECRET}}}}}]",
    f"""
    contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
    current-context: x
    users: [{{name: u, token: {SECRET}}}]
    """,
)

_DAEMONSETS = "/apis/apps/v1/namespaces/kube-system/daemonsets"
_PODS = "/api/v1/namespaces/kube-system/pods"
_NODES = "/api/v1/nodes"
_RECORD = f"/api/v1/namespaces/kube-system/configmaps/{RECORD}"
_READS = ["get", "list", "watch"]
_RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.fixture(autouse=True)
def nothing_changed(cluster: Cluster) -> Iterator[None]:
    """Neither by the program nor by Helm, whoever's credentials they had; what the tests make is no change."""
    mark = cluster.mark()
    yield
    assert changes_by_strangers(cluster, mark) == []


def changes_by_strangers(cluster: Cluster, mark: int) -> list[str]:
    """What was changed by whoever has credentials for the cluster and isn't a part of it, nor these tests."""
    people = ("kubernetes-admin", "system:serviceaccount:default:")
    return [
        str(entry)
        for entry in cluster.audit(mark)
        if entry.changes and entry.user.startswith(people) and entry.agent != "engine-tests"
    ]


@pytest.fixture
def ask(cluster: Cluster, toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    return Ask({"mode": "replace", "chart": str(toolchain.cilium_chart)})


class Ask:
    """Step 1's `check`, with the settings that are right unless a test says otherwise."""

    def __init__(self, right: Object) -> None:
        self.right = right

    def refusal(self, *, before: Object | None = None, **settings: Any) -> str:
        """Why it says no."""
        result = finding.check(before or {}, self.right | settings)
        reasons = [failure.reason for failure in result.failures]
        assert reasons, "it should have been refused"
        # Pulumi would show the value of a property that it is told of
        assert {failure.property for failure in result.failures} == {""}
        return "\n".join(reasons)

    def accepted(self, **settings: Any) -> Object:
        """What was found."""
        result = finding.check({}, self.right | settings)
        assert result.failures == []
        inputs: Object = result.inputs
        return inputs


def says(refusal: str, *words: str) -> None:
    """Asserts that a message has these words, whatever the case."""
    for word in words:
        assert word.lower() in refusal.lower(), f"«{word}» isn't in: {refusal}"
    assert "Traceback" not in refusal


# What is right is accepted, so that the refusals below are of what each test says


@pytest.mark.parametrize("mode", ["coexist", "replace"])
def test_what_is_right_is_accepted(ask: Ask, cluster: Cluster, mode: str) -> None:
    found = ask.accepted(mode=mode)
    assert found["apiServer"] == {"host": cluster.host, "port": cluster.port, "source": found["apiServer"]["source"]}
    assert found["cluster"] == cluster.uid("/api/v1/namespaces/kube-system")


def test_prods_stack_file_is_accepted_as_it_stands(cluster: Cluster, toolchain: Toolchain, tmp_path: Path) -> None:
    """With a plain kubeconfig that has its context, and with the version of the chart that it says."""
    theirs = yaml.safe_load(cluster.kubeconfig.read_text())
    theirs["contexts"].append({"name": "prod", "context": theirs["contexts"][0]["context"]})
    theirs["current-context"] = ""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(theirs))
    stack = Stack(toolchain, tmp_path / "person", kubeconfig, name="prod", strategy=None)
    stack.settings_file.parent.mkdir()
    shutil.copyfile(REPOSITORY / "stacks" / "Pulumi.prod.yaml", stack.settings_file)
    stack.create().config("chart", str(toolchain.cilium_chart))  # its repository isn't asked
    run = stack.preview()
    assert f"{cluster.host}:{cluster.port}" in run.notes()
    seen = {its["urn"]: its for event in run.events if (its := event.get("resourcePreEvent", {}).get("metadata"))}
    declared = [its["new"] for its in seen.values() if its["type"] != "pulumi:pulumi:Stack" and its["op"] == "create"]
    assert len(declared) > len(STEPS)
    assert all(new["protect"] for new in declared if "default" not in new["urn"])
    (release,) = (new for new in declared if new["type"] == "kubernetes:helm.sh/v3:Release")
    assert release["inputs"]["values"]["updateStrategy"] == {"rollingUpdate": {"maxUnavailable": 1}}


# Settings

WRONG_SETTINGS: dict[str, tuple[Object, tuple[str, ...]]] = {
    "mode": ({"mode": "Replace"}, ("mode", "'Replace'", "coexist", "replace")),
    "no mode": ({"mode": ""}, ("mode", "not set", "coexist", "replace")),
    "port too high": ({"apiServerPort": 70_000.0}, ("apiServerPort", "70000", "1 to 65535")),
    "port below one": ({"apiServerPort": -1.0}, ("apiServerPort", "-1", "1 to 65535")),
    "port with a fraction": ({"apiServerPort": 64.5}, ("apiServerPort", "64.5", "whole number")),
    "scheme": ({"apiServerHost": "https://192.0.2.1"}, ("apiServerHost", "scheme", "Write '192.0.2.1'")),
    "port in host": ({"apiServerHost": "192.0.2.1:6443"}, ("apiServerHost", "Write '192.0.2.1'", "6443 as apiServerP")),
    "path": ({"apiServerHost": "192.0.2.1/k8s"}, ("apiServerHost", "path", "Write '192.0.2.1'")),
    "blank host": ({"apiServerHost": "   "}, ("apiServerHost", "blank", "remove the setting")),
    "Helm's auto": ({"apiServerHost": "auto"}, ("apiServerHost", "'auto'", "Remove the setting")),
    "strategy": ({"strategy": "one-by-one"}, ("strategy", "'one-by-one'", "all-at-once", "node-by-node")),
    "nodes at a time": ({"nodeByNode": {"batchSize": 0.0}}, ("nodeByNode.batchSize", "0", "whole number", '"100%"')),
    "node by node, all at once": (
        {"strategy": "all-at-once", "nodeByNode": {"drain": True}},
        ("nodeByNode", "all-at-once", "write strategy: node-by-node"),
    ),
    "verify": ({"verify": "services"}, ("verify", "services", "write status")),
    "load balancer's mode": ({"loadBalancer": {"mode": "dsrr"}}, ("loadBalancer.mode", "'dsrr'", "dsr", "hybrid")),
    "load balancer's key": ({"loadBalancer": {"algo": "maglev"}}, ("loadBalancer.algo", "did you mean", "algorithm")),
    "timeout": ({"timeoutSeconds": -5.0}, ("timeoutSeconds", "-5", "1 to 86400")),
    "namespace": ({"namespace": "A B"}, ("namespace", "'A B'", "kube-system")),
    "release's name": ({"releaseName": "UPPER"}, ("releaseName", "'UPPER'", "cilium")),
    "version": ({"ciliumVersion": "1.18"}, ("ciliumVersion", "'1.18'", "1.18.6")),
    "another chart's version": ({"ciliumVersion": "1.17.1"}, ("ciliumVersion", "1.17.1", "1.18.6")),
    "chart that isn't there": ({"chart": "./nowhere"}, ("chart", "./nowhere", "https://", "oci://")),
    "chart that isn't one": ({"chart": "/etc"}, ("chart", "/etc", "Chart.yaml")),
    "chart that can't be read": ({"chart": "/etc/hostname"}, ("chart", "/etc/hostname", "can't be read")),
    "repository without version": ({"chart": ""}, ("ciliumVersion", "https://helm.cilium.io", "config set ciliumVers")),
    "repository that doesn't answer": (
        {"chart": "https://127.0.0.1:1/charts", "ciliumVersion": "1.18.6"},
        ("chart", "https://127.0.0.1:1/charts", "refused"),
    ),
    "value against the mode": (
        {"values": {"kubeProxyReplacement": "false"}},
        ("values.kubeProxyReplacement", "mode: replace", "Leave it out"),
    ),
    "value against the other mode": (
        {"mode": "coexist", "values": {"kubeProxyReplacement": True}},
        ("values.kubeProxyReplacement", "mode: coexist", "Leave it out"),
    ),
    "value against the address": (
        {"values": {"k8sServiceHost": "192.0.2.1"}},
        ("values.k8sServiceHost", "Leave it out", "apiServerHost"),
    ),
    "value against the port": ({"values": {"k8sServicePort": 1.0}}, ("values.k8sServicePort", "apiServerPort")),
    "value against hubble": ({"values": {"hubble": {"enabled": False}}}, ("values.hubble.enabled", "setting hubble")),
    "value against the load balancer": (
        {"loadBalancer": {"algorithm": "maglev"}, "values": {"loadBalancer": {"algorithm": "random"}}},
        ("values.loadBalancer.algorithm", "loadBalancer.algorithm", "maglev"),
    ),
    "value that the chart doesn't know": (
        {"values": {"kubeProxyReplacment": True}},
        ("values.kubeProxyReplacment", "did you mean", '"kubeProxyReplacement"'),
    ),
    "value below one that it knows": (
        {"values": {"bpf": {"masquerad": True}}},
        ("values.bpf.masquerad", "did you mean", '"bpf.masquerade"'),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_SETTINGS)
def test_a_wrong_setting_is_named_with_what_to_write_instead(ask: Ask, name: str) -> None:
    settings, words = WRONG_SETTINGS[name]
    says(ask.refusal(**settings), *words)


def test_all_wrong_settings_are_told_at_once(ask: Ask) -> None:
    says(ask.refusal(mode="both", apiServerPort=0.5, verify="x"), "mode", "apiServerPort", "verify")


@pytest.mark.parametrize(
    ("host", "service"),
    [
        ("10.96.0.1", "default/kubernetes"),
        ("kubernetes", "default/kubernetes"),
        ("kubernetes.default", "default/kubernetes"),
        ("kubernetes.default.svc.cluster.local", "default/kubernetes"),
        ("kube-dns.kube-system.svc", "kube-system/kube-dns"),
        ("203.0.113.10", "shop/web-public"),
    ],
)
def test_a_service_of_the_cluster_is_no_address_for_agents(ask: Ask, host: str, service: str) -> None:
    says(ask.refusal(apiServerHost=host), "apiServerHost", repr(host), service, "remove the setting")


@pytest.mark.parametrize("name", TEXTS)
def test_shell_words_in_a_setting_do_no_harm(ask: Ask, tmp_path: Path, name: str) -> None:
    file = tmp_path / "harm"
    hostile = HOSTILE.format(file=file)
    settings: Object = {name: hostile}
    says(ask.refusal(**settings), name)
    assert not file.exists()


def test_shell_words_in_values_do_no_harm(ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "harm"
    hostile = HOSTILE.format(file=file)
    says(ask.refusal(loadBalancer={"mode": hostile}), "loadBalancer.mode")
    says(ask.refusal(values={hostile: 1}), "values")
    ask.accepted(values={"podAnnotations": {"who": hostile}})
    assert not file.exists()


# Which cluster, and by whom


def test_another_cluster_is_refused_with_both_uids_and_both_addresses(ask: Ask, cluster: Cluster) -> None:
    before = {"cluster": "1b671a64-0000-0000-0000-000000000000", "server": "https://192.0.2.9:6443", "mode": "replace"}
    uid = cluster.uid("/api/v1/namespaces/kube-system")
    said = ask.refusal(before=before)
    says(said, before["cluster"], before["server"], uid, f"https://{cluster.host}:{cluster.port}")
    says(said, "nothing was changed", "kubeContext")


def test_a_kubeconfig_that_is_not_there_is_named(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    says(ask.refusal(), str(tmp_path / "nowhere"), "Set KUBECONFIG", "kubeconfig")


@pytest.mark.parametrize("content", ["{{{", "", "[1, 2]", f"users: {SECRET}", f"token: {SECRET}\n\tx"])
def test_a_kubeconfig_that_can_not_be_read_is_named_and_not_quoted(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    file = tmp_path / "config"
    file.write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(file))
    said = ask.refusal()
    says(said, "kubeconfig")
    assert SECRET not in said


def test_a_context_that_is_not_there_is_named_with_those_that_are(ask: Ask) -> None:
    says(ask.refusal(kubeContext="prod"), "kubeContext", "'prod'", "kubernetes-admin@kubernetes")


@pytest.mark.parametrize("content", NO_KUBECONFIGS)
def test_nothing_of_a_secret_kubeconfig_is_said(ask: Ask, content: str) -> None:
    said = ask.refusal(kubeconfig=content)
    says(said, "the setting kubeconfig")
    assert SECRET not in said


def test_a_right_that_is_missing_is_named(ask: Ask, cluster: Cluster, tmp_path: Path) -> None:
    with limited(cluster, tmp_path, "limited", without=("daemonsets", "delete")) as kubeconfig:
        said = ask.refusal(kubeconfig=kubeconfig.read_text())
    says(said, "delete daemonsets", "kube-system", f"{cluster.host}:{cluster.port}", "nothing was changed")
    assert "create daemonsets" not in said


def test_rights_to_read_that_are_missing_are_named_at_once(ask: Ask, cluster: Cluster, tmp_path: Path) -> None:
    with account(cluster, tmp_path, "nobody", []) as kubeconfig:
        said = ask.refusal(kubeconfig=kubeconfig.read_text())
    says(said, "get namespaces", "list nodes", "list services", "list daemonsets", "nothing was changed", "kubeContext")


def test_a_program_that_signs_nobody_in_is_named_and_not_quoted(
    ask: Ask, cluster: Cluster, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """As after a login that has expired: without credentials a client would go on as nobody."""
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    fails = {"command": "/bin/sh", "args": ["-c", f"echo {SECRET}; echo {SECRET} >&2; exit 1"]}
    content["users"][0]["user"] = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", **fails}}
    said = ask.refusal(kubeconfig=yaml.safe_dump(content))
    says(said, "signs user 'kubernetes-admin' in", "sign in again", "nothing was changed")
    assert SECRET not in said + caplog.text + "".join(capfd.readouterr())


# What is on the cluster


def test_a_namespace_that_is_not_there_is_refused(ask: Ask) -> None:
    """Helm would say it when kube-proxy has gone."""
    says(ask.refusal(namespace="nowhere"), "namespace", "nowhere", "kubectl create namespace", "kube-system")


def test_another_cni_is_refused_with_its_daemonset(ask: Ask, cluster: Cluster) -> None:
    with made(cluster, _DAEMONSETS, daemonset("calico-node", "docker.io/calico/node:v3.30.0")):
        for settings in ({}, {"mode": "coexist"}, {"values": {"cni": {"chainingMode": "none"}}}):
            said = ask.refusal(**settings)
            says(said, "kube-system/calico-node", "Calico", "values.cni.chainingMode", "nothing was changed")
        ask.accepted(values={"cni": {"chainingMode": "generic-veth"}})


def test_two_kube_proxies_are_refused_with_both_names(ask: Ask, cluster: Cluster) -> None:
    with made(cluster, _DAEMONSETS, another_kube_proxy(cluster)):
        for mode in ("coexist", "replace"):
            says(ask.refusal(mode=mode), "kube-system/kube-proxy ", "kube-system/kube-proxy-arm", "nothing was changed")


def test_kube_proxy_under_another_name_is_refused_with_that_name(ask: Ask, cluster: Cluster) -> None:
    other = another_kube_proxy(cluster)
    with without_kube_proxys_daemonset(cluster), made(cluster, _DAEMONSETS, other):
        says(ask.refusal(), "another name", "kube-system/kube-proxy-arm", "kube-system/kube-proxy")


def test_kube_proxy_as_static_pods_is_refused_with_their_names(ask: Ask, cluster: Cluster) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "kube-proxy-node-1",
            "labels": {"component": "kube-proxy", "tier": "node"},
            "annotations": {"kubernetes.io/config.mirror": "abc", "kubernetes.io/config.source": "file"},
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "kube-proxy", "image": "example.org/kube-proxy:1"}]},
    }
    with without_kube_proxys_daemonset(cluster), made(cluster, _PODS, pod):
        says(ask.refusal(), "static pods", "kube-system/kube-proxy-node-1", "nothing was changed")


def test_coexist_is_refused_where_there_is_no_kube_proxy(ask: Ask, cluster: Cluster) -> None:
    with without_kube_proxys_daemonset(cluster):
        says(ask.refusal(mode="coexist"), "mode", "kube-proxy", "Write replace")
        assert any("no kube-proxy" in note for note in ask.accepted(mode="replace")["notes"])


def test_a_cilium_without_helm_is_refused(ask: Ask, cluster: Cluster) -> None:
    with made(cluster, _DAEMONSETS, daemonset("cilium", "quay.io/cilium/cilium:v1.18.6", label="cilium")):
        says(ask.refusal(), "Cilium is already on this cluster", "kube-system", "not by Helm", "nothing was changed")


def test_a_cluster_without_nodes_is_refused(ask: Ask, cluster: Cluster) -> None:
    with other_nodes(cluster):
        says(ask.refusal(), "no Linux nodes", "nothing was changed")


def test_a_cluster_whose_nodes_are_not_ready_is_refused(ask: Ask, cluster: Cluster) -> None:
    lost = {"node-not-ready.stage.kwok.x-k8s.io": "true"}
    with other_nodes(cluster, *(with_labels(node, lost) for node in bare_nodes(cluster))):
        wait_until("no node is Ready", lambda: {ready(node) for node in cluster.items(_NODES)} == {False})
        says(ask.refusal(), "3 nodes is Ready", "nothing was changed")


# Through the engine


@dataclass(frozen=True)
class Refusals:
    """What the engine has said, all runs at the same time: after a refusal it waits some seconds for the program.

    Attributes:
        runs: by what was wrong; those of another cluster by their command.
        tokens: those of the accounts that may not do everything.
        secretive: the stack with something secret that is no kubeconfig.
        elsewhere: a stack that was run with `cluster`, and the cluster that is its own.
        changes, differences: what the runs have changed in either cluster, and how the stack's own one differs.
    """

    runs: dict[str, Run]
    tokens: list[str]
    secretive: Stack
    elsewhere: tuple[Stack, Cluster]
    changes: list[str]
    differences: dict[str, str]


@pytest.fixture(scope="module")
def refusals(
    cluster: Cluster, toolchain: Toolchain, new_stack: NewStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Refusals]:
    folder = tmp_path_factory.mktemp("credentials")
    other = Cluster(toolchain, tmp_path_factory.mktemp("elsewhere") / "cluster", nodes=1)
    try:
        moved = new_stack(other.start(), mode="coexist")
        moved.up()
        with (
            account(cluster, folder, "reader", [{"apiGroups": ["*"], "resources": ["*"], "verbs": _READS}]) as reader,
            limited(cluster, folder, "installer", without=("deployments", "create")) as installer,
        ):
            yield _refused_at_once(cluster, other, new_stack, moved, reader, installer)
    finally:
        other.remove()


def _refused_at_once(
    cluster: Cluster, other: Cluster, new_stack: NewStack, moved: Stack, reader: Path, installer: Path
) -> Refusals:
    replace = {"mode": "replace"}
    misspelt = new_stack(cluster, **replace, apiServerHots="192.0.2.1")
    misspelt.config("kube-proxy-replacment:kubeContext", "prod")
    misspelt.config("kubernetes:context", "prod")
    mistyped = new_stack(cluster, **replace, timeoutSeconds="10m")
    plain = new_stack(cluster, **replace, kubeconfig=kubeconfig_with(SECRET))
    contrary = new_stack(cluster, **replace, values={"kubeProxyReplacement": False, "hubbel": {}})
    secretive = new_stack(cluster, **replace)
    secretive.config("kubeconfig", f"{SECRET} isn't a: {{kubeconfig", secret=True)
    reading, installing, unanswered = (new_stack(cluster, **replace) for _ in range(3))
    reading.kubeconfig, installing.kubeconfig = reader, installer
    unanswered.kubeconfig = reader.with_name("nowhere")
    unanswered.kubeconfig.write_text(kubeconfig_with(SECRET))
    before, marks = other.objects(), [(each, each.mark()) for each in (cluster, other)]
    moved.kubeconfig = cluster.kubeconfig
    with ThreadPoolExecutor() as pool:
        tasks = {
            "misspelt": pool.submit(misspelt.preview, fails=True),
            "mistyped": pool.submit(mistyped.preview, fails=True),
            "plain": pool.submit(plain.preview, fails=True),
            "contrary": pool.submit(contrary.preview, fails=True),
            "secret": pool.submit(secretive.up, fails=True),
            "reader": pool.submit(reading.up, fails=True),
            "installer": pool.submit(installing.up, fails=True),
            "answer": pool.submit(unanswered.preview, fails=True),
            "preview": pool.submit(moved.preview, fails=True),
        }
        runs = {name: task.result() for name, task in tasks.items()}
    runs |= {"reader looks": reading.preview(), "installer looks": installing.preview()}
    with made(cluster, f"{_RBAC}/clusterroles", {"metadata": {"name": "cilium"}, "rules": []}):
        unanswered.kubeconfig = cluster.kubeconfig
        runs |= {"left over": unanswered.up(fails=True)}
    # one after the other: these hold the stack's lock
    runs |= {"up": moved.up(fails=True), "destroy": moved.destroy(fails=True)}
    runs["refresh"] = moved.run(["refresh", "--yes", "--skip-preview", "--stack", moved.name])
    moved.kubeconfig = other.kubeconfig
    changes = [change for each, mark in marks for change in changes_by_strangers(each, mark)]
    tokens = [yaml.safe_load(file.read_text())["users"][0]["user"]["token"] for file in (reader, installer)]
    return Refusals(runs, tokens, secretive, (moved, other), changes, compared(before, other.objects()))


def test_no_refused_run_has_changed_anything(refusals: Refusals) -> None:
    assert refusals.changes == []
    assert refusals.differences == {}


def test_a_setting_that_does_not_exist_is_refused_with_the_nearest(refusals: Refusals) -> None:
    refused(refusals.runs["misspelt"], "'apiServerHots'", "did you mean apiServerHost?")


def test_a_value_of_a_wrong_type_is_refused_before_the_program_starts(refusals: Refusals) -> None:
    run = refusals.runs["mistyped"]
    assert "configuration key 'timeoutSeconds' must be of type 'integer'" in run.text
    assert run.steps == []


def test_a_setting_in_a_namespace_that_nothing_reads_is_refused(refusals: Refusals) -> None:
    """One that is passed over lets a person believe that he has chosen another cluster."""
    words = "kube-proxy-replacment:kubeContext", "kubernetes:context", "write kube-proxy-replacement:kubeContext"
    refused(refusals.runs["misspelt"], *words)


def test_a_kubeconfig_in_plain_text_is_refused_and_not_shown(refusals: Refusals) -> None:
    run = refusals.runs["plain"]
    refused(run, "kubeconfig:", "plain text", "pulumi config set --secret kubeconfig", "out of use")
    assert SECRET not in run.text


def test_a_value_against_the_mode_is_refused(refusals: Refusals) -> None:
    words = "values.kubeProxyReplacement", "mode: replace", "values.hubbel", 'did you mean "hubble"'
    refused(refusals.runs["contrary"], *words)


def test_an_api_server_that_does_not_answer_is_named_with_how_long_it_was_tried(refusals: Refusals) -> None:
    run = refusals.runs["answer"]
    refused(run, "https://127.0.0.1:1", "10 s", "refused")
    assert run.seconds >= 10
    assert SECRET not in run.text


def test_rights_that_are_missing_are_named(refusals: Refusals, cluster: Cluster) -> None:
    run, server = refusals.runs["reader"], f"https://{cluster.host}:{cluster.port}"
    words = (
        "delete daemonsets (kube-proxy) in namespace kube-system",
        "create pods/exec",
        "create rolebindings",
        "nothing was changed",
    )
    refused(run, server, *words)
    assert "may not list" not in run.errors()


def test_a_preview_needs_no_rights_to_change_and_names_those_of_an_up(refusals: Refusals) -> None:
    """In one line, Helm's among them; what would be done is shown as to anybody else."""
    assert set(STEPS) <= refusals.runs["reader looks"].changes.keys()
    for who, words in {
        "reader": ("delete daemonsets (kube-proxy) in namespace kube-system", "create clusterroles", "pods/exec"),
        "installer": ("they may not create deployments in namespace kube-system", "ClusterRole cilium: it grants"),
    }.items():
        (said,) = [
            its.text for its in refusals.runs[f"{who} looks"].said if "refused before it changes anything" in its.text
        ]
        assert "\n" not in said
        says(said, *words)


def test_rights_that_helm_would_miss_are_named_before_anything_is_removed(refusals: Refusals) -> None:
    """One on the chart's objects, and those that Cilium's role would grant: its own resources aren't there yet."""
    run = refusals.runs["installer"]
    refused(run, "may not create deployments in namespace kube-system", "ClusterRole cilium", "nothing was changed")
    assert "delete daemonsets" not in run.errors()
    assert "in all, first {" in run.errors(), "the rights that Cilium's role would grant"


def test_what_an_old_cilium_has_left_in_helms_way_is_named_before_anything_is_removed(refusals: Refusals) -> None:
    run = refusals.runs["left over"]
    refused(run, "isn't this release's: clusterroles.rbac.authorization.k8s.io cilium.", "Nothing was changed")


def test_no_token_is_shown(refusals: Refusals) -> None:
    for name, run in refusals.runs.items():
        assert [token for token in refusals.tokens if token in run.text] == [], name


def test_nothing_of_a_secret_kubeconfig_is_shown_or_kept_in_plain(refusals: Refusals) -> None:
    run, stack = refusals.runs["secret"], refusals.secretive
    refused(run, "the setting kubeconfig", "whole content")
    assert SECRET not in run.text
    assert SECRET not in json.dumps(stack.state())
    assert SECRET not in stack.settings_file.read_text()


@pytest.mark.parametrize("command", ["preview", "up", "destroy"])
def test_a_stack_never_moves_to_another_cluster(refusals: Refusals, cluster: Cluster, command: str) -> None:
    """As with a colleague's current context."""
    run, (_, own) = refusals.runs[command], refusals.elsewhere
    refused(run, "another cluster", "nothing was changed", "kubeContext")
    for each in (own, cluster):
        says(run.errors(), each.uid("/api/v1/namespaces/kube-system"), f"https://{each.host}:{each.port}")


def test_a_refresh_of_another_cluster_fails_and_the_next_up_has_everything_again(
    refusals: Refusals, cluster: Cluster
) -> None:
    """The engine takes the release out of the state beside the refusal: it isn't on that cluster."""
    run, (stack, own) = refusals.runs["refresh"], refusals.elsewhere
    assert not run.ok
    for each in (own, cluster):
        says(run.text, each.uid("/api/v1/namespaces/kube-system"))
    before = own.objects()
    stack.up()
    assert [key for key in compared(before, own.objects()) if "/cilium" in key and "Secret" not in key] == []
    assert "kubernetes:helm.sh/v3:Release" in {each["type"] for each in stack.state()["deployment"]["resources"]}


@pytest.mark.parametrize("setting", [{"releaseName": "mine"}, {"namespace": "shop"}])
def test_a_cilium_that_another_helm_release_runs_is_refused(
    ask: Ask, refusals: Refusals, monkeypatch: pytest.MonkeyPatch, setting: Object
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(refusals.elsewhere[1].kubeconfig))
    for mode in ("coexist", "replace"):
        said = ask.refusal(mode=mode, **setting)
        says(said, "Helm release kube-system/cilium", *setting, *setting.values(), "nothing was changed")


def test_a_cilium_of_the_same_name_that_is_not_this_stacks_is_refused(
    ask: Ask, refusals: Refusals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without our record in the cluster the release is anybody's: a new stack has no other sign of it."""
    other = refusals.elsewhere[1]
    monkeypatch.setenv("KUBECONFIG", str(other.kubeconfig))
    ask.accepted(mode="coexist")
    kept = bare(other.get(_RECORD))
    other.delete(_RECORD)
    try:
        says(ask.refusal(), "Helm release kube-system/cilium", "1.18.6", "isn't this stack's", "nothing was changed")
    finally:
        other.create(_RECORD.rpartition("/")[0], kept)


# Helpers


def refused(run: Run, *words: str) -> None:
    """Asserts that the engine has said this, in a person's words."""
    says(run.errors(), *words)
    assert "Traceback" not in run.text
    assert 'File "' not in run.text


def kubeconfig_with(secret: str) -> str:
    """A kubeconfig that leads nowhere."""
    content = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": secret}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **content})


@contextmanager
def made(cluster: Cluster, collection: str, thing: Object) -> Iterator[None]:
    """Something on the cluster, for a while."""
    name = cluster.create(collection, thing)["metadata"]["name"]
    try:
        yield
    finally:
        cluster.delete(f"{collection}/{name}")
        wait_until(f"{name} is gone", lambda: cluster.find(f"{collection}/{name}") is None)


@contextmanager
def without_kube_proxys_daemonset(cluster: Cluster) -> Iterator[None]:
    body = bare(cluster.get(f"{_DAEMONSETS}/kube-proxy"))
    cluster.delete(f"{_DAEMONSETS}/kube-proxy")
    try:
        yield
    finally:
        cluster.create(_DAEMONSETS, body)


@contextmanager
def limited(cluster: Cluster, folder: Path, name: str, *, without: tuple[str, str]) -> Iterator[Path]:
    """The kubeconfig of an account that may do everything, but for one verb on one resource."""
    resource, verb = without
    roles, verbs = {"roles", "clusterroles"}, ["get", "list", "watch", "create", "update", "patch", "delete"]
    groups = ["", *(group["name"] for group in cluster.get("/apis")["groups"])]
    everything = {
        entry["name"]
        for group in groups
        for entry in cluster.get(f"/apis/{group}/{_version(cluster, group)}" if group else "/api/v1")["resources"]
    }
    rules = [
        {"apiGroups": ["*"], "resources": sorted(everything - roles - {resource}), "verbs": ["*"]},
        {"apiGroups": ["*"], "resources": sorted(roles), "verbs": verbs},  # none that grants more than is held
        {"apiGroups": ["*"], "resources": [resource], "verbs": [each for each in verbs if each != verb]},
    ]
    with account(cluster, folder, name, rules) as kubeconfig:
        yield kubeconfig


@contextmanager
def account(cluster: Cluster, folder: Path, name: str, rules: list[Object]) -> Iterator[Path]:
    """The kubeconfig of an account that may do what these rules say."""
    accounts, metadata = "/api/v1/namespaces/default/serviceaccounts", {"name": name}
    binding = {
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
    }
    with (
        made(cluster, accounts, {"metadata": metadata}),
        made(cluster, f"{_RBAC}/clusterroles", {"metadata": metadata, "rules": rules}),
        made(cluster, f"{_RBAC}/clusterrolebindings", binding),
    ):
        yield kubeconfig_of_account(cluster, folder, name)


def _version(cluster: Cluster, group: str) -> str:
    return str(cluster.get(f"/apis/{group}")["preferredVersion"]["version"])


def kubeconfig_of_account(cluster: Cluster, folder: Path, name: str) -> Path:
    """A kubeconfig with a token of an account in the namespace default."""
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    token = cluster.create(f"/api/v1/namespaces/default/serviceaccounts/{name}/token", request)["status"]["token"]
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    content["users"][0]["user"] = {"token": token}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def daemonset(name: str, image: str, *, label: str = "") -> Object:
    labels = {"k8s-app": label or name}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"hostNetwork": True, "containers": [{"name": name, "image": image}]},
            },
        },
    }


def another_kube_proxy(cluster: Cluster) -> Object:
    """kube-proxy's own DaemonSet under another name, as one for another architecture."""
    body = bare(cluster.get(f"{_DAEMONSETS}/kube-proxy"))
    body["metadata"]["name"] = "kube-proxy-arm"
    labels = {"k8s-app": "kube-proxy-arm"}
    body["spec"]["selector"] = {"matchLabels": labels}
    body["spec"]["template"]["metadata"]["labels"] = labels
    body["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/arch": "arm64"}
    return body


def bare(item: Object) -> Object:
    """An object as it can be created again."""
    kept = {key: value for key, value in item["metadata"].items() if key in ("name", "labels", "annotations")}
    return {key: value for key, value in item.items() if key != "status"} | {"metadata": kept}


def bare_nodes(cluster: Cluster) -> list[Object]:
    return [bare(node) for node in cluster.items(_NODES)]


def with_labels(item: Object, labels: dict[str, str]) -> Object:
    metadata = item["metadata"] | {"labels": item["metadata"]["labels"] | labels}
    return item | {"metadata": metadata}


@contextmanager
def other_nodes(cluster: Cluster, *nodes: Object) -> Iterator[None]:
    """Other nodes in the place of the cluster's own, for a while; kwok takes long to change its mind on one."""
    own = bare_nodes(cluster)
    exchange(cluster, nodes)
    try:
        yield
    finally:
        exchange(cluster, own)
        wait_until("the nodes are back", lambda: all(ready(node) for node in cluster.items(_NODES)))


def exchange(cluster: Cluster, nodes: Iterable[Object]) -> None:
    for node in cluster.items(_NODES):
        cluster.delete(f"{_NODES}/{node['metadata']['name']}")
    for node in nodes:
        cluster.create(_NODES, node)


def ready(node: Object) -> bool:
    conditions = node.get("status", {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
