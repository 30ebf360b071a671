"""The hard way: straight to mode `replace` on a cluster without Cilium, and `destroy` straight from there.

On the way each guard says no once: a node that doesn't reach the API server, a backup that isn't what was written, a
kube-proxy that runs and doesn't route. Each act is a fixture; the tests below it are its promises.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Event

import pytest
import yaml

from tests.engine.acts import (
    Act,
    act,
    but_for_proxies_pods,
    cleaning,
    ended_pods,
    ending,
    helms_changes,
    pods,
    pods_of,
    rules,
    rules_read,
    steps_one_after_the_other,
)
from tests.engine.conftest import NewStack
from tests.engine.harness import (
    RECORD,
    Cluster,
    Object,
    Stack,
    changes_by_person,
    compared,
    in_order,
    picked,
    wait_until,
)

PODS = "/api/v1/namespaces/kube-system/pods"
CONFIGMAPS = "/api/v1/namespaces/kube-system/configmaps"
POLICIES = "/apis/admissionregistration.k8s.io/v1"
PATIENCE = 15
"""Seconds without progress, after which a run gives up."""
TIME_TO_GO_ON = 4.0
"""Seconds in which a run that doesn't wait would have gone on."""


@dataclass(frozen=True)
class Found:
    """The cluster before anybody did anything."""

    objects: dict[str, Object]
    kernels: dict[str, str]


@pytest.fixture(scope="module")
def found(cluster: Cluster) -> Found:
    return Found(cluster.objects(), cluster.kernels())


@pytest.fixture(scope="module")
def stack(cluster: Cluster, new_stack: NewStack, found: Found) -> Stack:
    return new_stack(cluster, mode="replace", timeoutSeconds=PATIENCE, protect=True)


# 1. A backup that reads back otherwise than it was written


@pytest.fixture(scope="module")
def altered(cluster: Cluster, new_stack: NewStack, found: Found) -> Act:
    with backups_altered(cluster):
        done = act(cluster, new_stack(cluster, mode="replace"), "up", fails=True)
        # what the message of the next run would say: kube-proxy runs, so the spoilt backup can go
        cluster.delete(f"{CONFIGMAPS}/{RECORD}")
    return done


def test_a_backup_that_reads_back_otherwise_stops_the_run(altered: Act) -> None:
    assert f"ConfigMap kube-system/{RECORD}" in altered.run.errors()
    assert "Nothing was removed" in altered.run.errors()


def test_without_a_good_backup_nothing_is_removed(altered: Act) -> None:
    assert compared(altered.before, altered.after) == {f"ConfigMap kube-system/{RECORD}": "came"}


# 2. A node that doesn't reach the API server's address


@pytest.fixture(scope="module")
def unreached(cluster: Cluster, stack: Stack, altered: Act) -> Act:
    with faulty(cluster, "node-3", "api-server-unreachable"):
        return act(cluster, stack, "up", fails=True)


def test_a_node_without_the_api_server_stops_the_run_and_is_named(unreached: Act, cluster: Cluster) -> None:
    named = [line.strip() for line in unreached.run.errors().splitlines() if line.strip().startswith("node-")]
    assert len(named) == 1
    assert named[0].startswith("node-3: ")
    assert f"{cluster.host}:{cluster.port}" in unreached.run.errors()
    assert "apiServerHost" in unreached.run.errors()


def test_a_node_without_the_api_server_leaves_the_cluster_as_it_was(unreached: Act) -> None:
    assert compared(unreached.before, unreached.after) == {}


@pytest.fixture(scope="module")
def retried(cluster: Cluster, stack: Stack, unreached: Act) -> Act:
    return act(cluster, stack, "preview")


def test_after_a_run_that_was_stopped_the_preview_says_again_what_will_happen(retried: Act, cluster: Cluster) -> None:
    notes = retried.run.notes()
    assert f"{cluster.host}:{cluster.port}" in notes
    assert "shop/web-public" in notes
    assert "kube-proxy's DaemonSet is back" not in notes, "it never went"


# 3. The switch-over


LINGERING_NODE = "node-2"


@dataclass(frozen=True)
class Switched(Act):
    """Attributes:
    lingered_until: when the last of kube-proxy's pods was let go, as in the audit log.
    """

    lingered_until: str


@pytest.fixture(scope="module")
def switched(cluster: Cluster, stack: Stack, retried: Act) -> Switched:
    with a_pod_that_lingers(cluster, LINGERING_NODE) as let_go:
        done = act(cluster, stack, "up")
    return Switched(**vars(done), lingered_until=let_go[0])


def test_nothing_else_is_changed_while_one_of_kube_proxys_pods_is_still_there(switched: Switched) -> None:
    """An agent that finds the pod's port taken crashes, or never serves it."""
    changes = [entry for entry in switched.audit if entry.by_person and entry.changes]
    (deleted,) = picked(changes, "delete", "daemonsets", "kube-proxy")
    later = changes[changes.index(deleted) + 1 :]
    assert later[0].began > switched.lingered_until


def test_first_up_in_replace_shows_the_address_on_every_node_before_anything_is_removed(
    switched: Switched, cluster: Cluster
) -> None:
    asked = picked(switched.audit, "create", "pods", "*-reach-*")
    assert len({entry.name for entry in asked}) == len(cluster.node_names)
    written = picked(switched.audit, "create patch update", "configmaps", RECORD)[:1]
    deleted = picked(switched.audit, "delete", "daemonsets", "kube-proxy")
    between = [e for e in switched.audit if written[0].ended <= e.began and e.ended <= deleted[0].began]
    in_order(
        ("every node asks the API server", picked(switched.audit, "create delete", "pods", "*-reach-*")),
        ("kube-proxy's DaemonSet is deleted", deleted),
    )
    in_order(
        ("the backup is written", written),
        ("the backup is read back", picked(between, "get", "configmaps", RECORD)),
        ("kube-proxy's DaemonSet is deleted", deleted),
        ("kubeadm is told", picked(switched.audit, "patch update", "configmaps", "kubeadm-config")),
        ("kube-proxy's ConfigMap is deleted", picked(switched.audit, "delete", "configmaps", "kube-proxy")),
        ("Helm installs the release", helms_changes(switched.audit)),
        ("nodes are cleaned", cleaning(switched.audit)),
    )


def test_first_up_in_replace_makes_each_step_after_the_one_before_it(switched: Switched) -> None:
    # the first of them was made by the run that was stopped
    steps_one_after_the_other(switched.run, "update", "create")


def test_first_up_in_replace_leaves_no_pod_and_no_right_of_its_own(switched: Switched) -> None:
    own = [key for key, item in switched.after.items() if "reach" in key or "-clean-" in key]
    assert own == []


def test_first_up_in_replace_ends_with_every_agent_switched(switched: Switched) -> None:
    assert switched.outputs["kubeProxyReplacement"] == "True"
    assert switched.outputs["agents"] == {"desired": 3, "ready": 3, "replacing": 3, "switched": 3, "unreadable": 0}
    assert switched.outputs["kubeProxy"] == {"present": False, "backup": f"kube-system/{RECORD}"}
    for node in switched.outputs["nodes"].values():
        assert node["leftoverRules"] == 0


def test_fresh_agents_get_the_pod_addresses_that_the_cluster_has(switched: Switched) -> None:
    assert switched.after["ConfigMap kube-system/cilium-config"]["data"]["ipam"] == "kubernetes"


# 4. A destroy of what is protected


@pytest.fixture(scope="module")
def protected(cluster: Cluster, stack: Stack, switched: Switched) -> Act:
    return act(cluster, stack, "destroy", fails=True)


def test_destroy_of_what_is_protected_is_refused_before_anything_is_changed(protected: Act, stack: Stack) -> None:
    """The way back too, which is a resource's delete: else kube-proxy would be back before the Release says no."""
    assert "protect" in protected.run.text
    assert changes_by_person(protected.audit) == []
    assert compared(protected.before, protected.after) == {}


@pytest.fixture(scope="module")
def let_go(cluster: Cluster, stack: Stack, protected: Act) -> Act:
    stack.config("protect", False)
    return act(cluster, stack, "up")


def test_taking_the_protection_away_changes_nothing(let_go: Act) -> None:
    assert let_go.run.changes == {}
    assert changes_by_person(let_go.audit) == []


# 5. A destroy that can't go on


@pytest.fixture(scope="module")
def stopped(cluster: Cluster, stack: Stack, let_go: Act) -> Act:
    with faulty(cluster, "node-1", "kube-proxy-writes-no-rules"):
        return act(cluster, stack, "destroy", fails=True)


def test_destroy_keeps_cilium_while_kube_proxy_does_not_route_on_every_node(stopped: Act) -> None:
    assert len(pods(stopped.after, "kube-proxy")) == 3, "kube-proxy runs everywhere, and routes on two nodes"
    assert helms_changes(stopped.audit) == []
    assert pods(stopped.after, "cilium") == pods(stopped.before, "cilium")
    key = "ConfigMap kube-system/cilium-config"
    assert stopped.after[key]["data"] == stopped.before[key]["data"]


def test_destroy_names_the_node_where_kube_proxy_does_not_route(stopped: Act) -> None:
    named = [line.strip() for line in stopped.run.errors().splitlines() if line.strip().startswith("node-")]
    assert len(named) == 1
    assert named[0].startswith("node-1: ")
    assert "Cilium was not touched" in stopped.run.errors()


# 6. The destroy after that


@pytest.fixture(scope="module")
def gone(cluster: Cluster, stack: Stack, stopped: Act) -> Act:
    idle = pods_of(stopped.after, "kube-proxy")["node-1"]["metadata"]["name"]
    cluster.delete(f"{PODS}/{idle}")
    done = act(cluster, stack, "destroy")
    wait_until("what was deleted is gone", lambda: not ending(cluster.objects()))
    return replace(done, after=cluster.objects())


def test_destroy_brings_kube_proxy_back_and_lets_it_route_before_cilium_goes(stopped: Act, gone: Act) -> None:
    audit = [*stopped.audit, *gone.audit]
    switched_off = picked(audit, "patch update", "configmaps", "cilium-config")
    in_order(
        ("kube-proxy's ConfigMap is back", picked(audit, "create", "configmaps", "kube-proxy")),
        ("kubeadm is told", picked(audit, "patch update", "configmaps", "kubeadm-config")),
        ("kube-proxy's DaemonSet is back", picked(audit, "create", "daemonsets", "kube-proxy")),
        ("rules are read on every node", rules_read(audit, gone.after, until=switched_off[0].began)),
        ("the replacement is switched off", switched_off),
        ("every agent is restarted", ended_pods(audit, gone.before, "cilium")),
        ("Helm uninstalls the release", helms_changes(audit)),
        ("the backup is removed", picked(audit, "delete", "configmaps", RECORD)),
    )


def test_after_destroy_straight_from_replace_the_cluster_is_as_it_was_found(found: Found, gone: Act) -> None:
    assert but_for_proxies_pods(compared(found.objects, gone.after)) == {
        # restored from the backup: the same content under other uids
        "ConfigMap kube-system/kube-proxy": "made anew",
        "DaemonSet.apps kube-system/kube-proxy": "made anew",
    }
    assert len(pods(gone.after, "kube-proxy")) == 3


def test_after_destroy_straight_from_replace_every_kernel_is_as_it_was_found(found: Found, gone: Act) -> None:
    for node, text in gone.kernels.items():
        assert rules(text) == rules(found.kernels[node]), node


def test_after_destroy_nothing_is_left_in_the_stack(stack: Stack, gone: Act) -> None:
    assert stack.state()["deployment"].get("resources", []) == []


# What is made to fail


@contextmanager
def faulty(cluster: Cluster, node: str, fault: str) -> Iterator[None]:
    cluster.annotate(node, fault)
    try:
        yield
    finally:
        cluster.annotate(node, fault, None)


@contextmanager
def a_pod_that_lingers(cluster: Cluster, node: str) -> Iterator[list[str]]:
    """One of kube-proxy's pods can't end until the run has gone on without it, or has had the time to; when it did."""
    pod = f"{PODS}/{cluster.pods('k8s-app=kube-proxy')[node]['metadata']['name']}"
    let_go: list[str] = []
    over = Event()

    def deleted() -> bool:
        return over.is_set() or cluster.daemonset("kube-proxy") is None

    def gone_on() -> bool:
        return over.is_set() or cluster.configmap("kube-proxy") is None

    def hold() -> None:
        wait_until("kube-proxy's DaemonSet is deleted, or the run over", deleted, 120)
        with suppress(AssertionError):
            wait_until("the run goes on", gone_on, TIME_TO_GO_ON)
        let_go.append(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
        cluster.merge(pod, {"metadata": {"finalizers": None}})

    cluster.merge(pod, {"metadata": {"finalizers": ["engine-tests/lingers"]}})
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(hold)
        try:
            yield let_go
        finally:
            over.set()
        held.result()


@contextmanager
def backups_altered(cluster: Cluster) -> Iterator[None]:
    """Somebody's admission policy takes kube-proxy's DaemonSet out of what is written."""
    name, record = "engine-tests-alter-backups", {"name": RECORD, "namespace": "kube-system"}
    policy = yaml.safe_load(f"""
        apiVersion: admissionregistration.k8s.io/v1
        kind: MutatingAdmissionPolicy
        metadata: {{name: {name}}}
        spec:
          failurePolicy: Fail
          reinvocationPolicy: Never
          matchConstraints:
            resourceRules:
            - {{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}}
          matchConditions:
          - {{name: backup, expression: "object.metadata.name == '{RECORD}'"}}
          mutations:
          - patchType: JSONPatch
            jsonPatch:
              expression: '[JSONPatch{{op: "replace", path: "/data/daemonset.json", value: "null"}}]'
    """)
    binding = {**policy, "kind": "MutatingAdmissionPolicyBinding", "spec": {"policyName": name}}

    def altered() -> bool:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": record, "data": {"daemonset.json": "as it was"}}
        made = cluster.create(f"{CONFIGMAPS}?dryRun=All", body)
        return bool(made["data"]["daemonset.json"] == "null")

    cluster.create(f"{POLICIES}/mutatingadmissionpolicies", policy)
    cluster.create(f"{POLICIES}/mutatingadmissionpolicybindings", binding)
    try:
        wait_until("the policy works", altered)
        yield
    finally:
        cluster.delete(f"{POLICIES}/mutatingadmissionpolicybindings/{name}")
        cluster.delete(f"{POLICIES}/mutatingadmissionpolicies/{name}")
        wait_until("the policy works no longer", lambda: not altered())
