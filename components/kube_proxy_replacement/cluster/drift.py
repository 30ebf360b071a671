"""What isn't as wanted on a cluster that an earlier run left as wanted.

Pulumi can't see this: Commands have no read, and the Release's read never sees the cluster's objects.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import agents, controllers, hooks, kubeadm, record, scheduling
from .agents import Agent, Reading
from .api import Api, Object
from .helm_release import HelmRelease
from .kube_proxy import KubeProxy
from .nodes import Nodes
from .record import Record

_CONFIG = "cilium-config"


@dataclass(frozen=True)
class Drift:
    """What was found.

    Attributes:
        findings: what isn't as wanted, a sentence each; () where all is.
        unreadable: nodes whose ready agent can't be read, and why: no repair mends that, and none is tried.
        restart: UIDs of the agents that a repair has to restart by name.
        mark: made from what is wrong (uids, resource versions) and the last mark, "" where nothing is. Without the
            last one, what goes wrong in the same way again (an object that is gone has no uid) would not be mended.
    """

    findings: tuple[str, ...]
    restart: tuple[str, ...]
    mark: str
    unreadable: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Given:
    """What the last run gave the Helm release.

    Attributes:
        version: the chart's; "" where that isn't known.
        values: the Helm values.
        shown: those of them whose content may be shown: nobody's secret is among them.
        alone: nobody else's values are in the release.
    """

    version: str
    values: Mapping[str, Any]
    shown: Mapping[str, Any]
    alone: bool = True


NOTHING = Drift((), (), "")


def mark_of(facts: Sequence[str], mark: str) -> str:
    """A new repair mark from what is wrong and the last mark."""
    return hashlib.sha256(json.dumps([mark, *sorted(facts)]).encode()).hexdigest()[:12]


class _Findings:
    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.facts: list[str] = []
        self.restart: list[str] = []
        self.unreadable: dict[str, str] = {}

    def add(self, sentence: str, *facts: str) -> None:
        self.sentences.append(sentence)
        self.facts += [sentence if not facts else "|".join(facts)]

    def drift(self, mark: str) -> Drift:
        if not self.sentences:
            return Drift((), (), "", self.unreadable)
        restart = tuple(sorted(set(self.restart)))
        return Drift(tuple(self.sentences), restart, mark_of(self.facts, mark), self.unreadable)


def look(
    api: Api,
    mode: str,
    namespace: str,
    nodes: Nodes,
    proxy: KubeProxy,
    kept: Record | None,
    release: HelmRelease | None,
    mark: str,
    *,
    given: Given | None = None,
    reads_agents: bool = True,
) -> Drift:
    """Compares the cluster with what mode `mode` wants. Changes nothing.

    Args:
        mark: the one that is recorded.
        given: None: what the release was given isn't compared.
        reads_agents: whether these credentials may read agents. Without, what the API server has of them is compared.
    """
    found = _Findings()
    if kept is None:
        found.add(f"the record in ConfigMap {record.LOCATION} was deleted")
    if mode == "replace":
        _removed(api, proxy, kept, nodes, found)
    else:
        _there(proxy, found)
    if release is not None and given is not None:
        _release(release, given, found)
    config = api.find(f"/api/v1/namespaces/{namespace}/configmaps/{_CONFIG}")
    edited = _configuration(config, namespace, release, found)
    readings = _agents(api, namespace, mode, nodes, config, edited, found, reads_agents)
    if mode == "replace":
        _kernels(readings, proxy, kept, nodes, config, found)
    return found.drift(mark)


def _removed(api: Api, proxy: KubeProxy, kept: Record | None, nodes: Nodes, found: _Findings) -> None:
    for kind, item in (("DaemonSet", proxy.daemonset), ("ConfigMap", proxy.configmap)):
        if item is not None:
            found.add(f"kube-proxy's {kind} is back{controllers.made_by(item)}", kind, item["metadata"]["uid"])
    text = kubeadm.text(api) if kept is None or kept.had_kube_proxy else None
    if text is not None and not kubeadm.disabled(text):
        found.add("kubeadm-config no longer says proxy.disabled: kubeadm upgrade would bring kube-proxy back")
    if kept is not None and kept.daemonset is not None and proxy.daemonset is None:
        for node in nodes.ready:
            if node.uid in kept.uncleaned:
                found.add(f"{node.name}: its leftover rules aren't cleaned yet", "rules", node.uid)


def _there(proxy: KubeProxy, found: _Findings) -> None:
    if proxy.daemonset is None:
        found.add("kube-proxy's DaemonSet is gone")
    if proxy.configmap is None and proxy.daemonset is not None and _mounts_configmap(proxy.daemonset):
        found.add("kube-proxy's ConfigMap is gone")


def _mounts_configmap(daemonset: Object) -> bool:
    volumes = daemonset["spec"]["template"]["spec"].get("volumes") or []
    return any((volume.get("configMap") or {}).get("name") == "kube-proxy" for volume in volumes)


def _release(release: HelmRelease, given: Given, found: _Findings) -> None:
    """What somebody has upgraded or rolled back by hand: other values or another chart than the last run gave."""
    what = f"the Helm release {release.name} is at revision {release.revision}"
    what += f" («{release.description}»)" if release.description else ""
    if given.version and release.version != given.version:
        found.add(f"{what}, of chart {release.version} instead of {given.version}", "chart", str(release.revision))
    wanted, now, shown = (dict(_leaves(its)) for its in (given.values, release.values, given.shown))
    keys = wanted.keys() | now.keys() if given.alone else wanted.keys()
    other = sorted(key for key in keys if not _same(wanted.get(key), now.get(key)))
    if not other:
        return
    # the program's own first, and with what they are; of others' only the names, for what is in them may be secret
    other.sort(key=lambda key: key not in shown)
    named = [f"{key}: {now.get(key)!r} instead of {wanted[key]!r}" if key in shown else key for key in other[:8]]
    found.add(
        f"{what}, with other values than this stack gave it ({', '.join(named)}{' …' if len(other) > 8 else ''})",
        "values",
        str(release.revision),
    )


def _leaves(tree: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """Values by their path, `hubble.enabled`; what is empty or null says nothing."""
    for key, value in tree.items():
        path = f"{at}.{key}" if at else str(key)
        if isinstance(value, Mapping):
            yield from _leaves(value, path)
        elif value is not None and value != []:
            yield path, value


def _same(one: Any, other: Any) -> bool:
    """Whether two values say the same: Pulumi's numbers are floats, and lose what an integer has beyond 2^53."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return float(one) == float(other)
    return bool(one == other)


def _configuration(config: Object | None, namespace: str, release: HelmRelease | None, found: _Findings) -> bool:
    """Compares cilium-config with what the release's newest revision rendered; whether it was edited."""
    if release is None:
        found.add(
            f"the Helm release in namespace {namespace} is gone: `pulumi up --refresh` takes it out of the state, and "
            "installs it again"
        )
        return False
    if release.status != "deployed":
        found.add(
            f"the Helm release {release.name} is {release.status}",
            "release",
            str(release.revision),
            release.status,
        )
    if config is None:
        found.add(f"ConfigMap {namespace}/{_CONFIG} is gone")
        return False
    data = config.get("data") or {}
    edited = sorted(key for key in data.keys() | release.config.keys() if data.get(key) != release.config.get(key))
    if not edited or not release.config:
        return False
    shown = ", ".join(f"{key}: {data.get(key)!r} instead of {release.config.get(key)!r}" for key in edited[:5])
    found.add(
        f"{_CONFIG} was edited ({shown}{' …' if len(edited) > 5 else ''}){controllers.written_by(config)}",
        _CONFIG,
        config["metadata"]["resourceVersion"],
    )
    return True


def _agents(
    api: Api,
    namespace: str,
    mode: str,
    nodes: Nodes,
    config: Object | None,
    edited: bool,
    found: _Findings,
    reads: bool,
) -> dict[str, tuple[Agent, Reading]]:
    """Compares the agents; returns those that were read, by their node's name."""
    its_agents = agents.find(api, namespace)
    owner = agents.daemonset(api, namespace)
    elsewhere = (
        scheduling.left_out(owner["spec"]["template"]["spec"], nodes.ready) if owner and mode == "coexist" else {}
    )
    wanted = [node for node in nodes.ready if node.name not in elsewhere]
    if config is not None and edited:
        when = _changed(config)
        for agent in (its_agents[node.name] for node in wanted if node.name in its_agents):
            # what it started with isn't what it will read after the mending, though its checksum will be right
            if agent.started >= when:
                found.restart.append(agent.uid)
                if not reads:
                    found.add(f"{agent.node}: its agent started after {_CONFIG} was edited", "started", agent.uid)
    present = [its_agents[node.name] for node in wanted if node.name in its_agents]
    ready, kernel = [agent for agent in present if agent.ready], mode == "replace"
    readings = (
        agents.read(api, namespace, ready, endpoints=False, leftover=kernel, attached=kernel)
        if reads
        else _unread(ready, owner, found)
    )
    for node in wanted:
        its = its_agents.get(node.name)
        if its is None or not its.ready:
            why = its.waiting if its else "there is none"
            uid = its.uid if its else ""
            found.add(f"{node.name}: its agent isn't ready{f' ({why})' if why else ''}", "agent", node.uid, uid)
            continue
        if node.name not in readings:
            continue  # not asked
        answer = readings[node.name].answer
        if answer is None:
            found.unreadable[node.name] = readings[node.name].error
        elif (answer.kube_proxy_replacement == "True") != (mode == "replace"):
            found.add(
                f"{node.name}: its agent says KubeProxyReplacement: {answer.kube_proxy_replacement}",
                "mode",
                its.uid,
            )
            said = ((config or {}).get("data") or {}).get("kube-proxy-replacement")
            if said == ("true" if mode == "replace" else "false"):
                # the text is as wanted, so no rollout will come: it started with another
                found.restart.append(its.uid)
    return {agent.node: (agent, readings[agent.node]) for agent in ready if agent.node in readings}


def _unread(ready: Sequence[Agent], owner: Object | None, found: _Findings) -> dict[str, Reading]:
    """What a pod itself shows of what its agent started with, the checksum of its configuration; nothing is read."""
    wanted = agents.checksum(owner["spec"]["template"]) if owner else ""
    for agent in ready:
        if agent.checksum != wanted:
            found.add(
                f"{agent.node}: its agent didn't start with what DaemonSet {agents.DAEMONSET} has now (checksum "
                f"{agent.checksum[:8] or 'none'} of its configuration instead of {wanted[:8] or 'none'})",
                "checksum",
                agent.uid,
                wanted,
            )
    return {}


def _kernels(
    readings: dict[str, tuple[Agent, Reading]],
    proxy: KubeProxy,
    kept: Record | None,
    nodes: Nodes,
    config: Object | None,
    found: _Findings,
) -> None:
    """What the nodes' kernels hold though they were cleaned, and lack though their agents replace kube-proxy."""
    data: dict[str, str] = (config or {}).get("data") or {}
    cleans = kept is not None and kept.daemonset is not None and proxy.daemonset is None
    for node in nodes.ready:
        its, reading = readings.get(node.name, (None, None))
        if its is None or reading is None or reading.answer is None or not reading.answer.replacing:
            continue
        waits = kept is not None and node.uid in kept.uncleaned  # a finding of its own
        if cleans and not waits and isinstance(reading.leftover, int) and reading.leftover:
            found.add(
                f"{node.name}: {reading.leftover} lines of kube-proxy's rules are in its kernel again",
                "leftover",
                node.uid,
                str(reading.leftover),
            )
        socket_lb = bool(reading.answer.features.get("socketLB"))
        absent = (
            hooks.missing(reading.hooks, data, reading.answer.devices, socket_lb=socket_lb) if reading.hooks else ()
        )
        if absent:
            found.add(f"{node.name}: no eBPF program hangs at {', '.join(absent)}", "hooks", its.uid, *absent)
            found.restart.append(its.uid)  # it attaches them when it starts


def _changed(item: Object) -> str:
    """When it was last changed, RFC 3339, as the API server noted it for each writer."""
    times = [str(entry.get("time", "")) for entry in item["metadata"].get("managedFields") or []]
    return max([str(item["metadata"].get("creationTimestamp", "")), *times])
