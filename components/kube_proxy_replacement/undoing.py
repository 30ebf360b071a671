"""Where the Release itself fails, no Command comes to undo the switch-over: the program does, told by the engine.

An error hook (engine 3.217 and newer). Its name is in the state; `destroy`, which runs no program, never needs it: a
Release that can't be uninstalled keeps its own error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pulumi

from .cluster.told import Order

_PATIENCE = 60.0
"""Seconds for which a request is repeated, as in `run`."""

_FIRST_UP = (
    "One more `pulumi up` comes before `pulumi destroy`: until the Release has come about, the state has nothing that "
    "brings kube-proxy back before Cilium is uninstalled."
)


def where_it_fails(
    *,
    order: pulumi.Output[str],
    run: pulumi.Output[str],
    kubeconfig: pulumi.Input[str] | None,
    context: pulumi.Input[str] | None,
    component: pulumi.Resource,
) -> Callable[[pulumi.ErrorHookArgs], Awaitable[bool]]:
    """What the Release's error hook calls.

    Args:
        order: JSON of `cluster.told.Order`, as the Commands get it.
        run: the run that holds the lock on the cluster.
        component: what the messages are said of.
    """

    async def failed(args: pulumi.ErrorHookArgs) -> bool:
        # a preview's failure has changed nothing, and a delete's is destroy's
        if not pulumi.runtime.is_dry_run() and args.failed_operation in ("create", "update"):
            told: Any = await pulumi.Output.all(order=order, run=run, kubeconfig=kubeconfig, context=context).future()
            loop = asyncio.get_running_loop()

            def say(text: str) -> None:
                loop.call_soon_threadsafe(pulumi.log.info, text, component)

            became = await asyncio.to_thread(_undone, told, args, say)
            if became:
                pulumi.log.error(became, component)
        return False  # it isn't tried again

    return failed


def _undone(told: Mapping[str, Any], args: pulumi.ErrorHookArgs, say: Callable[[str], None]) -> str:
    """What has become of the switch-over. Never raises: the engine would show that, and not why the Release failed."""
    # a second to load: here, beside the event loop
    from .cluster import order as steps
    from .cluster import renewing, rollback
    from .cluster.api import Api
    from .cluster.errors import LockError, ProcedureError

    try:
        order = Order.from_json(told["order"])
        api = Api.connect(told["kubeconfig"], told["context"], patience=_PATIENCE)
        steps.confirm_cluster(api, order)
        words = " ".join(args.errors[0].split()) if args.errors else "it failed"
        reason = f"Helm release {order.namespace}/{order.release}: {words}"
        with renewing.step(api, told["run"], deletes=False, last=False, say=say):
            became = rollback.after(api, order, reason, say)
        renewing.over(api, told["run"])
        return f"{became} {_FIRST_UP}" if became and order.keep and args.failed_operation == "create" else became
    except LockError as error:
        return f"Nothing was rolled back: {error}"
    except ProcedureError as error:
        return f"What is to be undone couldn't be found out: {error}"
    except Exception as error:  # noqa: BLE001
        return f"Undoing the switch-over failed in this program itself: {type(error).__name__}: {error}"
