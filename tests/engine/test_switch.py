"""One stack's life on one cluster: looked at, Cilium beside kube-proxy, switched over, switched back, destroyed.

Each act is a fixture that keeps what was seen during it and right after it; the tests below it are its promises.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest
import yaml

from local.toolchain import Toolchain
from tests.engine.acts import (
    Act,
    act,
    agents_environment,
    agents_listed,
    but_for_pods,
    but_for_proxies_pods,
    cleaning,
    condition,
    ended_pods,
    ending,
    helms_changes,
    is_kubelets,
    pods,
    pods_of,
    rules,
    rules_read,
    steps_one_after_the_other,
)
from tests.engine.conftest import NewStack
from tests.engine.harness import (
    RECORD,
    STEPS,
    Cluster,
    Stack,
    changes_by_person,
    compared,
    in_order,
    picked,
    wait_until,
)

SLOW_NODE = "node-2"
SLOW_SECONDS = 5.0
"""How long after its readiness that node's agent has its programs in the kernel."""

FOREIGN_RULE = "site: ssh from the office"


@dataclass(frozen=True)
class People:
    """Two people with checkouts of the same project."""

    one: Stack
    other: Stack


@pytest.fixture(scope="module")
def people(cluster: Cluster, new_stack: NewStack, tmp_path_factory: pytest.TempPathFactory) -> People:
    one = new_stack(cluster, mode="coexist")
    folder = tmp_path_factory.mktemp("another") / "person with a blank"
    kubeconfig = tmp_path_factory.mktemp("secrets") / "config.yaml"
    kubeconfig.write_bytes(cluster.kubeconfig.read_bytes())
    return People(one, one.second(folder, kubeconfig))


# 1. A preview of a fresh stack


@pytest.fixture(scope="module")
def looked(cluster: Cluster, people: People) -> Act:
    return act(cluster, people.one, "preview")


def test_preview_of_a_fresh_stack_changes_nothing_in_the_cluster(looked: Act) -> None:
    assert changes_by_person(looked.audit) == []
    assert compared(looked.before, looked.after) == {}


def test_preview_of_a_fresh_stack_shows_what_would_be_made(looked: Act) -> None:
    assert set(looked.run.changes.values()) == {"create"}
    assert set(STEPS) <= looked.run.changes.keys()


# 2. First up, Cilium beside kube-proxy


@pytest.fixture(scope="module")
def beside(cluster: Cluster, people: People, looked: Act) -> Act:
    return act(cluster, people.one, "up")


def test_beside_cilium_kube_proxy_is_untouched(beside: Act) -> None:
    """Object by object, its pods too: none is another, none has another content."""
    theirs = [key for key in compared(beside.before, beside.after) if "/kube-proxy" in key]
    assert theirs == [f"ConfigMap kube-system/{RECORD}"]


def test_beside_cilium_kube_proxy_is_backed_up(beside: Act) -> None:
    backup = beside.after[f"ConfigMap kube-system/{RECORD}"]["data"]
    for file, key in (("daemonset.json", "DaemonSet.apps"), ("configmap.json", "ConfigMap")):
        kept, live = json.loads(backup[file]), beside.after[f"{key} kube-system/kube-proxy"]
        assert kept["metadata"]["name"] == "kube-proxy"
        part = "spec" if "spec" in live else "data"
        assert kept[part] == live[part]


def test_beside_kube_proxy_agents_do_not_replace(beside: Act, cluster: Cluster) -> None:
    assert beside.outputs["mode"] == "coexist"
    assert beside.outputs["kubeProxyReplacement"] == "False"
    assert beside.outputs["agents"] == {"desired": 3, "ready": 3, "replacing": 0, "switched": 0, "unreadable": 0}
    assert beside.outputs["kubeProxy"] == {"present": True, "backup": f"kube-system/{RECORD}"}


def test_beside_kube_proxy_cilium_is_configured_as_the_chart_renders_it(beside: Act, cluster: Cluster) -> None:
    config = beside.after["ConfigMap kube-system/cilium-config"]["data"]
    assert config["kube-proxy-replacement"] == "false"
    assert config.get("kube-proxy-replacement-healthz-bind-address", "") == ""
    # the nodes have their pod addresses from the controller manager; Cilium's own pool would lie over the Services
    assert config["ipam"] == "kubernetes"
    assert "cluster-pool-ipv4-cidr" not in config
    assert agents_environment(beside.after) == {"host": {cluster.host}, "port": {str(cluster.port)}}


def test_beside_cilium_every_kernel_still_routes_by_kube_proxy(beside: Act) -> None:
    for node, text in beside.kernels.items():
        assert "KUBE-SERVICES" in text, node


# 3. Another person looks


@pytest.fixture(scope="module")
def looked_at_by_another(cluster: Cluster, people: People, beside: Act) -> Act:
    return act(cluster, people.other, "preview")


def test_another_person_in_another_folder_sees_no_change(looked_at_by_another: Act) -> None:
    assert looked_at_by_another.run.changes == {}
    assert set(STEPS) <= looked_at_by_another.run.ops.keys()
    assert changes_by_person(looked_at_by_another.audit) == []


# 4. A preview of the switch-over


@pytest.fixture(scope="module")
def foreseen(cluster: Cluster, people: People, looked_at_by_another: Act) -> Act:
    for stack in (people.one, people.other):
        stack.config("mode", "replace")
    return act(cluster, people.one, "preview")


def test_preview_of_the_switch_over_shows_updates_only(foreseen: Act) -> None:
    assert set(foreseen.run.changes.values()) == {"update"}
    assert set(STEPS) <= foreseen.run.changes.keys()


def test_preview_of_the_switch_over_changes_nothing(foreseen: Act) -> None:
    assert changes_by_person(foreseen.audit) == []
    assert compared(foreseen.before, foreseen.after) == {}


def test_preview_of_the_switch_over_says_what_load_balancers_will_see(foreseen: Act) -> None:
    note = next(line for line in foreseen.run.notes().splitlines() if "LoadBalancer" in line)
    assert "shop/web-public" in note
    assert "10256" in note
    assert " s" in note


def test_preview_of_the_switch_over_says_the_address_and_where_it_was_found(foreseen: Act, cluster: Cluster) -> None:
    note = next(line for line in foreseen.run.notes().splitlines() if f"{cluster.host}:{cluster.port}" in line)
    assert "ConfigMap kube-system/kube-proxy" in note


# 5. The switch-over


@pytest.fixture(scope="module")
def switched(cluster: Cluster, people: People, foreseen: Act) -> Act:
    cluster.annotate(SLOW_NODE, "endpoint-delay", str(SLOW_SECONDS))
    done = act(cluster, people.one, "up")
    cluster.annotate(SLOW_NODE, "endpoint-delay", None)
    return done


def test_switch_over_updates_each_step_after_the_one_before_it(switched: Act) -> None:
    steps_one_after_the_other(switched.run, "update")


def test_switch_over_order_in_the_api_servers_audit_log(switched: Act, cluster: Cluster) -> None:
    audit = switched.audit
    delete_daemonset = picked(audit, "delete", "daemonsets", "kube-proxy")
    assert len(delete_daemonset) == 1
    before = [entry for entry in audit if entry.ended <= delete_daemonset[0].began]
    in_order(
        ("the agents are read: do they run with the address", agents_listed(before)[-1:]),
        ("the backup is read", picked(before, "get", "configmaps", RECORD)[-1:]),
        ("kube-proxy's DaemonSet is deleted", delete_daemonset),
        ("the last of kube-proxy's pods is gone", ended_pods(audit, switched.before, "kube-proxy")),
        ("kubeadm is told", picked(audit, "patch update", "configmaps", "kubeadm-config")),
        ("kube-proxy's ConfigMap is deleted", picked(audit, "delete", "configmaps", "kube-proxy")),
        ("Helm changes the release", helms_changes(audit)),
        ("nodes are cleaned", cleaning(audit)),
    )
    # the status is read last: the proof holds for what is there now
    assert cleaning(audit)[-1].ended <= picked(audit, "get", "pods/exec")[-1].began


def test_switch_over_needs_no_pods_to_prove_an_address_that_ready_agents_run_with(switched: Act) -> None:
    assert picked(switched.audit, "create", "pods", "*-reach-*") == []
    shown = next(its for its in switched.run.said if "3/3 nodes' ready agents run with it" in its.text)
    deleted = next(its for its in switched.run.said if "DaemonSet is deleted" in its.text)
    assert shown.sequence < deleted.sequence


def test_no_rule_is_cleaned_before_the_last_agent_is_switched(switched: Act) -> None:
    """The flag and the readiness of the slow node's agent are there seconds before its kernel's programs."""
    agent = pods_of(switched.after, "cilium")[SLOW_NODE]
    ready_at = datetime.fromisoformat(condition(agent, "Ready")["lastTransitionTime"])
    cleaned_at = datetime.fromisoformat(min(entry.began for entry in cleaning(switched.audit)))
    # the API server's times of conditions are whole seconds, cut off
    assert cleaned_at >= ready_at + timedelta(seconds=SLOW_SECONDS)


def test_every_node_is_cleaned_by_a_pod_that_is_gone_afterwards(switched: Act, cluster: Cluster) -> None:
    assert len({entry.name for entry in picked(switched.audit, "create", "pods", "*-clean-*")}) == 3
    assert [key for key in switched.after if key.startswith("Pod ") and "-clean-" in key] == []


def test_cleaned_kernels_hold_no_rule_of_kube_proxys(switched: Act) -> None:
    for node, text in switched.kernels.items():
        left = [line for line in text.splitlines() if "KUBE-" in line and not is_kubelets(line)]
        assert left == [], node


def test_cleaned_kernels_keep_the_kubelets_lines_and_others(switched: Act, beside: Act) -> None:
    for node, text in switched.kernels.items():
        before = [line for line in beside.kernels[node].splitlines() if is_kubelets(line) or FOREIGN_RULE in line]
        after = [line for line in text.splitlines() if is_kubelets(line) or FOREIGN_RULE in line]
        assert any(FOREIGN_RULE in line for line in before)
        assert any(is_kubelets(line) for line in before)
        assert after == before, node


def test_after_the_switch_over_kube_proxy_is_gone_and_kubeadm_knows_it(switched: Act) -> None:
    assert "DaemonSet.apps kube-system/kube-proxy" not in switched.after
    assert "ConfigMap kube-system/kube-proxy" not in switched.after
    assert pods(switched.after, "kube-proxy") == {}
    kubeadm = switched.after["ConfigMap kube-system/kubeadm-config"]["data"]["ClusterConfiguration"]
    assert yaml.safe_load(kubeadm)["proxy"] == {"disabled": True}


def test_after_the_switch_over_the_outputs_say_so(switched: Act, cluster: Cluster, toolchain: Toolchain) -> None:
    chart = yaml.safe_load((toolchain.cilium_chart / "Chart.yaml").read_text())
    outputs = switched.outputs
    nodes = outputs.pop("nodes")
    assert "ConfigMap kube-system/kube-proxy" in outputs["apiServer"].pop("source")
    assert outputs == {
        "mode": "replace",
        "kubeProxyReplacement": "True",
        "agents": {"desired": 3, "ready": 3, "replacing": 3, "switched": 3, "unreadable": 0},
        "apiServer": {"host": cluster.host, "port": cluster.port},
        "kubeProxy": {"present": False, "backup": f"kube-system/{RECORD}"},
        "handOver": {"done": 3, "total": 3, "failed": [], "now": []},
        "release": {
            "name": "cilium",
            "namespace": "kube-system",
            "version": chart["version"],
            "revision": 2,
            "status": "deployed",
        },
        "cluster": cluster.uid("/api/v1/namespaces/kube-system"),
    }
    assert sorted(nodes) == cluster.node_names
    for node in nodes.values():
        assert isinstance(node.pop("devices"), list)
        assert node.pop("features")["nodePort"] is True
        assert node == {
            "kubeProxyReplacement": "True",
            "ready": True,
            "version": chart["appVersion"],
            "leftoverRules": 0,
            "error": "",
        }


def test_after_the_switch_over_cilium_is_configured_as_the_chart_renders_it(
    switched: Act, beside: Act, cluster: Cluster
) -> None:
    key = "ConfigMap kube-system/cilium-config"
    config = switched.after[key]["data"]
    assert config["kube-proxy-replacement"] == "true"
    assert config["kube-proxy-replacement-healthz-bind-address"] == "0.0.0.0:10256"
    assert config["ipam"] == beside.after[key]["data"]["ipam"]
    assert agents_environment(switched.after) == {"host": {cluster.host}, "port": {str(cluster.port)}}


def test_every_agent_was_restarted_by_the_switch_over(switched: Act) -> None:
    assert not set(pods(switched.before, "cilium").values()) & set(pods(switched.after, "cilium").values())


# 6. Looked at again


@pytest.mark.parametrize("person", ["one", "other"])
def test_after_the_switch_over_nobody_sees_a_change(
    person: str, people: People, switched: Act, cluster: Cluster
) -> None:
    seen = act(cluster, getattr(people, person), "preview")
    assert seen.run.changes == {}
    assert changes_by_person(seen.audit) == []


def test_a_second_up_by_another_person_changes_nothing(people: People, switched: Act, cluster: Cluster) -> None:
    again = act(cluster, people.other, "up")
    assert again.run.changes == {}
    assert changes_by_person(again.audit) == []
    assert compared(again.before, again.after) == {}


# 7. The switch-back


@pytest.fixture(scope="module")
def back(cluster: Cluster, people: People, switched: Act) -> Act:
    for stack in (people.one, people.other):
        stack.config("mode", "coexist")
    return act(cluster, people.other, "up")


def test_switch_back_updates_each_step_after_the_one_before_it(back: Act) -> None:
    steps_one_after_the_other(back.run, "update")


def test_on_the_way_back_kube_proxy_routes_on_every_node_before_cilium_lets_go(back: Act) -> None:
    audit = back.audit
    first = min(entry.began for entry in helms_changes(audit))
    in_order(
        ("kube-proxy's ConfigMap is back", picked(audit, "create", "configmaps", "kube-proxy")),
        ("kubeadm is told", picked(audit, "patch update", "configmaps", "kubeadm-config")),
        ("kube-proxy's DaemonSet is back", picked(audit, "create", "daemonsets", "kube-proxy")),
        ("rules are read on every node", rules_read(audit, back.after, until=first)),
        ("Helm changes the release", helms_changes(audit)),
    )


def test_after_the_switch_back_everything_is_as_beside_kube_proxy(back: Act, beside: Act) -> None:
    differences = compared(beside.after, back.after)
    assert but_for_pods(differences) == {
        "ConfigMap kube-system/kube-proxy": "made anew",
        "DaemonSet.apps kube-system/kube-proxy": "made anew",
        "Secret kube-system/sh.helm.release.v1.cilium.v1": "data.release, metadata.labels.status",
        "Secret kube-system/sh.helm.release.v1.cilium.v2": "came",
        "Secret kube-system/sh.helm.release.v1.cilium.v3": "came",
    }
    assert back.outputs["kubeProxyReplacement"] == "False"
    assert back.outputs["agents"] == beside.outputs["agents"]
    assert back.outputs["kubeProxy"] == beside.outputs["kubeProxy"]


def test_after_the_switch_back_every_kernel_routes_by_kube_proxy(back: Act, beside: Act) -> None:
    for node, text in back.kernels.items():
        assert rules(text) == rules(beside.kernels[node]), node


def test_no_run_between_the_first_and_the_last_replaced_or_deleted_anything(
    switched: Act, back: Act, foreseen: Act
) -> None:
    for run in (foreseen.run, switched.run, back.run):
        assert {step.op for step in run.steps} == {"same", "update", "read"}


# 8. destroy, from coexist


@pytest.fixture(scope="module")
def gone(cluster: Cluster, people: People, back: Act) -> Act:
    done = act(cluster, people.one, "destroy")
    wait_until("what was deleted is gone", lambda: not ending(cluster.objects()))
    return replace(done, after=cluster.objects())


def test_destroy_confirms_kube_proxy_before_cilium_lets_go_and_forgets_it_last(gone: Act) -> None:
    uninstalled = helms_changes(gone.audit)
    in_order(
        ("rules are read on every node", rules_read(gone.audit, gone.before, until=uninstalled[0].began)),
        ("Helm uninstalls the release", uninstalled),
        ("the backup is removed", picked(gone.audit, "delete", "configmaps", RECORD)),
    )


def test_after_destroy_the_cluster_is_as_it_was_found(gone: Act, looked: Act) -> None:
    assert but_for_proxies_pods(compared(looked.before, gone.after)) == {
        # restored by the switch-back: the same content under other uids
        "ConfigMap kube-system/kube-proxy": "made anew",
        "DaemonSet.apps kube-system/kube-proxy": "made anew",
    }
    for node, text in gone.kernels.items():
        assert rules(text) == rules(looked.kernels[node]), node
