"""What chaos' watcher calls broken, change after change."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.chaos.promises import KubeProxy, Promises
from local.chaos.watcher import Event

NODES = ("node-1", "node-2")
DAEMONSET: dict[str, Any] = {
    "metadata": {"name": "kube-proxy", "namespace": "kube-system", "labels": {"k8s-app": "kube-proxy"}, "uid": "1"},
    "spec": {"template": {"spec": {"containers": [{"name": "kube-proxy"}]}}},
}
CONFIGMAP: dict[str, Any] = {
    "metadata": {"name": "kube-proxy", "namespace": "kube-system", "uid": "2"},
    "data": {"config.conf": "mode: iptables"},
}


class Story:
    """Events one after the other, each with the next resource version."""

    def __init__(self) -> None:
        self.promises = Promises(KubeProxy(DAEMONSET, CONFIGMAP), frozenset(NODES))
        self.version = 0
        self.broken: list[str] = []
        for node in NODES:
            self.pod("kube-proxy", node)

    def happens(self, kind: str, name: str, thing: dict[str, Any] | None) -> Story:
        self.version += 1
        self.broken += self.promises.follow([Event(self.version, kind, name, thing)])
        return self

    def backed_up(self, daemonset: Any = DAEMONSET, configmap: Any = CONFIGMAP) -> Story:
        data = {"daemonset.json": json.dumps(daemonset), "configmap.json": json.dumps(configmap)}
        return self.happens("ConfigMap", "kube-proxy-replacement", {"data": data})

    def labelled(self, node: str, value: str) -> Story:
        labels = {"kube-proxy-replacement/routing": value} if value else {}
        return self.happens("Node", node, {"metadata": {"name": node, "labels": labels}})

    def handed_over(self, node: str) -> Story:
        """One node alone, in order."""
        self.labelled(node, "cilium").happens("Pod", f"kube-proxy-{node}", None)
        self.happens("Pod", f"cilium-{node}", None).pod("cilium", node, ready=False).pod("cilium", node)
        return self.cleaned(node)

    def proxy_gone(self) -> Story:
        self.happens("DaemonSet", "kube-proxy", None)
        for node in NODES:
            self.happens("Pod", f"kube-proxy-{node}", None)
        return self

    def proxy_back(self) -> Story:
        self.happens("DaemonSet", "kube-proxy", DAEMONSET)
        for node in NODES:
            self.pod("kube-proxy", node)
        return self

    def cilium(self, replaces: str) -> Story:
        self.happens("ConfigMap", "cilium-config", {"data": {"kube-proxy-replacement": replaces}})
        return self.happens("DaemonSet", "cilium", {})

    def pod(self, app: str, node: str, *, task: str = "", ready: bool = True, phase: str = "Running") -> Story:
        labels = {"k8s-app": app, "kube-proxy-replacement/task": task}
        status = {"phase": phase, "conditions": [{"type": "Ready", "status": str(ready)}]}
        pod = {"metadata": {"labels": labels}, "spec": {"nodeName": node}, "status": status}
        return self.happens("Pod", f"{app or task}-{node}", pod)

    def restarted(self) -> Story:
        for node in NODES:
            self.happens("Pod", f"cilium-{node}", None).pod("cilium", node)
        return self

    def cleaned(self, node: str) -> Story:
        return self.pod("", node, task="clean", ready=False, phase="Pending").pod(
            "", node, task="clean", ready=False, phase="Succeeded"
        )

    def switched(self) -> Story:
        """All the way there, in order."""
        self.backed_up().proxy_gone().cilium("true")
        for node in NODES:
            self.pod("cilium", node)
        for node in NODES:
            self.cleaned(node)
        return self


@pytest.fixture
def story() -> Story:
    return Story()


def test_the_way_there_and_back_breaks_nothing(story: Story) -> None:
    story.switched().proxy_back().cilium("false").restarted()
    story.happens("ConfigMap", "cilium-config", None).happens("DaemonSet", "cilium", None)
    story.happens("ConfigMap", "kube-proxy-replacement", None)
    assert story.broken == []


def test_node_by_node_there_and_back_breaks_nothing(story: Story) -> None:
    story.backed_up().cilium("false")
    for node in NODES:
        story.pod("cilium", node)
    for node in NODES:
        story.handed_over(node)
    story.proxy_gone().cilium("true")
    for node in NODES:
        story.labelled(node, "")
    story.proxy_back()
    for node in NODES:
        story.labelled(node, "kube-proxy").happens("Pod", f"cilium-{node}", None).pod("cilium", node)
    story.cilium("false")
    for node in NODES:
        story.labelled(node, "")
    story.happens("ConfigMap", "cilium-config", None).happens("DaemonSet", "cilium", None)
    assert story.broken == []


def test_a_node_that_goes_back_before_kube_proxy_runs_there(story: Story) -> None:
    story.backed_up().cilium("false").handed_over("node-1").labelled("node-1", "")
    assert story.broken[0].endswith("node-1 is set to let kube-proxy route, and that doesn't run there")
    assert "kube-proxy and its rules are gone from node-1, and Cilium won't route" in story.broken[1]


def test_a_node_whose_agent_has_not_started_anew_may_go_back_at_once(story: Story) -> None:
    story.backed_up().cilium("false").pod("cilium", "node-1").labelled("node-1", "cilium")
    story.pod("cilium", "node-1").happens("Pod", "kube-proxy-node-1", None).labelled("node-1", "")
    assert story.broken == []


def test_a_node_that_is_cleaned_without_the_label_while_others_have_it(story: Story) -> None:
    story.backed_up().cilium("false").handed_over("node-1").pod("cilium", "node-2").cleaned("node-2")
    assert story.broken[0].endswith("node-2 is cleaned while its agent isn't ready to replace kube-proxy")


def test_kube_proxy_removed_before_it_is_backed_up(story: Story) -> None:
    story.proxy_gone()
    assert story.broken[0] == (
        "at resource version 3, DaemonSet kube-proxy: kube-proxy's DaemonSet is gone, and there is no complete backup "
        "of it"
    )


@pytest.mark.parametrize(
    ("daemonset", "configmap"),
    [
        (None, CONFIGMAP),
        (DAEMONSET, None),
        (DAEMONSET | {"spec": {}}, CONFIGMAP),
        (DAEMONSET | {"metadata": {"name": "kube-proxy", "namespace": "kube-system"}}, CONFIGMAP),
        (DAEMONSET, CONFIGMAP | {"data": {}}),
    ],
)
def test_a_backup_that_lacks_something_is_none(story: Story, daemonset: Any, configmap: Any) -> None:
    story.backed_up(daemonset, configmap).proxy_gone()
    assert "no complete backup" in story.broken[0]


def test_a_backup_that_goes_while_kube_proxy_is_gone(story: Story) -> None:
    story.switched().happens("ConfigMap", "kube-proxy-replacement", None)
    assert "no complete backup" in story.broken[0]


def test_a_node_that_is_cleaned_before_its_agent_is_ready(story: Story) -> None:
    story.backed_up().proxy_gone().cilium("true").pod("cilium", "node-1").pod("cilium", "node-2", ready=False)
    story.cleaned("node-1").cleaned("node-2")
    assert [line.partition(": ")[2] for line in story.broken] == [
        "node-2 is cleaned while its agent isn't ready to replace kube-proxy"
    ]


def test_a_node_that_is_cleaned_while_its_agent_is_set_to_let_kube_proxy_route(story: Story) -> None:
    story.backed_up().cilium("false").pod("cilium", "node-1").cleaned("node-1")
    assert "node-1 is cleaned while" in story.broken[0]


def test_cilium_that_lets_go_before_kube_proxy_is_back(story: Story) -> None:
    story.switched().cilium("false")
    assert "Cilium is set to let kube-proxy route, and kube-proxy doesn't run on node-1, node-2" in story.broken[0]
    assert "kube-proxy and its rules are gone from node-1, node-2, and Cilium won't route" in story.broken[1]


def test_cilium_that_lets_go_before_kube_proxy_runs_on_every_node(story: Story) -> None:
    story.switched().happens("DaemonSet", "kube-proxy", DAEMONSET).pod("kube-proxy", "node-1")
    story.pod("kube-proxy", "node-2", ready=False).cilium("false")
    assert "and kube-proxy doesn't run on node-2" in story.broken[0]


def test_a_release_that_is_uninstalled_while_kube_proxy_is_gone(story: Story) -> None:
    story.switched().happens("DaemonSet", "cilium", None)
    assert "Cilium's DaemonSet is deleted, and kube-proxy doesn't run on node-1, node-2" in story.broken[0]


@pytest.mark.parametrize(("kind", "name"), [("ConfigMap", "cilium-config"), ("DaemonSet", "cilium")])
def test_a_release_that_is_uninstalled_before_its_agents_have_let_go(story: Story, kind: str, name: str) -> None:
    story.switched().proxy_back().cilium("false").happens("Pod", "cilium-node-1", None).pod("cilium", "node-1")
    story.happens(kind, name, None)
    assert len(story.broken) == 1
    assert story.broken[0].endswith("is deleted while the agents on node-2 replace kube-proxy")


def test_a_node_whose_agent_was_struck_by_chaos_itself_is_not_the_programs(story: Story) -> None:
    story.backed_up().proxy_gone().cilium("true").pod("cilium", "node-1", ready=False)
    story.promises.struck.add("node-1")
    assert story.cleaned("node-1").broken == []


def test_what_nobody_has_watched_is_said_to_be_so(story: Story) -> None:
    story.broken += story.promises.follow([Event(9, "DaemonSet", "kube-proxy", None, seen=False)])
    assert "(found so after the API server was away)" in story.broken[0]
