"""A cluster of its own on this machine: a real control plane, simulated nodes.

What kube-proxy's pods, Cilium's agents and the program's own short-lived pods do on a node is simulated by
``local/go/node-simulator``, all other pods by kwok. Annotations of a Node make things fail on it, from then on:

- ``simulator/api-server-unreachable=true``: a pod that asks the API server there isn't answered;
- ``simulator/agent-stuck=true``: an agent that starts never becomes Ready;
- ``simulator/agent-keeps-config=true``: an agent that starts goes on with what the one before it was started with;
- ``simulator/endpoints-stuck=true``: the endpoints of an agent that starts never become ready;
- ``simulator/endpoint-delay=SECONDS``: they do so long after the agent (2 by default);
- ``simulator/exec-fails=true``, ``simulator/exec-slow=SECONDS``: what is run in the node's containers;
- ``simulator/clean-fails=true``: ``kube-proxy --cleanup`` ends with an error, and removes nothing;
- ``simulator/kube-proxy-writes-no-rules=true``: a kube-proxy that starts runs, and routes nothing;
- ``simulator/agent-health-silent=true``: an agent that replaces kube-proxy doesn't answer on port 10256, for now;
- ``simulator/no-node-ports=true``: an agent's service tables have no node ports, for now.

With the label ``node-not-ready.stage.kwok.x-k8s.io=true`` a node isn't Ready, and without it, it is again. While it
isn't, nothing on it starts, ends or answers; its kernel keeps what it holds.
"""

from local.cluster.embedded import EmbeddedCluster, Programs
from local.cluster.errors import ClusterError

__all__ = ["ClusterError", "EmbeddedCluster", "Programs"]
