"""What the component declares, as the engine shows it to a policy.

The engine hands on a resource's inputs after its provider's `check`, secrets in plain: no policy may quote more than it
judges. What isn't known yet raises `UnknownValueError` where it is read: in a preview that is a warning, and `up` asks
again before it touches the resource.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Protocol

COMPONENT = "kube-proxy-replacement:index:KubeProxyReplacement"
REMOVALS = ("kube-proxy-daemonset", "kube-proxy-configmap")
"""The steps that remove kube-proxy, and on the way back restore it."""

_COMMAND = "command:local:Command"
_RELEASE = "kubernetes:helm.sh/v3:Release"
_DYNAMIC = "pulumi-python:dynamic:Resource"
_LINE = re.compile(r"-m kube_proxy_replacement\.run (\S+) (?:create|update|delete)\b")
_ADOPTED = "release"
_VALUES = "KUBE_PROXY_REPLACEMENT_VALUES"


class Declared(Protocol):
    """A resource, as both kinds of policy are given it."""

    resource_type: str
    props: Mapping[str, Any]
    urn: str


def step(resource: Declared) -> str | None:
    """The step of the procedure that a Command does; None for any other resource."""
    if resource.resource_type != _COMMAND:
        return None
    for verb in ("create", "update", "delete"):
        if found := _LINE.search(resource.props.get(verb) or ""):
            return found[1]
    return None


def is_release(resource: Declared) -> bool:
    """Whether it is Cilium: the Release, or the Command that upgrades one that its owner's Helm had installed."""
    return _of_component(resource, _RELEASE) or step(resource) == _ADOPTED


def is_settings(resource: Declared) -> bool:
    """Whether its inputs hold the component's settings, by their names."""
    # the readings of the agents are a dynamic resource too; a look at a value could find it unknown
    return _of_component(resource, _DYNAMIC) and any(key == "mode" for key in resource.props)


def values(release: Declared) -> Mapping[str, Any]:
    """The Helm values that Cilium is given: all of a Release's; of an adopted one those on top of its owner's."""
    if release.resource_type == _RELEASE:
        return release.props.get("values") or {}
    told: dict[str, Any] = json.loads(release.props["environment"].get(_VALUES) or "{}")
    return told


def stack(urn: str) -> str:
    """The stack's name: `urn:pulumi:STACK::PROJECT::TYPES::NAME`."""
    return urn.removeprefix("urn:pulumi:").partition("::")[0]


def _of_component(resource: Declared, its_type: str) -> bool:
    types = resource.urn.split("::")[2] if resource.urn.count("::") >= 3 else ""
    return resource.resource_type == its_type and types.endswith(f"{COMPONENT}${its_type}")
