"""``python -m local.bench.reading full|plain``: the agents' status as this program reads it, from a process's start.

full: all that the stack's last resource reads, the leftover rules in four tables of each node too
plain: each agent's status and its endpoints

Prints as JSON: ``switched``, how many agents are; and in seconds ``imports``, ``reading``, and ``processor``, what this
process has had of processors.
"""

import json
import sys
import time
from typing import Any

_NAMESPACE = "kube-system"


def main(which: str) -> None:
    """Read the agents of the ambient kubeconfig's cluster."""
    began = time.monotonic()
    from kube_proxy_replacement import status_reading  # noqa: F401 - here, so that the imports are timed

    imported = time.monotonic()
    outputs = _full() if which == "full" else _plain()
    times = {
        "imports": imported - began,
        "reading": time.monotonic() - imported,
        "processor": time.process_time(),
    }
    print(json.dumps({"switched": outputs["agents"]["switched"], **times}))


def _full() -> dict[str, Any]:
    from kube_proxy_replacement import status_reading
    from kube_proxy_replacement.cluster import identity
    from kube_proxy_replacement.cluster.api import Api

    cluster = identity.cluster_uid(Api.connect())
    return dict(status_reading.create({"cluster": cluster, "namespace": _NAMESPACE, "mode": "replace"}).outs or {})


def _plain() -> dict[str, Any]:
    from kube_proxy_replacement import status_reading
    from kube_proxy_replacement.cluster import agents, nodes
    from kube_proxy_replacement.cluster.api import Api

    api = Api.connect()
    names = [node.name for node in nodes.read(api).all]
    found = agents.find(api, _NAMESPACE)
    readings = agents.read(api, _NAMESPACE, found.values())
    return status_reading.summary(names, found, readings)


if __name__ == "__main__":
    main(sys.argv[1])
