"""What the dynamic provider `AgentStatusProvider` does: reads every agent, and puts it in the outputs' shape.

kubeProxyReplacement: "True", "False", "Mixed" or "Unknown", over all nodes
agents: {desired, ready, replacing, switched, unreadable}, ints
nodes: {NODE: {kubeProxyReplacement, ready, version, devices, features, leftoverRules, error}}
handOver: {done, total, failed, now}, ints and lists of nodes' names
kubeProxy: {present, backup}
release: {name, namespace, version, revision, status}, of an adopted one, of which no Release in the state says it
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from pulumi.dynamic import CreateResult, UpdateResult

from .cluster import agents, helm_release, identity, kube_proxy, nodes, record, routing
from .cluster.agents import Agent, Reading
from .cluster.api import Api
from .cluster.errors import ProcedureError
from .cluster.helm_release import HelmRelease
from .cluster.nodes import Nodes
from .cluster.told import Order

_PATIENCE = 60.0
"""Seconds, as in `run`: an API server that restarts must not fail the last resource of a run that is done."""


def create(inputs: Mapping[str, Any]) -> CreateResult:
    return CreateResult(id_=f"agents-{uuid.uuid4().hex[:12]}", outs={**inputs, **_read(inputs)})


def update(inputs: Mapping[str, Any]) -> UpdateResult:
    return UpdateResult(outs={**inputs, **_read(inputs)})


def _read(inputs: Mapping[str, Any]) -> dict[str, Any]:
    api = Api.connect(inputs.get("kubeconfig"), inputs.get("kubeContext"), patience=_PATIENCE)
    found = identity.cluster_uid(api)
    if found != inputs["cluster"]:
        raise ProcedureError(
            f"The agents weren't read: the stack belongs to the cluster with UID {inputs['cluster']}, but the "
            f"kubeconfig leads to {found} at {api.server}."
        )
    namespace = inputs["namespace"]
    its_nodes = nodes.read(api)
    its_agents = agents.find(api, namespace)
    present = [its_agents[node.name] for node in its_nodes.all if node.name in its_agents]
    readings = agents.read(api, namespace, present, leftover=True)
    proxy, kept = kube_proxy.find(api), record.read(api)
    release = helm_release.find(api, namespace, inputs["releaseName"]) if inputs.get("releaseName") else None
    return {
        **({"release": _release(release)} if release else {}),
        **summary([node.name for node in its_nodes.all], its_agents, readings),
        "handOver": hand_over(its_nodes, readings, replaces=Order.from_json(inputs["order"]).mode == "replace"),
        "kubeProxy": {
            "present": proxy.daemonset is not None,
            "backup": record.LOCATION if kept and kept.had_kube_proxy else "",
        },
    }


def _release(its: HelmRelease) -> dict[str, Any]:
    return {key: getattr(its, key) for key in ("name", "namespace", "version", "revision", "status")}


def summary(
    names: list[str],
    its_agents: Mapping[str, Agent],
    readings: Mapping[str, Reading],
) -> dict[str, Any]:
    """The outputs from what was read; an agent that can't be read is a line with the reason."""
    lines = {name: _line(its_agents.get(name), readings.get(name)) for name in names}
    said = {line["kubeProxyReplacement"] for line in lines.values()}
    known = said - {"Unknown"}
    whole = len(said) == 1 and known <= {"True", "False"}  # «Partial», up to Cilium 1.15, is a mixture on one node
    answers = [reading.answer for reading in readings.values() if reading.answer]
    return {
        "kubeProxyReplacement": "Unknown" if not known else known.pop() if whole else "Mixed",
        "agents": {
            "desired": len(names),
            "ready": sum(line["ready"] for line in lines.values()),
            "replacing": sum(answer.kube_proxy_replacement == "True" for answer in answers),
            "switched": sum(answer.switched for answer in answers),
            "unreadable": sum(bool(line["error"]) for line in lines.values()),
        },
        "nodes": lines,
    }


def hand_over(its_nodes: Nodes, readings: Mapping[str, Reading], *, replaces: bool) -> dict[str, Any]:
    """How far the nodes are: `now` are those in the middle of their turn, `failed` others that are Ready and whose
    agent isn't as the mode wants.
    """
    done = {name for name, its in readings.items() if its.answer and its.answer.replacing is replaces}
    now = [node.name for node in its_nodes.all if routing.LABEL in node.labels]
    return {
        "done": len(done),
        "total": len(its_nodes.all),
        "failed": [node.name for node in its_nodes.ready if node.name not in done and node.name not in now],
        "now": now,
    }


def _line(agent: Agent | None, reading: Reading | None) -> dict[str, Any]:
    answer, left = (reading.answer, reading.leftover) if reading else (None, None)
    error = "there is no agent on this node" if agent is None else reading.error if reading else "not read"
    return {
        "kubeProxyReplacement": answer.kube_proxy_replacement if answer else "Unknown",
        "ready": bool(agent and agent.ready),
        "version": answer.version if answer else "",
        "devices": list(answer.devices) if answer else [],
        "features": dict(answer.features) if answer else {},
        "leftoverRules": left if isinstance(left, int) else -1,
        "error": error or (left if isinstance(left, str) else ""),
    }
