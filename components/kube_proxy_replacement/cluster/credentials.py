"""From a kubeconfig to a client's configuration. Nothing of what is in it is ever quoted.

Files, tokens, exec plugins, OIDC and proxies are the official client's work; its errors quote whole entries.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from kubernetes.client.configuration import Configuration
from kubernetes.config import kube_config
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from .errors import KubeconfigError

UNUSABLE = (
    ConfigException, HTTPError, OSError, ImportError, LookupError, TypeError, ValueError, AttributeError,
)  # fmt: skip
"""What the official client raises for a kubeconfig that it can't use: a missing file or key, no PEM, no such proxy."""


_FILES = threading.Lock()
"""Around the official client's temporary files, which all threads share."""


@dataclass(frozen=True)
class _Source:
    """One kubeconfig: what the client loads, and what of it is looked at here.

    Attributes:
        title: how a message calls it.
        content: file names (joined as $KUBECONFIG has them) or the parsed content.
        contexts: user name by context name.
        current: the current context, or None.
        signing_in: names of the users whose credentials a program or a provider gives.
    """

    title: str
    content: Any
    contexts: dict[str, str]
    current: str | None
    signing_in: frozenset[str]


def load(kubeconfig: str | None, context: str | None) -> tuple[Configuration, ssl.SSLContext]:
    """The client's configuration for a context, and what its connections are made with.

    The official client writes what a kubeconfig carries of keys and certificates into temporary files, and removes them
    when Python ends by itself. The engine kills its plugins: so the files are read here, once, and are gone when this
    returns.

    Args:
        kubeconfig: a kubeconfig's content, or None for the ambient one.
        context: a context's name, or None for the current one.
    Raises KubeconfigError saying what is missing.
    """
    source = _ambient() if kubeconfig is None else _given(kubeconfig)
    wanted = context or source.current
    names = ", ".join(source.contexts) or "none"
    if not wanted:
        raise KubeconfigError(f"{source.title} has no current context. Set kubeContext to one of: {names}.")
    if wanted not in source.contexts:
        setting = "kubeContext" if context else "current-context"
        raise KubeconfigError(
            f"{setting}: {source.title} has no context {wanted!r}. Set kubeContext to one of: {names}."
        )
    configuration = Configuration()
    configuration.retries = False  # requests are repeated where it is known which may be
    configuration.connection_pool_maxsize = 32
    loader = kube_config.load_kube_config if kubeconfig is None else kube_config.load_kube_config_from_dict
    try:
        with _silent(), _FILES:
            try:
                loader(source.content, context=wanted, persist_config=False, client_configuration=configuration)  # type: ignore[no-untyped-call]
                tls = _tls(configuration)
            finally:
                kube_config._cleanup_temp_files()  # type: ignore[no-untyped-call]  # noqa: SLF001 - it has no other
    except UNUSABLE as error:
        raise KubeconfigError(f"{source.title}, context {wanted!r}, can't be used: {harmless(error)}") from None
    user = source.contexts[wanted]
    if user in source.signing_in and not (configuration.api_key or configuration.cert_file or configuration.username):
        # the client would go on as system:anonymous, and the API server's «forbidden» would name the wrong cause
        raise KubeconfigError(
            f"{source.title}, context {wanted!r}: the program that signs user {user!r} in gave no credentials. "
            "Sign in again "
            f"(`kubectl --context {wanted} get nodes` shows what it says), then run again. Nothing was changed."
        )
    configuration.ssl_ca_cert = configuration.cert_file = configuration.key_file = None
    return configuration, tls


def _tls(configuration: Configuration) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if configuration.verify_ssl:
        if configuration.ssl_ca_cert:
            context.load_verify_locations(configuration.ssl_ca_cert)
        else:
            context.load_default_certs()
        if configuration.assert_hostname is not None:
            context.check_hostname = configuration.assert_hostname
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    return context


def harmless(error: BaseException) -> str:
    """What may be shown of the official client's error."""
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


def _ambient() -> _Source:
    value = os.environ.get("KUBECONFIG") or "~/.kube/config"
    paths = [Path(part).expanduser() for part in value.split(os.pathsep) if part]
    there = [path for path in paths if path.is_file()]
    if not there:
        what = "is a folder" if any(path.is_dir() for path in paths) else "isn't there"
        raise KubeconfigError(
            f"No kubeconfig: {', '.join(map(str, paths))} {what}. Set KUBECONFIG to a kubeconfig file, or the secret "
            "setting kubeconfig (pulumi config set --secret kubeconfig < FILE)."
        )
    if all(path.stat().st_size == 0 for path in there):
        raise KubeconfigError(f"The kubeconfig {value} is empty.")
    files = os.pathsep.join(map(str, paths))
    try:
        merged = kube_config.KubeConfigMerger(files).config  # type: ignore[no-untyped-call]
        source = _source("the ambient kubeconfig", files, merged.value)
        # kubectl, helm and Pulumi's provider take the first file that has one; the Python client takes the last
        return replace(source, current=_first_context(there)) if len(there) > 1 else source
    except (*UNUSABLE, yaml.YAMLError) as error:
        raise KubeconfigError(f"The kubeconfig {value} can't be read: {harmless(error)}") from None


def _first_context(paths: list[Path]) -> str | None:
    parsed = (yaml.safe_load(path.read_text()) or {} for path in paths)
    return next((str(its["current-context"]) for its in parsed if its.get("current-context")), None)


def _given(content: str) -> _Source:
    try:
        parsed = yaml.safe_load(content)
        return _source("the setting kubeconfig", parsed, parsed)
    except (yaml.YAMLError, TypeError, LookupError, AttributeError):
        # the parser's own words would quote the secret
        raise KubeconfigError(
            "The setting kubeconfig isn't a kubeconfig: it takes the file's whole content (YAML or JSON), not a path."
        ) from None


def _source(title: str, content: Any, parsed: Any) -> _Source:
    contexts = {str(entry["name"]): str(_at(entry["context"], "user")) for entry in parsed["contexts"] or []}
    signing_in = frozenset(str(entry["name"]) for entry in parsed.get("users") or [] if _signs_in(_at(entry, "user")))
    return _Source(title, content, contexts, parsed.get("current-context") or None, signing_in)


def _signs_in(user: Any) -> bool:
    return user is not None and ("exec" in user or "auth-provider" in user)


def _at(node: Any, key: str) -> Any:
    """A key of a dict, or of the client's ConfigNode, which knows no `get`; None where it isn't there."""
    return node[key] if node is not None and key in node else None


@contextmanager
def _silent() -> Iterator[None]:
    """The client logs what a failed exec plugin printed."""
    was = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(was)
