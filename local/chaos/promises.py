"""What holds at every instant, looked for in all that happened, change after change.

- kube-proxy's DaemonSet is there, or a backup of it and of its ConfigMap that lacks nothing.
- While it is gone, each node is routed: by the rules that it has left there, until somebody cleans them; after that by
  the node's agent, with a `cilium-config` and a DaemonSet that have it replace kube-proxy.
- A node is cleaned only when its agent is ready and set to replace.
- Cilium is set to let go, or taken away, only when kube-proxy runs on every node; on one node alone, by its label, only
  when kube-proxy runs there.
- It is taken away only when every agent has started anew since it was set to let go: one that replaces kube-proxy
  leaves its programs in the kernel.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from local.chaos.watcher import Event
from local.cluster.api import Object

_RECORD = "kube-proxy-replacement"
_PROXY = "kube-proxy"
_CONFIG = "cilium-config"
_REPLACES = "kube-proxy-replacement"
_TASK = "kube-proxy-replacement/task"
_ROUTING = "kube-proxy-replacement/routing"
_TOLD = {"cilium": True, "both": True, "kube-proxy": False}
"""What a node's label says to an agent that starts there, by a CiliumNodeConfig; without it cilium-config says it."""


@dataclass(frozen=True)
class KubeProxy:
    """kube-proxy as it was found: what a backup has to hold."""

    daemonset: Object
    configmap: Object

    def is_in(self, record: Object) -> bool:
        """Whether a ConfigMap is a backup of it that lacks nothing."""
        data = record.get("data") or {}
        try:
            daemonset, configmap = json.loads(data["daemonset.json"]), json.loads(data["configmap.json"])
        except (KeyError, ValueError):
            return False
        return _same(self.daemonset, daemonset, "spec") and _same(self.configmap, configmap, "data")


@dataclass
class _Pod:
    """`told`: whether it has come while agents were told to replace kube-proxy; `replaces`: so it was when ready."""

    node: str
    app: str
    task: str
    ready: bool
    phase: str
    told: bool = False
    replaces: bool = False


@dataclass
class Promises:
    """The cluster as it is after each change.

    Attributes:
        found: kube-proxy as it was found; nodes: their names.
        struck: nodes whose agent somebody has deleted by hand in this run: what its absence means isn't the program's.
    """

    found: KubeProxy
    nodes: frozenset[str]
    struck: set[str] = field(default_factory=set)
    daemonset: bool = True
    backup: bool = False
    replaces: bool = False
    agents: bool = False
    cleaned: set[str] = field(default_factory=set)
    pods: dict[str, _Pod] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def follow(self, events: Iterable[Event]) -> list[str]:
        """What was broken in these events, in words, each with the resource version at which it was."""
        self.broken = []
        for event in events:
            if event.kind == "DaemonSet":
                self._daemonset(event)
            elif event.kind == "ConfigMap":
                self._configmap(event)
            elif event.kind == "Node":
                self._node(event)
            else:
                self._pod(event)
            self._standing(event)
        return self.broken

    def _say(self, event: Event, text: str) -> None:
        unseen = "" if event.seen else " (found so after the API server was away)"
        line = f"at resource version {event.version}, {event.kind} {event.name}{unseen}: {text}"
        if not any(its.endswith(text) for its in self.broken):
            self.broken.append(line)

    def _standing(self, event: Event) -> None:
        if not self.daemonset and not self.backup:
            self._say(event, "kube-proxy's DaemonSet is gone, and there is no complete backup of it")
        dark = {node for node in self.cleaned if not (self._told(node) and self.agents)}
        if dark:
            self._say(event, f"kube-proxy and its rules are gone from {_some(dark)}, and Cilium won't route")

    def _told(self, node: str) -> bool:
        """Whether an agent that starts there now is told to replace kube-proxy."""
        return _TOLD.get(self.labels.get(node, ""), self.replaces)

    def _running(self) -> set[str]:
        """The nodes that kube-proxy runs on."""
        return {pod.node for pod in self.pods.values() if pod.app == _PROXY and pod.ready}

    def _node(self, event: Event) -> None:
        name = event.name
        before = self._told(name)
        self.labels[name] = (((event.thing or {}).get("metadata") or {}).get("labels") or {}).get(_ROUTING, "")
        lets_go = (
            before and not self._told(name) and any(its.replaces and its.node == name for its in self.pods.values())
        )
        if lets_go and name not in self._running():
            self._say(event, f"{name} is set to let kube-proxy route, and that doesn't run there")

    def _daemonset(self, event: Event) -> None:
        if event.name == _PROXY:
            self.daemonset = event.thing is not None
        if event.name == "cilium":
            before, self.agents = self.agents, event.thing is not None
            if before and not self.agents:
                self._taken_away(event, "Cilium's DaemonSet is deleted")

    def _configmap(self, event: Event) -> None:
        if event.name == _RECORD:
            self.backup = event.thing is not None and self.found.is_in(event.thing)
        if event.name == _CONFIG:
            before = self.replaces
            self.replaces = ((event.thing or {}).get("data") or {}).get(_REPLACES) == "true"
            if event.thing is None and self.agents:
                self._taken_away(event, "Cilium's configuration is deleted")
            elif before and not self.replaces and self.agents:
                self._letting_go(event, "Cilium is set to let kube-proxy route")

    def _taken_away(self, event: Event, what: str) -> None:
        left = {pod.node for pod in self.pods.values() if pod.replaces}
        if left:
            self._letting_go(event, what)
            self._say(event, f"{what} while the agents on {_some(left)} replace kube-proxy")

    def _letting_go(self, event: Event, what: str) -> None:
        without = self.nodes - self._running()
        if not self.daemonset or without:
            self._say(event, f"{what}, and kube-proxy doesn't run on {_some(without or self.nodes)}")

    def _pod(self, event: Event) -> None:
        before = self.pods.pop(event.name, None)
        if event.thing is None:
            return
        now = self.pods[event.name] = _parsed(event.thing)
        if now.app == _PROXY and now.ready:
            self.cleaned.discard(now.node)
        if now.app == "cilium":
            starts = before is None or not before.ready
            now.told = (before is not None and before.told) or (starts and self._told(now.node))
            now.replaces = (before is not None and before.replaces) or (now.ready and now.told)
        if now.task != "clean":
            return
        if before is None and now.node not in self.struck:
            ready = any(pod.app == "cilium" and pod.ready and pod.node == now.node for pod in self.pods.values())
            if not (ready and self._told(now.node)):
                self._say(event, f"{now.node} is cleaned while its agent isn't ready to replace kube-proxy")
        if now.phase == "Succeeded":
            self.cleaned.add(now.node)


def _parsed(pod: Object) -> _Pod:
    labels, status = pod["metadata"].get("labels") or {}, pod.get("status") or {}
    ready = any(its["type"] == "Ready" and its["status"] == "True" for its in status.get("conditions") or [])
    node, phase = pod["spec"].get("nodeName", ""), status.get("phase", "")
    return _Pod(node, labels.get("k8s-app", ""), labels.get(_TASK, ""), ready, phase)


def _same(found: Object, kept: Any, part: str) -> bool:
    if not isinstance(kept, dict) or kept.get(part) != found[part]:
        return False
    return all(kept["metadata"].get(key) == found["metadata"].get(key) for key in ("name", "namespace", "labels"))


def _some(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
