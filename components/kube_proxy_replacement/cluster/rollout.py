"""Every agent runs the new configuration, and its kernel does what it says.

Our own wait, not Helm's: Helm counts a DaemonSet as ready at desired − maxUnavailable and shows no progress. And
Ready isn't switched: an agent's flag says `True` up to half a minute before its programs are in the kernel; only
when every endpoint of it is `ready`, the host's own too, may the rules behind them go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from . import agents, last_words, scheduling, waiting
from .agents import Agent, Reading
from .api import Api
from .awaited import Awaited
from .errors import ProcedureError
from .nodes import Node
from .waiting import Standing

_UNREADABLE = "can't be read"
_SHOWN = 20
"""Agents that are named in an error."""

_REPLACING = (
    "No leftover rule was cleaned in this run: where kube-proxy's rules still are, they go on routing, to the "
    "endpoints "
    "of the moment when it was removed. The release has the new configuration. Look at these agents (kubectl "
    "logs, kubectl "
    "describe), then run `pulumi up` again; or set mode to coexist, which brings kube-proxy back first."
)
_BESIDE = (
    "kube-proxy is there and routes on every node. The release has the new configuration. Look at these agents "
    "(kubectl "
    "logs, kubectl describe), then run `pulumi up` again."
)


class Rollout(NamedTuple):
    """Where a rollout stands at its end.

    Attributes:
        agents: those that are as wanted, by node.
        nodes: those that were awaited at last: without those that went away meanwhile, with those that joined.
    """

    agents: dict[str, Agent]
    nodes: tuple[Node, ...]

    @property
    def unread(self) -> list[str]:
        """The nodes whose agent couldn't be read: nobody knows whether it is as wanted."""
        return sorted(node.name for node in self.nodes if node.name not in self.agents)


def wait(
    api: Api,
    namespace: str,
    nodes: Sequence[Node],
    *,
    replacing: bool,
    patience: float,
    say: Callable[[str], None],
) -> Rollout:
    """Waits until the agent of each of these nodes is as wanted; of those that join meanwhile, too.

    Args:
        replacing: True awaits *switched* agents, False agents that let kube-proxy route, all endpoints ready.
        patience: seconds without progress.
    Returns fewer agents than nodes only where those that are left can't be read: that is no reason to lose a run, but
    nobody knows then whether they are switched.
    Raises ProcedureError naming each node whose agent isn't as wanted, its pod and why.
    """
    awaited = Awaited(api, nodes, say)
    wanted: list[Node] = []
    done: dict[str, Agent] = {}
    reasons: dict[str, _Reason] = {}
    word = "replacing" if replacing else "beside kube-proxy"

    def look() -> Standing:
        owner = agents.daemonset(api, namespace)
        if owner is None:
            raise ProcedureError(
                f"There is no DaemonSet {agents.DAEMONSET} in namespace {namespace}: the Helm release has installed no "
                "agents (value agent: false?)."
            )
        # where kube-proxy goes, every node must have its agent, whatever the DaemonSet selects
        now = awaited.look()
        elsewhere = {} if replacing else scheduling.left_out(owner["spec"]["template"]["spec"], now)
        wanted[:] = [node for node in now if node.name not in elsewhere]
        newest = agents.revision(api, namespace, owner)
        found = agents.find(api, namespace)
        for name, agent in list(done.items()):
            if found.get(name) != agent or agent.revision != newest or name not in awaited.names:
                del done[name]  # restarted since it was read, or about to be: it must be read again
        ready = []
        for node in wanted:
            if node.name in done:
                continue
            its = found.get(node.name)
            reason = _not_yet(its, newest)
            if reason:
                reasons[node.name] = reason
            elif its:
                ready.append(its)
        for name, reading in agents.read(api, namespace, ready).items():
            reason = _not_as_wanted(found[name], reading, replacing)
            if reason:
                reasons[name] = reason
            else:
                done[name] = found[name]
        left = [node.name for node in wanted if node.name not in done]
        return Standing(not left and awaited.settled(), len(done), _text(len(done), len(wanted), word, left, reasons))

    if waiting.until(look, patience=patience, say=say):
        return Rollout(done, tuple(wanted))
    left = {
        name: reason for name, reason in sorted(reasons.items()) if name in {node.name for node in wanted} - done.keys()
    }
    if all(reason.state == _UNREADABLE for reason in left.values()):
        for name, reason in left.items():
            say(f"{name}: {reason.words}")
        return Rollout(done, tuple(wanted))
    failed = [f"{name}: {_in_full(api, namespace, reason)}" for name, reason in [*left.items()][:_SHOWN]]
    failed += [f"and {len(left) - _SHOWN} more"] if len(left) > _SHOWN else []
    raise ProcedureError(
        f"{len(left)} agents aren't {word}, {patience:.0f} s without progress:\n  " + "\n  ".join(failed),
        _REPLACING if replacing else _BESIDE,
    )


class _Reason(NamedTuple):
    """Why an agent isn't as wanted: a word for the progress line, and the words for the error, its pod among them.

    Attributes:
        pod: the pod whose containers' last words say more, "" where none does.
    """

    state: str
    words: str
    pod: str = ""


def _in_full(api: Api, namespace: str, reason: _Reason) -> str:
    more = last_words.of(api, namespace, reason.pod) if reason.pod else ""
    return f"{reason.words}: {more}" if more else reason.words


def _not_yet(agent: Agent | None, newest: str) -> _Reason | None:
    if agent is None:
        return _Reason("restarting", "no agent pod yet")
    if not newest or agent.revision != newest:
        return _Reason(
            "restarting", f"its agent {agent.pod} wasn't restarted: it runs an older revision of the DaemonSet"
        )
    if not agent.ready:
        return _Reason("restarting", f"its agent {agent.pod} isn't ready", agent.pod)
    return None


def _not_as_wanted(agent: Agent, reading: Reading, replacing: bool) -> _Reason | None:
    answer = reading.answer
    if answer is None:
        return _Reason(_UNREADABLE, f"its agent {agent.pod} can't be read: {reading.error}")
    if (answer.kube_proxy_replacement == "True") != replacing:
        said = f"KubeProxyReplacement: {answer.kube_proxy_replacement}"
        return _Reason(
            said, f"its agent {agent.pod} says {said}: it started with another configuration than cilium-config has now"
        )
    if answer.not_ready_endpoints:
        endpoints = ", ".join(answer.not_ready_endpoints[:3])
        return _Reason("endpoints not ready", f"its agent {agent.pod} has endpoints that aren't ready: {endpoints}")
    return None


def _text(count: int, total: int, word: str, left: Sequence[str], reasons: dict[str, _Reason]) -> str:
    text = f"agents {count}/{total} {word}"
    if not left:
        return text
    return f"{text}, {reasons[left[0]].state}: {', '.join(left[:3])}{' …' if len(left) > 3 else ''}"
