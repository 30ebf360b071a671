"""Where the API server has a chart's objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plural(kind: str) -> str:
    """A kind's name in paths and in rights: `NetworkPolicy` → `networkpolicies`."""
    name = kind.lower()
    if name == "endpoints":
        return name
    if name.endswith("y"):
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith(("s", "x", "ch")) else f"{name}s"


def namespace_of(item: Mapping[str, Any], releases: str) -> str:
    """An object's namespace, "" where it is cluster-wide.

    Args:
        releases: the release's own, which Helm takes for an object that names none.
    """
    if item.get("kind") in (
        "Namespace", "ClusterRole", "ClusterRoleBinding", "IngressClass", "GatewayClass", "PriorityClass",
        "CustomResourceDefinition", "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration",
        "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
    ):  # fmt: skip
        return ""
    return str((item.get("metadata") or {}).get("namespace") or releases)


def path(item: Mapping[str, Any], releases: str) -> str:
    """An object's path at the API server; for `releases` see `namespace_of`."""
    group, _, version = str(item["apiVersion"]).rpartition("/")
    where = namespace_of(item, releases)
    parts = ["", "apis" if group else "api", *filter(None, [group]), version]
    parts += ["namespaces", where] if where else []
    return "/".join([*parts, plural(str(item["kind"])), str(item["metadata"]["name"])])
