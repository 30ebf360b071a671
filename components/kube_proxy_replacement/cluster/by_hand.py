"""A DaemonSet that restarts nobody by itself, for as long as somebody else says who is next.

With `updateStrategy: OnDelete` its controller goes by the new template for pods that it makes, and for where they may
run, and leaves those that run alone. Its own strategy is remembered in an annotation on it.
"""

from __future__ import annotations

import json

from .api import Api, Object

_BEFORE = "kube-proxy-replacement/update-strategy"


def held(daemonset: Object) -> Object:
    """A merge patch that holds it; {} where it is held already."""
    if is_held(daemonset):
        return {}
    before = daemonset["spec"].get("updateStrategy") or {}
    return {
        "metadata": {"annotations": {_BEFORE: json.dumps(before, sort_keys=True)}},
        "spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}},
    }


def is_held(daemonset: Object) -> bool:
    return _BEFORE in _annotations(daemonset)


def let_go(daemonset: Object) -> Object:
    """A merge patch that gives it its own strategy back; {} where it isn't held."""
    before = _annotations(daemonset).get(_BEFORE)
    if before is None:
        return {}
    return {
        "metadata": {"annotations": {_BEFORE: None}},
        "spec": {"updateStrategy": json.loads(before) or {"type": "RollingUpdate"}},
    }


def let_go_of(api: Api, path: str) -> None:
    """Gives the DaemonSet at this path its own strategy back, where it is there and held."""
    found = api.find(path)
    if found is not None and (patch := let_go(found)):
        api.merge(path, patch)


def _annotations(daemonset: Object) -> dict[str, str]:
    return daemonset["metadata"].get("annotations") or {}
