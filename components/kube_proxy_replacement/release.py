"""Cilium's Helm release, with the replacement on or off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pulumi
from pulumi_kubernetes.helm.v3 import Release, RepositoryOptsArgs

REPOSITORY = "https://helm.cilium.io"
"""Cilium's own chart repository."""


def chart_location(chart: str) -> dict[str, Any]:
    """Where the chart comes from, as the Release takes it: a repository, or the chart itself."""
    if chart and not chart.startswith(("https://", "http://")):
        return {"chart": chart}
    return {"chart": "cilium", "repository_opts": RepositoryOptsArgs(repo=chart or REPOSITORY)}


def cilium(
    resource_name: str,
    *,
    name: pulumi.Input[str],
    namespace: pulumi.Input[str],
    chart: pulumi.Input[str],
    version: pulumi.Input[str | None],
    values: pulumi.Input[dict[str, Any]],
    mark: pulumi.Input[str],
    timeout: pulumi.Input[int],
    provider: pulumi.ProviderResource,
    parent: pulumi.Resource,
    depends_on: Sequence[pulumi.Resource],
) -> Release:
    """The Release. It doesn't wait: the Command after it does, with progress, and for more than Ready.

    It is never `atomic`: a rollback by Helm would take Cilium back before kube-proxy routes. A new repair mark
    stands in its description, and makes a real `helm upgrade`, whose three-way merge mends what was edited by hand.
    """
    # a local chart or an OCI address stands alone; pulumi drops a repository that is None
    location = pulumi.Output.from_input(chart).apply(chart_location)
    repository: Any = location.apply(lambda its: its.get("repository_opts"))
    its_version: Any = version
    return Release(
        resource_name,
        name=name,
        namespace=namespace,
        chart=location.apply(lambda its: its["chart"]),
        repository_opts=repository,
        version=its_version,
        values=values,
        description=pulumi.Output.from_input(mark).apply(
            lambda its: f"by kube-proxy-replacement{f', repair {its}' if its else ''}"
        ),
        skip_await=True,
        atomic=False,
        cleanup_on_fail=False,
        timeout=timeout,
        opts=pulumi.ResourceOptions(parent=parent, provider=provider, depends_on=list(depends_on)),
    )
