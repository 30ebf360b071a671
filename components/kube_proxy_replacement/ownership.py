"""Whose the Helm release on the cluster is, and what of it is its owner's: read in the program's own process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi

from . import upgrading
from .cluster import adoption, helm_release, owner, record
from .cluster.api import Api
from .cluster.errors import ProcedureError
from .settings import Settings


def release_id(settings: Settings) -> str | None:
    """`NAMESPACE/NAME` of the release as Pulumi calls it, where Helm has it and the record says that it is ours."""
    api = Api.connect(settings.kubeconfig, settings.kube_context)
    kept, own = record.read(api), f"{settings.namespace}/{settings.release_name}"
    if kept is None or kept.release != own or kept.adopted:
        return None
    return own if helm_release.exists(api, settings.namespace, settings.release_name) else None


def adopted(settings: Settings, on_top: Mapping[str, Any], folder: Path) -> tuple[Path, Mapping[str, Any]]:
    """The chart of an adopted release as it will be, for as long as `folder` is there, and its owner's values.

    Args:
        on_top: ours. Raises pulumi.RunError.
    """
    api, name = Api.connect(settings.kubeconfig, settings.kube_context), (settings.namespace, settings.release_name)
    try:
        chart = upgrading.place(settings.chart, settings.cilium_version, upgrading.deployed(api, *name), folder)
        revisions = list(helm_release.newest_first(api, *name))
        its = owner.read(api) or adoption.found("/".join(name), revisions)
        return chart, adoption.since(its, revisions, on_top)[0].values if its else {}
    except ProcedureError as error:
        raise pulumi.RunError(str(error)) from None
