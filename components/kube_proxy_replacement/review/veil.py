"""What must not be shown to whoever reads a pull request, taken out of whatever was said.

The program hides its secrets itself, and the engine what is marked as one. This is for what others say: a plugin's
error, a policy's, that of a program around this one.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from .. import hiding
from ..cluster import last_words

_NAMES = re.compile(r"TOKEN|PASSPHRASE|PASSWORD|SECRET|CREDENTIAL|_KEY$|_KEY_", re.I)
"""Of environment variables that hold a secret."""

_IN_A_KUBECONFIG = ("token", "password", "client-key-data", "client-certificate-data")
"""What signs its user in."""


def of(environment: Mapping[str, str]) -> Callable[[str], str]:
    """What takes it out: the environment's secrets, the kubeconfig's, and what looks like a credential."""
    known = [*_in_environment(environment), *_in_kubeconfigs(environment.get("KUBECONFIG", ""))]
    return lambda text: last_words.hidden(hiding.hidden(text, known))


def _in_environment(environment: Mapping[str, str]) -> Iterator[str]:
    return (value for name, value in environment.items() if _NAMES.search(name))


def _in_kubeconfigs(paths: str) -> Iterator[str]:
    for path in filter(None, paths.split(os.pathsep)):
        try:
            content: Any = yaml.safe_load(Path(path).read_text())
            users = [entry["user"] for entry in content["users"]]
        except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
            continue  # no kubeconfig: the preview has said so
        for user in users:
            for value in (user.get(key) for key in _IN_A_KUBECONFIG if isinstance(user, dict)):
                if isinstance(value, str):
                    yield value
                    yield _decoded(value)


def _decoded(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        return value
