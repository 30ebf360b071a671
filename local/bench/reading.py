"""``python -m local.bench.reading all|status``: the agents' status as this program reads it, from a process's start.

all: what the stack's last resource reads: status, endpoints, and the leftover rules in four tables of each node
status: each agent's status alone, as a loop of kubectl exec asks for it

Prints as JSON: ``replacing``, how many agents say that they do; and in seconds ``imports``, ``reading``, and
``processor``, what this process has had of processors.
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
    replacing = _all() if which == "all" else _status()
    times = {
        "imports": imported - began,
        "reading": time.monotonic() - imported,
        "processor": time.process_time(),
    }
    print(json.dumps({"replacing": replacing, **times}))


def _all() -> int:
    from kube_proxy_replacement import status_reading
    from kube_proxy_replacement.cluster import identity
    from kube_proxy_replacement.cluster.api import Api

    cluster = identity.cluster_uid(Api.connect())
    outputs: Any = status_reading.create({"cluster": cluster, "namespace": _NAMESPACE}).outs
    return int(outputs["agents"]["replacing"])


def _status() -> int:
    from kube_proxy_replacement.cluster import agents
    from kube_proxy_replacement.cluster.api import Api

    api = Api.connect()
    readings = agents.read(api, _NAMESPACE, agents.find(api, _NAMESPACE).values(), endpoints=False)
    return sum(bool(reading.answer and reading.answer.replacing) for reading in readings.values())


if __name__ == "__main__":
    main(sys.argv[1])
