"""What kwok does with nodes and pods: its own stages, less the pods that are the simulator's."""

from pathlib import Path
from typing import Final

import yaml

from local.cluster.api import Object

_NOT_READY: Final = '.metadata.labels["node-not-ready.stage.kwok.x-k8s.io"]'
_READY: Final = '.status.conditions.[] | select( .type == "Ready" ) | .status'

# The simulator deals with exactly the other pods: local/go/node-simulator/internal/kubelet/roles.go.
_NOT_THE_SIMULATORS: Final[list[Object]] = [
    {"key": '.metadata.labels["k8s-app"]', "operator": "NotIn", "values": ["kube-proxy", "cilium"]},
    {"key": '.metadata.labels["kube-proxy-replacement/task"]', "operator": "DoesNotExist"},
]

# kwok's files, and what they are narrowed down to. A node with the label of node-not-ready isn't Ready, and is
# again without it; kwok's own two stages would go on in turns, the first as often as it can.
_STAGES: Final[dict[str, list[Object]]] = {
    "node/fast/node-initialize.yaml": [{"key": _NOT_READY, "operator": "NotIn", "values": ["true"]}],
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml": [],
    "node/chaos/node-not-ready.yaml": [{"key": _READY, "operator": "In", "values": ["True"]}],
    "pod/fast/pod-ready.yaml": _NOT_THE_SIMULATORS,
    "pod/fast/pod-complete.yaml": _NOT_THE_SIMULATORS,
    "pod/fast/pod-delete.yaml": _NOT_THE_SIMULATORS,
}


def write(file: Path, kwok_stages: Path) -> None:
    """Write a configuration for kwok."""
    documents: list[Object] = []
    for name, narrower in _STAGES.items():
        stage: Object = yaml.safe_load((kwok_stages / name).read_text())
        stage["spec"]["selector"]["matchExpressions"] += narrower
        if name == "node/chaos/node-not-ready.yaml":
            stage["spec"]["delay"] = {"durationMilliseconds": 0}
        documents.append(stage)
    file.write_text(yaml.safe_dump_all(documents, sort_keys=False))
