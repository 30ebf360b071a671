"""One persistent client for one cluster's API server.

Objects are plain dicts, as the API server sent them: a backup made from them loses no field that
this program doesn't know. Credentials (files, tokens, exec plugins, OIDC, proxies) are the official
client's work; only its transport is used, not its models.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias
from urllib.parse import urlencode

import yaml
from kubernetes.client.api_client import ApiClient
from kubernetes.client.configuration import Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config import kube_config
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError, LocationValueError

from .errors import ApiError, KubeconfigError, UnreachableError
from .exec import ExecResult, run_in_container

Object: TypeAlias = dict[str, Any]
Objects: TypeAlias = list[Object]
Pairs: TypeAlias = list[tuple[str, str]]

DEFAULT_PATIENCE = 10.0
"""Seconds for which a request is tried again when no answer, or only «busy», comes back."""

_UNUSABLE = (
    ConfigException, HTTPError, OSError, ImportError, LookupError, TypeError, ValueError, AttributeError,
)  # fmt: skip
"""What the official client raises for a kubeconfig that it can't use: a missing file or key, no PEM, no such proxy."""

_REQUEST_TIMEOUT = (5.0, 30.0)
_BUSY = frozenset({429, 500, 502, 503, 504})
_PAGE = 500


class Api:
    """A connection to one API server; safe to use from several threads.

    Args of `connect`:
        kubeconfig: the *content* of a kubeconfig (YAML or JSON), or None for the ambient one
            (`$KUBECONFIG`, a list of paths merged as kubectl does, else `~/.kube/config`).
        context: the context's name, or None for the current one.
        patience: seconds for which requests are repeated while there is no answer.
    """

    def __init__(self, client: ApiClient, *, patience: float = DEFAULT_PATIENCE) -> None:
        self._client = client
        self._patience = patience

    @classmethod
    def connect(
        cls, kubeconfig: str | None = None, context: str | None = None, *, patience: float = DEFAULT_PATIENCE
    ) -> Self:
        """Raises KubeconfigError with what is missing. Doesn't talk to the API server yet."""
        source = "the ambient kubeconfig" if kubeconfig is None else "the setting kubeconfig"
        content, contexts, current = _ambient() if kubeconfig is None else _parsed(kubeconfig)
        wanted = context or current
        if not wanted:
            raise KubeconfigError(f"{source} has no current context: set kubeContext to one of {_list(contexts)}.")
        if wanted not in contexts:
            setting = "kubeContext" if context else "current-context"
            raise KubeconfigError(f"{setting}: {source} has no context {wanted!r}; it has {_list(contexts)}.")
        configuration = Configuration()
        configuration.retries = False  # requests are repeated here, where it is known which may be
        configuration.connection_pool_maxsize = 32
        load = kube_config.load_kube_config if kubeconfig is None else kube_config.load_kube_config_from_dict
        try:
            load(content, context=wanted, persist_config=False, client_configuration=configuration)  # type: ignore[no-untyped-call]
            return cls(ApiClient(configuration), patience=patience)
        except _UNUSABLE as error:
            raise KubeconfigError(f"{source}, context {wanted!r}, can't be used: {_harmless(error)}") from None

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
        return self._request("POST", path, body=body)

    def replace(self, path: str, body: Object) -> Object:
        return self._request("PUT", path, body=body)

    def merge(self, path: str, body: Object) -> Object:
        """A JSON merge patch: a key with the value None is removed."""
        return self._request("PATCH", path, body=body, content_type="application/merge-patch+json")

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
            self._request("DELETE", path, body=options)
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
        review = self.create(
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {
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
            self._client.configuration,
            f"{self.server}{path}?{urlencode(query + parameters)}",
            headers,
            what=f"{command[0]} in {namespace}/{pod}",
            timeout=timeout,
        )

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
    ) -> Object:
        headers, parameters = self._authorized(path, method)
        headers |= {"Accept": "application/json", "Content-Type": content_type}
        pairs = [(key, value) for key, value in (query or {}).items()] + parameters
        url = f"{self.server}{path}" + (f"?{urlencode(pairs)}" if pairs else "")
        answer = self._answer(method, url, headers, body, f"{method} {path}")
        text = answer.data.decode("utf-8", "replace")
        if answer.status >= 400:
            raise _api_error(method, path, answer.status, text)
        try:
            return dict(json.loads(text)) if text else {}
        except (ValueError, TypeError):
            raise UnreachableError(
                f"{self.server} answers, but not as a Kubernetes API server ({method} {path}: status {answer.status}, "
                "no JSON object). Is it a proxy, or a login page?"
            ) from None

    def _answer(self, method: str, url: str, headers: dict[str, str], body: Object | None, what: str) -> _Answer:
        """Repeats what may be repeated: everything here is idempotent, or refused the second time."""
        deadline = time.monotonic() + self._patience
        pause = 0.2
        while True:
            try:
                response = self._client.call_api(
                    method, url, header_params=dict(headers), body=body, _request_timeout=_REQUEST_TIMEOUT
                )
                answer = _Answer(response.status, response.response.data or b"")
                if answer.status not in _BUSY or time.monotonic() + pause > deadline:
                    return answer
            except ApiException as error:  # the client's word for a TLS failure, which no second try mends
                raise UnreachableError(
                    f"There is no trusted connection to the API server {self.server} ({what}): "
                    f"{_first_line(error.reason)}. Look at the cluster's certificate-authority and the user's "
                    "client-certificate in the kubeconfig."
                ) from None
            except LocationValueError:  # urllib3's errors of this kind are ValueErrors too
                raise KubeconfigError(f"The kubeconfig's server {self.server!r} is no https:// URL.") from None
            except ValueError:
                # http.client's words quote the header, and so the token
                raise KubeconfigError(
                    "The kubeconfig's token holds a line break or a character that no HTTP header may hold."
                ) from None
            except (HTTPError, OSError) as error:
                if time.monotonic() + pause > deadline:
                    raise UnreachableError(
                        f"The API server {self.server} doesn't answer ({what}, tried for "
                        f"{self._patience:.0f} s): {_cause(error)}"
                    ) from None
            time.sleep(pause)
            pause = min(pause * 2, 2.0)


@dataclass(frozen=True)
class _Answer:
    status: int
    data: bytes


_Config: TypeAlias = tuple[Any, list[str], str | None]
"""What the official client loads, the contexts in it, and the current one."""


def _ambient() -> _Config:
    value = os.environ.get("KUBECONFIG") or "~/.kube/config"
    paths = [Path(part).expanduser() for part in value.split(os.pathsep) if part]
    if not any(path.is_file() for path in paths):
        raise KubeconfigError(
            f"No kubeconfig: {_list([str(path) for path in paths])} isn't there. Set KUBECONFIG, or the secret "
            "setting kubeconfig (pulumi config set --secret kubeconfig)."
        )
    files = os.pathsep.join(map(str, paths))
    try:
        merged = kube_config.KubeConfigMerger(files).config  # type: ignore[no-untyped-call]
        content = merged.value if merged else {}
        names = [str(entry["name"]) for entry in content.get("contexts") or []]
        return files, names, content.get("current-context") or None
    except (OSError, yaml.YAMLError, TypeError, AttributeError, LookupError, ConfigException) as error:
        raise KubeconfigError(f"The kubeconfig {value} can't be read: {_harmless(error)}") from None


def _parsed(content: str) -> _Config:
    try:
        parsed = yaml.safe_load(content)
        names = [str(entry["name"]) for entry in parsed["contexts"]]
        return parsed, names, parsed.get("current-context") or None
    except (yaml.YAMLError, TypeError, LookupError, AttributeError):
        # the parser's own words would quote the secret
        raise KubeconfigError(
            "The setting kubeconfig isn't a kubeconfig: it takes the file's whole content (YAML or JSON), not a path."
        ) from None


def _harmless(error: BaseException) -> str:
    """What may be shown of the official client's error: it quotes whole entries, credentials and all, and whatever an
    exec plugin printed.
    """
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    text = str(error)
    missing = re.search(r"Expected key ([\w-]+) in|File does not exist: (\S+)$", text)
    if missing and missing[1]:
        return f"the key {missing[1]} is missing in it"
    if missing:
        return f"the file {missing[2]} doesn't exist"
    if "exec" in text:
        return "its exec plugin for credentials failed; `kubectl get nodes` shows how"
    return f"it isn't as a kubeconfig must be ({type(error).__name__}); `kubectl config view` may say more"


def _api_error(method: str, path: str, status: int, text: str) -> ApiError:
    try:
        body = json.loads(text)
        message, reason = str(body.get("message") or text), str(body.get("reason") or "")
    except (ValueError, AttributeError):
        message, reason = text.strip()[:300], ""
    if status == 401:
        message = "the credentials aren't accepted (expired, or of another cluster)"
    return ApiError(f"{method} {path}: {status} {message}", status=status, reason=reason)


def _cause(error: BaseException) -> str:
    cause = getattr(error, "reason", None)
    return _first_line(cause if isinstance(cause, BaseException) else error)


def _first_line(error: object) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"
