"""The lock on a cluster: one run at a time changes it, whatever machine and backend it comes from.

A Lease, `kube-system/kube-proxy-replacement`, by the rules of client-go's leader election
(k8s.io/client-go/tools/leaderelection): who holds it renews it every few seconds; who wants it takes it over when its
own clock has seen it unrenewed for as long as the Lease says, so that no two machines' clocks are ever compared.
"""

from __future__ import annotations

import copy
import getpass
import re
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from .api import Api, Object
from .errors import ApiError, LockError

NAMESPACE = "kube-system"
NAME = "kube-proxy-replacement"
LOCATION = f"{NAMESPACE}/{NAME}"
COLLECTION = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
PATH = f"{COLLECTION}/{NAME}"

DURATION = 15
"""Seconds without a renewal after which others may take the Lease over."""

LOOK = 0.5
"""Seconds from one look at a Lease that is awaited to the next."""

_GAP = 5.0
"""Seconds between two looks after which nothing is known of what was in between (an API server that was away)."""

_TRIES = 5

_LAST = f"{NAME}/last-holder"
_FROM = f"{NAME}/taken-over-from"
_RUN = re.compile(r", run ([^\s,]+)(?:, process \S+)?$")


@dataclass(frozen=True)
class Lease:
    """The Lease as it was read.

    Attributes:
        holder: the identity of who holds it, "" where it was given up.
        last: the identity of its last holder: the one that it has, else the one that gave it up.
        since, renewed: RFC 3339, by the holder's clock; "" where they aren't there.
        duration: seconds without a renewal after which it may be taken over.
        taken_over: whom the holder took it over from, in words; "" where nobody had it.
    """

    holder: str
    last: str
    since: str
    renewed: str
    duration: float
    taken_over: str
    body: Object

    @property
    def run(self) -> str:
        """The run of its last holder."""
        return run_of(self.last)

    def __str__(self) -> str:
        return f"{self.last}, since {at(self.since)}"


def identity(run: str, own: str = "") -> str:
    """Who holds it: user, machine and run; `own` where one of its steps holds it, not the program: its parent's pid."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user that has no name
        user = "somebody"
    return f"{user}@{socket.gethostname()}, run {run}{own and f', process {own}'}"


def is_program_of(holder: str, run: str) -> bool:
    """Whether this is the identity of a run's program."""
    return holder.endswith(f", run {run}")


def run_of(holder: str) -> str:
    """The run in an identity, also in one of its steps'; "" where it isn't one of ours."""
    found = _RUN.search(holder)
    return found[1] if found else ""


def at(moment: str) -> str:
    """A moment as a person reads it, `2026-11-23 13:24:05 UTC`."""
    return f"{moment[:19].replace('T', ' ')} UTC" if moment else "a moment that it doesn't say"


def read(api: Api) -> Lease | None:
    item = api.find(PATH)
    return None if item is None else _parse(item)


def take(api: Api, who: str) -> Lease:
    """Takes the Lease where nobody has it, or nobody has renewed it for as long as it says.

    Raises LockError naming who holds it and since when, as soon as they are seen to renew it.
    """
    api, watch = api.beside(), _Watch()
    while True:
        found = read(api)
        if found is None or found.holder in ("", who) or watch.ran_out(found):
            try:
                return _write(api, found, who)
            except ApiError as error:
                if error.status not in (404, 409):  # else somebody was quicker
                    raise
        time.sleep(LOOK)


def renew(api: Api, held: Lease) -> Lease:
    """Raises LockError where somebody else has it now, ApiError and UnreachableError as the client does."""
    try:
        return _write(api, held, held.holder)
    except ApiError as error:
        if error.status not in (404, 409):
            raise
    found = read(api)
    if found is not None and found.holder != held.holder:
        raise LockError(f"Another run has taken it over: {found}.")
    return _write(api, found, held.holder)


def give_up(api: Api, who: str) -> None:
    """Where `who` holds it: nobody does from now on. Who had it last stays written in it."""
    for _ in range(_TRIES):
        found = read(api)
        if found is None or found.holder != who:
            return
        body = copy.deepcopy(found.body)
        body["metadata"].setdefault("annotations", {})[_LAST] = who
        del body["spec"]["holderIdentity"]  # the API server takes no ""
        try:
            api.replace(PATH, body)
        except ApiError as error:
            if error.status != 409:  # else it was renewed in this moment
                raise


def remove(api: Api, who: str) -> None:
    """Where `who` holds it: it is gone."""
    found = read(api)
    if found is not None and found.holder == who:
        api.delete(PATH, uid=found.body["metadata"]["uid"])


def forget(api: Api, run: str) -> None:
    """Where a run, or a step of it, was the last that held it: it is gone. For a run that is known to be over."""
    found = read(api)
    if found is not None and run and found.run == run:
        api.delete(PATH, uid=found.body["metadata"]["uid"])


class _Watch:
    """Somebody else's Lease, watched by this process' own clock."""

    def __init__(self) -> None:
        self._seen: tuple[str, str] | None = None
        self._since = self._last = 0.0

    def ran_out(self, found: Lease) -> bool:
        """Whether it was watched without a gap for as long as it says, and nobody renewed it.

        Raises LockError where somebody did.
        """
        now, seen = time.monotonic(), (found.holder, found.renewed)
        if self._seen is not None and self._seen != seen:
            raise LockError(
                f"Another run is at work on this cluster: {found}. It holds the lock (Lease {LOCATION}) and renews it."
            )
        if self._seen is None or now - self._last > _GAP:
            self._since = now
        self._seen, self._last = seen, now
        return now - self._since >= found.duration


def _write(api: Api, found: Lease | None, who: str) -> Lease:
    """Holds it for `who` from now on, anew or still. Raises ApiError with status 409 where it isn't as it was found."""
    now = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    body: Object = copy.deepcopy(found.body) if found else _new()
    spec = body["spec"] = body.get("spec") or {}
    if found is None or found.holder != who:
        annotations = body["metadata"]["annotations"] = body["metadata"].get("annotations") or {}
        for key in (_LAST, _FROM):
            annotations.pop(key, None)
        if found and found.holder:
            annotations[_FROM] = f"{found}, last renewed {at(found.renewed)}"
        spec |= {"acquireTime": now, "leaseTransitions": spec.get("leaseTransitions", -1) + 1}
    spec |= {"holderIdentity": who, "leaseDurationSeconds": DURATION, "renewTime": now}
    return _parse(api.replace(PATH, body) if found else api.create(COLLECTION, body))


def _new() -> Object:
    labels = {"app.kubernetes.io/managed-by": NAME}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
    }


def _parse(item: Object) -> Lease:
    spec, annotations = item.get("spec") or {}, item["metadata"].get("annotations") or {}
    holder = spec.get("holderIdentity") or ""
    return Lease(
        holder=holder,
        last=holder or annotations.get(_LAST, ""),
        since=spec.get("acquireTime") or "",
        renewed=spec.get("renewTime") or "",
        duration=float(spec.get("leaseDurationSeconds") or DURATION),
        taken_over=annotations.get(_FROM, "") if holder else "",
        body=item,
    )
