"""What makes a switch-over fail in the middle, and what becomes of it: named, undone or kept, ended by the next up.

One stack's life on one cluster. Each act is a fixture that keeps what was seen; the tests below it are its promises.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.chaos.proxy import Closed, Proxy, Request, Verdict
from tests.engine.acts import Act, act, but_for_pods, ending, helms_changes, pods_of, rules_read
from tests.engine.conftest import NewStack
from tests.engine.harness import (
    RECORD,
    Cluster,
    Object,
    Run,
    Stack,
    changes_by_person,
    compared,
    in_order,
    picked,
    wait_until,
)
from tests.engine.test_faults import config, revisions, with_proxys_rules

PATIENCE = 8
"""The setting timeoutSeconds: how long a run waits that is to fail by waiting."""

POLICIES = "/apis/admissionregistration.k8s.io/v1"
LAST_LINE = 'level=fatal msg="Unable to replace kube-proxy" error="no socket cookies, token=planted-t0ken"'
IMAGE = "v9.9.9"
NOT_READY = "node-not-ready.stage.kwok.x-k8s.io"


@pytest.fixture(scope="module")
def found(cluster: Cluster) -> dict[str, Object]:
    """The cluster before anybody has done anything."""
    return cluster.objects()


@pytest.fixture(scope="module")
def stack(cluster: Cluster, new_stack: NewStack, found: dict[str, Object]) -> Stack:
    return new_stack(cluster, mode="replace", timeoutSeconds=PATIENCE, onFailure="keep")


# 1. The Release itself fails, on a cluster that has no Cilium yet: kept


@pytest.fixture(scope="module")
def kept(cluster: Cluster, stack: Stack) -> Act:
    with denied(cluster, "apps", "deployments", "cilium-operator"):
        return act(cluster, stack, "up", fails=True)


def test_with_keep_a_release_that_fails_leaves_all_as_it_is(kept: Act) -> None:
    assert "the test says no" in kept.run.errors()
    assert "onFailure: keep" in kept.run.errors()
    assert "DaemonSet.apps kube-system/kube-proxy" not in kept.after
    assert failed(kept.after)["rolledBack"] is False


def test_where_the_first_release_was_kept_half_way_one_more_up_comes_before_destroy(kept: Act) -> None:
    assert "One more `pulumi up` comes before `pulumi destroy`" in kept.run.errors()


# 2. It fails again, and is rolled back; then all of it is destroyed


@pytest.fixture(scope="module")
def refused(cluster: Cluster, stack: Stack, kept: Act) -> Act:
    stack.config("onFailure", None)
    with denied(cluster, "apps", "deployments", "cilium-operator"):
        return act(cluster, stack, "up", fails=True)


def test_where_the_release_fails_kube_proxy_is_back_in_that_very_run(refused: Act, found: dict[str, Object]) -> None:
    assert "the test says no" in refused.run.errors()
    assert "kube-proxy is restored and routes on every node" in refused.run.errors()
    as_it_was(refused.after, found)
    assert with_proxys_rules(refused) == ["node-1", "node-2", "node-3"]


def test_a_cilium_that_this_run_installed_lets_go_after_kube_proxy_routes(refused: Act) -> None:
    assert config(refused.after)["kube-proxy-replacement"] == "false"
    first = min(
        entry.began for entry in picked(refused.audit, "patch", "configmaps", "cilium-config") if lets_go(entry)
    )
    in_order(
        ("kube-proxy is restored", picked(refused.audit, "create", "daemonsets", "kube-proxy")),
        ("its rules are read on every node", rules_read(refused.audit, refused.after, until=first)),
        ("Cilium lets go", [e for e in picked(refused.audit, "patch", "configmaps", "cilium-config") if lets_go(e)]),
    )


@pytest.fixture(scope="module")
def gone(cluster: Cluster, stack: Stack, refused: Act) -> Act:
    done = act(cluster, stack, "destroy")
    wait_until("what was deleted is gone", lambda: not ending(cluster.objects()))
    return replace(done, after=cluster.objects())


def test_after_a_rollback_destroy_leaves_the_cluster_as_it_was_found(gone: Act, found: dict[str, Object]) -> None:
    assert but_for_pods(compared(found, gone.after)) == {
        "ConfigMap kube-system/kube-proxy": "made anew",
        "DaemonSet.apps kube-system/kube-proxy": "made anew",
    }


# 3. Cilium beside kube-proxy, through a proxy that closes connections


class Closing:
    """A proxy in front of the API server: every third question is cut off, and whatever runs in one agent for long."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        self._cluster = cluster
        self._node = node
        self._asked = 0

    def before(self, request: Request) -> Verdict:
        if request.is_exec:
            pod = self._cluster.pods("k8s-app=cilium").get(self._node)
            return Closed() if pod and f"/{pod['metadata']['name']}/" in request.path else None
        self._asked += 1
        return Closed() if request.method == "GET" and self._asked % 3 == 0 else None

    def after(self, request: Request, status: int) -> Verdict:
        return None


@pytest.fixture(scope="module")
def beside(cluster: Cluster, stack: Stack, gone: Act, tmp_path_factory: pytest.TempPathFactory) -> Act:
    stack.config("mode", "coexist")
    with proxied(cluster, Closing(cluster, "node-1"), tmp_path_factory.mktemp("proxy") / "kubeconfig") as kubeconfig:
        direct, stack.kubeconfig = stack.kubeconfig, kubeconfig
        done = act(cluster, stack, "up")
        stack.kubeconfig = direct
    return done


def test_connections_that_are_closed_fail_no_run(beside: Act) -> None:
    assert beside.outputs["kubeProxy"]["present"]
    said = {node: its["kubeProxyReplacement"] for node, its in beside.outputs["nodes"].items()}
    assert said == {"node-1": "Unknown", "node-2": "False", "node-3": "False"}


def test_an_agent_that_a_proxy_keeps_from_being_read_is_named_with_its_pod_and_why(beside: Act) -> None:
    pod = pods_of(beside.after, "cilium")["node-1"]["metadata"]["name"]
    assert f"node-1: its agent {pod} can't be read: " in beside.run.notes()
    assert beside.outputs["nodes"]["node-1"]["error"]


# 4. An image that can't be pulled, an agent that ends as soon as it is to replace kube-proxy


@pytest.fixture(scope="module")
def undone(cluster: Cluster, stack: Stack, beside: Act) -> Act:
    cluster.annotate("node-2", "image-missing", IMAGE)
    cluster.annotate("node-3", "agent-crashes-replacing", LAST_LINE)
    stack.config("mode", "replace")
    stack.config("values", {"image": {"tag": IMAGE, "useDigest": False}})
    return act(cluster, stack, "up", fails=True)


def test_an_image_that_can_not_be_pulled_is_named_with_node_and_pod(undone: Act) -> None:
    line = next(line for line in undone.run.errors().splitlines() if line.startswith("  node-2: "))
    assert "its agent cilium-" in line
    assert "ImagePullBackOff" in line
    assert IMAGE in line


def test_an_agent_that_ends_is_named_with_its_last_words_and_no_credential(undone: Act) -> None:
    line = next(line for line in undone.run.errors().splitlines() if line.startswith("  node-3: "))
    assert "its agent cilium-" in line
    assert "CrashLoopBackOff" in line
    assert "Unable to replace kube-proxy: no socket cookies" in line
    assert "planted-t0ken" not in undone.run.text


def test_what_was_undone_is_said(undone: Act) -> None:
    said = undone.run.errors()
    assert "kube-proxy is restored and routes on every node" in said
    assert "has the chart and the values of revision 1 again" in said
    assert "its agents run beside kube-proxy" in said


def test_kube_proxy_is_as_it_was_and_routes(undone: Act, found: dict[str, Object]) -> None:
    as_it_was(undone.after, found)
    assert with_proxys_rules(undone) == ["node-1", "node-2", "node-3"]


def test_cilium_is_as_it_was(undone: Act) -> None:
    (latest,) = [
        key for key in revisions(undone.after) if undone.after[key]["metadata"]["labels"]["status"] == "deployed"
    ]
    assert latest.endswith(".v3")
    assert config(undone.after) == config(undone.before)
    images = {pod["spec"]["containers"][0]["image"] for pod in pods_of(undone.after, "cilium").values()}
    assert images == {pod["spec"]["containers"][0]["image"] for pod in pods_of(undone.before, "cilium").values()}


def test_cilium_is_rolled_back_only_when_kube_proxy_routes_on_every_node(undone: Act) -> None:
    rolled = picked(undone.audit, "create", "secrets", "sh.helm.release.v1.cilium.v3")
    in_order(
        ("kube-proxy's ConfigMap is restored", picked(undone.audit, "create", "configmaps", "kube-proxy")),
        ("kube-proxy's DaemonSet is restored", picked(undone.audit, "create", "daemonsets", "kube-proxy")),
        ("its rules are read on every node", rules_read(undone.audit, undone.after, until=rolled[0].began)),
        ("Helm rolls back", rolled),
    )


@pytest.fixture(scope="module")
def foreseen(cluster: Cluster, stack: Stack, undone: Act) -> Act:
    return act(cluster, stack, "preview")


def test_the_next_preview_says_why_it_failed_and_what_an_up_would_try_again(foreseen: Act) -> None:
    said = foreseen.run.notes()
    assert "the last run in this mode failed" in said
    assert "ImagePullBackOff" in said
    assert "this run tries the switch-over again" in said
    assert "switch-over on 3 nodes" in said


def test_a_preview_after_a_rollback_changes_nothing(foreseen: Act) -> None:
    assert changes_by_person(foreseen.audit) == []


# 5. Another up: while it waits one node goes away, and another joins


@pytest.fixture(scope="module")
def again(cluster: Cluster, stack: Stack, foreseen: Act) -> Run:
    cluster.annotate("node-2", "image-missing", None)
    cluster.annotate("node-3", "agent-crashes-replacing", None)
    cluster.annotate("node-1", "endpoint-delay", str(PATIENCE - 1))
    mark = cluster.mark()

    def moment() -> bool:
        """The agents are awaited: nobody else asks for their DaemonSet's revisions."""
        asked = picked(cluster.audit(mark), "list", "controllerrevisions")
        return any(entry.by_person for entry in asked)

    def come_and_go() -> None:
        cluster.merge("/api/v1/nodes/node-3", {"metadata": {"labels": {NOT_READY: "true"}}})
        cluster.join(4)

    run = meanwhile(lambda: stack.up(), moment, come_and_go)
    cluster.annotate("node-1", "endpoint-delay", None)
    return run


def test_after_a_rollback_another_up_switches(again: Run, cluster: Cluster) -> None:
    assert again.ok
    assert cluster.daemonset("kube-proxy") is None


def test_a_node_that_goes_away_in_the_middle_is_dropped_and_said(again: Run, cluster: Cluster) -> None:
    assert "node-3 isn't Ready any more: it isn't awaited" in again.notes()
    left = json.loads((cluster.configmap(RECORD) or {})["data"]["uncleaned.json"])
    assert left == [cluster.uid("/api/v1/nodes/node-3")]


def test_a_node_that_joins_in_the_middle_is_included(again: Run, stack: Stack) -> None:
    assert "node-4 has joined, or is Ready again: it is awaited too" in again.notes()
    assert stack.outputs()["nodes"]["node-4"]["kubeProxyReplacement"] == "True"


# 6. The way back, on which one of the nodes leaves


@pytest.fixture(scope="module")
def back(cluster: Cluster, stack: Stack, again: Run) -> Act:
    cluster.merge("/api/v1/nodes/node-3", {"metadata": {"labels": {NOT_READY: None}}})
    wait_until("node-3 is Ready", lambda: is_ready(cluster.get("/api/v1/nodes/node-3")))
    cluster.annotate("node-4", "kube-proxy-writes-no-rules")
    stack.config("mode", "coexist")

    def moment() -> bool:
        return "node-4" in cluster.pods("k8s-app=kube-proxy")

    before, mark = cluster.objects(), cluster.mark()
    run = meanwhile(lambda: stack.up(), moment, lambda: cluster.delete("/api/v1/nodes/node-4"))
    for label in ("k8s-app=kube-proxy", "k8s-app=cilium"):  # the controllers take their time for these
        orphan = cluster.pods(label)["node-4"]["metadata"]["name"]
        cluster.delete(f"/api/v1/namespaces/kube-system/pods/{orphan}?gracePeriodSeconds=0")
    return Act(run, cluster.audit(mark), before, cluster.objects(), stack.outputs(), cluster.kernels())


def test_a_node_that_leaves_holds_up_no_way_back(back: Act) -> None:
    assert "node-4 has left the cluster: it isn't awaited any more" in back.run.notes()
    assert back.outputs["kubeProxyReplacement"] == "False"


def test_what_failed_before_is_forgotten_when_a_run_comes_to_its_end(back: Act) -> None:
    assert "failed" not in json.loads(back.after[f"ConfigMap kube-system/{RECORD}"]["data"]["record.json"])


# 7. kube-proxy can't be removed in whole


@pytest.fixture(scope="module")
def half(cluster: Cluster, stack: Stack, back: Act) -> Act:
    stack.config("mode", "replace")
    with denied(cluster, "", "configmaps", "kube-proxy", "DELETE"):
        return act(cluster, stack, "up", fails=True)


def test_where_removing_kube_proxy_fails_half_way_it_is_restored(half: Act, found: dict[str, Object]) -> None:
    assert "the test says no" in half.run.errors()
    assert "kube-proxy is restored and routes on every node; Cilium wasn't touched." in half.run.errors()
    as_it_was(half.after, found)
    assert picked(half.audit, "delete", "daemonsets", "kube-proxy"), "nothing was removed in between"
    assert with_proxys_rules(half) == ["node-1", "node-2", "node-3"]


def test_where_removing_kube_proxy_fails_half_way_cilium_is_not_touched(half: Act) -> None:
    assert helms_changes(half.audit) == []
    assert revisions(half.before) == revisions(half.after)


@pytest.fixture(scope="module")
def coexists(cluster: Cluster, stack: Stack, half: Act) -> Act:
    stack.config("mode", "coexist")
    return act(cluster, stack, "up")


def test_after_a_rollback_mode_coexist_ends_well(coexists: Act, stack: Stack) -> None:
    assert coexists.outputs["kubeProxyReplacement"] == "False"
    assert coexists.outputs["kubeProxy"]["present"]
    assert stack.preview().changes == {}


# What is looked for


def as_it_was(now: dict[str, Object], found: dict[str, Object]) -> None:
    """Asserts that kube-proxy and what kubeadm says of it are as they were found."""
    for key, part in (
        ("DaemonSet.apps kube-system/kube-proxy", "spec"),
        ("ConfigMap kube-system/kube-proxy", "data"),
        ("ConfigMap kube-system/kubeadm-config", "data"),
    ):
        assert now[key][part] == found[key][part], key


def failed(objects: dict[str, Object]) -> Object:
    """What the record says of the last run that failed."""
    its: Object = json.loads(objects[f"ConfigMap kube-system/{RECORD}"]["data"]["record.json"])["failed"]
    return its


def lets_go(entry: Any) -> bool:
    """A change of cilium-config by this program, not by Helm."""
    return "pulumi-kubernetes" not in entry.agent and "Helm" not in entry.agent


def is_ready(node: Object) -> bool:
    return any(its["type"] == "Ready" and its["status"] == "True" for its in node["status"]["conditions"])


# What people and accidents do


def meanwhile(run: Callable[[], Run], moment: Callable[[], bool], happens: Callable[[], None]) -> Run:
    """A run in which something happens in the middle."""
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(run)
        wait_until("the moment", lambda: moment() or under_way.done(), 60)
        assert not under_way.done(), f"it had ended before:\n{under_way.result().text}"
        happens()
        return under_way.result()


@contextmanager
def proxied(cluster: Cluster, gate: Any, file: Path) -> Iterator[Path]:
    """A kubeconfig that leads to the API server through a proxy."""
    proxy = Proxy(cluster.port, cluster.pki(), gate)
    proxy.start()
    try:
        content = yaml.safe_load(cluster.kubeconfig.read_text())
        content["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
        file.write_text(yaml.safe_dump(content))
        yield file
    finally:
        proxy.stop()


@contextmanager
def denied(cluster: Cluster, group: str, resource: str, name: str, *operations: str) -> Iterator[None]:
    """The API server says no to what the person does with one object; dry runs go through."""
    title, probe = "engine-tests-deny", "engine-tests-probe"
    policy: Object = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": title},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": [group],
                        "apiVersions": ["*"],
                        "operations": [*(operations or ("CREATE", "UPDATE"))],
                        "resources": [resource],
                    },
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["configmaps"],
                    },
                ]
            },
            "matchConditions": [
                {
                    "name": "one",
                    "expression": f"request.name == '{probe}' || (request.name == '{name}' && !request.dryRun && "
                    f"request.resource.resource == '{resource}' && request.operation in "
                    f"{json.dumps(operations or ('CREATE', 'UPDATE'))} && "
                    "request.userInfo.username == 'kubernetes-admin')",
                }
            ],
            "validations": [{"expression": "false", "message": "the test says no"}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": title},
        "spec": {"policyName": title, "validationActions": ["Deny"]},
    }

    def works() -> bool:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": probe, "namespace": "default"}}
        status, _ = cluster._call("POST", "/api/v1/namespaces/default/configmaps?dryRun=All", body)
        return status == 422

    cluster.create(f"{POLICIES}/validatingadmissionpolicies", policy)
    cluster.create(f"{POLICIES}/validatingadmissionpolicybindings", binding)
    try:
        wait_until("the policy works", works)
        yield
    finally:
        cluster.delete(f"{POLICIES}/validatingadmissionpolicybindings/{title}")
        cluster.delete(f"{POLICIES}/validatingadmissionpolicies/{title}")
        wait_until("the policy works no longer", lambda: not works())
