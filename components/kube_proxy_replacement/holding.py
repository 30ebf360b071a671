"""The lock on the cluster while the program runs: renewed by a thread of it, given up when the last thing is done.

Step 1 has taken it, in another process (see `finding`); the Commands ask before each change whether it is held.
"""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any

import grpc
import pulumi
from pulumi.runtime.mocks import MockMonitor
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import get_monitor

from .found import Found

if TYPE_CHECKING:
    from .cluster.renewing import Renewing

_ENGINE = 2.0
"""Seconds for the engine's answer; one that is busy is there."""


def until(
    end: pulumi.Output[Any],
    found: Found,
    kubeconfig: pulumi.Input[str] | None,
    context: pulumi.Input[str] | None,
    component: pulumi.Resource,
) -> pulumi.Output[Any]:
    """Renews the lock from the moment that `found` is there until `end` is, in a run that changes something.

    Returns: `end`, when the lock is given up. A program outlives its outputs; a plugin, which serves the component to
        another language, is ended by the engine once they are all there.
    """
    monitor = get_monitor()
    if pulumi.runtime.is_dry_run() or isinstance(monitor, MockMonitor):
        return end
    holding = _Holding(lambda: _answers(monitor))

    async def begin(its: dict[str, Any]) -> bool:
        if its["changing"]:
            said = await asyncio.to_thread(holding.begin, its["kubeconfig"], its["context"], its["run"])
            if said:
                pulumi.log.warn(said, component)
        return True

    async def give_up(ended: Any) -> Any:
        await asyncio.to_thread(holding.end)
        return ended

    its = {"changing": found.changing, "run": found.run, "kubeconfig": kubeconfig, "context": context}
    _begun: pulumi.Output[bool] = pulumi.Output.all(**its).apply(begin)
    return end.apply(give_up)


class _Holding:
    """The program's hold on one cluster's lock.

    Args:
        needed: whether the run is still under way.
    """

    def __init__(self, needed: Callable[[], bool]) -> None:
        self._needed = needed
        self._changing = Lock()
        self._renewing: Renewing | None = None

    def begin(self, kubeconfig: str | None, context: str | None, run: str) -> str:
        """Returns what is to be said: whom step 1 took the lock over from; "" where nobody."""
        # a second to load: here, beside the event loop
        from .cluster import lease, renewing
        from .cluster.api import Api

        with self._changing:
            api = Api.connect(kubeconfig, context)
            held = lease.read(api)
            if held is None or not lease.is_program_of(held.holder, run):
                return ""  # lost already: the first Command says it
            atexit.register(self.end)  # a run that fails
            self._renewing = renewing.Renewing(api, held, self._needed).start()
            return renewing.took_over(held) if held.taken_over else ""

    def end(self) -> None:
        with self._changing:
            its, self._renewing = self._renewing, None
        if its is not None:
            atexit.unregister(self.end)
            its.give_up()


def _answers(monitor: Any) -> bool:
    """Whether the run's engine is there. A program that is part of another one (Automation API) outlives its run."""
    try:
        monitor.SupportsFeature(resource_pb2.SupportsFeatureRequest(id="secrets"), timeout=_ENGINE)
    except grpc.RpcError as error:
        return bool(error.code() != grpc.StatusCode.UNAVAILABLE)
    except ValueError:  # a channel that was closed
        return False
    return True
