"""kube-proxy parked: its DaemonSet leaves out the nodes that Cilium routes on, by their label, and restarts none.

By a node affinity, as in Cilium's own migration node by node (docs.cilium.io, Per-node configuration). Without
`OnDelete` the changed template would restart every kube-proxy, one after the other: port 10256 is silent for 1.7 s a
node then, measured on real nodes.
"""

from __future__ import annotations

import copy
from typing import Any

from . import by_hand, kube_proxy, routing
from .api import Api, Object

_ELSEWHERE = {"key": routing.LABEL, "operator": "NotIn", "values": [routing.CILIUM]}
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def park(api: Api, daemonset: Object) -> None:
    """Parks kube-proxy: from then on a node's label takes it away there, and brings it back."""
    affinity = parked(_affinity(daemonset))
    patch = by_hand.held(daemonset)
    if affinity != _affinity(daemonset):
        patch.setdefault("spec", {})["template"] = {"spec": {"affinity": affinity}}
    if patch:
        api.merge(kube_proxy.DAEMONSET, patch)


def unpark(api: Api) -> None:
    """kube-proxy's DaemonSet as it was before it was parked; where there is none, or it isn't parked, nothing."""
    found = api.find(kube_proxy.DAEMONSET)
    if found is None:
        return
    wanted = original(found)
    if wanted != found:
        # replaced, not patched: a merge patch can't take a part of an affinity away at once
        del wanted["metadata"]["resourceVersion"]
        api.replace(kube_proxy.DAEMONSET, wanted)


def original(daemonset: Object) -> Object:
    """The DaemonSet without what parking has added: a backup is of this."""
    patch = by_hand.let_go(daemonset)
    result = copy.deepcopy(daemonset)
    if patch:
        notes = {
            key: value
            for key, value in result["metadata"]["annotations"].items()
            if key not in patch["metadata"]["annotations"]
        }
        result["metadata"]["annotations"] = notes
        result["spec"]["updateStrategy"] = patch["spec"]["updateStrategy"]
    affinity = unparked(_affinity(daemonset))
    if affinity != _affinity(daemonset):
        its = result["spec"]["template"]["spec"]
        its.pop("affinity", None)
        if affinity:
            its["affinity"] = affinity
    return result


def is_parked(daemonset: Object) -> bool:
    return unparked(_affinity(daemonset)) != _affinity(daemonset)


def parked(affinity: Object | None) -> Object:
    """The affinity with our expression in each of its terms; one without any expression matches no node, and stays."""
    result = copy.deepcopy(affinity or {})
    required = result.setdefault("nodeAffinity", {}).setdefault(_REQUIRED, {"nodeSelectorTerms": [{}]})
    alone = affinity is None or _REQUIRED not in (affinity.get("nodeAffinity") or {})
    for term in required["nodeSelectorTerms"]:
        said = term.get("matchExpressions") or []
        if _ELSEWHERE not in said and (alone or said or term.get("matchFields")):
            term["matchExpressions"] = [*said, _ELSEWHERE]
    return result


def unparked(affinity: Object | None) -> Object | None:
    """The affinity without our expression, and without what has become empty by that."""
    if affinity is None or _ELSEWHERE not in _expressions(affinity):
        return affinity
    result: dict[str, Any] = copy.deepcopy(affinity)
    terms = []
    for term in _terms(result):
        said = term.get("matchExpressions") or []
        if _ELSEWHERE in said:
            left = [its for its in said if its != _ELSEWHERE]
            term.pop("matchExpressions")
            term.update({"matchExpressions": left} if left else {})
            if not term:
                continue
        terms.append(term)
    if terms:
        result["nodeAffinity"][_REQUIRED]["nodeSelectorTerms"] = terms
    else:
        result["nodeAffinity"].pop(_REQUIRED)
    if not result["nodeAffinity"]:
        result.pop("nodeAffinity")
    return result or None


def _expressions(affinity: Object) -> list[Object]:
    return [its for term in _terms(affinity) for its in term.get("matchExpressions") or []]


def _terms(affinity: Object) -> list[Object]:
    required = (affinity.get("nodeAffinity") or {}).get(_REQUIRED) or {}
    return required.get("nodeSelectorTerms") or []


def _affinity(daemonset: Object) -> Object | None:
    found: Object | None = daemonset["spec"]["template"]["spec"].get("affinity")
    return found
