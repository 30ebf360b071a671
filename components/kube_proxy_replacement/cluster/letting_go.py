"""Cilium lets go of the Services before it is uninstalled.

Cilium's datapath is made to outlive its agents: Helm's uninstall takes the pods away and leaves their programs in the
kernels. Seen on real nodes: after an uninstall straight from replacing agents the socket programs went on translating,
to the endpoints of that moment, before kube-proxy's rules saw a packet. An agent that starts with the replacement off
takes them away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import agents, hand_over, rollout
from .api import Api
from .errors import ProcedureError
from .nodes import Node

_OFF = {"kube-proxy-replacement": "false", "kube-proxy-replacement-healthz-bind-address": None}


def let_go(api: Api, namespace: str, nodes: Sequence[Node], *, patience: float, say: Callable[[str], None]) -> None:
    """Turns the replacement off in cilium-config and restarts by name each agent that still replaces kube-proxy.

    To be called when kube-proxy routes. Raises ProcedureError naming the agents that don't let go; Cilium is still
    installed then, and both route.
    """
    path = f"/api/v1/namespaces/{namespace}/configmaps/cilium-config"
    config = api.find(path)
    if config is None:
        return
    # first, and whatever the agents say: one that starts from now on, for whatever reason, starts with it off
    if any((config.get("data") or {}).get(key) != value for key, value in _OFF.items()):
        api.merge(path, {"data": _OFF})
    hand_over.finish(api, namespace)
    names = {node.name for node in nodes}
    present = [agent for node, agent in sorted(agents.find(api, namespace).items()) if node in names]
    readings = agents.read(api, namespace, present, endpoints=False)
    # one that can't be read may replace it: it is restarted too
    replacing = [
        agent.uid
        for agent in present
        if (answer := readings[agent.node].answer) is None or answer.kube_proxy_replacement != "False"
    ]
    if not replacing:
        return
    say(f"Cilium lets go: {len(replacing)} agents restart with the replacement off")
    agents.restart(api, namespace, replacing, patience=patience, say=say)
    left = rollout.wait(api, namespace, nodes, replacing=False, patience=patience, say=say).unread
    if left:
        raise ProcedureError(
            f"It isn't known whether the agents on {', '.join(left[:5])} have let go: they can't be read. Cilium "
            "was not "
            "uninstalled; kube-proxy routes on every node. Mend these nodes, then run again."
        )
