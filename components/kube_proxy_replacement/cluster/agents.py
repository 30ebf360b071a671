"""Cilium's agents: one pod a node, read many at a time over the API server's exec."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from . import asking, hooks, last_words, nodes, services, waiting
from .agent_reading import NO_ENDPOINTS, AgentReading, parse
from .api import Api, Object
from .asking import Answers, Part
from .awaited import Awaited
from .errors import ProcedureError
from .hooks import Hooks
from .reach import is_ready
from .services import Frontend
from .waiting import Standing

CONTAINER = "cilium-agent"
DAEMONSET = "cilium"
"""The chart's name for the agents' DaemonSet, whatever the release is called."""

DEADLINE = 30.0
"""Seconds for one agent's answers; cilium-dbg's own limit for a status is 30 s too."""

WORKERS = 24
"""Agents read at a time. An exec is a stream through the API server and a kubelet: many at once are a load."""

_SELECTOR = "k8s-app=cilium"
_CHECKSUM = "cilium.io/cilium-configmap-checksum"
"""The chart's annotation on the agents' pods, where `rollOutCiliumPods` is on."""
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Agent:
    """One node's agent as the API server has it.

    Attributes:
        node: the node's name.
        pod: the pod's name; uid: its UID.
        ready: its Ready condition.
        revision: the DaemonSet's revision that it runs (`controller-revision-hash`).
        started: when its agent container started, RFC 3339, "" before that.
        waiting: why its containers don't run, in the kubelet's words, or "".
        checksum: of the cilium-config that its DaemonSet was rendered with, "" where the chart gave none.
    """

    node: str
    pod: str
    uid: str
    ready: bool
    revision: str
    started: str
    waiting: str
    checksum: str = ""


@dataclass(frozen=True)
class Reading:
    """What one agent answered, or why it couldn't be read.

    Attributes:
        answer, error: exactly one of the two is set.
        leftover: lines of kube-proxy's in its node's iptables, or why they can't be read; None where it wasn't asked.
        hooks: where Cilium's programs hang on its node; None where that isn't known or wasn't asked.
        health: what its node's port 10256 answered, in words, "" where all is well; None where it wasn't asked.
        table: its node's service table, see `services.in_table`; None where it wasn't asked, or can't be read.
    """

    answer: AgentReading | None
    error: str = ""
    leftover: int | str | None = None
    hooks: Hooks | None = None
    health: str | None = None
    table: dict[Frontend, int] | None = None


def pods(api: Api, namespace: str, node: str = "") -> list[Object]:
    """The agents' pods that aren't being deleted, on all nodes or on one; [] on a cluster without Cilium."""
    found = api.list(f"/api/v1/namespaces/{namespace}/pods", labelSelector=_SELECTOR, **nodes.on(node))
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


def find(api: Api, namespace: str, node: str = "") -> dict[str, Agent]:
    """The agents by their node's name, on all nodes or on one."""
    return {agent.node: agent for agent in map(_agent, pods(api, namespace, node)) if agent.node}


def daemonset(api: Api, namespace: str) -> Object | None:
    return api.find(f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{DAEMONSET}")


def checksum(template: Object) -> str:
    """Of the cilium-config that a pod, or a DaemonSet's template, was rendered with; "" where the chart gave none."""
    return str((template.get("metadata", {}).get("annotations") or {}).get(_CHECKSUM, ""))


def revision(api: Api, namespace: str, owner: Object) -> str:
    """The DaemonSet's newest revision, as its pods carry it; "" until the controller has seen the template."""
    if owner.get("status", {}).get("observedGeneration", 0) < owner["metadata"]["generation"]:
        return ""
    items = api.list(f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions", labelSelector=_SELECTOR)
    own = [
        item
        for item in items
        if any(ref.get("uid") == owner["metadata"]["uid"] for ref in item["metadata"].get("ownerReferences") or [])
    ]
    newest = max(own, key=lambda item: int(item["revision"]), default=None)
    return str(newest["metadata"]["labels"]["controller-revision-hash"]) if newest else ""


def read(
    api: Api,
    namespace: str,
    agents: Iterable[Agent],
    *,
    endpoints: bool = True,
    leftover: bool = False,
    attached: bool = False,
    answering: bool = False,
) -> dict[str, Reading]:
    """Reads these agents, many at a time; one that can't be read is a Reading with the reason.

    Args:
        endpoints: whether to ask for the endpoints too; without them no reading says *switched*.
        leftover: whether to count kube-proxy's rules on their nodes too.
        attached: whether to look where Cilium's programs hang on their nodes too.
        answering: whether to ask their nodes' port 10256, and to read their service tables, too.
    """
    parts = [asking.STATUS, *([asking.ENDPOINTS] if endpoints else []), *(asking.RULES if leftover else [])]
    parts += [hooks.SOCKETS, hooks.LINKS] if attached else []
    parts += [asking.HEALTH, asking.TABLES] if answering else []

    def one(agent: Agent) -> Reading:
        if not agent.ready:
            return Reading(None, agent.waiting or "its pod isn't ready")
        try:
            answers = _asked(api, namespace, agent, parts)
        except ProcedureError as error:
            return Reading(None, str(error))
        left = _leftover(answers) if leftover else None
        try:
            listed = answers.text(asking.ENDPOINTS) if endpoints else NO_ENDPOINTS
            its = parse(answers.text(asking.STATUS), listed)
            return Reading(
                its,
                leftover=left,
                hooks=_hooks(answers) if attached else None,
                health=_health(answers) if answering else None,
                table=_table(answers) if answering else None,
            )
        except ProcedureError as error:
            return Reading(None, str(error), left)

    return _each(agents, one)


def leftover_rules(api: Api, namespace: str, agents: Iterable[Agent]) -> dict[str, int | str]:
    """Lines of kube-proxy's that are in each node's iptables, or why they can't be read."""

    def one(agent: Agent) -> int | str:
        try:
            return _leftover(_asked(api, namespace, agent, asking.RULES))
        except ProcedureError as error:
            return str(error)

    return _each(agents, one)


def restart(api: Api, namespace: str, uids: Iterable[str], *, patience: float, say: Callable[[str], None]) -> None:
    """Restarts agents by name: those of these UIDs that still run, as many at a time as the DaemonSet would.

    Raises ProcedureError naming the nodes whose new agent doesn't get ready.
    """
    wanted, owner = set(uids), daemonset(api, namespace)
    # those that run come first: one that doesn't get ready mustn't keep the others from it
    todo = sorted((its for its in find(api, namespace).values() if its.uid in wanted), key=lambda its: not its.ready)
    if not todo:
        return
    awaited, size = Awaited(api, nodes.read(api).ready, say), _at_once(owner, len(todo)) if owner else 1
    for start in range(0, len(todo), size):
        batch = todo[start : start + size]
        for agent in batch:
            say(f"restarting the agent on {agent.node} ({agent.pod})")
            api.delete(f"/api/v1/namespaces/{namespace}/pods/{agent.pod}", uid=agent.uid)

        def look(batch: list[Agent] = batch) -> Standing:
            left = _not_restarted(find(api, namespace), batch, wanted, awaited)
            return Standing(not left, -len(left), "")

        if not waiting.until(look, patience=patience, say=say):
            now = find(api, namespace)
            left = _not_restarted(now, batch, wanted, awaited)
            raise ProcedureError(
                "Agents were restarted and don't get ready:\n  "
                + "\n  ".join(f"{name}: {_why_not(api, namespace, now.get(name))}" for name in left),
                "The others were left as they are, and no rule was cleaned in this run. Look at these (kubectl "
                "describe, kubectl logs), then run again.",
            )


def _not_restarted(
    now: Mapping[str, Agent], batch: Iterable[Agent], old: Container[str], awaited: Awaited
) -> list[str]:
    """The nodes whose new agent isn't ready; one that went away isn't awaited."""
    awaited.look()
    names = sorted(agent.node for agent in batch if agent.node in awaited.names)
    return [name for name in names if not (its := now.get(name)) or not its.ready or its.uid in old]


def _why_not(api: Api, namespace: str, agent: Agent | None) -> str:
    return f"its agent {agent.pod}: {last_words.of(api, namespace, agent.pod)}" if agent else "no agent pod yet"


def _at_once(owner: Object, count: int) -> int:
    """The DaemonSet's `maxUnavailable`, a number or a percentage; Kubernetes' default is 1."""
    rolling = (owner["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    text = str(rolling.get("maxUnavailable") or 1)
    share = -(-count * int(text[:-1]) // 100) if text.endswith("%") else int(text)
    return max(1, share)


def _each(agents: Iterable[Agent], one: Callable[[Agent], _Answer]) -> dict[str, _Answer]:
    agents = list(agents)
    with ThreadPoolExecutor(WORKERS) as pool:
        return dict(zip((agent.node for agent in agents), pool.map(one, agents), strict=True))


def _asked(api: Api, namespace: str, agent: Agent, parts: Sequence[Part]) -> Answers:
    return Answers(agent.node, api.exec(namespace, agent.pod, CONTAINER, asking.command(parts), timeout=DEADLINE))


def _leftover(answers: Answers) -> int | str:
    try:
        return sum(answers.count(part) for part in asking.RULES)
    except ProcedureError as error:
        return str(error)


def _hooks(answers: Answers) -> Hooks | None:
    """None where the agent's bpftool says nothing that is understood: then nothing is known to be missing."""

    def text(part: Part) -> str | None:
        try:
            return answers.text(part)
        except ProcedureError:  # no bpftool, or a kernel or a container that doesn't let it look
            return None

    try:
        return hooks.parse(text(hooks.SOCKETS), text(hooks.LINKS))
    except ProcedureError:
        return None


def _health(answers: Answers) -> str:
    """ "" for a 200, else what came instead."""
    try:
        line = answers.text(asking.HEALTH).strip()
    except ProcedureError as error:
        return str(error)
    return "" if " 200 " in f"{line} " else f"it answers «{line[:60]}»"


def _table(answers: Answers) -> dict[Frontend, int] | None:
    try:
        return services.in_table(answers.text(asking.TABLES))
    except ProcedureError:
        return None


def _agent(pod: Object) -> Agent:
    status = pod.get("status", {})
    main: Object = next((c for c in status.get("containerStatuses") or [] if c.get("name") == CONTAINER), {})
    return Agent(
        node=pod["spec"].get("nodeName", ""),
        pod=pod["metadata"]["name"],
        uid=pod["metadata"]["uid"],
        ready=is_ready(pod),
        revision=(pod["metadata"].get("labels") or {}).get("controller-revision-hash", ""),
        started=((main.get("state") or {}).get("running") or {}).get("startedAt", ""),
        waiting=_waiting(status),
        checksum=checksum(pod),
    )


def _waiting(status: Object) -> str:
    """The first container that doesn't run, and the container's own last words where it ended before."""
    for its in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state, last = its.get("state") or {}, (its.get("lastState") or {}).get("terminated") or {}
        reason = state.get("waiting") or {}
        if reason.get("reason") in (None, "PodInitializing", "ContainerCreating") and not last:
            continue
        words = str(last.get("message") or reason.get("message") or "").strip()
        return f"container {its['name']}: {reason.get('reason') or last.get('reason')} {words[-300:]}".strip()
    return ""
