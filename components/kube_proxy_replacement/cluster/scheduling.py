"""On which nodes the agents' DaemonSet runs: a node without an agent must keep its kube-proxy.

A DaemonSet's pods are bound by node selector, required node affinity and taints only
(https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/#taints-and-tolerations).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .nodes import Node

# What the DaemonSet controller tolerates for every one of its pods.
_TOLERATED = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/", "node.cilium.io/")


def left_out(pod_spec: Mapping[str, Any], nodes: Sequence[Node]) -> dict[str, str]:
    """The nodes on which a pod of this spec would not run, and by which of its fields."""
    try:
        reasons = {node.name: _why_not(pod_spec, node) for node in nodes}
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}  # no such spec can be installed: the rendering and the API server say so in their own words
    return {name: reason for name, reason in reasons.items() if reason}


def _why_not(spec: Mapping[str, Any], node: Node) -> str:
    for key, value in (spec.get("nodeSelector") or {}).items():
        if node.labels.get(key) != value:
            return f"nodeSelector wants {key}={value}"
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms") or []
    if terms and not any(_term(term, node) for term in terms):
        return "affinity.nodeAffinity leaves it out"
    for taint in node.taints:
        tolerated = taint.key.startswith(_TOLERATED) or any(
            _tolerates(toleration, taint.key, taint.value, taint.effect) for toleration in spec.get("tolerations") or []
        )
        if taint.effect in ("NoSchedule", "NoExecute") and not tolerated:
            return f"tolerations don't cover its taint {taint.key}:{taint.effect}"
    return ""


def _term(term: Mapping[str, Any], node: Node) -> bool:
    if not term.get("matchExpressions") and not term.get("matchFields"):
        return False  # an empty term matches nothing
    fields = {"metadata.name": node.name}
    return all(_expression(its, node.labels) for its in term.get("matchExpressions") or []) and all(
        _expression(its, fields) for its in term.get("matchFields") or []
    )


def _expression(its: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, wanted = labels.get(its["key"]), list(its.get("values") or [])
    match its["operator"]:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            if value is None or not value.lstrip("-").isdigit() or not wanted:
                return False
            return int(value) > int(wanted[0]) if operator == "Gt" else int(value) < int(wanted[0])
    return False


def _tolerates(toleration: Mapping[str, Any], key: str, value: str, effect: str) -> bool:
    if toleration.get("effect") not in (None, "", effect):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", key)
    return toleration.get("key") == key and (toleration.get("value") or "") == value
