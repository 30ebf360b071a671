"""One act of a story: a run, what the API server was asked for meanwhile, and the cluster before and after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from tests.engine.harness import STEPS, Cluster, Entry, Object, Run, Stack, picked

KUBELETS_CHAINS = ("KUBE-FIREWALL", "KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT")


@dataclass(frozen=True)
class Act:
    """One run, and the cluster before and after it.

    Attributes:
        audit: what the API server was asked for in between.
        outputs: the stack's, after it.
        kernels: iptables-save by node, after it.
    """

    run: Run
    audit: list[Entry]
    before: dict[str, Object]
    after: dict[str, Object]
    outputs: Object
    kernels: dict[str, str]


def act(cluster: Cluster, stack: Stack, command: str, *, fails: bool = False) -> Act:
    """Runs `preview`, `up` or `destroy`."""
    before, mark = cluster.objects(), cluster.mark()
    run: Run = getattr(stack, command)(fails=fails)
    audit = cluster.audit(mark)
    outputs = stack.outputs() if command == "up" and not fails else {}
    return Act(run, audit, before, cluster.objects(), outputs, cluster.kernels())


def steps_one_after_the_other(run: Run, *ops: str) -> None:
    """Asserts that each step began only when the one before it was done, and what was done with each."""
    steps = [run.step(name) for name in STEPS]
    assert {step.op for step in steps} == set(ops)
    for earlier, later in pairwise(steps):
        assert earlier.ended is not None
        assert earlier.ended < later.began, f"{later.resource} began before {earlier.resource} was done"


def helms_changes(audit: list[Entry]) -> list[Entry]:
    """What the Release's provider has changed."""
    return [entry for entry in audit if entry.by_person and entry.changes and "pulumi-kubernetes" in entry.agent]


def cleaning(audit: list[Entry]) -> list[Entry]:
    """Cleaning pods made and removed."""
    return picked(audit, "create delete", "pods", "*-clean-*")


def agents_listed(audit: list[Entry]) -> list[Entry]:
    """The stack's looks at the agents' pods."""
    return [entry for entry in picked(audit, "list", "pods") if entry.by_person and "k8s-app%3Dcilium" in entry.uri]


def ended_pods(audit: list[Entry], before: Mapping[str, Object], app: str) -> list[Entry]:
    """The kubelets' last word on each of an application's pods."""
    names = pods(before, app)
    ended = [entry for entry in picked(audit, "delete", "pods") if entry.name in names and "kubelet" in entry.agent]
    assert {entry.name for entry in ended} == set(names)
    return ended


def rules_read(audit: list[Entry], objects: Mapping[str, Object], *, until: str) -> list[Entry]:
    """The last look into each kube-proxy pod's node before a moment."""
    names = pods(objects, "kube-proxy")
    looks = {
        entry.name: entry
        for entry in picked(audit, "get create", "pods/exec")
        if entry.name in names and "command=iptables-save" in entry.uri and entry.ended <= until
    }
    assert set(looks) == set(names), "nodes whose rules nobody has read"
    return list(looks.values())


def pods(objects: Mapping[str, Object], app: str) -> dict[str, str]:
    """An application's pods, their uids by their names."""
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods_of(objects, app).values()}


def pods_of(objects: Mapping[str, Object], app: str) -> dict[str, Object]:
    """An application's pods by their nodes."""
    return {
        item["spec"].get("nodeName", ""): item
        for key, item in objects.items()
        if key.startswith("Pod ") and item["metadata"].get("labels", {}).get("k8s-app") == app
    }


def condition(pod: Object, kind: str) -> Object:
    conditions: list[Object] = pod["status"]["conditions"]
    return next(condition for condition in conditions if condition["type"] == kind)


def agents_environment(objects: Mapping[str, Object]) -> dict[str, set[str]]:
    """The API server's address in every container of the agents that has one, those that start first too."""
    spec = objects["DaemonSet.apps kube-system/cilium"]["spec"]["template"]["spec"]
    told = [
        entry for container in [*spec["containers"], *spec["initContainers"]] for entry in container.get("env") or []
    ]
    return {
        word: {entry["value"] for entry in told if entry["name"] == f"KUBERNETES_SERVICE_{word.upper()}"}
        for word in ("host", "port")
    }


def is_kubelets(line: str) -> bool:
    """Whether a rule is the kubelet's, which stays on a node whoever routes Services."""
    return any(chain in line for chain in KUBELETS_CHAINS)


def rules(text: str) -> list[str]:
    """kube-proxy's and the kubelet's, in the kernel's order."""
    return [line for line in text.splitlines() if "KUBE-" in line]


def but_for_pods(differences: Mapping[str, str]) -> dict[str, str]:
    """Pods come with new names, and with them DaemonSets' and Deployments' revisions and the endpoints of Services."""
    passing = ("Pod ", "ControllerRevision.apps ", "ReplicaSet.apps ", "Endpoints ", "EndpointSlice.discovery.k8s.io ")
    return {key: what for key, what in differences.items() if not key.startswith(passing)}


def but_for_proxies_pods(differences: Mapping[str, str]) -> dict[str, str]:
    """Without kube-proxy's own pods and its DaemonSet's revision, which name the DaemonSet's new uid."""
    passing = ("Pod kube-system/kube-proxy-", "ControllerRevision.apps kube-system/kube-proxy-")
    return {key: what for key, what in differences.items() if not key.startswith(passing)}


def ending(objects: Mapping[str, Object]) -> list[str]:
    """What was deleted and isn't gone yet."""
    return [key for key, item in objects.items() if item["metadata"].get("deletionTimestamp")]
