"""One persistent client for one cluster's API server.

Objects are plain dicts, as the API server sent them: a backup made from them loses no field that
this program doesn't know. Credentials (files, tokens, exec plugins, OIDC, proxies) are the official
client's work; only its transport is used, not its models.
"""

from __future__ import annotations

import json
import math
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias
from urllib.parse import urlencode

from kubernetes.client.api_client import ApiClient
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError, LocationValueError, SSLError

from . import credentials
from .errors import ApiError, KubeconfigError, UnreachableError
from .exec import ExecResult, Execs, run_in_container

Object: TypeAlias = dict[str, Any]
Objects: TypeAlias = list[Object]
Pairs: TypeAlias = list[tuple[str, str]]

DEFAULT_PATIENCE = 10.0
"""Seconds for which a request is tried again when no answer, or only «busy», comes back."""

_REQUEST_TIMEOUT = (5.0, 30.0)
_BUSY = frozenset({429, 500, 502, 503, 504})
_COMING_BACK = 10.0
"""Seconds after a connection broke in which «forbidden» is asked again: an API server that starts hasn't read anybody's
rights yet (seen with 1.36: 403 to a cluster-admin for about a second)."""

BUDGET = "DisruptionBudget"
"""The cause of an eviction's 429 that a PodDisruptionBudget gives: not «busy», but the answer."""

_PAGE = 500


class Api:
    """A connection to one API server; safe to use from several threads.

    Args of `connect`:
        kubeconfig: the *content* of a kubeconfig (YAML or JSON), or None for the ambient one
            (`$KUBECONFIG`, a list of paths merged as kubectl does, else `~/.kube/config`).
        context: the context's name, or None for the current one.
        patience: seconds for which requests are repeated while there is no answer.
    Attributes:
        guard: asked before each try of a request that changes something; what it raises keeps it from being made.
    """

    kubeconfig: str | None = None
    context: str | None = None
    """What `connect` was given: for a program that is to work on the same cluster (see `helm`)."""
    guard: Callable[[], None] | None = None

    def __init__(
        self,
        client: ApiClient,
        tls: ssl.SSLContext,
        *,
        patience: float = DEFAULT_PATIENCE,
        timeout: tuple[float, float] = _REQUEST_TIMEOUT,
        line: _Line | None = None,
    ) -> None:
        self._client = client
        self._line = line or _Line()
        self._tls = tls
        self._patience = patience
        self._timeout = timeout
        self._execs = Execs(client.configuration, tls)

    @classmethod
    def connect(
        cls, kubeconfig: str | None = None, context: str | None = None, *, patience: float = DEFAULT_PATIENCE
    ) -> Self:
        """Raises KubeconfigError with what is missing. Doesn't talk to the API server yet."""
        configuration, tls = credentials.load(kubeconfig, context)
        try:
            client = ApiClient(configuration)
            client.rest_client.pool_manager.connection_pool_kw["ssl_context"] = tls
            api = cls(client, tls, patience=patience)
        except credentials.UNUSABLE as error:
            raise KubeconfigError(f"The kubeconfig can't be used: {credentials.harmless(error)}") from None
        api.kubeconfig, api.context = kubeconfig, context
        return api

    def beside(self, *, patience: float | None = None, timeout: tuple[float, float] | None = None) -> Api:
        """The same connection without the guard, and with another patience.

        Args:
            timeout: seconds for a connection, and for an answer on it.
        """
        other = Api(
            self._client,
            self._tls,
            patience=self._patience if patience is None else patience,
            timeout=timeout or self._timeout,
            line=self._line,
        )
        other.kubeconfig, other.context = self.kubeconfig, self.context
        return other

    @property
    def server(self) -> str:
        """The API server's URL as the kubeconfig has it, `https://HOST:PORT`."""
        return str(self._client.configuration.host)

    def get(self, path: str, **query: str) -> Object:
        """One object. Raises ApiError, also with status 404."""
        return self._request("GET", path, query=query)

    def find(self, path: str, **query: str) -> Object | None:
        """One object, or None where there is none (or no such kind of object)."""
        try:
            return self.get(path, **query)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, path: str, **query: str) -> Objects:
        """Every object of a collection, read in pages. An unknown kind is an ApiError with status 404."""
        return list(self._pages(path, query))

    def create(self, path: str, body: Object) -> Object:
        return self._request("POST", path, body=body, changes=True)

    def replace(self, path: str, body: Object) -> Object:
        return self._request("PUT", path, body=body, changes=True)

    def merge(self, path: str, body: Object) -> Object:
        """A JSON merge patch: a key with the value None is removed."""
        return self._request("PATCH", path, body=body, content_type="application/merge-patch+json", changes=True)

    def delete(self, path: str, *, uid: str | None = None, grace_seconds: int | None = None) -> bool:
        """Deletes one object, in the foreground of nothing: its dependents go by garbage collection.

        Args:
            uid: only the object with this uid; another one under the same name stays.
        Returns: False where it was already gone (or another has its name).
        """
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            self._request("DELETE", path, body=options, changes=True)
        except ApiError as error:
            if error.status == 404 or (uid and error.status == 409):
                return False
            raise
        return True

    def may(
        self,
        verb: str,
        resource: str,
        *,
        group: str = "",
        namespace: str = "",
        subresource: str = "",
        name: str = "",
    ) -> bool:
        """Whether these credentials may do this (SelfSubjectAccessReview)."""
        attributes = {
            "verb": verb,
            "resource": resource,
            "group": group,
            "namespace": namespace,
            "subresource": subresource,
            "name": name,
        }
        review = self._request(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            body={
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {k: v for k, v in attributes.items() if v}},
            },
        )
        return bool(review.get("status", {}).get("allowed"))

    def exec(self, namespace: str, pod: str, container: str, command: Sequence[str], *, timeout: float) -> ExecResult:
        """Runs a program in a container and waits for its end, at most `timeout` seconds in all.

        Raises ApiError or UnreachableError where it could not be started, or did not end in time.
        """
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/exec"
        query = [("container", container), ("stdout", "true"), ("stderr", "true")]
        query += [("command", word) for word in command]
        headers, parameters = self._authorized(path, "GET")
        return run_in_container(
            self._execs,
            f"{self.server}{path}?{urlencode(query + parameters)}",
            headers,
            what=f"{command[0]} in {namespace}/{pod}",
            timeout=timeout,
        )

    def log(self, namespace: str, pod: str, container: str, *, previous: bool, lines: int) -> str:
        """The last lines of a container's log; of the run before this one where `previous`."""
        query = {"container": container, "previous": str(previous).lower(), "tailLines": str(lines)}
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        headers, parameters = self._authorized(path, "GET")
        url = f"{self.server}{path}?{urlencode([*query.items(), *parameters])}"
        answer = self._answer("GET", url, headers, None, f"GET {path}", None)
        text = answer.data.decode("utf-8", "replace")
        if answer.status >= 400:
            raise _api_error(self.server, "GET", path, answer.status, text)
        return text

    def _pages(self, path: str, query: Mapping[str, str]) -> Iterator[Object]:
        token = ""
        while True:
            paging = {"limit": str(_PAGE)} | ({"continue": token} if token else {})
            page = self._request("GET", path, query=dict(query) | paging)
            yield from page.get("items") or []
            token = page.get("metadata", {}).get("continue") or ""
            if not token:
                return

    def _authorized(self, path: str, method: str) -> tuple[dict[str, str], Pairs]:
        headers: dict[str, str] = {}
        parameters: Pairs = []
        self._client.update_params_for_auth(headers, parameters, ["BearerToken"], path, method, None)
        # a token often ends in a line break; kubectl takes it off too
        return {name: value.strip() for name, value in headers.items()}, parameters

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
        changes: bool = False,
    ) -> Object:
        headers, parameters = self._authorized(path, method)
        headers |= {"Accept": "application/json", "Content-Type": content_type}
        pairs = [(key, value) for key, value in (query or {}).items()] + parameters
        url = f"{self.server}{path}" + (f"?{urlencode(pairs)}" if pairs else "")
        guard = self.guard if changes and "dryRun=" not in path else None
        answer = self._answer(method, url, headers, body, f"{method} {path}", guard)
        text = answer.data.decode("utf-8", "replace")
        if answer.status >= 400:
            raise _api_error(self.server, method, path, answer.status, text)
        try:
            return dict(json.loads(text)) if text else {}
        except (ValueError, TypeError):
            raise UnreachableError(
                f"{self.server} answers, but not as a Kubernetes API server ({method} {path}: status {answer.status}, "
                "no JSON object). Is it a proxy, or a login page?"
            ) from None

    def _answer(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: Object | None,
        what: str,
        guard: Callable[[], None] | None,
    ) -> _Answer:
        """Repeats what may be repeated: everything here is idempotent, or refused the second time."""
        deadline = time.monotonic() + self._patience
        pause = 0.2
        while True:
            if guard:
                guard()
            try:
                response = self._client.call_api(
                    method, url, header_params=dict(headers), body=body, _request_timeout=self._timeout
                )
                answer = _Answer(response.status, response.response.data or b"")
                starting = answer.status == 403 and time.monotonic() - self._line.broke < _COMING_BACK
                busy = answer.status in _BUSY and BUDGET not in _causes(_body(answer.data.decode("utf-8", "replace")))
                if not (starting or busy) or time.monotonic() + pause > deadline:
                    return answer
            except LocationValueError:  # urllib3's errors of this kind are ValueErrors too
                raise KubeconfigError(f"The kubeconfig's server {self.server!r} is no https:// URL.") from None
            except ValueError:
                # http.client's words quote the header, and so the token
                raise KubeconfigError(
                    "The kubeconfig's token holds a line break or a character that no HTTP header may hold."
                ) from None
            except (ApiException, HTTPError, OSError) as error:
                # over a failure of TLS the client puts a word of its own
                its = error.__context__ if isinstance(error, ApiException) and error.__context__ else error
                if _is_distrust(its):
                    raise UnreachableError(
                        f"There is no trusted connection to the API server {self.server} ({what}): {_cause(its)}. "
                        "Look at the cluster's certificate-authority and the user's client-certificate in the "
                        "kubeconfig."
                    ) from None
                self._line.broke = time.monotonic()
                if time.monotonic() + pause > deadline:
                    raise UnreachableError(
                        f"The API server {self.server} doesn't answer ({what}, tried for {self._patience:.0f} s): "
                        f"{_cause(its)}. Is it the cluster that is meant (kubeContext, KUBECONFIG), and is "
                        "there a way "
                        "to it from here (VPN, proxy)?"
                    ) from None
            time.sleep(pause)
            pause = min(pause * 2, 2.0)


@dataclass
class _Line:
    """The way to the API server: when it last broke, by the monotonic clock."""

    broke: float = -math.inf


@dataclass(frozen=True)
class _Answer:
    status: int
    data: bytes


def _api_error(server: str, method: str, path: str, status: int, text: str) -> ApiError:
    body = _body(text)
    message = str(body.get("message") or text) if body else text.strip()[:300]
    reason = str(body.get("reason") or "")
    if status == 401:
        message = "these credentials aren't accepted: expired, or of another cluster. Sign in again, or set kubeContext"
    said = f"{server}: {method} {path}: {status} {message}"
    return ApiError(said, status=status, reason=reason, causes=_causes(body))


def _body(text: str) -> Object:
    """The JSON object that an answer is; {} where it is something else."""
    try:
        body = json.loads(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _causes(body: Object) -> dict[str, str]:
    """The causes of a `Status`, by their reasons."""
    details = body.get("details")
    causes = (details.get("causes") if isinstance(details, dict) else None) or []
    return {str(its.get("reason") or ""): str(its.get("message") or "") for its in causes if isinstance(its, dict)}


def _is_distrust(error: BaseException) -> bool:
    """A failure of TLS that no second try mends. One in which the other side has just ended is none: that is an API
    server that was killed, or a proxy before it."""
    return isinstance(error, SSLError) and not any(isinstance(its, ssl.SSLEOFError) for its in error.args)


def _cause(error: BaseException) -> str:
    """urllib3's errors carry the connection's repr before their own words: «HTTPSConnection(…): … [Errno 111] "
    "Refused»."""
    cause = getattr(error, "reason", None)
    words = _first_line(cause if isinstance(cause, BaseException) else error)
    return re.sub(r"^.*\): |\[Errno \d+\] ", "", words)


def _first_line(error: object) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
