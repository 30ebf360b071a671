"""Which cluster this is."""

from __future__ import annotations

from .api import Api
from .errors import ProcedureError


def cluster_uid(api: Api) -> str:
    """The UID of the namespace kube-system, which lives as long as the cluster does.

    Kubernetes has no cluster id of its own; this UID is the usual one (OpenTelemetry's semantic
    conventions define `k8s.cluster.uid` as it).

    Raises ProcedureError where the API server has no such namespace (it isn't a cluster's), ApiError
    and UnreachableError as the client does.
    """
    namespace = api.find("/api/v1/namespaces/kube-system")
    uid = ((namespace or {}).get("metadata") or {}).get("uid")
    if not isinstance(uid, str) or not uid:
        raise ProcedureError(
            f"The API server {api.server} has no namespace kube-system, whose UID tells clusters apart: "
            "it isn't a Kubernetes cluster's. Nothing was changed. Set kubeconfig or kubeContext to the "
            "cluster that is meant."
        )
    return uid
