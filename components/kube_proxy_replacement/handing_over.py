"""The step in which nodes are handed over one after the other: before kube-proxy is removed, after it is restored."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from . import upgrading
from .cluster import (
    agents,
    by_hand,
    cleaning,
    hand_over,
    helm_release,
    kube_proxy,
    node_config,
    node_order,
    nodes,
    order,
    parking,
    record,
    taking_over,
    trees,
)
from .cluster.api import Api, Object
from .cluster.errors import ProcedureError
from .cluster.hand_over import TO_CILIUM, TO_KUBE_PROXY, HandOver, HandOverError
from .cluster.helm import Helm
from .cluster.nodes import Node
from .cluster.record import Failed, Record
from .cluster.told import Order

Say = Callable[[str], None]

STRATEGY = "node-by-node"

_IMPLIED = {"enable-node-port": "true", "enable-host-port": "true", "enable-external-ips": "true"}
"""What the chart writes only for agents that don't replace kube-proxy, and one that does takes to be true whatever is
said (cilium/cilium daemon/cmd/kube_proxy_replacement.go)."""

_HEALTH = "kube-proxy-replacement-healthz-bind-address"
_IDLE = "bpf-lb-"
"""How the options begin that say nothing to an agent that doesn't replace kube-proxy."""

_LONGEST = 600


@dataclass(frozen=True)
class _Coming:
    """What the Release will give the agents.

    Attributes:
        config: cilium-config; template: of the agents' pods.
    """

    config: Mapping[str, str]
    template: Object


def step(api: Api, its_order: Order, say: Say) -> None:
    """Node by node: every node that is Ready is Cilium's, or, in mode coexist, kube-proxy's again, each one proved.

    Otherwise, or where a run in this mode has come to its end, nothing is done.
    """
    if its_order.strategy != STRATEGY:
        say("strategy all-at-once: no node is handed over before the others")
        return
    taking_over.begin(api, its_order, say)
    taking_over.recover(api, its_order, say)
    kept = record.read(api)
    if (kept and kept.done == its_order.mode) or not agents.pods(api, its_order.namespace):
        say("nothing to hand over")
        return
    if its_order.mode == "replace":
        _to_cilium(api, its_order, say)
    else:
        _to_kube_proxy(api, its_order, say)


def _to_cilium(api: Api, its_order: Order, say: Say) -> None:
    found = kube_proxy.find(api)
    if found.daemonset is None:
        say("kube-proxy's DaemonSet isn't there: nothing to hand over")
        return
    its_nodes = order.reached(api, its_order, say)
    backup = order.backed_up(api, its_order, its_nodes)
    say(f"kube-proxy is backed up in ConfigMap {record.LOCATION}, and read back")
    queue = node_order.queue(api, its_nodes.ready, its_order.node_by_node)
    _prepare(api, its_order, True, say)
    parking.park(api, found.daemonset)

    def clean(switched: Mapping[str, agents.Agent], its: Sequence[Node]) -> Record:
        now = record.read(api) or backup
        return cleaning.clean(api, now, its, switched, its_order.namespace, timeout=its_order.timeout, say=_unheard)

    over = _window(api, its_order, TO_CILIUM, len(its_nodes.ready), say)
    over.clean = clean
    _turns(over, its_order, queue)
    _joined(over, api, its_order, say)


def _joined(over: HandOver, api: Api, its_order: Order, say: Say) -> None:
    """Those that have joined, or are Ready again, in the meantime have their turn too."""
    while late := [node for node in order.known_nodes(api, say).ready if node.name not in over.done]:
        say(f"joined in the meantime: {', '.join(node.name for node in late[:5])}")
        over.total += len(late)
        _turns(over, its_order, node_order.Queue((), tuple(late)))


def _to_kube_proxy(api: Api, its_order: Order, say: Say) -> None:
    there = agents.find(api, its_order.namespace)
    readings = agents.read(api, its_order.namespace, there.values(), endpoints=False)
    if not any(its.answer is None or its.answer.replacing for its in readings.values()):
        say("no agent replaces kube-proxy: nothing to hand back")
        return
    order.restored_whole(api, its_order, say)
    ready = [node for node in nodes.read(api).ready if node.name in there]
    # a way back isn't stopped half-way
    way = replace(its_order.node_by_node, canaries="", pause_after="")
    queue = node_order.queue(api, ready, way)
    _prepare(api, its_order, False, say)
    _turns(_window(api, its_order, TO_KUBE_PROXY, len(ready), say), replace(its_order, node_by_node=way), queue)


def _window(api: Api, its_order: Order, way: hand_over.Way, total: int, say: Say) -> HandOver:
    wanted = its_order.node_by_node
    return HandOver(
        api,
        way,
        its_order.namespace,
        node_order.count(wanted.batch_size, total),
        say,
        patience=its_order.timeout,
        settle=wanted.settle_seconds,
        drain=wanted.drain,
        total=total,
    )


def _turns(over: HandOver, its_order: Order, queue: node_order.Queue) -> None:
    """Those that an earlier run has begun are proved first: they need no second turn, and count for no pause."""
    begun = [node for node in (*queue.canaries, *queue.rest) if over.has_begun(node)]
    canaries = [node for node in queue.canaries if not over.has_begun(node)]
    rest = [node for node in queue.rest if not over.has_begun(node)]
    try:
        over.over(begun)
        over.over(canaries)
        if queue.canaries and rest and not its_order.node_by_node.go_on:
            raise ProcedureError(
                f"Stopped here, as nodeByNode.canaries says: {len(over.done)} of {over.total} nodes are "
                f"{over.way.word}, each of them proved ({', '.join(over.done[:5])}). kube-proxy routes on the others. "
                "Look at the canaries, then set nodeByNode.continue: true and run again."
            )
        pause = its_order.node_by_node.pause_after
        turn = node_order.count(pause, over.total) if pause else len(rest)
        over.over(rest[:turn])
        if rest[turn:]:
            raise ProcedureError(
                f"Stopped here, as nodeByNode.pauseAfter says: {len(over.done)} of {over.total} nodes are "
                f"{over.way.word}, each of them proved. The next `pulumi up` goes on."
            )
    except HandOverError as error:
        raise _gone_back(over, its_order, error) from None


def _gone_back(over: HandOver, its_order: Order, error: HandOverError) -> ProcedureError:
    """What is raised instead; each node that failed has gone back alone by then, or is left for a look."""
    failed = (error, *error.beside)
    each = {
        its.node: f"{its.node} can't be {over.way.word}: {its.what.removeprefix(f'{its.node}: ')}" for its in failed
    }
    became = [_became(over, its_order, its, each[its.node]) for its in failed]
    what = "; ".join(each.values())
    kept = record.read(over.api)
    if kept is not None:
        at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        record.write(over.api, replace(kept, failed=Failed(at, its_order.mode, what[:_LONGEST], rolled_back=False)))
    return ProcedureError(
        what,
        f"{' '.join(became)} {len(over.done)} of {over.total} nodes are {over.way.word} and stay so; no other one was "
        f"begun. Mend {', '.join(each)}, then run `pulumi up` again: it goes on with those that are left.",
    )


def _became(over: HandOver, its_order: Order, error: HandOverError, what: str) -> str:
    """What has become of a node that failed, once it has gone back."""
    name = error.node
    if not error.touched:
        return f"Nothing was changed on {name}."
    if its_order.keep:
        return f"{name} was left as it is, for a look (onFailure: keep)."
    over.say(f"{what}. It goes back alone")
    node = next((its for its in nodes.read(over.api).all if its.name == name), None)
    try:
        if node is not None:
            hand_over.go_back(over, node, patience=its_order.timeout)
    except ProcedureError as again:
        return f"{name} couldn't go back either: {again.what}"
    return f"{name} has gone back alone, and is as it was before."


def _prepare(api: Api, its_order: Order, replaces: bool, say: Say) -> None:
    """Agents that restart from now on have the Release's template, and on a labelled node its configuration too."""
    coming = _rendered(api, its_order, say)
    config = api.get(f"/api/v1/namespaces/{its_order.namespace}/configmaps/cilium-config").get("data") or {}
    differ = {key: value for key, value in coming.config.items() if config.get(key) != value}
    gone = set(config) - set(coming.config)
    said = _IMPLIED if replaces else {_HEALTH: ""}
    differ |= {key: value for key, value in said.items() if key in gone}
    gone = {key for key in gone - set(said) if replaces or not key.startswith(_IDLE)}
    version = node_config.version(api)
    path = f"/apis/apps/v1/namespaces/{its_order.namespace}/daemonsets/{agents.DAEMONSET}"
    owner_ = api.get(path)
    patch = by_hand.held(owner_)
    template = coming.template
    if gone:
        # an agent can't be given less than cilium-config says: only the Release's own roll-out brings that
        say(f"the release takes {', '.join(sorted(gone)[:5])} out of cilium-config: it restarts every agent once more")
        template = {key: value for key, value in template.items() if key != "metadata"}
    patch = trees.merged(patch, {"spec": {"template": _over(owner_["spec"]["template"], template)}})
    # first: as long as it is held, whoever gives this way up knows that there may be a CiliumNodeConfig too
    api.merge(path, patch)
    node_config.write(api, its_order.namespace, version, replaces=replaces, defaults=differ)


def _rendered(api: Api, its_order: Order, say: Say) -> _Coming:
    helm = Helm.find(api.kubeconfig, api.context)
    runs = upgrading.deployed(api, its_order.namespace, its_order.release)
    with tempfile.TemporaryDirectory(prefix="kube-proxy-replacement-") as folder:  # its mode is 0700
        chart = upgrading.place(its_order.chart, its_order.version, runs, Path(folder))
        values = Path(folder) / "values.yaml"
        its = taking_over.values(api, its_order, say) if its_order.adopted else its_order.values
        values.write_bytes(trees.as_yaml(its))
        manifest = helm.rendered(its_order.namespace, its_order.release, chart, values, timeout=its_order.timeout)
    template = next(
        (
            its["spec"]["template"]
            for its in yaml.load_all(manifest, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            if its and its.get("kind") == "DaemonSet" and its["metadata"]["name"] == agents.DAEMONSET
        ),
        None,
    )
    if template is None:
        raise ProcedureError("The chart renders no agents (DaemonSet cilium). Nothing was changed.")
    return _Coming(helm_release.config_of(manifest), template)


def _over(live: Any, wanted: Any) -> Any:
    """What is wanted over what is live, as Helm merges it: what others have added stays, and lists of named things go
    by their names, in the wanted order.
    """
    if isinstance(live, Mapping) and isinstance(wanted, Mapping):
        return {**live, **{key: _over(live.get(key), value) for key, value in wanted.items()}}
    if isinstance(wanted, list) and isinstance(live, list) and wanted and isinstance(wanted[0], Mapping):
        key = next((name for name in ("mountPath", "name") if all(name in its for its in [*wanted, *live])), None)
        if key:
            here = {its[key]: its for its in live}
            names = {its[key] for its in wanted}
            return [_over(here.get(its[key]), its) for its in wanted] + [its for its in live if its[key] not in names]
    return wanted


def _unheard(_: str) -> None:
    """What is cleaned is said by the step after the Release, of all nodes at once."""
