"""Nodes handed over from kube-proxy to Cilium, or back, some at a time: each proved before its place is the next one's.

What a node needs next follows from how it is found, never from what was done before: a run that was killed goes on
where it stopped, and a node that is as wanted already is only proved.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from . import (
    agents,
    by_hand,
    draining,
    kube_proxy,
    last_words,
    node_config,
    nodes,
    removal,
    restoring,
    routing,
    waiting,
)
from .agents import Agent
from .api import Api
from .errors import ProcedureError
from .nodes import Node
from .services import ServiceTable

Say = Callable[[str], None]

_RESTARTS = 2
"""Of one node's agent in one run: one that comes back otherwise than it is wanted isn't restarted for ever."""

_ALONE = 3
"""So many nodes at most are asked for one by one; where more have their turn, all are listed: ten of 100 one by one
took 0.4 s, all 100 at once 0.15 s (an API server waits for its cache to be fresh, list by list)."""

_LONGEST_PAUSE = 0.25
"""Seconds between two looks, at most, unless a look takes longer: a node is silent on port 10256 meanwhile."""

_SILENT = 15.0
"""Seconds for which an agent that is ready otherwise may leave port 10256 unanswered before it is restarted: one that
found the port taken as it started never serves it (Cilium 1.17 and newer)."""


@dataclass(frozen=True)
class Way:
    """Where nodes go.

    Attributes:
        label: of a node that is handed over, see `routing`; "" for none.
        replaces: whether its agent replaces kube-proxy then.
        word: for a person, «handed over».
    """

    label: str
    replaces: bool
    word: str

    @property
    def parks(self) -> bool:
        return self.label == routing.CILIUM


TO_CILIUM = Way(routing.CILIUM, True, "handed over")
TO_KUBE_PROXY = Way(routing.KUBE_PROXY, False, "handed back")


class HandOverError(ProcedureError):
    """One node isn't as it is wanted.

    Attributes:
        node: its name; touched: whether anything was changed there.
        beside: those of the same window that aren't as wanted either.
    """

    def __init__(self, node: str, reason: str, *, touched: bool = True) -> None:
        super().__init__(f"{node}: {reason}")
        self.node = node
        self.touched = touched
        self.beside: tuple[HandOverError, ...] = ()


@dataclass
class _Turn:
    """One node's turn."""

    node: Node
    since: float
    stage: int = -1
    state: str = ""
    restarts: int = 0
    restarted: str = ""
    ready_since: float | None = None
    proved_at: float | None = None


class _Seen(NamedTuple):
    nodes: dict[str, Node]
    agents: dict[str, Agent]
    kube_proxies: set[str]
    newest: str


def _soon() -> Iterator[float]:
    return waiting.pauses(_LONGEST_PAUSE)


@dataclass
class HandOver:
    """A window over a queue of nodes.

    Args:
        namespace: the agents'; size: how many nodes at a time; settle: seconds that a node must stay as wanted.
        drain: whether each is drained first, and uncordoned when it is as wanted.
        clean: takes the leftover rules off a node that is proved; None where nothing is to be cleaned.
    """

    api: Api
    way: Way
    namespace: str
    size: int
    say: Say
    patience: float
    settle: float = 0.0
    drain: bool = False
    clean: Callable[[Mapping[str, Agent], Sequence[Node]], object] | None = None
    total: int = 0
    done: list[str] = field(default_factory=list)
    _said: str = ""
    _pauses: Iterator[float] = field(default_factory=_soon)

    def over(self, queue: Sequence[Node]) -> None:
        """Hands these over, in this order.

        Raises HandOverError for the first node that isn't as wanted after `patience` seconds without a step forward;
        those that had their turn beside it have come to their end then, and no other one has begun.
        """
        left = list(queue)
        turns: dict[str, _Turn] = {}
        failed: list[HandOverError] = []
        unclean: ProcedureError | None = None
        cleaning_: Future[object] | None = None
        to_clean: dict[str, tuple[Node, Agent]] = {}
        with ThreadPoolExecutor(1) as beside:
            while left or turns or to_clean or cleaning_:
                while left and not (failed or unclean) and len(turns) < self.size:
                    node = left.pop(0)
                    try:
                        self._drained(node)
                    except HandOverError as error:
                        failed.append(error)
                        break
                    turns[node.name] = _Turn(node, time.monotonic())
                if failed or unclean:
                    left = []
                began = time.monotonic()
                seen = self._look(turns)
                took = time.monotonic() - began
                for name, agent in self._step(turns, seen).items():
                    turn = turns.pop(name)
                    to_clean[name] = (turn.node, agent)
                for name, turn in list(turns.items()):
                    if name not in seen.nodes or not seen.nodes[name].ready:
                        self.say(
                            f"{name} isn't Ready any more, or has left: the first `pulumi up` after it is back does it"
                        )
                        del turns[name]
                    elif turn.proved_at is None and time.monotonic() - turn.since > self.patience:
                        failed.append(HandOverError(name, self._why(turn, seen)))
                        del turns[name]
                if cleaning_ is not None and cleaning_.done():
                    try:
                        cleaning_.result()
                    except ProcedureError as error:
                        unclean = error
                    cleaning_ = None
                if to_clean and cleaning_ is None:
                    batch, to_clean = to_clean, {}
                    if self.clean:
                        cleaning_ = beside.submit(
                            self.clean,
                            {name: agent for name, (_, agent) in batch.items()},
                            [its for its, _ in batch.values()],
                        )
                    for node, _ in batch.values():
                        self._end(node)
                self._tell(turns)
                free = left and not (failed or unclean) and len(turns) < self.size
                if (turns or cleaning_) and not free:
                    time.sleep(max(next(self._pauses), took))  # an API server that is slow is asked less often
        if failed:
            failed[0].beside = tuple(failed[1:])
            raise failed[0]
        if unclean:
            raise unclean

    def _drained(self, node: Node) -> None:
        if not self.drain or self.has_begun(node):
            return
        try:
            draining.cordon(self.api, node)
            draining.evict(self.api, node, patience=self.patience, say=self.say)
        except ProcedureError as error:
            draining.uncordon(self.api, node)
            raise HandOverError(node.name, error.what.removeprefix(f"{node.name}: "), touched=False) from None

    def has_begun(self, node: Node) -> bool:
        """Whether its turn has come in this run or in one before: it was drained by then, where that is wanted."""
        return node.labels.get(routing.LABEL, "") == self.way.label

    def _end(self, node: Node) -> None:
        if self.drain:
            draining.uncordon(self.api, node)
        self.done.append(node.name)

    def _look(self, names: Iterable[str]) -> _Seen:
        """Asks for a few nodes alone: all nodes and pods, again and again, would be a load on a large cluster."""
        owner = agents.daemonset(self.api, self.namespace)
        if owner is None:
            raise ProcedureError(
                f"DaemonSet {self.namespace}/{agents.DAEMONSET} is gone. Run again when Cilium is there."
            )
        parked = self.api.find(kube_proxy.DAEMONSET) if self.way.parks else None
        seen = _Seen({}, {}, set(), agents.revision(self.api, self.namespace, owner))

        def one(name: str) -> None:
            seen.nodes.update({node.name: node for node in nodes.read(self.api, name).all})
            seen.kube_proxies.update(pod["spec"].get("nodeName", "") for pod in removal.pods(self.api, parked, name))
            seen.agents.update(agents.find(self.api, self.namespace, name))

        its = list(names)
        with ThreadPoolExecutor(_ALONE) as pool:
            list(pool.map(one, its if len(its) <= _ALONE else [""]))
        return seen

    def _step(self, turns: Mapping[str, _Turn], seen: _Seen) -> dict[str, Agent]:
        """Does what each node needs next; returns the agents of those that are as wanted."""
        to_read = []
        for name, turn in turns.items():
            if name in seen.nodes and seen.nodes[name].ready and (agent := self._next(turn, seen)):
                to_read.append(agent)
        if not to_read:
            return {}
        table = ServiceTable.read(self.api) if self.way.replaces else None
        proved = {}
        for name, reading in agents.read(self.api, self.namespace, to_read, answering=True).items():
            turn, agent = turns[name], seen.agents[name]
            stage, reason = self._not_proved(turn, agent, reading, table)
            self._stands(turn, stage, reason)
            if reason:
                turn.proved_at = None
            elif turn.proved_at is None:
                turn.proved_at = time.monotonic()
            if turn.proved_at is not None and time.monotonic() - turn.proved_at >= self.settle:
                proved[name] = agent
        return proved

    def _next(self, turn: _Turn, seen: _Seen) -> Agent | None:
        """The node's agent, where all is done and it is to be read."""
        name = turn.node.name
        node, agent = seen.nodes[name], seen.agents.get(name)
        if node.labels.get(routing.LABEL, "") != self.way.label:
            routing.write(self.api, name, self.way.label)
            self._stands(turn, 0, "labelled")
        elif self.way.parks and name in seen.kube_proxies:
            self._stands(turn, 1, "its kube-proxy hasn't ended")
        elif agent is None or agent.uid == turn.restarted:
            self._stands(turn, 3, "its agent restarts")
        elif not seen.newest:
            self._stands(turn, 2, "the controller hasn't seen the agents' new template")
        elif agent.revision != seen.newest:
            self._stands(turn, 2, f"its agent {agent.pod} runs an older revision")
            self._restart(turn, agent)
        elif not agent.ready:
            turn.ready_since = None
            self._stands(turn, 4, f"its agent {agent.pod} isn't ready")
        else:
            turn.ready_since = turn.ready_since or time.monotonic()
            return agent
        turn.proved_at = None
        return None

    def _not_proved(
        self, turn: _Turn, agent: Agent, reading: agents.Reading, services: ServiceTable | None
    ) -> tuple[int, str]:
        """How far it has come, and why it isn't as wanted, "" where it is."""
        answer = reading.answer
        if answer is None:
            return 5, f"its agent {agent.pod} can't be read: {reading.error}"
        if answer.replacing != self.way.replaces:
            reason = f"its agent {agent.pod} says KubeProxyReplacement: {answer.kube_proxy_replacement}"
            self._restart(turn, agent)
            return 6, reason
        if answer.not_ready_endpoints:
            return 7, f"endpoints of its agent {agent.pod} aren't ready: {', '.join(answer.not_ready_endpoints[:3])}"
        if reading.health:
            if self.way.replaces and turn.ready_since and time.monotonic() - turn.ready_since > _SILENT:
                self._restart(turn, agent)
            return 8, f"port 10256 isn't answered: {reading.health}"
        missing = services.missing_in(reading.table) if services and reading.table is not None else []
        if missing:
            return 9, f"{len(missing)} addresses of Services aren't in its service table, first {missing[0]}"
        return 10, ""

    def _restart(self, turn: _Turn, agent: Agent) -> None:
        if turn.restarts >= _RESTARTS:
            return
        turn.restarts, turn.restarted, turn.ready_since, turn.stage = turn.restarts + 1, agent.uid, None, 2
        self.api.delete(f"/api/v1/namespaces/{self.namespace}/pods/{agent.pod}", uid=agent.uid)

    def _stands(self, turn: _Turn, stage: int, state: str) -> None:
        turn.state = state
        if stage > turn.stage:  # one that goes to and fro makes no step forward
            turn.stage, turn.since = stage, time.monotonic()
            self._pauses = _soon()

    def _why(self, turn: _Turn, seen: _Seen) -> str:
        agent = seen.agents.get(turn.node.name)
        words = last_words.of(self.api, self.namespace, agent.pod) if agent and not agent.ready else ""
        return f"{turn.state}{f': {words}' if words else ''} ({self.patience:.0f} s without a step forward)"

    def _tell(self, turns: Mapping[str, _Turn]) -> None:
        now = f", now: {', '.join(list(turns)[:5])}{' …' if len(turns) > 5 else ''}" if turns else ""
        text = f"{self.way.word} {len(self.done)}/{self.total}{now}"
        if text != self._said:
            self._said = text
            self.say(text)


def go_back(over: HandOver, node: Node, *, patience: float) -> None:
    """One node alone goes back to how it was: kube-proxy routes there, then its agent lets go."""
    way = over.way
    if over.drain:
        draining.uncordon(over.api, node)
    if way.parks:
        routing.write(over.api, node.name, routing.BOTH)
        its = [here for here in nodes.read(over.api).ready if here.name == node.name]
        restoring.wait_until_routing(over.api, its, over.namespace, patience=patience, say=over.say)
    agent = agents.find(over.api, over.namespace).get(node.name)
    routing.write(over.api, node.name, "")
    if agent is not None:
        # whatever it says: what it has started with was for the other way
        over.api.delete(f"/api/v1/namespaces/{over.namespace}/pods/{agent.pod}", uid=agent.uid)
    before = Way("", not way.replaces, "gone back")
    HandOver(over.api, before, over.namespace, 1, over.say, patience, total=1).over([node])


def finish(api: Api, namespace: str) -> None:
    """Takes away what only such a way needs: the Release says the same by now, or the way was given up."""
    put_away(api, namespace)
    let_go(api, namespace)


def put_away(api: Api, namespace: str) -> None:
    """The nodes' labels, and what the agents of labelled nodes start with; the agents' DaemonSet is held still."""
    labelled = routing.labelled(api)
    if labelled or is_held(api, namespace):
        for replaces in (True, False):
            node_config.remove(api, namespace, replaces=replaces)
    for name in labelled:
        routing.write(api, name, "")


def is_held(api: Api, namespace: str) -> bool:
    """Whether the agents' DaemonSet isn't as the release has it: such a way has begun, and hasn't come to its end."""
    found = agents.daemonset(api, namespace)
    return found is not None and by_hand.is_held(found)


def let_go(api: Api, namespace: str) -> None:
    """Gives the agents' DaemonSet its own update strategy back: its controller restarts them by that again."""
    by_hand.let_go_of(api, f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{agents.DAEMONSET}")
