"""Every node has shown that it reaches the API server's address, before kube-proxy is removed.

A node has shown it when its ready agent runs with that address, or when a short-lived pod on it, in the
node's own network, was answered there. That pod runs `cilium-dbg build-config` from the agent's image: the
first thing that each agent will do (the DaemonSet's init container `config`), with the same environment, the
same service account token and the cluster's CA (cilium-dbg/cmd/build-config.go). So a certificate without that
name, another cluster, a proxy or a firewall show here, and the agent's image is on every node afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from . import node_pods
from .api import Api, Object
from .errors import ProcedureError
from .nodes import Node

ACCOUNT = "kube-proxy-replacement-reach"
_NAMESPACE = node_pods.NAMESPACE
_RBAC = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{_NAMESPACE}"


def prove(
    api: Api,
    nodes: Sequence[Node],
    *,
    host: str,
    port: int,
    agents: Sequence[Object],
    image: str,
    timeout: float,
    say: Callable[[str], None],
    untouched: str = "kube-proxy was not touched, and nothing was removed.",
) -> None:
    """Raises ProcedureError naming each node that hasn't shown it, and why.

    Args:
        nodes: the nodes that must show it.
        host, port: the API server's address, as the agents get it.
        agents: the agents' pods, [] on a cluster without Cilium.
        image: the agent's image, for the pods on nodes whose agent doesn't show it.
        untouched: the error's sentence on what has and hasn't been changed.
    """
    shown = {pod["spec"].get("nodeName") for pod in agents if is_ready(pod) and address_of(pod) == (host, str(port))}
    left = [node for node in nodes if node.name not in shown]
    if shown:
        say(f"API server {host}:{port}: {len(nodes) - len(left)}/{len(nodes)} nodes' ready agents run with it")
    if not left:
        return
    # a node that gets no answer says so after cilium-dbg's own minute
    say(f"API server {host}:{port}: asking from {len(left)} nodes, with a pod on each ({image})")
    try:
        _grant(api)
        outcomes = node_pods.run(
            api, "reach", left, lambda node: _spec(node, host, port, image), timeout=timeout, say=say
        )
    finally:
        _revoke(api)
    failed = [f"{node}: {outcome.message}" for node, outcome in sorted(outcomes.items()) if not outcome.ok]
    if failed:
        raise ProcedureError(
            f"{len(failed)} of {len(nodes)} nodes don't reach the API server at {host}:{port}:\n  "
            + "\n  ".join(failed[:20])
            + f"\n{untouched} Set apiServerHost and apiServerPort to an "
            "address that every node reaches without Services, or mend these nodes."
        )


def is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def address_of(pod: Object) -> tuple[str, str]:
    """`KUBERNETES_SERVICE_HOST` and `_PORT` of an agent's pod, "" where the kubelet's own hold."""
    for its in pod["spec"]["containers"]:
        if its.get("name") == "cilium-agent":
            values = {entry["name"]: str(entry.get("value", "")) for entry in its.get("env") or []}
            return values.get("KUBERNETES_SERVICE_HOST", ""), values.get("KUBERNETES_SERVICE_PORT", "")
    return "", ""


def _spec(node: Node, host: str, port: int, image: str) -> Object:
    return {
        "serviceAccountName": ACCOUNT,
        "containers": [
            {
                "name": "reach",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": [
                    "cilium-dbg",
                    "build-config",
                    f"--node-name={node.name}",
                    f"--source=config-map:{_NAMESPACE}/kube-root-ca.crt",
                    "--dest=/tmp/reach",
                ],
                "env": [
                    {"name": "KUBERNETES_SERVICE_HOST", "value": host},
                    {"name": "KUBERNETES_SERVICE_PORT", "value": str(port)},
                ],
                "terminationMessagePolicy": "FallbackToLogsOnError",
            }
        ],
    }


def _grant(api: Api) -> None:
    """The pod's own account: it may read what build-config reads, two named objects, and is gone afterwards."""
    metadata = {"name": ACCOUNT, "labels": {"app.kubernetes.io/managed-by": "kube-proxy-replacement"}}
    node_pods.created_or_there(
        api,
        f"/api/v1/namespaces/{_NAMESPACE}/serviceaccounts",
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
    )
    node_pods.created_or_there(
        api,
        f"{_RBAC}/roles",
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": metadata,
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["namespaces"],
                    "resourceNames": [_NAMESPACE],
                    "verbs": ["get"],
                },
                {
                    "apiGroups": [""],
                    "resources": ["configmaps"],
                    "resourceNames": ["kube-root-ca.crt"],
                    "verbs": ["get"],
                },
            ],
        },
    )
    node_pods.created_or_there(
        api,
        f"{_RBAC}/rolebindings",
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": _NAMESPACE}],
        },
    )


def _revoke(api: Api) -> None:
    for path in (
        f"{_RBAC}/rolebindings/{ACCOUNT}",
        f"{_RBAC}/roles/{ACCOUNT}",
        f"/api/v1/namespaces/{_NAMESPACE}/serviceaccounts/{ACCOUNT}",
    ):
        with suppress(
            ProcedureError
        ):  # the error that led here is the one to show; without its pod an account does nothing
            api.delete(path)
