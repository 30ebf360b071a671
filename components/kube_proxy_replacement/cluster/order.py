"""The steps of the procedure, as the Commands run them.

Each step is idempotent, bounded, and safe to be killed at any line: the next run looks at the cluster, not at what
the last one said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from . import (
    agents,
    cleaning,
    hand_over,
    helm_release,
    identity,
    kube_proxy,
    letting_go,
    nodes,
    owner,
    reach,
    record,
    removal,
    restoring,
    rollback,
    rollout,
    taking_over,
)
from .api import Api
from .errors import ProcedureError
from .helm import Helm
from .nodes import Nodes
from .record import Record
from .told import Order

Say = Callable[[str], None]


def confirm_cluster(api: Api, order: Order) -> None:
    """Raises ProcedureError where these credentials lead to another cluster than the stack's."""
    found = identity.cluster_uid(api)
    if found != order.cluster:
        raise ProcedureError(
            f"This is another cluster: the stack belongs to the cluster with UID {order.cluster} (found at "
            f"{order.server}), but the kubeconfig leads to {found} at {api.server}. Nothing was changed. Set "
            "kubeContext (or KUBECONFIG) to its own."
        )


def daemonset(api: Api, order: Order, say: Say) -> None:
    """First, an adopted release is recorded, and one that a killed run left pending is recovered.

    Replace: every node has shown the address, the backup is read back, the DaemonSet and its pods are gone.

    Coexist: the whole of kube-proxy is there, and routes.
    """
    with rollback.on_failure(api, order, say):
        _daemonset(api, order, say)


def _daemonset(api: Api, order: Order, say: Say) -> None:
    taking_over.begin(api, order, say)
    taking_over.recover(api, order, say)
    if order.mode == "coexist":
        restored_whole(api, order, say)
        return
    its_nodes = reached(api, order, say)
    ready = its_nodes.ready
    backup = backed_up(api, order, its_nodes)
    if not backup.had_kube_proxy:
        say("this cluster has no kube-proxy: there is nothing to remove, and destroy will restore none")
        return
    say(f"kube-proxy is backed up in ConfigMap {record.LOCATION}, and read back")
    removal.remove_daemonset(api, backup, ready, patience=order.timeout, say=say)


def reached(api: Api, order: Order, say: Say) -> Nodes:
    """The nodes, each of which has shown that it reaches the API server's address, where kube-proxy is there."""
    its_nodes = known_nodes(api, say)
    found = kube_proxy.find(api)
    if found.present:
        reach.prove(
            api,
            its_nodes.ready,
            host=order.host,
            port=order.port,
            agents=agents.pods(api, order.namespace),
            image=order.image,
            timeout=order.timeout,
            say=say,
            untouched="kube-proxy was not touched, and nothing was removed."
            if found.daemonset
            else "kube-proxy's DaemonSet was removed by an earlier run; its ConfigMap and Cilium were not touched.",
        )
    return its_nodes


def configmap(api: Api, order: Order, say: Say) -> None:
    """Replace: kubeadm is told, then the ConfigMap is gone. Coexist: as `daemonset`."""
    with rollback.on_failure(api, order, say):
        _configmap(api, order, say)


def _configmap(api: Api, order: Order, say: Say) -> None:
    if order.mode == "coexist":
        restored_whole(api, order, say)
        return
    backup = backed_up(api, order, known_nodes(api, say))
    removal.remove_configmap(api, backup, say)


def agents_switched(api: Api, order: Order, say: Say) -> None:
    """Every agent runs the new configuration and is switched; then the leftover rules are cleaned.

    Coexist: every agent lets kube-proxy route; nothing is cleaned.
    """
    ready = known_nodes(api, say).ready
    replacing = order.mode == "replace"
    with rollback.on_failure(api, order, say):
        agents.restart(api, order.namespace, order.restart, patience=order.timeout, say=say)
        if not replacing and kube_proxy.find(api).daemonset is None:
            raise ProcedureError(
                "kube-proxy's DaemonSet is gone while the agents were awaited. Run again: it is restored first."
            )
        end = rollout.wait(api, order.namespace, ready, replacing=replacing, patience=order.timeout, say=say)
    if replacing and end.unread:
        say(
            f"agents that can't be read: {', '.join(end.unread[:5])}. Whether they are switched isn't known, so no "
            "rule was cleaned on any node; the next `pulumi up` goes on"
        )
        return
    kept = record.read(api)
    if kept is None:
        raise ProcedureError(
            f"ConfigMap {record.LOCATION} was deleted during this run. Services are routed as mode {order.mode} says; "
            "no rule was cleaned. Run again: the next run brings it back."
        )
    if replacing:
        kept = cleaning.clean(api, kept, end.nodes, end.agents, order.namespace, timeout=order.timeout, say=say)
    hand_over.finish(api, order.namespace)
    if kept.done != order.mode or kept.failed:
        record.write(api, replace(kept, done=order.mode, failed=None))


def restored(api: Api, order: Order, say: Say) -> None:
    """In `destroy`, after Cilium has been uninstalled: kube-proxy as it was found, and routing."""
    _as_found(api, order, say)
    _uninstall_what_pulumi_does_not_know(api, order, say)
    kept = record.read(api)
    if kept and kept.done == record.DESTROYED and not helm_release.exists(api, order.namespace, order.release):
        record.write(api, replace(kept, done=""))  # nor does the state have the release any more


def way_back(api: Api, order: Order, say: Say) -> None:
    """Before Cilium is uninstalled: kube-proxy routes, then the agents let go, in this order.

    An adopted one isn't uninstalled: it gets its owner's values back.
    """
    _as_found(api, order, say)
    if order.adopted:
        taking_over.put_back(api, order, say)
    else:
        _let_go(api, order, say)
        if kept := record.read(api):
            record.write(api, replace(kept, done=record.DESTROYED))  # from here on Cilium is Pulumi's to uninstall


def forgotten(api: Api, order: Order, say: Say) -> None:
    """The last step of `destroy`: kube-proxy is confirmed once more, and the record goes."""
    kept = record.read(api)
    if kept is not None or kube_proxy.find(api).daemonset is not None:
        restored(api, order, say)
        if kept and kept.adopted:
            taking_over.put_back(api, order, say)
        record.remove(api)
    # else a run was killed after it had removed the record: Cilium has gone before this step, and nothing is left to do
    if order.adopted or (kept and kept.adopted):
        owner.remove(api)
    say("kube-proxy is as it was found. What Cilium itself leaves on nodes is in the README, «Going back»")


def _as_found(api: Api, order: Order, say: Say) -> None:
    """kube-proxy as it was found, and routing. A cluster that had none gets none."""
    backup = record.read(api)
    if backup is not None and not backup.had_kube_proxy and kube_proxy.find(api).daemonset is None:
        restoring.objects(api, backup, say)
        say("this cluster had no kube-proxy: none is restored")
        return
    restoring.whole(api, known_nodes(api, say).ready, order.namespace, patience=order.timeout, say=say)


def _let_go(api: Api, order: Order, say: Say) -> None:
    if kube_proxy.find(api).daemonset is not None:
        letting_go.let_go(api, order.namespace, known_nodes(api, say).ready, patience=order.timeout, say=say)


def _uninstall_what_pulumi_does_not_know(api: Api, order: Order, say: Say) -> None:
    """A Cilium of ours whose first install was killed isn't in the stack's state, and nor is its way back.

    Where Pulumi knows it, it has uninstalled it before this step.
    """
    kept, own = record.read(api), f"{order.namespace}/{order.release}"
    if kept is None or kept.release != own or kept.adopted or order.adopted:
        return  # what somebody else has installed is never uninstalled
    if not helm_release.exists(api, order.namespace, order.release):
        return
    if kept.done:
        # a run came to its end with it, or the way back has been gone: Pulumi was told to leave it (retain_on_delete)
        say(f"Helm release {own} stays: Pulumi knew it, and has left it")
        return
    say(f"Helm release {own} isn't in the stack's state: the run that installed it was cut off")
    _let_go(api, order, say)
    if api.guard:
        api.guard()  # Helm doesn't ask
    try:
        Helm.find(api.kubeconfig, api.context).uninstall(order.namespace, order.release, timeout=order.timeout)
    except ProcedureError as error:
        raise ProcedureError(
            f"Cilium isn't uninstalled: the run that installed it was cut off, the stack's state doesn't have its Helm "
            f"release {own}, and {error}\nkube-proxy is restored and routes on every node; Cilium runs beside it, with "
            "the replacement off. Run `pulumi up` once in mode coexist, which takes the release into the state, then "
            "`pulumi destroy` again."
        ) from None
    say(f"Helm release {own} is uninstalled")


def restored_whole(api: Api, order: Order, say: Say) -> None:
    """For mode coexist: the whole of kube-proxy is there, and routes on every node."""
    its_nodes = known_nodes(api, say)
    kept = record.read(api)
    if kube_proxy.find(api).present:
        kept = backed_up(api, order, its_nodes)
    if kept is None or not kept.had_kube_proxy:
        raise ProcedureError(
            "mode coexist: this cluster has no kube-proxy and never had one while this program knew it. There is "
            "nothing to go back to; Cilium was not touched. Set mode to replace."
        )
    if kept.done not in ("", order.mode):
        record.write(api, replace(kept, done=""))  # from here on it is no longer so
    restoring.whole(api, its_nodes.ready, order.namespace, patience=order.timeout, say=say)


def backed_up(api: Api, order: Order, its_nodes: Nodes) -> Record:
    """kube-proxy as it is now, or was when it was last there, in the record and read back."""
    return removal.back_up(api, order.cluster, f"{order.namespace}/{order.release}", order.mode, its_nodes.all)


def known_nodes(api: Api, say: Say) -> Nodes:
    """All of them; those that aren't Ready are said."""
    found = nodes.read(api)
    if found.left_out:
        names = ", ".join(node.name for node in found.left_out[:10])
        say(f"not Ready, left out of this run: {names}; the first `pulumi up` after they are back finishes them")
    return found
