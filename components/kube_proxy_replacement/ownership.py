"""Whether the Helm release on the cluster is this program's own."""

from __future__ import annotations

from .cluster import helm_release, record
from .cluster.api import Api
from .settings import Settings


def release_id(settings: Settings) -> str | None:
    """`NAMESPACE/NAME` of the release as Pulumi calls it, where Helm has it and the record says that it is ours."""
    api = Api.connect(settings.kubeconfig, settings.kube_context)
    kept, own = record.read(api), f"{settings.namespace}/{settings.release_name}"
    if kept is None or kept.release != own:
        return None
    return own if helm_release.exists(api, settings.namespace, settings.release_name) else None
