"""What a preview says of one component, as a reviewer needs it: mode, nodes, Helm values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .. import adopting
from ..chart import dotted, literal
from ..cluster import trees
from ..cluster.trees import ABSENT
from .events import SECRET, UNKNOWN, Preview, Step

COMPONENT: Final = "kube-proxy-replacement:index:KubeProxyReplacement"
FINDING: Final = "not as wanted: "
"""How `component` begins the warning of what isn't as wanted."""

_NOT_SHOWN = "(not shown)"


@dataclass(frozen=True)
class NodeGroup:
    """Nodes to which the same happens, by name, and what that is."""

    names: Sequence[str]
    what: str


@dataclass(frozen=True)
class Value:
    """A Helm value that differs, as it is shown; `after` and `before` are "" where neither is known."""

    path: str
    before: str
    after: str


@dataclass(frozen=True)
class Change:
    """What a run would do to one component.

    Attributes:
        title: in some words.
        mode_before: "" where the stack has no such component yet; mode_after: "" where it isn't known yet.
        cluster, server: whose, "" where it isn't known yet.
        agents_reach: the API server's address that agents get, and where it was found.
        versions: the chart's, before and after, where they differ.
        findings: what isn't as wanted.
        notes, warnings: the rest of what was said.
    """

    name: str
    title: str
    mode_before: str
    mode_after: str
    cluster: str
    server: str
    agents_reach: str
    nodes: Sequence[NodeGroup]
    values: Sequence[Value]
    versions: tuple[str, str] | None
    findings: Sequence[str]
    warnings: Sequence[str]
    notes: Sequence[str]


def changes(preview: Preview) -> list[Change]:
    """Of every component in it, in the order in which the program made them."""
    components = [step for step in preview.steps if step.type == COMPONENT]
    return [_of(component, preview, alone=len(components) == 1) for component in components]


def _of(component: Step, preview: Preview, *, alone: bool) -> Change:
    children = {
        step.name.removeprefix(f"{component.name}-"): step for step in preview.steps if step.parent == component.urn
    }
    found = children.get("found")
    told = [its for its in preview.said if its.urn == component.urn or (alone and its.severity != "error")]
    findings = [its.text.removeprefix(FINDING) for its in told if its.text.startswith(FINDING)]
    plan = _map(found.after.get("plan")) if found else {}
    after = found.after if found else {}
    cilium = children.get("cilium")
    values = list(_values(cilium)) if cilium and cilium.changes else []
    versions = _versions(cilium) if cilium and cilium.changes else None
    changing = [name for name, step in children.items() if step.changes]
    what = _what(plan, changing, findings, upgraded=bool(values or versions))
    address = _map(after.get("apiServer"))
    return Change(
        name=component.name,
        title=_TITLES[what],
        mode_before=_known(found.before.get("mode")) if found else "",
        mode_after=_known(after.get("mode")),
        cluster=_known(after.get("cluster")),
        server=_known(after.get("server")),
        agents_reach=f"{address['host']}:{address['port']} ({address['source']})" if address else "",
        nodes=list(_groups(what, plan, findings, _known(after.get("mode")))),
        values=values,
        versions=versions,
        findings=findings,
        warnings=[its.text for its in told if its.severity == "warning" and not its.text.startswith(FINDING)],
        notes=[its.text for its in told if its.severity == "info"],
    )


# What it is

_TITLES: Final = {
    "switch-over": "switch-over from kube-proxy to Cilium",
    "switch-back": "switch-back from Cilium to kube-proxy",
    "beside": "Cilium beside kube-proxy",
    "alone": "Cilium routes Services; there is no kube-proxy",
    "repair": "repair of what isn't as wanted",
    "settings": "change of settings",
    "steps": "steps run again",
    "readings": "readings renewed",
    "nothing": "no change",
    "unknown": "the cluster isn't known yet",
}


def _what(plan: Mapping[str, Any], changing: Sequence[str], findings: Sequence[str], *, upgraded: bool) -> str:
    if not plan:
        return "unknown"
    if plan["what"]:
        return str(plan["what"])
    if findings:
        return "repair"
    if upgraded:
        return "settings"
    if {"daemonset", "configmap", "cilium", "agents"} & set(changing):
        return "steps"
    return "readings" if changing else "nothing"


_LEFT_OUT = "isn't Ready and isn't waited for: "
_LATER: Final = {
    "switch-over": "once it is back, kube-proxy ends there and the agent starts with the replacement on; the first up "
    "after that cleans its rules",
    "switch-back": "once it is back, kube-proxy starts there and the agent starts with the replacement off",
}

_ON_NODES: Final = {
    "switch-over": "shows that it reaches the API server; its kube-proxy ends, whose rules stay for the while; its "
    "{agent} with the replacement on; when all nodes' agents have switched, kube-proxy's leftover rules are cleaned",
    "switch-back": "kube-proxy starts and routes; then its agent restarts with the replacement off",
    "beside": "kube-proxy goes on routing, untouched; its {agent} beside it",
    "alone": "its {agent} with the replacement on; there is no kube-proxy to remove",
    "settings": "its agent restarts where the change reaches its configuration; kube-proxy isn't touched",
    "steps": "the steps look at it again; what is as wanted stays as it is",
    "readings": "nothing; the readings in the outputs are renewed",
    "nothing": "nothing",
    "unknown": "",
}

_MENDED: Final = {
    "replace": "a kube-proxy that is back goes again, and its rules with it; its agent restarts where it runs with "
    "another configuration than is wanted",
    "coexist": "a kube-proxy that is gone comes back and routes; its agent restarts where it runs with another "
    "configuration than is wanted",
}


def _groups(what: str, plan: Mapping[str, Any], findings: Sequence[str], mode: str) -> Iterator[NodeGroup]:
    """Each node of the plan, once."""
    nodes, left_out = list(plan.get("nodes") or []), list(plan.get("leftOut") or [])
    if what == "repair":
        named = {name: [its for its in findings if _names(its, name)] for name in nodes}
        for name, its in named.items():
            if its:
                yield NodeGroup([name], "mended: " + "; ".join(its))
        nodes, text = [name for name in nodes if not named[name]], _MENDED.get(mode, "")
    else:
        text = _ON_NODES[what].format(agent="agent starts" if plan.get("fresh") else "agent restarts")
    if nodes:
        yield NodeGroup(nodes, text)
    if left_out:
        later = "nothing" if what in ("nothing", "readings") else "the first up after it is back does it"
        yield NodeGroup(left_out, _LEFT_OUT + _LATER.get(what, later))


def _names(finding: str, node: str) -> bool:
    """Whether a finding names this node, and not one whose name begins like it."""
    return any(node == word.strip(".,;:()«»'\"") for word in finding.split())


# The Helm release


def _values(cilium: Step) -> Iterator[Value]:
    """Of a release of our own; an adopted one's are in the notes, since they never go through Pulumi."""
    before, after = cilium.before.get("values", {}), cilium.after.get("values", {})
    told: set[str] = set()
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for its in trees.changes(before, after):
            told.add(its.path[0])
            yield Value(dotted(its.path), _shown(its.path, its.before), _shown(its.path, its.after))
    # what is encrypted differs unseen: only its provider knows that it does, and of a new release nobody
    names = [path.removeprefix("values.") for path in cilium.paths if path.startswith("values.")]
    if not names and SECRET in (before, after):
        names = ["values"]
    for name in names:
        if name.partition(".")[0].partition("[")[0] not in told:
            yield Value(name, "", "")


def _shown(path: Sequence[str], value: Any) -> str:
    if value is ABSENT:
        return "not set"
    if value == UNKNOWN:
        return "not known yet"
    if SECRET in trees.texts([value]) or adopting.looks_secret(path, value):
        return _NOT_SHOWN
    return literal(value)


def _versions(cilium: Step) -> tuple[str, str] | None:
    before, after = (_known(its.get("version")) for its in (cilium.before, cilium.after))
    return (before, after) if before and after and before != after else None


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) and UNKNOWN not in value.values() else {}


def _known(value: Any) -> str:
    return "" if value in (None, UNKNOWN) else str(value)
