"""Every change of what matters in the cluster, from the API server's own watches, in the order of resource versions.

The API server gives all its objects one sequence of versions (they are etcd's revisions): events of several watches
put into their order are what happened, one after the other.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from local.chaos.errors import ChaosError
from local.cluster.api import Api, Object
from local.cluster.errors import ClusterError

COLLECTIONS: Final = {
    "DaemonSet": "/apis/apps/v1/namespaces/kube-system/daemonsets",
    "ConfigMap": "/api/v1/namespaces/kube-system/configmaps",
    "Pod": "/api/v1/namespaces/kube-system/pods",
    "Node": "/api/v1/nodes",
}
_SECONDS_TO_CATCH_UP: Final = 30.0
_POLL_SECONDS: Final = 0.1
_PAUSE_SECONDS: Final = 0.2

_NO_ANSWER = (OSError, http.client.HTTPException, ClusterError)


@dataclass(frozen=True)
class Event:
    """One change.

    Attributes:
        version: the resource version that it made.
        kind: of `COLLECTIONS`; name: the object's.
        thing: the object after it, None where it is gone.
        seen: False for a change that nobody has watched: the API server was away, and forgot what it was asked to
            tell. The object has been found like that afterwards.
    """

    version: int
    kind: str
    name: str
    thing: Object | None
    seen: bool = True


class Watcher:
    """Follows from `start` on, over the API server's absences."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._known: dict[str, dict[str, str]] = {kind: {} for kind in COLLECTIONS}
        self._over = False

    def start(self) -> None:
        for kind, path in COLLECTIONS.items():
            version = self._listed(kind, path, seen=True)
            threading.Thread(target=self._follow, args=(kind, path, version), name=f"watch {kind}", daemon=True).start()

    def stop(self) -> None:
        self._over = True

    def taken(self) -> list[Event]:
        """What has happened since the last call, nothing left out.

        Waits until every object as it is now has come through the watches.
        """
        deadline = time.monotonic() + _SECONDS_TO_CATCH_UP
        while left := self._missing():
            if time.monotonic() > deadline:
                raise ChaosError(f"the watches haven't told what is there: {', '.join(left[:5])}")
            time.sleep(_POLL_SECONDS)
        with self._lock:
            events, self._events = self._events, []
        return sorted(events, key=lambda event: event.version)

    def _missing(self) -> list[str]:
        missing = []
        for kind, path in COLLECTIONS.items():
            now = _versions(self._api.get(path)["items"])
            with self._lock:
                known = self._known[kind]
                missing += [f"{kind} {name}" for name in now.keys() | known.keys() if now.get(name) != known.get(name)]
        return missing

    def _follow(self, kind: str, path: str, version: str) -> None:
        while not self._over:
            try:
                for event in self._api.watch(path, version):
                    if event["type"] == "ERROR":
                        raise ClusterError(str(event["object"].get("message")))
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._note(kind, event["object"], gone=event["type"] == "DELETED")
            except ClusterError:
                version = self._again(kind, path)
            except (OSError, http.client.HTTPException):
                time.sleep(_PAUSE_SECONDS)

    def _again(self, kind: str, path: str) -> str:
        """List what is there, where the API server no longer knows what has happened."""
        while True:
            try:
                return self._listed(kind, path, seen=False)
            except _NO_ANSWER:
                time.sleep(_PAUSE_SECONDS)

    def _listed(self, kind: str, path: str, *, seen: bool) -> str:
        """What is there, as if it had happened now, less what is known; the version of the list."""
        answer = self._api.get(path)
        version = str(answer["metadata"]["resourceVersion"])
        with self._lock:
            known = dict(self._known[kind])
        for thing in answer["items"]:
            if known.pop(thing["metadata"]["name"], None) != thing["metadata"]["resourceVersion"]:
                self._note(kind, thing, gone=False, seen=seen)
        for name in known:
            self._note(kind, {"metadata": {"name": name, "resourceVersion": version}}, gone=True, seen=seen)
        return version

    def _note(self, kind: str, thing: Object, *, gone: bool, seen: bool = True) -> None:
        name, version = thing["metadata"]["name"], thing["metadata"]["resourceVersion"]
        with self._lock:
            if gone:
                self._known[kind].pop(name, None)
            else:
                self._known[kind][name] = version
            self._events.append(Event(int(version), kind, name, None if gone else thing, seen))


def _versions(items: Iterable[Object]) -> dict[str, str]:
    return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in items}
