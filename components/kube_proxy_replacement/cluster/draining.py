"""A node cordoned and its pods evicted, as `kubectl drain` does it (k8s.io/kubectl/pkg/drain), and the way back.

Where it differs: pods with `emptyDir` volumes are evicted (kubectl wants --delete-emptydir-data); pods of a DaemonSet
are left without a flag, also where their DaemonSet is gone; pods that have finished are left, not deleted; a pod
without a controller refuses the node, and there is no --force; it ends when no pod has gone for some time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from . import waiting
from .api import BUDGET, Api, Object
from .errors import ApiError, ProcedureError
from .node_pods import TASK_LABEL
from .nodes import LIST, Node, on
from .waiting import Standing

CORDONED = "kube-proxy-replacement/cordoned"
"""Annotation of a node that was cordoned here, not by somebody else."""

_MIRROR = "kubernetes.io/config.mirror"
"""A static pod's copy in the API has it; it goes only with its file on the node."""

_TERMINATING = "NamespaceTerminating"
_AGAIN = 5.0
"""Seconds until a refused eviction is asked for again; kubectl's own."""

_TRIES = 5


def cordon(api: Api, node: Node) -> bool:
    """Keeps new pods off a node, until `uncordon`.

    Returns: False where nothing was done: it is cordoned already, or it is gone.

    Raises ProcedureError, before anything is touched, where a pod on it has no controller: nothing would make it anew.
    """
    _demand(node, _to_go(api, node))
    for left in reversed(range(_TRIES)):
        found = _find(api, node)
        if found is None or (found.get("spec") or {}).get("unschedulable"):
            return False
        metadata = {"resourceVersion": found["metadata"]["resourceVersion"], "annotations": {CORDONED: "true"}}
        try:
            # with the version: somebody may cordon it at the same moment, and then it stays his
            api.merge(f"{LIST}/{node.name}", {"metadata": metadata, "spec": {"unschedulable": True}})
        except ApiError as error:
            if error.status != 409 or not left:
                raise
        else:
            return True
    raise AssertionError("unreachable")


def uncordon(api: Api, node: Node) -> bool:
    """Takes our own cordon off a node, a killed run's too; somebody else's stays.

    Returns: False where there was none of ours.
    """
    found = _find(api, node)
    if found is None or CORDONED not in (found["metadata"].get("annotations") or {}):
        return False
    body = {"metadata": {"annotations": {CORDONED: None}}, "spec": {"unschedulable": None}}
    api.merge(f"{LIST}/{node.name}", body)
    return True


def evict(api: Api, node: Node, *, patience: float, say: Callable[[str], None]) -> None:
    """Evicts the pods that are on a node now, and waits until they are gone; PodDisruptionBudgets are waited for.

    Args:
        patience: seconds without any pod's end, after which it is given up; a pod's own grace period counts.

    Raises ProcedureError naming the pods that are left and why, or, before any is evicted, those without a controller.
    """
    pods = {pod["metadata"]["uid"]: pod for pod in _to_go(api, node)}
    _demand(node, [*pods.values()])
    held: dict[str, str] = {}
    asked: dict[str, float] = {}
    left: dict[str, Object] = {}

    def look() -> Standing:
        left.clear()
        left.update({pod["metadata"]["uid"]: pod for pod in _to_go(api, node) if pod["metadata"]["uid"] in pods})
        for uid, pod in left.items():
            if "deletionTimestamp" in pod["metadata"]:
                held[uid] = ""
                continue
            if time.monotonic() - asked.get(uid, -_AGAIN) < _AGAIN:
                continue
            asked[uid] = time.monotonic()
            held[uid] = _evict(api, pod)
        waits = [_name(pod) for uid, pod in left.items() if held.get(uid)]
        gone = len(pods) - len(left)
        text = f"{node.name}: {gone}/{len(pods)} pods evicted" if pods else ""
        text += f", waiting for: {', '.join(waits[:3])}" if waits else ""
        return Standing(not left, gone, text)

    if not waiting.until(look, patience=patience, say=say):
        raise ProcedureError(
            f"{node.name}: it can't be drained, no pod has gone for {patience:.0f} s. Left are:\n  "
            + "\n  ".join(f"{_name(pod)}: {held.get(uid) or 'it is ending'}" for uid, pod in left.items()),
            f"kube-proxy and Cilium on {node.name} were not touched. Look at these pods and at the disruption budgets "
            "(kubectl get poddisruptionbudgets -A), or set nodeByNode.drain to false, then run again.",
        )


def _find(api: Api, node: Node) -> Object | None:
    """The node as it is now; None where it is gone, or another one has its name."""
    found = api.find(f"{LIST}/{node.name}")
    return found if found is not None and found["metadata"]["uid"] == node.uid else None


def _to_go(api: Api, node: Node) -> list[Object]:
    """The pods of a node that draining is about, sorted by namespace and name."""
    found = api.list("/api/v1/pods", **on(node.name))
    return sorted((pod for pod in found if _goes(pod)), key=_name)


def _goes(pod: Object) -> bool:
    if _MIRROR in (pod["metadata"].get("annotations") or {}):
        return False
    if TASK_LABEL in (pod["metadata"].get("labels") or {}):  # our own; each run removes a dead run's
        return False
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return False
    controller = _controller(pod)
    return controller is None or controller.get("kind") != "DaemonSet"


def _controller(pod: Object) -> Object | None:
    owners = pod["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), None)


def _demand(node: Node, pods: list[Object]) -> None:
    """Raises ProcedureError where a pod has no controller; one that is ending already is let go."""
    alone = [_name(pod) for pod in pods if _controller(pod) is None and "deletionTimestamp" not in pod["metadata"]]
    if alone:
        raise ProcedureError(
            f"{node.name}: it can't be drained: {', '.join(alone)}: no controller would make "
            f"{'it' if len(alone) == 1 else 'them'} anew elsewhere. Nothing was changed on this node. Delete or move "
            f"{'it' if len(alone) == 1 else 'them'} yourself, or set nodeByNode.drain to false."
        )


def _evict(api: Api, pod: Object) -> str:
    """Asks for a pod's eviction. Returns why it has to wait, "" where it doesn't."""
    metadata = pod["metadata"]
    where = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/eviction"
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
        # another pod may have its name by now
        "deleteOptions": {"preconditions": {"uid": metadata["uid"]}},
    }
    try:
        api.create(where, body)
    except ApiError as error:
        if error.status in (404, 409):  # gone, or another one; the next look tells
            return ""
        if error.status == 429:
            return error.causes.get(BUDGET) or "the API server is busy"
        if error.status == 403 and _TERMINATING in error.causes:
            return "its namespace is being deleted"
        raise
    return ""


def _name(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
