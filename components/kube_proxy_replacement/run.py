"""`python -m kube_proxy_replacement.run STEP VERB`: what the Commands in the stack run.

The names of this module, of its steps and of its verbs are in people's states and never change.

Environment:
    KUBE_PROXY_REPLACEMENT_ORDER: what to do, on which cluster (JSON of `cluster.told.Order`).
    KUBE_PROXY_REPLACEMENT_VALUES: what an adopted release is given on top of its owner's values (JSON).
    KUBE_PROXY_REPLACEMENT_MARK: the repair mark.
    KUBE_PROXY_REPLACEMENT_NODE_BY_NODE: how nodes are handed over (JSON of `cluster.told.NodeByNode`).
    KUBE_PROXY_REPLACEMENT_KUBECONFIG: a kubeconfig's content; without it the ambient one is used.
    KUBE_PROXY_REPLACEMENT_CONTEXT: a context's name; without it the current one.
    KUBE_PROXY_REPLACEMENT_RUN: the run whose program holds the lock on the cluster; without it (a state of the time
        before there was one) the step goes without.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack

from . import handing_over, upgrading
from .cluster import order, renewing
from .cluster.api import Api
from .cluster.errors import ApiError, ProcedureError
from .cluster.told import Order

STEPS = {
    ("hand-over", "create"): handing_over.step,
    ("hand-over", "update"): handing_over.step,
    ("kube-proxy-daemonset", "create"): order.daemonset,
    ("kube-proxy-daemonset", "update"): order.daemonset,
    ("kube-proxy-daemonset", "delete"): order.forgotten,
    ("kube-proxy-configmap", "create"): order.configmap,
    ("kube-proxy-configmap", "update"): order.configmap,
    ("kube-proxy-configmap", "delete"): order.restored,
    ("release", "create"): upgrading.release,
    ("release", "update"): upgrading.release,
    ("way-back", "delete"): order.way_back,
    ("agents", "create"): order.agents_switched,
    ("agents", "update"): order.agents_switched,
}

_FIRST = "kube-proxy-daemonset"
"""The first one in `up`, so the last one in `destroy`."""

_PATIENCE = 60.0
"""Seconds for which a request is repeated: an API server that restarts is away that long."""

_NOT_BEGUN = (
    "So this step hasn't begun and has changed nothing; what earlier steps of this run did stays. Run the same "
    "command again when that is mended: it goes on from there."
)

_LONGEST_LINE = 2000
"""The command plugin hangs on a line of 64 KiB (pulumi-command#201)."""


def main(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Exit status 0 where the step is done, 1 where it isn't (the reason on standard error), 2 for a wrong call."""
    step = STEPS.get((arguments[0], arguments[1])) if len(arguments) == 2 else None
    if step is None:
        _say(f"usage: STEP VERB, one of {', '.join(' '.join(key) for key in STEPS)}", sys.stderr)
        return 2
    its_name, verb = arguments
    lock = ExitStack()
    try:
        told = Order.from_json(
            environment["KUBE_PROXY_REPLACEMENT_ORDER"],
            values=environment.get("KUBE_PROXY_REPLACEMENT_VALUES", ""),
            mark=environment.get("KUBE_PROXY_REPLACEMENT_MARK", ""),
            node_by_node=environment.get("KUBE_PROXY_REPLACEMENT_NODE_BY_NODE", ""),
        )
        api = Api.connect(
            environment.get("KUBE_PROXY_REPLACEMENT_KUBECONFIG"),
            environment.get("KUBE_PROXY_REPLACEMENT_CONTEXT"),
            patience=_PATIENCE,
        )
        order.confirm_cluster(api, told)
        if run := environment.get("KUBE_PROXY_REPLACEMENT_RUN"):
            deletes = verb == "delete"
            last = deletes and its_name == _FIRST
            lock.enter_context(renewing.step(api, run, deletes=deletes, last=last, say=_say))
    except ProcedureError as error:
        _say(f"{error}{_rights(error)}\n{_NOT_BEGUN}", sys.stderr)
        return 1
    try:
        with lock:
            step(api, told, _say)
    except ProcedureError as error:
        _say(f"{error}{_rights(error)}", sys.stderr)
        return 1
    return 0


def _rights(error: ProcedureError) -> str:
    """What to do about a «403 Forbidden», which the API server doesn't say."""
    refused = isinstance(error, ApiError) and error.status == 403
    return "\nGive these credentials the rights that the README names (What it needs)." if refused else ""


def _say(text: str, stream: object = None) -> None:
    for line in text.splitlines():
        print(line[:_LONGEST_LINE], file=stream or sys.stdout, flush=True)  # type: ignore[arg-type]


if __name__ == "__main__":
    gc.freeze()  # at its end Python would collect all that was imported, while the engine waits
    sys.exit(main(sys.argv[1:], os.environ))
