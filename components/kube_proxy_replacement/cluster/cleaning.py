"""kube-proxy's leftover rules taken off every node, after every agent is switched.

By `kube-proxy --cleanup` from the image that the removed DaemonSet ran, which is on every node already. Its pod
mounts /lib/modules only on a node where kube-proxy has left virtual servers, and where nobody else has any: with it,
it flushes every one of the node (see `ipvs`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from . import agents, ipvs, kube_proxy, node_pods, record
from . import nodes as known_nodes
from .agents import Agent
from .api import Api, Object
from .errors import ProcedureError
from .node_pods import Outcome
from .nodes import Node
from .record import Record
from .services import ServiceTable


def clean(
    api: Api,
    backup: Record,
    nodes: Sequence[Node],
    switched: Mapping[str, Agent],
    namespace: str,
    *,
    timeout: float,
    say: Callable[[str], None],
) -> Record:
    """Cleans the nodes that aren't cleaned yet or have such rules again; notes in the record which still aren't.

    Args:
        backup: the record; its DaemonSet says which image.
        nodes: the nodes to clean; none without a switched agent is touched.
        switched: the nodes' agents, each of them switched.
    Returns: the record as it is now.
    Raises ProcedureError naming each node whose rules are still there.
    """
    if backup.daemonset is None:
        say("this cluster had no kube-proxy: there are no rules to clean")
        return backup
    present = [node for node in nodes if node.name in switched]
    done = [switched[node.name] for node in present if node.uid not in backup.uncleaned]
    # rules that have come back since (somebody's rescue, a kube-proxy that ran for a while) are in no record
    back = {
        name for name, count in agents.leftover_rules(api, namespace, done).items() if isinstance(count, int) and count
    }
    todo = [node for node in present if node.uid in backup.uncleaned or node.name in back]
    if not todo:
        say(f"leftover rules: none are left on {len(nodes)} nodes")
        return backup
    plans = _plans(api, backup, namespace, [switched[node.name] for node in todo])
    outcomes = node_pods.run(
        api,
        "clean",
        [node for node in todo if not plans[node.name].refusal],
        lambda node: _spec(backup, modules=plans[node.name].modules),
        timeout=timeout,
        say=say,
    )
    left = agents.leftover_rules(api, namespace, [switched[node.name] for node in todo])
    failed: dict[str, str] = {}
    cleaned: set[str] = set()
    for node in todo:
        reason = _reason(backup, plans[node.name], outcomes.get(node.name), left[node.name])
        if not reason and plans[node.name].modules:
            reason = ipvs.finish(api, namespace, switched[node.name])
        if reason:
            failed[node.name] = reason
        else:
            cleaned.add(node.uid)
            say(f"{node.name}: cleaned, no leftover rules")
    backup = record.write(api, replace(backup, uncleaned=backup.uncleaned - cleaned))
    ready = {node.name for node in known_nodes.read(api).ready} if failed else set()
    for name in sorted(failed.keys() - ready) if ready else ():
        say(f"{name} isn't Ready any more: the first `pulumi up` after it is back cleans it")
        del failed[name]
    if failed:
        raise ProcedureError(
            f"Leftover rules are still on {len(failed)} of {len(todo)} nodes, where Cilium routes Services:\n  "
            + "\n  ".join(f"{name}: {reason}" for name, reason in [*failed.items()][:20])
            + "\nThe next `pulumi up` tries these nodes again."
        )
    return backup


def _plans(api: Api, backup: Record, namespace: str, its_agents: Sequence[Agent]) -> dict[str, ipvs.Plan]:
    """What `kube-proxy --cleanup` may do on each agent's node; they are asked only where it can do anything in IPVS."""
    daemonset = backup.daemonset or {}
    flushes = ipvs.may_flush(daemonset)
    if not flushes and kube_proxy.mode_of(daemonset, backup.configmap) != "ipvs":
        return {agent.node: ipvs.Plan() for agent in its_agents}
    ports = ipvs.node_ports(ServiceTable.read(api))
    held = ipvs.read(api, namespace, its_agents)
    return {agent.node: ipvs.plan(held[agent.node], ports, flushes=flushes) for agent in its_agents}


def _reason(backup: Record, plan: ipvs.Plan, outcome: Outcome | None, count: int | str) -> str:
    """Why a node isn't cleaned, "" where it is."""
    if outcome is None:
        # rebooted since, it has nothing of kube-proxy's; of nft's tables the count says nothing
        seen = kube_proxy.mode_of(backup.daemonset, backup.configmap) != "nftables"
        return "" if plan.bare and count == 0 and seen else plan.refusal
    if not outcome.ok:
        return outcome.message
    return "" if count == 0 else f"cleaned, but its rules are: {_left(count)}"


def _left(count: int | str) -> str:
    if not isinstance(count, int):
        return f"not readable ({count})"
    # seen on a real node; its image has both backends and uses one
    return f"{count} lines still there (most often of the iptables backend that it doesn't use: a reboot ends them)"


def _spec(backup: Record, *, modules: bool) -> Object:
    """The cleaning pod's spec: kube-proxy's own program and image, and in nftables mode its image's `nft`.

    Args:
        modules: whether it gets the node's /lib/modules, and so at the node's virtual servers.
    """
    daemonset = backup.daemonset or {}
    its = kube_proxy.container(daemonset)
    program = next(
        (str(word) for word in its.get("command") or [] if str(word).rsplit("/", 1)[-1] == "kube-proxy"),
        "/usr/local/bin/kube-proxy",
    )
    containers = [_container("clean", its["image"], [program, "--cleanup", "--v=2"])]
    if kube_proxy.mode_of(daemonset, backup.configmap) == "nftables":
        # The agent's image has no nft to look with. Adding what is there already and deleting it is one transaction
        # that ends well only if the tables are gone afterwards.
        gone = "".join(f"add table {family} kube-proxy; delete table {family} kube-proxy; " for family in ("ip", "ip6"))
        containers.append(_container("tables-gone", its["image"], ["nft", gone.strip()]))
    spec: Object = {
        "initContainers": containers[:-1],
        "containers": containers[-1:],
        "volumes": [{"name": "xtables-lock", "hostPath": {"path": "/run/xtables.lock", "type": "FileOrCreate"}}],
        "automountServiceAccountToken": False,
    }
    if modules:
        spec["volumes"].append({"name": "lib-modules", "hostPath": {"path": "/lib/modules"}})
        containers[0]["volumeMounts"].append({"name": "lib-modules", "mountPath": "/lib/modules", "readOnly": True})
    secrets = daemonset["spec"]["template"]["spec"].get("imagePullSecrets")
    return spec | ({"imagePullSecrets": secrets} if secrets else {})


def _container(name: str, image: str, command: list[str]) -> Object:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "securityContext": {"privileged": True},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "xtables-lock", "mountPath": "/run/xtables.lock"}],
    }
