"""What somebody changed by hand: the next preview shows it in words, the next up mends it, the one after is unchanged.

One stack's life: beside kube-proxy, then switched. Each drift is what people and other programs really do;
those that don't hide each other share a run.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import yaml

from local.toolchain import Toolchain
from tests.engine.acts import Act, act, is_kubelets, pods_of, rules
from tests.engine.conftest import NewStack
from tests.engine.harness import RECORD, STEPS, Cluster, Object, Stack, changes_by_person, compared, wait_until

_MAPS = "/api/v1/namespaces/kube-system/configmaps"
_DAEMONSETS = "/apis/apps/v1/namespaces/kube-system/daemonsets"
SECRET = "hunter2isnotforlogs"
_EDITED = {"data": {"kube-proxy-replacement": "false"}}


@dataclass(frozen=True)
class Drift:
    """What was made wrong, and the three runs after it.

    Attributes:
        wanted: every object, before it was made wrong.
        agents: the agents' uids by node, when it had been made wrong.
    """

    wanted: dict[str, Object]
    agents: dict[str, str]
    foreseen: Act
    mended: Act
    afterwards: Act


def drift(cluster: Cluster, stack: Stack, make: Callable[[], None]) -> Drift:
    wanted = cluster.objects()
    make()
    agents = agents_uids(cluster)
    return Drift(wanted, agents, *(act(cluster, stack, command) for command in ("preview", "up", "preview")))


def agents_uids(cluster: Cluster) -> dict[str, str]:
    return {node: pod["metadata"]["uid"] for node, pod in cluster.pods("k8s-app=cilium").items()}


def restarted(its: Drift) -> set[str]:
    """The nodes whose agent isn't the one that it was when something had been made wrong."""
    now = {node: pod["metadata"]["uid"] for node, pod in pods_of(its.mended.after, "cilium").items()}
    return {node for node, uid in its.agents.items() if now[node] != uid}


def shown(its: Drift, *sentences: str) -> None:
    """Asserts that the preview says this and shows updates, and that it has changed nothing itself."""
    notes = its.foreseen.run.notes()
    for sentence in sentences:
        assert f"not as wanted: {sentence}" in notes
    assert set(its.foreseen.run.changes.values()) == {"update"}
    assert set(STEPS) <= its.foreseen.run.changes.keys()
    assert changes_by_person(its.foreseen.audit) == []
    assert compared(its.foreseen.before, its.foreseen.after) == {}


def mended(its: Drift) -> None:
    """Asserts that the up was made of updates, and that nobody finds anything to do after it."""
    assert set(its.mended.run.changes.values()) == {"update"}
    assert its.afterwards.run.changes == {}
    assert "not as wanted" not in its.afterwards.run.notes()
    assert changes_by_person(its.afterwards.audit) == []


# Beside kube-proxy


@pytest.fixture(scope="module")
def stack(cluster: Cluster, new_stack: NewStack) -> Stack:
    stack = new_stack(cluster, mode="coexist", timeoutSeconds=60)
    stack.up()
    return stack


@pytest.fixture(scope="module")
def proxy_gone(cluster: Cluster, stack: Stack) -> Drift:
    """Somebody took kube-proxy away by hand: its rules are left as they were at that moment."""

    def make() -> None:
        cluster.delete(f"{_DAEMONSETS}/kube-proxy")
        wait_until("kube-proxy's pods are gone", lambda: not cluster.pods("k8s-app=kube-proxy"))

    return drift(cluster, stack, make)


def test_a_kube_proxy_that_was_deleted_is_shown(proxy_gone: Drift) -> None:
    shown(proxy_gone, "kube-proxy's DaemonSet is gone")


def test_a_kube_proxy_that_was_deleted_is_restored_as_it_was(proxy_gone: Drift) -> None:
    mended(proxy_gone)
    before, after = (objects["DaemonSet.apps kube-system/kube-proxy"] for objects in _wanted_and_now(proxy_gone))
    assert after["spec"] == before["spec"]
    assert all("KUBE-SERVICES" in text for text in proxy_gone.mended.kernels.values())


def _wanted_and_now(its: Drift) -> tuple[dict[str, Object], dict[str, Object]]:
    return its.wanted, its.mended.after


# Switched


@pytest.fixture(scope="module")
def switched(cluster: Cluster, stack: Stack, proxy_gone: Drift) -> Stack:
    stack.config("mode", "replace")
    stack.up()
    return stack


@pytest.fixture(scope="module")
def edited(cluster: Cluster, switched: Stack) -> Drift:
    """Somebody edited what the agents run with, and one of them restarted on it; others cleared up in kube-system."""

    def make() -> None:
        cluster.merge(f"{_MAPS}/cilium-config", _EDITED)
        restarted_agent(cluster, "node-2")
        cluster.delete(f"{_MAPS}/{RECORD}")

    return drift(cluster, switched, make)


def test_what_was_edited_is_shown(edited: Drift) -> None:
    shown(
        edited,
        "cilium-config was edited (kube-proxy-replacement: 'false' instead of 'true')",
        "node-2: its agent says KubeProxyReplacement: False",
        f"the record in ConfigMap kube-system/{RECORD} was deleted",
    )
    assert "node-1: its agent" not in edited.foreseen.run.notes()


def test_what_was_edited_is_mended(edited: Drift) -> None:
    mended(edited)
    wanted, now = _wanted_and_now(edited)
    assert now["ConfigMap kube-system/cilium-config"]["data"] == wanted["ConfigMap kube-system/cilium-config"]["data"]
    assert edited.mended.outputs["agents"]["switched"] == 3


def test_only_the_agent_that_started_on_the_edited_text_is_restarted(edited: Drift) -> None:
    """The mended text has the old checksum, which restarts nobody."""
    assert restarted(edited) == {"node-2"}


def test_a_deleted_record_comes_back_from_the_states_copy(edited: Drift) -> None:
    """kube-proxy is gone: without it nobody could ever restore one as it was."""
    wanted, now = (objects[f"ConfigMap kube-system/{RECORD}"]["data"] for objects in _wanted_and_now(edited))
    for file in ("daemonset.json", "configmap.json", "kubeadm.json"):
        assert json.loads(now[file]) == json.loads(wanted[file]), file


@pytest.fixture(scope="module")
def back(cluster: Cluster, switched: Stack, edited: Drift) -> Drift:
    """An upgrade brought kube-proxy back, and an agent is left from an edit that somebody has undone by hand."""

    def make() -> None:
        told_to_bring_kube_proxy_back(cluster)
        config = cluster.get(f"{_MAPS}/cilium-config")["data"]
        cluster.merge(f"{_MAPS}/cilium-config", _EDITED)
        restarted_agent(cluster, "node-3")
        cluster.merge(f"{_MAPS}/cilium-config", {"data": {key: config[key] for key in _EDITED["data"]}})
        kube_proxy_is_put_back(cluster, edited)

    return drift(cluster, switched, make)


def test_a_kube_proxy_that_came_back_is_shown(back: Drift) -> None:
    shown(
        back,
        "kube-proxy's DaemonSet is back",
        "kube-proxy's ConfigMap is back",
        "kubeadm-config no longer says proxy.disabled",
    )


def test_an_agent_that_does_not_replace_is_shown(back: Drift) -> None:
    shown(back, "node-3: its agent says KubeProxyReplacement: False")
    assert "cilium-config was edited" not in back.foreseen.run.notes()


def test_a_kube_proxy_that_came_back_is_removed_with_its_rules(back: Drift) -> None:
    mended(back)
    assert "DaemonSet.apps kube-system/kube-proxy" not in back.mended.after
    assert "ConfigMap kube-system/kube-proxy" not in back.mended.after
    for node, text in back.mended.kernels.items():
        assert [line for line in rules(text) if not is_kubelets(line)] == [], node


def test_kubeadm_is_told_again_that_there_is_no_kube_proxy(back: Drift) -> None:
    configuration = back.mended.after["ConfigMap kube-system/kubeadm-config"]["data"]["ClusterConfiguration"]
    assert yaml.safe_load(configuration)["proxy"] == {"disabled": True}


def test_an_agent_that_does_not_replace_is_restarted(back: Drift) -> None:
    assert back.mended.outputs["kubeProxyReplacement"] == "True"
    assert back.mended.outputs["agents"]["switched"] == 3
    assert restarted(back) == {"node-3"}


@pytest.fixture(scope="module")
def touched(cluster: Cluster, switched: Stack, back: Drift) -> Drift:
    """Somebody had kube-proxy run for a while and left its rules there, and took a program off its hook on one node."""

    def make() -> None:
        kube_proxy_is_put_back(cluster, back)
        for collection in (_DAEMONSETS, _MAPS):
            cluster.delete(f"{collection}/kube-proxy")
        wait_until("kube-proxy's pods are gone", lambda: not cluster.pods("k8s-app=kube-proxy"))
        agent = cluster.pods("k8s-app=cilium")["node-2"]["metadata"]["name"]
        cluster.annotate("node-2", "hook-detached", f"{agent} cgroup_inet4_connect")

    return drift(cluster, switched, make)


def test_rules_and_hooks_in_the_kernels_are_shown_with_their_nodes(touched: Drift) -> None:
    shown(touched, "node-2: no eBPF program hangs at cgroup_inet4_connect")
    notes = touched.foreseen.run.notes()
    for node in ("node-1", "node-2", "node-3"):
        assert re.search(rf"not as wanted: {node}: \d+ lines of kube-proxy's rules are in its kernel again", notes)
    assert "node-1: no eBPF" not in notes


def test_rules_and_hooks_in_the_kernels_are_mended(touched: Drift) -> None:
    mended(touched)
    for node, text in touched.mended.kernels.items():
        assert [line for line in rules(text) if not is_kubelets(line)] == [], node
    assert restarted(touched) == {"node-2"}


@pytest.fixture(scope="module")
def rolled_back(cluster: Cluster, toolchain: Toolchain, switched: Stack, touched: Drift) -> Drift:
    """Somebody went back by hand: `helm rollback`, and kube-proxy for the second time."""

    def make() -> None:
        kube_proxy_is_put_back(cluster, touched)
        helm(cluster, toolchain, "rollback", "cilium", "1", "--namespace", "kube-system")
        wait_until("every agent has restarted", lambda: rolled_out(cluster))

    return drift(cluster, switched, make)


def test_a_release_that_was_rolled_back_by_hand_is_shown_with_what_it_was_given(rolled_back: Drift) -> None:
    shown(rolled_back, "kube-proxy's DaemonSet is back, made by engine-tests at ")
    notes = rolled_back.foreseen.run.notes()
    assert re.search(r"not as wanted: the Helm release cilium is at revision \d+ \(«Rollback to 1»\)", notes)
    assert "kubeProxyReplacement: 'false' instead of 'true'" in notes


def test_a_release_that_was_rolled_back_by_hand_is_mended(rolled_back: Drift) -> None:
    mended(rolled_back)
    assert rolled_back.mended.outputs["agents"]["switched"] == 3
    assert "DaemonSet.apps kube-system/kube-proxy" not in rolled_back.mended.after
    now = rolled_back.mended.after["ConfigMap kube-system/cilium-config"]["data"]
    assert now == rolled_back.wanted["ConfigMap kube-system/cilium-config"]["data"]


@pytest.fixture(scope="module")
def upgraded(cluster: Cluster, toolchain: Toolchain, switched: Stack, rolled_back: Drift) -> Drift:
    """Somebody upgraded the release with values of his own, which change nothing in cilium-config."""

    def make() -> None:
        chart, own = str(toolchain.cilium_chart), ("operator.replicas=1", f"podAnnotations.who={SECRET}")
        sets = [word for each in own for word in ("--set", each)]
        helm(cluster, toolchain, "upgrade", "cilium", chart, "--namespace", "kube-system", "--reuse-values", *sets)
        wait_until("every agent has restarted", lambda: rolled_out(cluster))

    return drift(cluster, switched, make)


def test_a_release_that_was_upgraded_by_hand_is_shown_by_the_names_of_its_values(upgraded: Drift) -> None:
    """What isn't the program's own may be secret."""
    notes = upgraded.foreseen.run.notes()
    assert "with other values than this stack gave it (operator.replicas, podAnnotations.who)" in notes
    assert SECRET not in upgraded.foreseen.run.text
    assert set(upgraded.foreseen.run.changes.values()) == {"update"}


def test_a_release_that_was_upgraded_by_hand_is_mended(upgraded: Drift) -> None:
    mended(upgraded)
    template = upgraded.mended.after["DaemonSet.apps kube-system/cilium"]["spec"]["template"]
    assert "who" not in (template["metadata"].get("annotations") or {})


# Fights


@pytest.mark.usefixtures("upgraded")
def test_while_a_controller_works_on_the_release_only_what_would_be_mended_is_a_fight(
    cluster: Cluster, switched: Stack
) -> None:
    agents = f"{_DAEMONSETS}/cilium"
    was = cluster.get(f"{_MAPS}/cilium-config")["data"]["kube-proxy-replacement"]
    cluster.merge(agents, {"metadata": {"labels": {"helm.toolkit.fluxcd.io/name": "net"}}})
    assert switched.preview().changes == {}
    cluster.merge(f"{_MAPS}/cilium-config", _EDITED)
    try:
        errors = switched.preview(fails=True).errors()
        assert "belongs to Flux's HelmRelease net (label helm.toolkit.fluxcd.io/name=net)" in errors
        assert "write managed-by into skipChecks" in errors
    finally:
        cluster.merge(f"{_MAPS}/cilium-config", {"data": {"kube-proxy-replacement": was}})
        cluster.merge(agents, {"metadata": {"labels": {"helm.toolkit.fluxcd.io/name": None}}})


@pytest.fixture(scope="module")
def fought(cluster: Cluster, switched: Stack, upgraded: Drift) -> Iterator[tuple[Act, Act]]:
    """Something puts kube-proxy back for the third time."""
    kube_proxy_is_put_back(cluster, upgraded)
    yield act(cluster, switched, "preview", fails=True), act(cluster, switched, "up", fails=True)
    switched.config("skipChecks", None)


def test_what_comes_back_again_and_again_is_refused_with_who_made_it(fought: tuple[Act, Act]) -> None:
    for each in fought:
        errors = each.run.errors()
        assert "back for the third time within a day, made by engine-tests at " in errors
        assert "Nothing was changed" in errors
        assert "write managed-by into skipChecks" in errors
        assert changes_by_person(each.audit) == []
        assert "DaemonSet.apps kube-system/kube-proxy" in each.after


@pytest.mark.usefixtures("fought")
def test_where_that_is_seen_to_it_is_removed_once_more(cluster: Cluster, switched: Stack) -> None:
    switched.config("skipChecks", ["managed-by"])
    mended = act(cluster, switched, "up")
    assert "DaemonSet.apps kube-system/kube-proxy" not in mended.after
    assert mended.outputs["agents"]["switched"] == 3
    assert switched.preview().changes == {}


# What people do


def helm(cluster: Cluster, toolchain: Toolchain, *arguments: str) -> None:
    """Helm's own program, by hand."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(cluster.kubeconfig.parent)}
    subprocess.run(
        [str(toolchain.helm), *arguments],
        env=environment | {"KUBECONFIG": str(cluster.kubeconfig)},
        capture_output=True,
        timeout=60,
        check=True,
    )


def rolled_out(cluster: Cluster) -> bool:
    owner = cluster.get(f"{_DAEMONSETS}/cilium")
    its = owner["status"]
    seen = its.get("observedGeneration") == owner["metadata"]["generation"]
    return seen and its.get("updatedNumberScheduled") == its.get("numberReady") == its["desiredNumberScheduled"]


def kube_proxy_is_put_back(cluster: Cluster, before: Drift) -> None:
    """As it is in the backup, and it routes."""
    backup = before.mended.after[f"ConfigMap kube-system/{RECORD}"]["data"]
    cluster.create(_MAPS, json.loads(backup["configmap.json"]))
    cluster.create(_DAEMONSETS, json.loads(backup["daemonset.json"]))
    wait_until("kube-proxy's rules are on every node again", lambda: list(proxy_rules(cluster).values()) == [True] * 3)


def restarted_agent(cluster: Cluster, node: str) -> None:
    """An agent deleted by hand; its DaemonSet makes another, which starts with what cilium-config says then."""
    pod = cluster.pods("k8s-app=cilium")[node]
    cluster.delete(f"/api/v1/namespaces/kube-system/pods/{pod['metadata']['name']}")

    def another_is_ready() -> bool:
        now = cluster.pods("k8s-app=cilium").get(node)
        if now is None or now["metadata"]["uid"] == pod["metadata"]["uid"]:
            return False
        conditions = now["status"].get("conditions") or []
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    wait_until(f"there is another agent on {node}", another_is_ready)


def told_to_bring_kube_proxy_back(cluster: Cluster) -> None:
    """kubeadm's configuration as somebody has who wants its add-on again."""
    path = f"{_MAPS}/kubeadm-config"
    configuration = yaml.safe_load(cluster.get(path)["data"]["ClusterConfiguration"])
    assert configuration["proxy"] == {"disabled": True}
    configuration["proxy"] = {"disabled": False}
    cluster.merge(path, {"data": {"ClusterConfiguration": yaml.safe_dump(configuration)}})


def proxy_rules(cluster: Cluster) -> dict[str, bool]:
    return {node: "KUBE-SERVICES" in text for node, text in cluster.kernels().items()}
