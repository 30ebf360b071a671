"""The cluster's API, as much as setting one up needs."""

import http.client
import json
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

from local.cluster.certificates import KeyPair, Pki
from local.cluster.errors import ClusterError
from local.cluster.ports import LOOPBACK

Object = dict[str, Any]
"""A Kubernetes object."""

_TIMEOUT_SECONDS = 20.0
_AT_A_TIME = 8

_HEADERS = {"Accept": "application/json", "User-Agent": "local-cluster"}
_PLURALS = {"EndpointSlice": "endpointslices"}


class Api:
    """A client of the API server on loopback. Each thread has a connection of its own."""

    def __init__(self, port: int, pki: Pki, client: KeyPair) -> None:
        self._port = port
        self._tls = ssl.create_default_context(cafile=pki.ca.certificate)
        self._tls.load_cert_chain(client.certificate, client.key)
        self._local = threading.local()

    def is_ready(self) -> bool:
        """Whether the API server says so."""
        try:
            return self._call("GET", "/readyz")[0] == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    def get(self, path: str) -> Object:
        """Read what is at a path."""
        return self._done("GET", path)

    def find(self, path: str) -> Object | None:
        """Read what is at a path, or None where nothing is."""
        status, answer = self._call("GET", path)
        return None if status == http.HTTPStatus.NOT_FOUND else self._parsed("GET", path, status, answer)

    def delete(self, path: str) -> None:
        """Delete what is at a path, if it is there."""
        status, answer = self._call("DELETE", path)
        if status != http.HTTPStatus.NOT_FOUND:
            self._parsed("DELETE", path, status, answer)

    def watch(self, path: str, version: str) -> Iterator[Object]:
        """What happens to a collection after a resource version, as it happens, until the API server ends it.

        Raises OSError or HTTPException where the connection ends, ClusterError where the version is too old.
        """
        query = urlencode({"watch": "true", "resourceVersion": version})
        connection = http.client.HTTPSConnection(LOOPBACK, self._port, context=self._tls)
        try:
            connection.request("GET", f"{path}{'&' if '?' in path else '?'}{query}", headers=_HEADERS)
            answer = connection.getresponse()
            if answer.status >= http.HTTPStatus.BAD_REQUEST:
                raise ClusterError(f"the API server refuses to watch {path}: {_message(answer.read())}")
            while line := answer.readline():
                event: Object = json.loads(line)
                yield event
        finally:
            connection.close()

    def create(self, thing: Object) -> None:
        """Create an object, with its status where it has one; what is there already stays."""
        path = collection(thing)
        own = f"{path}/{thing['metadata']['name']}"
        status, answer = self._call("POST", path, thing)
        if status >= http.HTTPStatus.BAD_REQUEST:
            # Not only a conflict: an address that is taken shows first, be it by the same Service.
            if self._call("GET", own)[0] == http.HTTPStatus.OK:
                return
            raise ClusterError(f"the API server refuses {_called(thing)}: {_message(answer)}")
        # A node comes with its status, as kubelets send it; other objects are given theirs after.
        if "status" in thing and thing["kind"] != "Node":
            self.patch(f"{own}/status", {"status": thing["status"]})

    def create_all(self, things: list[Object]) -> None:
        """Create objects many at a time, in no order."""
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            list(pool.map(self.create, things))

    def patch(self, path: str, change: Object) -> None:
        """Merge a change into what is at a path."""
        self._done("PATCH", path, change)

    def _done(self, method: str, path: str, body: Object | None = None) -> Object:
        return self._parsed(method, path, *self._call(method, path, body))

    def _parsed(self, method: str, path: str, status: int, answer: bytes) -> Object:
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise ClusterError(f"the API server refuses {method} {path}: {_message(answer)}")
        parsed: Object = json.loads(answer)
        return parsed

    def _call(self, method: str, path: str, body: Object | None = None) -> tuple[int, bytes]:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = dict(_HEADERS)
        if body is not None:
            headers["Content-Type"] = kind
        connection = self._connection()
        while True:
            kept = connection.sock is not None
            try:
                connection.request(method, path, None if body is None else json.dumps(body), headers)
                answer = connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                # one that was kept open may have been closed meanwhile: what only reads asks again
                if not kept or method != "GET":
                    raise

    def _connection(self) -> http.client.HTTPSConnection:
        known: http.client.HTTPSConnection | None = getattr(self._local, "connection", None)
        if known is None:
            known = http.client.HTTPSConnection(LOOPBACK, self._port, timeout=_TIMEOUT_SECONDS, context=self._tls)
            self._local.connection = known
        return known


def collection(thing: Object) -> str:
    """The path under which an object is created."""
    version, kind = thing["apiVersion"], thing["kind"]
    root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    namespace = thing["metadata"].get("namespace")
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{inside}/{_PLURALS.get(kind, kind.lower() + 's')}"


def _called(thing: Object) -> str:
    return f"{thing['kind']} {thing['metadata']['name']}"


def _message(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        return answer.decode(errors="replace")[:500]
