"""kube-proxy restored, and routing on every node, before Cilium lets go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain

from . import (
    agents,
    ipvs,
    kube_proxy,
    kubeadm,
    last_words,
    node_config,
    parking,
    record,
    removal,
    routing,
    rules,
    scheduling,
    waiting,
)
from .api import Api, Object
from .awaited import Awaited
from .errors import ProcedureError
from .node_pods import created_or_there
from .nodes import Node
from .reach import is_ready
from .record import Record
from .services import ServiceTable
from .waiting import Standing

_EXEC_DEADLINE = 30.0
_WORKERS = 16
_COLLECTIONS = {
    "DaemonSet": f"/apis/apps/v1/namespaces/{kube_proxy.NAMESPACE}/daemonsets",
    "ConfigMap": f"/api/v1/namespaces/{kube_proxy.NAMESPACE}/configmaps",
}


def whole(api: Api, nodes: Sequence[Node], namespace: str, *, patience: float, say: Callable[[str], None]) -> None:
    """Restores what is missing of kube-proxy and waits until it routes on each of these nodes.

    Args:
        namespace: the agents' namespace.

    The ConfigMap comes first: kube-proxy's pods can't start without it. Raises ProcedureError where there is
    neither a kube-proxy nor a backup of it, or where it doesn't route; Cilium was not touched then.
    """
    backup = record.read(api)
    if kube_proxy.find(api).daemonset is None and (backup is None or backup.daemonset is None):
        raise ProcedureError(
            f"kube-proxy is gone, and ConfigMap {record.LOCATION} holds no backup of it. Nothing was changed. The "
            "next `pulumi up` brings the backup back from the stack's state; on kubeadm clusters "
            "`kubeadm init "
            "phase addon kube-proxy` makes kube-proxy anew."
        )
    objects(api, backup, say)
    parking.unpark(api)
    handed_over = [name for name, value in routing.labelled(api).items() if value != routing.KUBE_PROXY]
    for name in handed_over:
        # kube-proxy comes back there; until it routes, an agent that starts goes on replacing it
        routing.write(api, name, routing.BOTH)
    wait_until_routing(api, nodes, namespace, patience=patience, say=say)
    if handed_over:
        node_config.remove(api, namespace, replaces=True)
        for name in handed_over:
            routing.write(api, name, "")


def objects(api: Api, backup: Record | None, say: Callable[[str], None]) -> None:
    """Creates what is in the backup and not on the cluster, the DaemonSet last, and undoes our change for kubeadm."""
    if backup is None:
        return
    found = kube_proxy.find(api)
    if found.configmap is None and backup.configmap is not None:
        _create(api, "ConfigMap", backup.configmap, say)
    if backup.kubeadm:
        if kubeadm.undo(api, backup.kubeadm):
            say("kubeadm-config: proxy.disabled is as it was")
        # what its owner sets from now on is his
        record.write(api, replace(backup, kubeadm=None))
    if found.daemonset is None and backup.daemonset is not None:
        _create(api, "DaemonSet", backup.daemonset, say)


def wait_until_routing(
    api: Api, nodes: Sequence[Node], namespace: str, *, patience: float, say: Callable[[str], None]
) -> None:
    """Waits until kube-proxy's rules for the API's Services are in each node's kernel.

    Read with the programs of kube-proxy's own image, in its own pod: so the pod runs, and the backend is the one
    that it writes to. Its readiness says nothing (it has no probe), and while Cilium holds port 10256 its health can't
    be read there. Its image has nothing to read IPVS with: there, the node's agent is asked.
    """
    found = kube_proxy.find(api)
    if found.daemonset is None:
        raise ProcedureError(
            "kube-proxy's DaemonSet was deleted while it was awaited. Cilium was not touched; run again."
        )
    template, mode = found.daemonset["spec"]["template"]["spec"], found.mode
    awaited = Awaited(api, nodes, say)
    wanted: list[Node] = []
    routing: set[str] = set()
    reasons: dict[str, str] = {}
    pods: dict[str, Object] = {}

    def look() -> Standing:
        now = awaited.look()
        elsewhere = scheduling.left_out(template, now)
        wanted[:] = [node for node in now if node.name not in elsewhere]
        pods.clear()
        pods.update({pod["spec"].get("nodeName", ""): pod for pod in removal.pods(api, found.daemonset)})
        expected = ServiceTable.read(api).ready_endpoints()
        left = [node.name for node in wanted if node.name not in routing]
        held = _virtual_servers(api, namespace, left) if mode == "ipvs" else {}
        with ThreadPoolExecutor(_WORKERS) as pool:
            answers = pool.map(lambda name: _why_not(api, pods.get(name), mode, expected, held.get(name)), left)
            for name, reason in zip(left, answers, strict=True):
                if reason:
                    reasons[name] = reason
                else:
                    routing.add(name)
        missing = [node.name for node in wanted if node.name not in routing]
        text = f"kube-proxy routes on {len(wanted) - len(missing)}/{len(wanted)} nodes"
        text += f", waiting for: {', '.join(missing[:3])}" if missing else ""
        return Standing(not missing and awaited.settled(), len(routing), text)

    if not waiting.until(look, patience=patience, say=say):
        raise ProcedureError(
            "kube-proxy is there, but doesn't route on:\n  "
            + "\n  ".join(
                f"{n.name}: {_in_full(api, pods.get(n.name), reasons[n.name])}"
                for n in wanted
                if n.name in reasons
                if n.name not in routing
            ),
            "Cilium was not touched and goes on routing Services. Look at kube-proxy's pods on these nodes "
            "(kubectl -n kube-system logs -l k8s-app=kube-proxy), then run again.",
        )


def _in_full(api: Api, pod: Object | None, reason: str) -> str:
    """With its container's last words, where its pod doesn't run."""
    if pod is None or is_ready(pod):
        return reason
    name = pod["metadata"]["name"]
    return f"its pod {name} isn't running: {last_words.of(api, kube_proxy.NAMESPACE, name) or _state(pod)}"


def _create(api: Api, kind: str, body: Object, say: Callable[[str], None]) -> None:
    created_or_there(api, _COLLECTIONS[kind], body)
    say(f"kube-proxy's {kind} is restored from the backup")


def _why_not(
    api: Api,
    pod: Object | None,
    mode: kube_proxy.ProxyMode,
    expected: rules.Expected,
    held: ipvs.Held | str | None,
) -> str:
    """Why kube-proxy doesn't route on the node of this pod, or "" where it does.

    Args:
        held: in mode ipvs, the node's virtual servers, or why they can't be read; None where no agent replaces.
    """
    if pod is None:
        return "no kube-proxy pod yet"
    name = pod["metadata"]["name"]
    if not is_ready(pod):
        return f"its pod {name} isn't running: {_state(pod)}"
    if mode == "ipvs":
        if held is None:
            return ""
        if isinstance(held, str):
            return f"its virtual servers can't be read: {held}"
        missing = ipvs.missing_routes(held, expected)
        return f"{len(missing)} Services aren't in its IPVS yet, first {missing[0]}" if missing else ""

    def output(command: list[str]) -> str:
        result = api.exec(kube_proxy.NAMESPACE, name, _container_name(pod), command, timeout=_EXEC_DEADLINE)
        if result.exit_code:
            raise ProcedureError(f"{command[0]} ended with exit code {result.exit_code}: {result.stderr.strip()[:200]}")
        return result.stdout

    families = sorted({"6" if ":" in ip else "4" for ip, _, _ in expected})
    missing = []
    try:
        for family in families:
            mine = {key: value for key, value in expected.items() if (":" in key[0]) == (family == "6")}
            if mode == "nftables":
                text = output(["nft", "list", "table", "ip6" if family == "6" else "ip", "kube-proxy"])
                missing += rules.missing_routes_nft(text.splitlines(), mine)
            else:
                text = output(["ip6tables-save" if family == "6" else "iptables-save"])
                missing += rules.missing_routes_iptables(text.splitlines(), mine)
    except ProcedureError as error:
        return f"its rules can't be read: {error}"
    return f"{len(missing)} Services aren't in its rules yet, first {missing[0]}" if missing else ""


def _virtual_servers(api: Api, namespace: str, names: Sequence[str]) -> dict[str, ipvs.Held | str]:
    """Of the nodes where Cilium may be what routes: an agent that says it doesn't replace has nothing to let go."""
    found = agents.find(api, namespace)
    there = [found[name] for name in names if name in found]
    said = {name: its.answer for name, its in agents.read(api, namespace, there, endpoints=False).items()}
    return ipvs.read(api, namespace, [its for its in there if (answer := said[its.node]) is None or answer.replacing])


def _container_name(pod: Object) -> str:
    names = [its["name"] for its in pod["spec"]["containers"]]
    return kube_proxy.NAME if kube_proxy.NAME in names else names[0]


def _state(pod: Object) -> str:
    status = pod.get("status", {})
    for its in chain(status.get("initContainerStatuses") or [], status.get("containerStatuses") or []):
        state = its.get("state") or {}
        reason = state.get("waiting") or state.get("terminated")
        if reason:
            return f"{reason.get('reason', '')} {reason.get('message', '')}".strip()
    return str(status.get("phase", "Pending"))
