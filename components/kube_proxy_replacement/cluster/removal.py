"""kube-proxy removed, so that it can be restored at every instant.

The DaemonSet goes first, the ConfigMap after it: a kube-proxy pod without its ConfigMap can't start, and what
is left half-way still routes. The rules stay in the kernels: Services go on answering.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from . import kube_proxy, kubeadm, parking, record, routing, waiting
from . import nodes as cluster_nodes
from .api import Api, Object
from .awaited import Awaited
from .errors import ProcedureError
from .nodes import Node
from .record import Record
from .waiting import Standing


def back_up(api: Api, cluster: str, release: str, mode: str, nodes: Sequence[Node]) -> Record:
    """Writes kube-proxy's objects as they are now into the record, reads it back, and returns it.

    What is already gone is kept from the record that is there: a good backup is never overwritten by
    «nothing found». On a cluster that never had kube-proxy the record says so.

    Args:
        cluster: the cluster's UID; release: `NAMESPACE/NAME` of the Helm release.
        mode: where the run goes; what an earlier one in the other mode had done is no longer so.
        nodes: all nodes, Ready or not: those that will have to be cleaned.
    """
    old = record.read(api)
    found = kube_proxy.find(api)
    kept = old or Record(cluster=cluster, release=release)
    new = replace(
        kept,
        daemonset=record.bare(parking.original(found.daemonset)) if found.daemonset else kept.daemonset,
        configmap=record.bare(found.configmap) if found.configmap else kept.configmap,
        # a running kube-proxy writes rules on every node, whatever was cleaned before it came back
        uncleaned=kept.uncleaned | _written(found.daemonset, nodes),
        done=kept.done if kept.done == mode else "",
        returns=_returns(kept, found.daemonset) if kept.done == mode == "replace" else (),
    )
    return new if new == old else record.write(api, new)


def remove_daemonset(
    api: Api, backup: Record, nodes: Sequence[Node], *, patience: float, say: Callable[[str], None]
) -> None:
    """Deletes the DaemonSet and waits until its last pod on these nodes is gone.

    An agent that finds port 10256 taken crashes (Cilium up to 1.16), or never serves it until its next restart.
    """
    live = api.find(kube_proxy.DAEMONSET)
    if live is not None:
        if backup.daemonset != record.bare(parking.original(live)):
            raise ProcedureError(
                "kube-proxy's DaemonSet was changed while it was backed up. Nothing was removed; run again."
            )
        api.delete(kube_proxy.DAEMONSET, uid=live["metadata"]["uid"])
        now = api.find(kube_proxy.DAEMONSET)
        if now is not None and now["metadata"]["uid"] != live["metadata"]["uid"]:
            raise ProcedureError(
                "kube-proxy's DaemonSet was put back by something else (a GitOps controller, an addon manager) "
                "as it was removed.",
                "Its ConfigMap and Cilium were not touched. Switch that off, then run again.",
            )
        say("kube-proxy's DaemonSet is deleted; its rules stay in the kernels until Cilium routes")
    if backup.daemonset is None:
        return
    awaited = Awaited(api, nodes, say)

    def gone() -> Standing:
        awaited.look()
        on = (pod["spec"].get("nodeName", "") for pod in pods(api, backup.daemonset))
        left = sorted(name for name in on if name in awaited.names)
        text = f"kube-proxy's pods: {len(left)} left ({_some(left)})" if left else "kube-proxy's pods are gone"
        return Standing(not left, -len(left), text)

    if not waiting.until(gone, patience=patience, say=say):
        raise ProcedureError(
            f"kube-proxy's pods don't end ({gone().text}).",
            f"Its DaemonSet is deleted and backed up in ConfigMap "
            f"{record.LOCATION}; Cilium was not touched, and the rules in the kernels still route Services. Look at "
            "these pods (kubectl -n kube-system get pods -l k8s-app=kube-proxy -o wide), then run again.",
        )


def remove_configmap(api: Api, backup: Record, say: Callable[[str], None]) -> Record:
    """Tells kubeadm, where it is there, that kube-proxy is off, then deletes the ConfigMap."""
    if api.find(kube_proxy.DAEMONSET) is not None:
        raise ProcedureError(
            "kube-proxy's DaemonSet is back: something else (an addon manager, a GitOps controller, kubeadm) has put "
            "it there after it was deleted.",
            "Its ConfigMap was not touched. Switch that off, then run again.",
        )
    live = api.find(kube_proxy.CONFIGMAP)
    if live is not None and backup.configmap != record.bare(live):
        raise ProcedureError(
            "kube-proxy's ConfigMap was changed while it was backed up, and was not deleted.",
            "The DaemonSet is removed, its rules still route; Cilium was not touched. Run again.",
        )
    if backup.had_kube_proxy:
        backup = _disable_in_kubeadm(api, backup, say)
    if live is not None and api.delete(kube_proxy.CONFIGMAP, uid=live["metadata"]["uid"]):
        say(f"kube-proxy's ConfigMap is deleted; both are backed up in ConfigMap {record.LOCATION}")
    return backup


def pods(api: Api, daemonset: Object | None, node: str = "") -> list[Object]:
    """kube-proxy's pods by its DaemonSet's selector, those that are ending included, on all nodes or on one."""
    if daemonset is None:
        return []
    selector = daemonset["spec"]["selector"]
    terms = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    terms += [_term(its) for its in selector.get("matchExpressions") or []]
    path = f"/api/v1/namespaces/{kube_proxy.NAMESPACE}/pods"
    return api.list(path, labelSelector=",".join(terms), **cluster_nodes.on(node))


def _term(its: Object) -> str:
    """A LabelSelectorRequirement in the words of a `labelSelector` query."""
    if its["operator"] in ("Exists", "DoesNotExist"):
        return ("!" if its["operator"] == "DoesNotExist" else "") + str(its["key"])
    return f"{its['key']} {its['operator'].lower()} ({','.join(its.get('values') or [])})"


def _written(daemonset: Object | None, nodes: Sequence[Node]) -> frozenset[str]:
    """UIDs of the nodes on which this kube-proxy writes its rules; none of those that it is parked on."""
    if daemonset is None:
        return frozenset()
    parked = parking.is_parked(daemonset)
    return frozenset(node.uid for node in nodes if not parked or node.labels.get(routing.LABEL) != routing.CILIUM)


def _returns(kept: Record, daemonset: Object | None) -> tuple[str, ...]:
    """One that is there though an earlier run in this mode had come to its end has come back."""
    when = daemonset["metadata"].get("creationTimestamp") if daemonset else None
    return kept.returns if when is None or when in kept.returns else (*kept.returns, when)[-2:]


def _disable_in_kubeadm(api: Api, backup: Record, say: Callable[[str], None]) -> Record:
    before = kubeadm.text(api)
    if before is None or kubeadm.disabled(before):
        return backup
    after = kubeadm.with_disabled(before, True)
    backup = record.write(api, replace(backup, kubeadm={"before": before, "after": after}))
    kubeadm.write(api, after)
    say("kubeadm-config: proxy.disabled is true, so that kubeadm upgrade doesn't bring kube-proxy back")
    return backup


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
