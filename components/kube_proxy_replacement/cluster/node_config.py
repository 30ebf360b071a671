"""What a node's agent is given on top of cilium-config, by the node's label: two CiliumNodeConfigs of ours.

An agent reads those of its own namespace whose selector matches its node as it starts (`cilium-dbg build-config`,
cilium/cilium pkg/option/resolver), never later. `v2` since Cilium 1.16, `v2alpha1` from 1.13 on.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import routing
from .api import Api, Object
from .errors import ApiError

REPLACES = "kube-proxy-replacement"
"""The key of cilium-config; the agents of a node that says another one for it can't be handed over by a label."""

_SELECTED = {True: [routing.CILIUM, routing.BOTH], False: [routing.KUBE_PROXY]}
_NAMES = {True: "kube-proxy-replacement-on", False: "kube-proxy-replacement-off"}
NAMES = tuple(_NAMES.values())

_VERSIONS = ("v2", "v2alpha1")


def version(api: Api) -> str:
    """The version in which this API server has CiliumNodeConfigs, "" where it has none."""
    for name in _VERSIONS:
        found = api.find(f"/apis/cilium.io/{name}") or {}
        if any(its.get("name") == "ciliumnodeconfigs" for its in found.get("resources") or []):
            return name
    return ""


def write(api: Api, namespace: str, its_version: str, *, replaces: bool, defaults: Mapping[str, str]) -> None:
    """What the agents start with on the nodes that are labelled for Cilium, or, not `replaces`, for kube-proxy."""
    collection, name = _collection(namespace, its_version), _NAMES[replaces]
    selector = {"matchExpressions": [{"key": routing.LABEL, "operator": "In", "values": _SELECTED[replaces]}]}
    body: Object = {
        "apiVersion": f"cilium.io/{its_version}",
        "kind": "CiliumNodeConfig",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "kube-proxy-replacement"},
        },
        "spec": {"nodeSelector": selector, "defaults": dict(defaults)},
    }
    found = api.find(f"{collection}/{name}")
    if found is None:
        api.create(collection, body)
    elif found["spec"] != body["spec"]:
        body["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
        api.replace(f"{collection}/{name}", body)


def remove(api: Api, namespace: str, *, replaces: bool) -> None:
    """The one that `write` makes, where it is there: cilium-config alone says what an agent starts with then."""
    its_version = version(api)
    path = f"{_collection(namespace, its_version)}/{_NAMES[replaces]}"
    if its_version and api.find(path) is not None:
        api.delete(path)


def others(api: Api, namespace: str, its_version: str) -> list[str]:
    """Names of somebody else's that say whether an agent replaces kube-proxy: theirs would stand against ours."""
    try:
        found = api.list(_collection(namespace, its_version))
    except ApiError as error:
        if error.status not in (403, 404):
            raise
        return []  # a preview may do without this right, an `up` is asked for it
    names = [(item["metadata"]["name"], (item.get("spec") or {}).get("defaults") or {}) for item in found]
    return sorted(name for name, said in names if name not in _NAMES.values() and REPLACES in said)


def _collection(namespace: str, its_version: str) -> str:
    return f"/apis/cilium.io/{its_version}/namespaces/{namespace}/ciliumnodeconfigs"
