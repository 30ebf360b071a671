"""A switch-over that fails is undone: kube-proxy restored and routing on every node, then Cilium as it was before.

In that order, so that Services are routed whatever happens: until kube-proxy's rules are on every node, the agents that
have taken over go on. Only a switch-over that hasn't come to its end is undone. On a cluster that was switched before
(a new version, a repair) kube-proxy has long gone, and bringing it back would be a change that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from . import helm_release, kube_proxy, letting_go, nodes, record, restoring, rollout
from .api import Api
from .errors import LockError, ProcedureError, UnreachableError
from .helm import Helm
from .record import Failed, Record
from .told import Order

Say = Callable[[str], None]

_LONGEST = 600
"""Characters of a reason that are remembered in the cluster."""

_KEPT = (
    "The switch-over was left as it is, for a look (onFailure: keep): where kube-proxy's rules still are, they go on "
    "routing, to the endpoints of the moment when it was removed. The next `pulumi up` goes on from here; mode coexist "
    "brings kube-proxy back first."
)
_AGAIN = "The next `pulumi up` tries the switch-over again: mend the reason first, or set mode to coexist."
_HALF = "The next `pulumi up` goes on from here; mode coexist brings kube-proxy back first."


@contextmanager
def on_failure(api: Api, order: Order, say: Say) -> Iterator[None]:
    """What is done in here is undone where it fails; the error says so, after its own reason."""
    try:
        yield
    except (LockError, UnreachableError):
        raise  # another run is at work, or nobody can be asked: nothing is touched
    except ProcedureError as error:
        became = after(api, order, error.what, say)
        if became:
            error.args = (f"{error.what}\n{became}",)
        raise


def after(api: Api, order: Order, reason: str, say: Say) -> str:
    """Undoes a switch-over that has failed, where it is to be undone, and notes in the record why it failed.

    Args:
        reason: why, for the record.
    Returns: what has become of it, and what to do; "" where there was nothing to undo and nothing to say.
    """
    try:
        kept = record.read(api)
        if kept is None:
            return ""
        if order.mode != "replace" or kept.done == "replace" or not _to_undo(api, order, kept):
            return ""
    except ProcedureError as error:
        return f"What is to be undone couldn't be found out: {error.what}"
    if order.keep:
        _remember(api, order, reason, rolled_back=False, say=say)
        return _KEPT
    say("the switch-over has failed and is rolled back (onFailure): kube-proxy first")
    done: list[str] = []
    try:
        _undo(api, order, done, say)
    except LockError as error:
        return f"Rolling back was stopped{_so_far(done)}: {error}"
    except ProcedureError as error:
        _remember(api, order, reason, rolled_back=False, say=say)
        return f"Rolling back failed{_so_far(done)}: {error.what}\n{_HALF}"
    _remember(api, order, reason, rolled_back=True, say=say)
    return f"It was rolled back (onFailure: rollback): {'; '.join(done)}. {_AGAIN}"


def _undo(api: Api, order: Order, done: list[str], say: Say) -> None:
    """Adds to `done` what has been done, in words."""
    ready = nodes.read(api).ready
    restoring.whole(api, ready, order.namespace, patience=order.timeout, say=say)
    done.append("kube-proxy is restored and routes on every node")
    name = f"{order.namespace}/{order.release}"
    newest, before = helm_release.newest_and_beside(api, order.namespace, order.release)
    if newest is None or not newest.replaces:
        if order.strategy:
            letting_go.let_go(api, order.namespace, ready, patience=order.timeout, say=say)
        done.append("its agents run beside it" if order.strategy else "Cilium wasn't touched")
        return
    if before is None:
        letting_go.let_go(api, order.namespace, ready, patience=order.timeout, say=say)
        done.append(f"Cilium, installed by this run (release {name}), stays beside it, with the replacement off")
        return
    if api.guard:
        api.guard()  # what Helm does asks nobody
    Helm.find(api.kubeconfig, api.context).rollback(
        order.namespace, order.release, before.revision, timeout=order.timeout
    )
    done.append(f"Helm release {name} has the chart and the values of revision {before.revision} again")
    say(done[-1])
    rollout.wait(api, order.namespace, ready, replacing=False, patience=order.timeout, say=say)
    done.append("its agents run beside kube-proxy")


def _to_undo(api: Api, order: Order, kept: Record) -> bool:
    """Whether the switch-over has changed anything yet; nothing is undone on a cluster that had no kube-proxy."""
    if not kept.had_kube_proxy:
        return False
    found = kube_proxy.find(api)
    if found.daemonset is None or (found.configmap is None and kept.configmap is not None) or kept.kubeadm:
        return True
    newest, _ = helm_release.newest_and_beside(api, order.namespace, order.release)
    return newest is not None and newest.replaces


def _remember(api: Api, order: Order, reason: str, *, rolled_back: bool, say: Say) -> None:
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    failed = Failed(at, order.mode, reason[:_LONGEST], rolled_back)
    try:
        if (kept := record.read(api)) is not None:
            record.write(api, replace(kept, failed=failed))
    except ProcedureError as error:
        say(f"why it failed couldn't be noted in ConfigMap {record.LOCATION}: {error.what}")


def _so_far(done: list[str]) -> str:
    return f" after this ({'; '.join(done)})" if done else ""
