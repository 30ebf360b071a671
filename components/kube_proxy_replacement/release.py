"""Cilium's Helm release, with the replacement on or off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pulumi
from pulumi.runtime.mocks import MockMonitor
from pulumi.runtime.settings import get_monitor
from pulumi_kubernetes.helm.v3 import Release, RepositoryOptsArgs

from .cluster.told import OURS

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
    lost: Callable[[], Awaitable[str | None]],
    failed: Callable[[pulumi.ErrorHookArgs], Awaitable[bool]],
    provider: pulumi.ProviderResource,
    parent: pulumi.Resource,
    depends_on: Sequence[pulumi.Resource],
) -> Release:
    """The Release. It doesn't wait: the Command after it does, with progress, and for more than Ready.

    Args:
        lost: the ID of our release, where the cluster has it already. A run that was killed after Helm's work, or a
            refresh on the wrong cluster, leaves it out of the state; Helm would then refuse to «re-use a name». Taken
            over like that it is only ever done where the state doesn't have it.
        failed: what is done where it fails; see `undoing`. The hook's name is in the state.

    It is never `atomic`: a rollback by Helm would take Cilium back before kube-proxy routes. A new repair mark
    stands in its description, and makes a real `helm upgrade`, whose three-way merge mends what was edited by hand.
    """

    async def take_over(args: pulumi.ResourceTransformArgs) -> pulumi.ResourceTransformResult | None:
        # import_ is a plain string: only here can it be awaited
        found = await lost()
        if found is None:
            return None
        opts = pulumi.ResourceOptions.merge(args.opts, pulumi.ResourceOptions(import_=found))
        return pulumi.ResourceTransformResult(args.props, opts)

    # a local chart or an OCI address stands alone; pulumi drops a repository that is None
    location = pulumi.Output.from_input(chart).apply(chart_location)
    repository: Any = location.apply(lambda its: its.get("repository_opts"))
    its_version: Any = version
    # Pulumi's mocks know neither transforms nor hooks, and a user's own tests of a program with this component run on
    # them
    mocked = isinstance(get_monitor(), MockMonitor)
    return Release(
        resource_name,
        name=name,
        namespace=namespace,
        chart=location.apply(lambda its: its["chart"]),
        repository_opts=repository,
        version=its_version,
        values=values,
        description=pulumi.Output.from_input(mark).apply(lambda its: f"{OURS}{f', repair {its}' if its else ''}"),
        skip_await=True,
        atomic=False,
        cleanup_on_fail=False,
        timeout=timeout,
        opts=pulumi.ResourceOptions(
            parent=parent,
            provider=provider,
            depends_on=list(depends_on),
            hooks=None
            if mocked
            else pulumi.ResourceHookBinding(on_error=[pulumi.ErrorHook(f"{resource_name}-failed", failed)]),
            transforms=None if mocked else [take_over],
        ),
    )
