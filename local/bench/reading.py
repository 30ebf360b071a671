"""``python -m local.bench.reading full|plain``: the agents' status as this program reads it, from a process's start.

full: all that the stack's last resource reads, the leftover rules in four tables of each node too
plain: each agent's status and its endpoints

Prints the counts that stand in the stack's output ``agents``, as JSON.
"""

import json
import sys

from kube_proxy_replacement import status_reading
from kube_proxy_replacement.cluster import agents, identity, nodes
from kube_proxy_replacement.cluster.api import Api

NAMESPACE = "kube-system"


def main(which: str) -> None:
    """Read the agents of the ambient kubeconfig's cluster."""
    outputs = _full() if which == "full" else _plain()
    print(json.dumps(outputs["agents"]))


def _full() -> dict[str, object]:
    cluster = identity.cluster_uid(Api.connect())
    return dict(status_reading.create({"cluster": cluster, "namespace": NAMESPACE, "mode": "replace"}).outs or {})


def _plain() -> dict[str, object]:
    api = Api.connect()
    names = [node.name for node in nodes.read(api).all]
    found = agents.find(api, NAMESPACE)
    readings = agents.read(api, NAMESPACE, found.values())
    return status_reading.summary(names, found, readings, {})


if __name__ == "__main__":
    main(sys.argv[1])
