"""The stack's outputs as a person would want to read them."""

import json
from collections.abc import Sequence
from typing import Any

Object = dict[str, Any]


def text(outputs: str) -> str:
    """Turn the outputs' JSON into some lines; what a stack hasn't got isn't there."""
    said: Object = json.loads(outputs)
    agents, nodes = _map(said, "agents"), _map(said, "nodes")
    lines = [
        f"  mode                    {said.get('mode', '?')}",
        f"  kube-proxy replacement  {said.get('kubeProxyReplacement', '?')}",
        "  agents                  " + ", ".join(f"{count} {name}" for name, count in agents.items()),
        f"  API server              {_address(_map(said, 'apiServer'))}",
        f"  kube-proxy              {_kube_proxy(_map(said, 'kubeProxy'))}",
        f"  release                 {_release(_map(said, 'release'))}",
        f"  cluster                 {said.get('cluster', '?')}",
    ]
    if nodes:
        head = ("node", "replacement", "ready", "version", "leftover rules", "")
        rows = [head, *(_row(name, _map(nodes, name)) for name in sorted(nodes))]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines.append("")
        lines += [
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
    return "\n".join(lines)


def _row(name: str, node: Object) -> Sequence[str]:
    shown = ("kubeProxyReplacement", "ready", "version", "leftoverRules", "error")
    return (name, *("" if node.get(key) is None else _word(node[key]) for key in shown))


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _address(server: Object) -> str:
    return f"{server.get('host', '?')}:{server.get('port', '?')} (from {server.get('source', '?')})"


def _kube_proxy(kube_proxy: Object) -> str:
    there = "there" if kube_proxy.get("present") else "gone"
    return there + (f", its backup lies in {kube_proxy['backup']}" if kube_proxy.get("backup") else "")


def _release(release: Object) -> str:
    where = f"{release.get('namespace', '?')}/{release.get('name', '?')}"
    return (
        f"{where} {release.get('version', '?')}, revision {release.get('revision', '?')}, {release.get('status', '?')}"
    )


def _map(of: Object, key: str) -> Object:
    value = of.get(key)
    return value if isinstance(value, dict) else {}
