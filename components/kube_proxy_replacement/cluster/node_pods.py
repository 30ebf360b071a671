"""Short-lived pods, one on each of some nodes: created, awaited, read, and gone afterwards.

They are bound to their node (`spec.nodeName`) and use its network, so that neither the scheduler, nor a
taint, nor a CNI that isn't there yet stands in their way.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from . import last_words, waiting
from .api import Api, Object
from .errors import ApiError, ProcedureError
from .nodes import Node

NAMESPACE = "kube-system"
TASK_LABEL = "kube-proxy-replacement/task"
_COLLECTION = f"/api/v1/namespaces/{NAMESPACE}/pods"
_AT_ONCE = 100
_REQUESTS_AT_ONCE = 8

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Outcome:
    """How one node's pod ended.

    Attributes:
        ok: every container of it ended with exit code 0.
        message: why not, in the container's or the kubelet's own words; "" where it did.
    """

    ok: bool
    message: str = ""


def run(
    api: Api,
    task: str,
    nodes: Iterable[Node],
    spec: Callable[[Node], Object],
    *,
    timeout: float,
    say: Callable[[str], None],
) -> dict[str, Outcome]:
    """Runs one pod on each node, at most 100 at a time, and returns each node's outcome by its name.

    Args:
        task: the pods' label value, `reach` or `clean`; pods of it that a dead run left are removed first.
        spec: the pod's `spec` for a node: containers and volumes.
        timeout: seconds without any pod's end, after which those still running count as failed.
        say: is told about progress.
    """
    nodes = list(nodes)
    remove_all(api, task)
    outcomes: dict[str, Outcome] = {}
    running: dict[str, Node] = {}
    queue = list(nodes)
    progress = time.monotonic()
    pauses = waiting.pauses()
    try:
        while len(outcomes) < len(nodes):
            room = _AT_ONCE - len(running)
            batch, queue = queue[:room], queue[room:]
            _together(lambda node: created_or_there(api, _COLLECTION, _pod(task, node, spec(node))), batch)
            running |= {pod_name(task, node): node for node in batch}
            ended = _ended(api, task, running)
            for pod, outcome in ended:
                outcomes[running.pop(pod["metadata"]["name"]).name] = outcome
            _together(lambda pod: _delete(api, pod), [pod for pod, _ in ended])
            if ended:
                progress = time.monotonic()
                say(f"{task}: {len(outcomes)}/{len(nodes)} nodes")
            elif time.monotonic() - progress > timeout:
                pods = {pod["metadata"]["name"]: pod for pod in _list(api, task)}
                for name, node in running.items():
                    outcomes[node.name] = Outcome(False, _stuck(pods.get(name), timeout))
                for node in queue:
                    outcomes[node.name] = Outcome(False, "its pod wasn't started: those before it don't end")
                return outcomes
            else:
                time.sleep(next(pauses))
    finally:
        remove_all(api, task)
    return outcomes


def remove_all(api: Api, task: str) -> None:
    """Deletes this task's pods and waits until they are gone (a node that isn't Ready keeps its own)."""
    _together(lambda pod: _delete(api, pod), _list(api, task))
    deadline = time.monotonic() + 30
    for pause in waiting.pauses():
        if not _list(api, task):
            return
        if time.monotonic() > deadline:
            raise ProcedureError(
                f"Pods of an earlier run (label {TASK_LABEL}={task} in {NAMESPACE}) don't go away; something holds "
                "them (a finalizer?). Look at them (kubectl -n kube-system get pods), then run again."
            )
        time.sleep(pause)


def pod_name(task: str, node: Node) -> str:
    """Node names can be longer than a pod's hostname may be, and hold dots."""
    return f"kube-proxy-replacement-{task}-{hashlib.sha256(node.name.encode()).hexdigest()[:10]}"


def _pod(task: str, node: Node, spec: Object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(task, node),
            "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/managed-by": "kube-proxy-replacement", TASK_LABEL: task},
        },
        "spec": {
            "nodeName": node.name,
            "hostNetwork": True,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "priorityClassName": "system-node-critical",
            "tolerations": [{"operator": "Exists"}],
            "enableServiceLinks": False,
            **spec,
        },
    }


def _together(function: Callable[[_Item], object], items: Iterable[_Item]) -> None:
    """For each item, some at a time; the first error of all is raised when every one has been tried."""
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        for _ in pool.map(function, items):
            pass


def _list(api: Api, task: str) -> list[Object]:
    return api.list(_COLLECTION, labelSelector=f"{TASK_LABEL}={task}")


def _delete(api: Api, pod: Object) -> None:
    api.delete(f"{_COLLECTION}/{pod['metadata']['name']}", uid=pod["metadata"]["uid"], grace_seconds=0)


def _ended(api: Api, task: str, running: Mapping[str, Node]) -> list[tuple[Object, Outcome]]:
    found: list[tuple[Object, Outcome]] = []
    for pod in _list(api, task):
        name, phase = pod["metadata"]["name"], pod.get("status", {}).get("phase")
        if name in running and phase in ("Succeeded", "Failed"):
            found.append((pod, Outcome(phase == "Succeeded", "" if phase == "Succeeded" else _failure(pod))))
    return found


def _failure(pod: Object) -> str:
    status = pod.get("status", {})
    for its in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        ended = (its.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            return (
                f"exit code {ended['exitCode']}: {last_words.said(ended.get('message') or ended.get('reason') or '')}"
            )
    return str(status.get("message") or status.get("reason") or "failed without a reason")


def _stuck(pod: Object | None, timeout: float) -> str:
    if pod is None:
        return "its pod was deleted by someone"
    status = pod.get("status", {})
    for its in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (its.get("state") or {}).get("waiting")
        if waiting and waiting.get("reason") not in (None, "PodInitializing"):
            return f"{waiting['reason']}: {waiting.get('message') or ''}".rstrip(": ")
    return f"its pod is still {status.get('phase', 'Pending')} after {timeout:.0f} s"


def created_or_there(api: Api, collection: str, body: Object) -> None:
    """Creates an object; one of this name that is already there is left as it is."""
    try:
        api.create(collection, body)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
