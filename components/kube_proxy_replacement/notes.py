"""What a preview tells a reviewer, in words: what will happen, what will be noticed, what stays as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from . import chart
from .cluster.record import Failed
from .values import HEALTH_PORT

KEPT = {
    True: "socketLB.hostNamespaceOnly is turned on under agents that replace kube-proxy: as its agent restarts, a "
    "node's pods get no answer from ClusterIPs, DNS among them, for some seconds (5 measured), since eBPF at their "
    "sockets goes before eBPF at their interfaces comes. Open connections live",
    False: "socketLB.hostNamespaceOnly is turned off under agents that replace kube-proxy: every connection of a pod "
    "to a ClusterIP that is open hangs, as its node's agent restarts, until its client gives up, since nothing "
    "translates its packets any more and nothing resets it. New connections are answered",
}
"""What it does to turn it on or off on a switched cluster; measured on real nodes. In a switch-over it does neither."""

_RESTART_SECONDS = 20
"""One agent from its deletion to Ready: 14 to 18 s measured on real nodes with Cilium 1.20.2, rounded up."""


def again(failed: Failed) -> str:
    """For a run in the mode in which the last one failed."""
    became = (
        "It was rolled back: kube-proxy routes, Cilium is as it was before; this run tries the switch-over again"
        if failed.rolled_back
        else "All was left as it was then; this run goes on from there"
    )
    return f"the last run in this mode failed, {failed.at}: {failed.reason}\n{became}"


def switch_over(
    *,
    had_kube_proxy: bool,
    nodes: int,
    left_out: Sequence[str],
    address: str,
    source: str,
    balancers: Sequence[str],
    fresh: bool,
    values: Mapping[str, Any],
    kept: bool,
    policies: Mapping[str, Sequence[str]],
    masqueraded: bool,
    at_a_time: int = 0,
    already: int = 0,
) -> list[str]:
    """For a run that goes to replace mode.

    Args:
        address, source: the API server's `HOST:PORT` and where it was found.
        balancers: the Services of type LoadBalancer.
        fresh: Cilium isn't on the cluster yet.
        values: the chart's and the user's values: how many agents restart at a time, what they masquerade with.
        kept: pods' calls to ClusterIPs are translated packet by packet, as before.
        policies: Services that are called from outside, by their externalTrafficPolicy («Cluster», «Local»).
        masqueraded: the running agents have bpf.masquerade on.
        at_a_time: how many nodes are handed over at a time, 0 for all of them; already: how many are.
    """
    notes = [f"agents reach the API server at {address} (from: {source})"]
    if not had_kube_proxy:
        notes.append("this cluster has no kube-proxy: nothing is removed, and destroy will restore none")
        return notes + _left_out(left_out)
    if at_a_time:
        notes += _one_by_one(nodes, at_a_time, already, balancers)
        return notes + _open_connections(kept, policies, values, masqueraded) + _left_out(left_out)
    seconds = switch_seconds(nodes, fresh, values)
    notes.append(
        f"switch-over on {nodes} nodes: each shows that it reaches that address; kube-proxy's DaemonSet and "
        "ConfigMap are backed up, read back and removed; agents restart with the replacement on; when every one is "
        "switched, kube-proxy's leftover rules are cleaned"
    )
    notes.append(
        "endpoints that change meanwhile aren't followed: from kube-proxy's removal until its own agent is switched, a "
        f"node goes on asking those of that moment, the last node for {seconds} s and some more. Drain no node and "
        "roll nothing out while this runs"
    )
    if balancers:
        notes.append(
            f"Services of type LoadBalancer: {len(balancers)} ({_some(balancers)}). Their cloud's health checks ask "
            f"each node on port {HEALTH_PORT}. A node doesn't answer there from kube-proxy's removal until its own "
            f"agent has restarted: on the last node about {seconds} s. A load balancer that gives a node up sooner "
            "sends it nothing for that long; the rules in its kernel go on routing"
        )
    if not fresh:
        notes += _open_connections(kept, policies, values, masqueraded)
    return notes + _left_out(left_out)


def _one_by_one(nodes: int, at_a_time: int, already: int, balancers: Sequence[str]) -> list[str]:
    left = nodes - already
    seconds = _RESTART_SECONDS * math.ceil(left / at_a_time)
    said = f"{already} of {nodes} nodes are handed over already: this run goes on with the others. " if already else ""
    return [
        f"{said}Node by node, {at_a_time} of {nodes} at a time, about {seconds} s and more: each node shows that it "
        "reaches that address; kube-proxy is backed up, and read back; then, one node after the other, kube-proxy is "
        "parked, the agent restarts with the replacement on and is proved, and the leftover rules are cleaned. A node "
        "that fails goes back alone, and the run stops there. When all are handed over, kube-proxy's DaemonSet and "
        "ConfigMap are removed, and the release says for good what the agents run with",
        "endpoints that change meanwhile are followed, but on the node whose turn it is: for about "
        f"{_RESTART_SECONDS} s it goes on asking those of the moment when its kube-proxy ended",
        f"each node's port {HEALTH_PORT} is silent once, for about 10 s measured, never on more than {at_a_time} at "
        "a time" + (f"; Services of type LoadBalancer: {len(balancers)} ({_some(balancers)})" if balancers else ""),
    ]


def _open_connections(
    kept: bool, policies: Mapping[str, Sequence[str]], values: Mapping[str, Any], masqueraded: bool
) -> list[str]:
    """Which of them break when an agent takes over, and by which setting; measured on real nodes."""
    notes = ["new connections are answered throughout; of the open ones, as their node's agent restarts:"]
    if kept:
        notes.append("pods' to ClusterIPs live (socketLB.hostNamespaceOnly)")
    else:
        notes.append("pods' to ClusterIPs are reset, each once: socketLB.hostNamespaceOnly is off")
    if policies["Cluster"]:
        notes.append(
            "from outside, or from pods at a node's address, to Services with externalTrafficPolicy Cluster "
            f"({_counted(policies['Cluster'])}) are reset, each once, whatever is set: where that matters, let what "
            "balances before the nodes drain them first"
        )
    masquerade = bool(chart.switch(values, "bpf", "masquerade"))
    if policies["Local"]:
        notes.append(
            f"from outside to Services with externalTrafficPolicy Local ({_counted(policies['Local'])}) "
            + (
                "live where the node has one endpoint of theirs (bpf.masquerade)"
                if masquerade
                else "are reset, each once: bpf.masquerade is off"
            )
        )
    if masquerade and not masqueraded:
        notes.append(
            "bpf.masquerade is turned on in the same run, which breaks others: from pods to other nodes, the API "
            "server's among them, they are reset; from pods to outside they stall (up to 14 s measured)"
        )
    return notes


def switch_back(
    *,
    nodes: int,
    left_out: Sequence[str],
    address: str,
    source: str,
    values: Mapping[str, Any],
    masqueraded: bool,
    at_a_time: int = 0,
) -> list[str]:
    """For a run that goes back to coexist mode; `values`, `masqueraded` and `at_a_time` as for `switch_over`."""
    some = f", {at_a_time} of {nodes} at a time" if at_a_time else ""
    unmasquerades = masqueraded and not chart.switch(values, "bpf", "masquerade")
    return [
        f"agents reach the API server at {address} (from: {source})",
        f"switch-back on {nodes} nodes: kube-proxy is restored from its backup and routes on every node, then the "
        f"agents restart with the replacement off{some}. New connections are answered throughout. Of those open then, "
        "pods' to ClusterIPs live; from outside to NodePort, LoadBalancer and external addresses they are reset, each "
        "once",
        *(
            [
                "bpf.masquerade is turned off in the same run: pods' open connections to outside hang until their "
                "client gives up, and those to other nodes are reset"
            ]
            if unmasquerades
            else []
        ),
        *_left_out(left_out),
    ]


def beside(*, address: str, source: str, left_out: Sequence[str]) -> list[str]:
    """For a first run in coexist mode: Cilium comes beside kube-proxy."""
    return [
        f"agents reach the API server at {address} (from: {source})",
        "kube-proxy stays as it is and goes on routing; it is backed up",
        *_left_out(left_out),
    ]


def cut_off(pods: Sequence[Mapping[str, Any]]) -> list[str]:
    """Pods off the host network on a cluster without Cilium: on real nodes all were cut off until made anew."""
    if not pods:
        return []
    names = sorted(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in pods)
    return [
        f"{len(names)} pods run on another network than Cilium's ({_some(names)}): when the agents set their routes, "
        "these are cut off until they are deleted and made anew. This program deletes none of them"
    ]


def switch_seconds(nodes: int, fresh: bool, values: Mapping[str, Any]) -> int:
    """About how long from kube-proxy's removal until the last agent has restarted, in seconds."""
    if fresh:
        return 2 * _RESTART_SECONDS  # all agents are new and start at once, their image is on the nodes
    rolling = (values.get("updateStrategy") or {}).get("rollingUpdate") or {}
    return 10 + _RESTART_SECONDS * math.ceil(nodes / _at_once(rolling.get("maxUnavailable"), nodes))


def _at_once(maximum: Any, nodes: int) -> int:
    text = "2" if maximum is None else str(maximum)  # the chart's default
    number = text.removesuffix("%").removesuffix(".0")
    if not number.isdigit():
        return 1  # the chart will say no to it
    share = math.ceil(nodes * int(number) / 100)  # a DaemonSet's percentage is rounded up
    return max(1, share if text.endswith("%") else int(number))


def _left_out(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    return [
        f"{len(names)} nodes aren't Ready and are left out: {_some(names)}; the first up after they return does them"
    ]


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)}: {_some(names)}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
