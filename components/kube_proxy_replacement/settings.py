"""The settings, as `pulumi config` and the component's arguments have them, checked and typed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from .cluster import checks
from .cluster.told import NodeByNode

Mode = Literal["coexist", "replace"]
OnFailure = Literal["rollback", "keep"]
Strategy = Literal["", "all-at-once", "node-by-node"]

NAMES = (
    "mode", "apiServerHost", "apiServerPort", "ciliumVersion", "chart", "namespace", "releaseName", "kubeconfig",
    "kubeContext", "values", "strategy", "nodeByNode", "loadBalancer", "hubble", "keepConnections", "timeoutSeconds",
    "onFailure", "skipChecks", "verify",
)  # fmt: skip
"""The name of every setting of the component; `Pulumi.yaml` declares each of them."""

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_RELEASE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?")  # Helm's own limit is 53 characters
_VERSION = re.compile(r"v?\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_LOAD_BALANCER: dict[str, tuple[object, ...]] = {
    "mode": ("snat", "dsr", "hybrid"),
    "algorithm": ("random", "maglev"),
    "acceleration": ("disabled", "native", "best-effort"),
    "sessionAffinity": (True, False),
}
_COUNT = re.compile(r"[1-9][0-9]{0,5}|([1-9][0-9]?|100)%")


class SettingsError(Exception):
    """Settings that can't be used.

    Attributes:
        reasons: one sentence a setting: its name, what is wrong, what to write instead.
    """

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = reasons


@dataclass(frozen=True)
class Settings:
    """The settings with their defaults, read; `KubeProxyReplacementArgs` says what each of them means.

    "" and 0 mean «to be found», "" of chart Cilium's repository; None of kubeconfig and kube_context the ambient ones,
    of hubble and keep_connections that it isn't said, so that an owner's own value, or `values`, may say it; "" of
    strategy that what the cluster has decides.
    """

    mode: Mode
    api_server_host: str = ""
    api_server_port: int = 0
    cilium_version: str = ""
    chart: str = ""
    namespace: str = "kube-system"
    release_name: str = "cilium"
    kubeconfig: str | None = field(default=None, repr=False)
    kube_context: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    strategy: Strategy = ""
    node_by_node: NodeByNode = field(default_factory=NodeByNode)
    load_balancer: Mapping[str, Any] = field(default_factory=dict)
    hubble: bool | None = None
    keep_connections: bool | None = None
    timeout_seconds: int = 600
    on_failure: OnFailure = "rollback"
    skip_checks: tuple[str, ...] = ()


def parse(raw: Mapping[str, Any]) -> Settings:
    """Settings from a mapping of their names; None, "", 0, {} and [] mean not set.

    Numbers may come as floats (Pulumi's are). Raises SettingsError with every reason at once.
    """
    reasons: list[str] = []
    given = {name: _whole(value) for name, value in raw.items() if not (value is None or _is_empty(value))}

    def read(name: str, check: Callable[[Any], str | None], default: Any) -> Any:
        if name not in given:
            return default
        reason = check(given[name])
        if reason:
            reasons.append(f"{name}: {reason}")
        return given[name]

    if "mode" not in given:
        reasons.append("mode: not set. Write coexist (kube-proxy routes Services) or replace (Cilium does).")
    mode = read("mode", _mode, "coexist")
    port = read("apiServerPort", _port, 0)
    timeout = read("timeoutSeconds", _whole_number(1, 86_400), 600)
    on_failure = read("onFailure", _on_failure, "rollback")
    strategy = read("strategy", _strategy, "")
    node_by_node = read("nodeByNode", _node_by_node, {})
    if node_by_node and strategy == "all-at-once":
        reasons.append(
            "nodeByNode: strategy is all-at-once, which takes every node at once; write strategy: node-by-node, or "
            "leave nodeByNode out."
        )
    read("verify", _verify, "status")
    skipped = read("skipChecks", _skip_checks, [])
    balancer = read("loadBalancer", _load_balancer, {})
    settings = Settings(
        mode=cast(Mode, mode),
        api_server_host=read("apiServerHost", _text, ""),
        api_server_port=int(port) if _is_number(port) else 0,
        cilium_version=read("ciliumVersion", _version, ""),
        chart=read("chart", _text, ""),
        namespace=read("namespace", _matching(_DNS_LABEL, "a namespace's name, such as kube-system"), "kube-system"),
        release_name=read("releaseName", _matching(_RELEASE_NAME, "a Helm release's name, such as cilium"), "cilium"),
        kubeconfig=read("kubeconfig", _kubeconfig, None),
        kube_context=read("kubeContext", _text, None),
        values=read("values", _mapping, {}),
        strategy=cast(Strategy, strategy),
        node_by_node=_read_node_by_node(node_by_node) if not reasons else NodeByNode(),
        load_balancer=balancer,
        hubble=read("hubble", _bool, None),
        keep_connections=read("keepConnections", _bool, None),
        timeout_seconds=int(timeout) if _is_number(timeout) else 600,
        on_failure=cast(OnFailure, on_failure),
        skip_checks=tuple(skipped) if isinstance(skipped, list) else (),
    )
    if reasons:
        raise SettingsError(reasons)
    return settings


def unknown(names: list[str], known: Sequence[str] = NAMES) -> list[str]:
    """A sentence for each name that is no setting, with the nearest one that is known."""
    reasons = []
    for name in sorted(set(names) - set(known)):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"the settings are {', '.join(known)}."
        reasons.append(f"{name!r}: there is no such setting; {hint}")
    return reasons


def whole(value: Any) -> Any:
    """What was written, in a tree of values: Pulumi hands on 6443 as 6443.0."""
    if isinstance(value, Mapping):
        return {key: whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [whole(inner) for inner in value]
    return _whole(value)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_empty(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    # a host of blanks is a mistake to be told of, not «not set»
    return value == "" or value == 0 or (isinstance(value, (dict, list)) and not value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _mode(value: Any) -> str | None:
    if value in ("coexist", "replace"):
        return None
    return f"{value!r} isn't coexist (kube-proxy routes Services) or replace (Cilium does)."


def _on_failure(value: Any) -> str | None:
    if value in ("rollback", "keep"):
        return None
    return f"{value!r} isn't rollback (a switch-over that fails is undone) or keep (it stops there, for a look)."


def _strategy(value: Any) -> str | None:
    if value in ("all-at-once", "node-by-node"):
        return None
    return f"{value!r} isn't all-at-once (every agent in one roll-out) or node-by-node (one batch after the other)."


def _verify(value: Any) -> str | None:
    if value in ("services", "connectivity"):
        return f"{value} isn't built yet; write status, or leave it out."
    return None if value == "status" else f"{value!r} isn't status, the only one yet."


def _port(value: Any) -> str | None:
    if _is_number(value) and 1 <= value <= 65_535:
        return None
    return f"{value!r} is no port; write a whole number from 1 to 65535, such as 6443."


def _whole_number(least: int, most: int) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if _is_number(value) and least <= value <= most:
            return None
        return f"{value!r} isn't a whole number from {least} to {most}."

    return check


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else f"{value!r} isn't text."


def _bool(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"{value!r} isn't true or false."


def _mapping(value: Any) -> str | None:
    return None if isinstance(value, Mapping) else f'{value!r} isn\'t an object of Helm values, such as {{"bpf": …}}.'


def _version(value: Any) -> str | None:
    if isinstance(value, str) and _VERSION.fullmatch(value):
        return None
    return f"{value!r} is no chart version; write all three numbers, such as 1.18.6."


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        return None if isinstance(value, str) and pattern.fullmatch(value) else f"{value!r} isn't {what}."

    return check


def _kubeconfig(value: Any) -> str | None:
    # never quoted: it holds credentials
    return None if isinstance(value, str) else "isn't text; it takes a kubeconfig's whole content."


def _skip_checks(value: Any) -> str | None:
    names = ", ".join(checks.NAMES)
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return f"{value!r} isn't a list of names of checks; they are {names}."
    for name in value:
        if name not in checks.NAMES:
            near = difflib.get_close_matches(name, checks.NAMES, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"those that can be skipped are {names}."
            return f"there is no check {name!r} that can be skipped; {hint}"
    return None


def _load_balancer(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return f"{value!r} isn't an object with {', '.join(_LOAD_BALANCER)}."
    for name, its in value.items():
        if name not in _LOAD_BALANCER:
            near = difflib.get_close_matches(name, _LOAD_BALANCER, n=1, cutoff=0.0)[0]
            return f"there is no loadBalancer.{name}; did you mean {near}?"
        if not any(its is word or (isinstance(its, str) and its == word) for word in _LOAD_BALANCER[name]):
            words = ", ".join(str(word).lower() for word in _LOAD_BALANCER[name])
            return f"loadBalancer.{name} is {its!r}; it is one of {words}."
    return None


def _node_by_node(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return f"{value!r} isn't an object with {', '.join(_NODE_BY_NODE)}."
    for name, its in _said(value).items():
        if name not in _NODE_BY_NODE:
            near = difflib.get_close_matches(name, _NODE_BY_NODE, n=1, cutoff=0.0)[0]
            return f"there is no nodeByNode.{name}; did you mean {near}?"
        reason = _NODE_BY_NODE[name](its)
        if reason:
            return f"nodeByNode.{name}: {reason}"
    return None


def _said(value: Mapping[str, Any]) -> dict[str, Any]:
    """What an object says: without None, "" and []. A 0 is said: no batch has no node."""
    return {key: whole(its) for key, its in value.items() if not (its is None or its == "" or its == [])}


def _read_node_by_node(value: Mapping[str, Any]) -> NodeByNode:
    said = _said(value)
    return NodeByNode(
        batch_size=str(said.get("batchSize", "1")),
        order=tuple(said.get("order", ())),
        settle_seconds=said.get("settleSeconds", 0),
        canaries=said.get("canaries", ""),
        go_on=said.get("continue", False),
        pause_after=str(said.get("pauseAfter", "")),
        drain=said.get("drain", False),
    )


def _count(value: Any) -> str | None:
    if (_is_number(value) or isinstance(value, str)) and _COUNT.fullmatch(str(value)):
        return None
    return f'{value!r} isn\'t a number of nodes; write a whole number from 1 on, or a percentage from "1%" to "100%".'


def _selector(value: Any) -> str | None:
    # what a selector is, the API server says when it is asked
    if isinstance(value, str) and value.strip():
        return None
    return f"{value!r} isn't a label selector, such as topology.kubernetes.io/zone=a."


def _selectors(value: Any) -> str | None:
    if not isinstance(value, list):
        return f"{value!r} isn't a list of label selectors, such as [topology.kubernetes.io/zone=a]."
    return next((reason for its in value if (reason := _selector(its))), None)


_NODE_BY_NODE: dict[str, Callable[[Any], str | None]] = {
    "batchSize": _count,
    "order": _selectors,
    "settleSeconds": _whole_number(0, 3600),
    "canaries": _selector,
    "continue": _bool,
    "pauseAfter": _count,
    "drain": _bool,
}
