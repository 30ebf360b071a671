"""What goes wrong on a node, and runs that are killed: said by name, nothing lost, and ended by the next up.

With onFailure: keep, so that each act begins where the one before it stopped (test_failures has what is undone).

One stack's life on one cluster. Each act is a fixture that keeps what was seen; the tests below it are its promises.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from tests.engine.acts import Act, act, cleaning, helms_changes, is_kubelets, pods_of, rules
from tests.engine.conftest import NewStack
from tests.engine.cut_off import Begun, Instant
from tests.engine.harness import (
    FOUND,
    RECORD,
    STATUS,
    Cluster,
    Entry,
    Object,
    Run,
    Stack,
    changes_by_person,
    compared,
    picked,
    wait_until,
)

PATIENCE = 8
"""The setting timeoutSeconds: how long a run waits that is to fail by waiting."""

_PODS = "/api/v1/namespaces/kube-system/pods"
_RBAC = ("ClusterRole", "ClusterRoleBinding", "ServiceAccount")


@pytest.fixture(scope="module")
def stack(cluster: Cluster, new_stack: NewStack) -> Stack:
    return new_stack(cluster, mode="replace", timeoutSeconds=PATIENCE, onFailure="keep")


# 1. A node that doesn't reach the API server's address, on a cluster that has no Cilium yet


@pytest.fixture(scope="module")
def unreachable(cluster: Cluster, stack: Stack) -> Act:
    cluster.annotate("node-2", "api-server-unreachable")
    failed = act(cluster, stack, "up", fails=True)
    cluster.annotate("node-2", "api-server-unreachable", None)
    return failed


def test_a_node_that_does_not_reach_the_api_server_is_named(unreachable: Act, cluster: Cluster) -> None:
    names_only(unreachable.run, "node-2", f"{cluster.host}:{cluster.port}", "apiServerHost", "nothing was removed")


def test_where_a_node_does_not_reach_the_api_server_nothing_is_removed(unreachable: Act) -> None:
    assert picked(unreachable.audit, "create", "pods", "*-reach-*"), "nobody has asked"
    assert compared(unreachable.before, unreachable.after) == {}


def test_a_run_that_has_failed_holds_the_cluster_no_longer(unreachable: Act) -> None:
    lease = unreachable.after["Lease.coordination.k8s.io kube-system/kube-proxy-replacement"]
    assert "holderIdentity" not in lease["spec"]


def test_what_asked_for_the_api_server_is_gone(unreachable: Act) -> None:
    assert leftovers(unreachable.after) == []


# 2. Three runs that are killed, each further than the one before it, and one that isn't


@pytest.fixture(scope="module")
def survived(cluster: Cluster, stack: Stack, unreachable: Act) -> Act:
    secrets = "/api/v1/namespaces/kube-system/secrets?labelSelector=owner%3Dhelm"
    killed(cluster, stack, "kube-proxy is gone", lambda _: cluster.daemonset("kube-proxy") is None)
    # an agent's from its start, and longer than the next run waits for the lock of the killed one
    cluster.annotate("node-1", "endpoint-delay", "600")
    killed(cluster, stack, "Helm has begun", lambda _: bool(cluster.items(secrets)))
    killed(cluster, stack, "two agents are switched", lambda its: "agents 2/3 replacing" in its.text)
    cluster.annotate("node-1", "endpoint-delay", None)
    restart(cluster, "k8s-app=cilium", "node-1")  # the delay is longer than a run waits
    return act(cluster, stack, "up")


def test_a_run_after_killed_ones_ends_where_the_first_would_have(survived: Act) -> None:
    assert survived.outputs["agents"] == {"desired": 3, "ready": 3, "replacing": 3, "switched": 3, "unreadable": 0}
    assert survived.outputs["kubeProxy"] == {"present": False, "backup": f"kube-system/{RECORD}"}
    assert survived.outputs["release"]["status"] == "deployed"
    assert with_proxys_rules(survived) == []
    assert leftovers(survived.after) == []


def test_killed_runs_leave_a_backup_that_restores_kube_proxy(survived: Act, unreachable: Act) -> None:
    backup = survived.after[f"ConfigMap kube-system/{RECORD}"]["data"]
    for file, key, part in (("daemonset.json", "DaemonSet.apps", "spec"), ("configmap.json", "ConfigMap", "data")):
        assert json.loads(backup[file])[part] == unreachable.before[f"{key} kube-system/kube-proxy"][part]


# 3. The way back: kube-proxy that doesn't route on a node


@pytest.fixture(scope="module")
def ruleless(cluster: Cluster, stack: Stack, survived: Act) -> Act:
    cluster.annotate("node-1", "kube-proxy-writes-no-rules")
    stack.config("mode", "coexist")
    failed = act(cluster, stack, "up", fails=True)
    cluster.annotate("node-1", "kube-proxy-writes-no-rules", None)
    restart(cluster, "k8s-app=kube-proxy", "node-1")
    return failed


def test_a_node_on_which_kube_proxy_does_not_route_is_named(ruleless: Act) -> None:
    names_only(ruleless.run, "node-1", "doesn't route", "Cilium was not touched")


def test_while_kube_proxy_does_not_route_everywhere_cilium_holds_on(ruleless: Act) -> None:
    assert helms_changes(ruleless.audit) == []
    assert revisions(ruleless.before) == revisions(ruleless.after)
    assert config(ruleless.after)["kube-proxy-replacement"] == "true"


@pytest.fixture(scope="module")
def beside(cluster: Cluster, stack: Stack, ruleless: Act) -> Act:
    return act(cluster, stack, "up")


def test_the_next_run_goes_the_rest_of_the_way_back(beside: Act) -> None:
    assert beside.outputs["kubeProxyReplacement"] == "False"
    assert beside.outputs["kubeProxy"]["present"]


# 4. Agents that go on as they were


@pytest.fixture(scope="module")
def not_restarted(cluster: Cluster, stack: Stack, beside: Act) -> Act:
    """Two agents don't come up: the DaemonSet, which may restart two at a time, never comes to the third."""
    for node in ("node-1", "node-2"):
        cluster.annotate(node, "agent-stuck")
        restart(cluster, "k8s-app=cilium", node)
    stack.config("mode", "replace")
    return act(cluster, stack, "up", fails=True)


def test_an_agent_that_was_not_restarted_is_named(not_restarted: Act) -> None:
    names_only(not_restarted.run, "node-1", "node-2", "node-3")
    pod = pods_of(not_restarted.after, "cilium")["node-3"]["metadata"]["name"]
    assert f"node-3: its agent {pod} wasn't restarted" in not_restarted.run.errors()


def test_while_an_agent_was_not_restarted_no_rule_is_cleaned_on_any_node(not_restarted: Act) -> None:
    no_rule_is_cleaned(not_restarted)


@pytest.fixture(scope="module")
def keeps_its_own(cluster: Cluster, stack: Stack, not_restarted: Act) -> Act:
    """The two come up now; the third is restarted then, and starts with the configuration that it had."""
    cluster.annotate("node-3", "agent-keeps-config")
    for node in ("node-1", "node-2"):
        cluster.annotate(node, "agent-stuck", None)
        restart(cluster, "k8s-app=cilium", node)
    failed = act(cluster, stack, "up", fails=True)
    cluster.annotate("node-3", "agent-keeps-config", None)
    return failed


def test_an_agent_that_keeps_its_configuration_is_named(keeps_its_own: Act) -> None:
    names_only(keeps_its_own.run, "node-3", "KubeProxyReplacement: False")


def test_while_an_agent_keeps_its_configuration_no_rule_is_cleaned_on_any_node(keeps_its_own: Act) -> None:
    no_rule_is_cleaned(keeps_its_own)


# 5. An agent that says `True`, and whose programs never come into the kernel


@pytest.fixture(scope="module")
def never_ready(cluster: Cluster, stack: Stack, keeps_its_own: Act) -> Act:
    cluster.annotate("node-3", "endpoints-stuck")
    failed = act(cluster, stack, "up", fails=True)
    cluster.annotate("node-3", "endpoints-stuck", None)
    restart(cluster, "k8s-app=cilium", "node-3")
    return failed


def test_an_agent_whose_endpoints_are_never_ready_is_named(never_ready: Act) -> None:
    names_only(never_ready.run, "node-3", "endpoints not ready", "reserved:host")


def test_while_one_agent_is_not_switched_no_rule_is_cleaned_on_any_node(never_ready: Act) -> None:
    no_rule_is_cleaned(never_ready)


# 6. A node whose rules can't be cleaned


@pytest.fixture(scope="module")
def dirty(cluster: Cluster, stack: Stack, never_ready: Act) -> Act:
    cluster.annotate("node-2", "clean-fails")
    failed = act(cluster, stack, "up", fails=True)
    cluster.annotate("node-2", "clean-fails", None)
    return failed


def test_a_node_that_can_not_be_cleaned_is_named_with_the_programs_own_words(dirty: Act) -> None:
    names_only(dirty.run, "node-2", "exit code 1", "tearing down rules")


def test_where_one_node_can_not_be_cleaned_the_others_are(dirty: Act) -> None:
    assert with_proxys_rules(dirty) == ["node-2"]
    left = json.loads(dirty.after[f"ConfigMap kube-system/{RECORD}"]["data"]["uncleaned.json"])
    assert left == [dirty.after["Node /node-2"]["metadata"]["uid"]]
    assert leftovers(dirty.after) == []


@pytest.fixture(scope="module")
def clean(cluster: Cluster, stack: Stack, dirty: Act) -> Act:
    return act(cluster, stack, "up")


def test_the_next_run_cleans_only_the_node_that_is_left(clean: Act) -> None:
    assert with_proxys_rules(clean) == []
    assert len({entry.name for entry in cleaning(clean.audit)}) == 1
    assert clean.outputs["agents"]["switched"] == 3


def test_after_all_of_this_nothing_is_left_to_do(clean: Act, stack: Stack) -> None:
    assert stack.preview().changes == {}


# 7. An agent that can't be read, where nothing else is to do


@dataclass(frozen=True)
class Unreadable:
    """A preview and an up while it can't be read, and an up when it can again; with the outputs of both."""

    foreseen: Run
    meanwhile: Object
    afterwards: Object
    audit: list[Entry]


@pytest.fixture(scope="module")
def unreadable(cluster: Cluster, stack: Stack, clean: Act) -> Unreadable:
    mark = cluster.mark()
    cluster.annotate("node-1", "exec-fails")
    foreseen, _, meanwhile = stack.preview(), stack.up(), stack.outputs()
    cluster.annotate("node-1", "exec-fails", None)
    stack.up()
    return Unreadable(foreseen, meanwhile, stack.outputs(), cluster.audit(mark))


def test_an_agent_that_can_not_be_read_is_shown(unreadable: Unreadable) -> None:
    assert "node-1" in unreadable.foreseen.notes()
    assert set(unreadable.foreseen.changes) <= {FOUND, STATUS}


def test_an_agent_that_can_not_be_read_is_a_line_in_the_outputs(unreadable: Unreadable) -> None:
    nodes = unreadable.meanwhile["nodes"]
    assert "cannot exec" in nodes["node-1"]["error"]
    assert {node: its["kubeProxyReplacement"] for node, its in nodes.items()} == {
        "node-1": "Unknown",
        "node-2": "True",
        "node-3": "True",
    }
    assert unreadable.meanwhile["agents"]["unreadable"] == 1


def test_an_agent_that_can_be_read_again_is_read(unreadable: Unreadable, clean: Act) -> None:
    assert unreadable.afterwards["nodes"] == clean.outputs["nodes"]


def test_what_can_not_be_read_is_left_as_it_is(unreadable: Unreadable) -> None:
    assert changes_by_person(unreadable.audit) == []


# What is looked for


def names_only(run: Run, *words: str) -> None:
    """Asserts that the error has these words, and no node's name but those among them."""
    said = run.errors()
    assert "Traceback" not in run.text
    for word in words:
        assert word in said
    others = {"node-1", "node-2", "node-3"} - set(words)
    assert [node for node in sorted(others) if f"\n  {node}: " in said] == []


def no_rule_is_cleaned(its: Act) -> None:
    """Asserts that no cleaning has begun, and that kube-proxy's rules are on every node."""
    assert cleaning(its.audit) == []
    assert with_proxys_rules(its) == ["node-1", "node-2", "node-3"]
    assert "DaemonSet.apps kube-system/kube-proxy" not in its.after


def with_proxys_rules(its: Act) -> list[str]:
    """The nodes with rules of kube-proxy's."""
    return sorted(node for node, text in its.kernels.items() if any(not is_kubelets(line) for line in rules(text)))


def leftovers(objects: dict[str, Object]) -> list[str]:
    """The program's own pods, and what they were allowed with."""
    return [key for key in objects if "kube-proxy-replacement-" in key and key.startswith(("Pod ", *_RBAC))]


def revisions(objects: dict[str, Object]) -> list[str]:
    """Helm's, a Secret each."""
    return sorted(key for key in objects if key.startswith("Secret kube-system/sh.helm.release."))


def config(objects: dict[str, Object]) -> dict[str, str]:
    data: dict[str, str] = objects["ConfigMap kube-system/cilium-config"]["data"]
    return data


# What people and accidents do


def restart(cluster: Cluster, label: str, node: str) -> None:
    """A pod deleted by hand; its DaemonSet makes another."""
    pod = cluster.pods(label)[node]["metadata"]
    cluster.delete(f"{_PODS}/{pod['name']}")
    wait_until(f"{pod['name']} is gone", lambda: cluster.find(f"{_PODS}/{pod['name']}") is None)


def killed(cluster: Cluster, stack: Stack, what: str, instant: Instant) -> None:
    """A `pulumi up` that ends by SIGKILL, with all that it has started, and whose lock somebody takes away."""
    run = Begun(cluster, stack, "up")
    try:
        run.until(what, instant)
    finally:
        run.kill()
    assert stack.run(["cancel", "--yes", "--stack", stack.name]).ok
