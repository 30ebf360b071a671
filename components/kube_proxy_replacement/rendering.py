"""The chart rendered before anything is removed: one that can't be, or that says otherwise, is refused in preview.

The Release's own preview compares values and renders nothing. Without this, a value that makes the chart's templates
fail would be found when kube-proxy is already gone. The rendering is the Kubernetes plugin's (`helm:template`, the
function behind `helm.v3.Chart`), with the Helm that installs the release.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import pulumi

from . import hiding
from .cluster import in_the_way, rights
from .cluster.api import Api
from .cluster.errors import ProcedureError
from .release import REPOSITORY
from .settings import Settings


async def demand(
    settings: Settings,
    values: Mapping[str, Any],
    host: str,
    port: int,
    opts: pulumi.InvokeOptions,
    *,
    preview: bool = False,
    veiled: bool = False,
) -> None:
    """Renders the chart, and raises pulumi.RunError where what comes of it can't be relied on, or not be installed.

    Args:
        preview: then rights that an `up` would lack are told, in one line, and are no reason to fail.
        veiled: whether the values are secret, and none of them may be quoted.
    """
    manifest = await objects(settings, values, opts, veiled=veiled)
    if not manifest:
        return  # a program's own mocks: the plugin itself renders something, or fails
    reason = otherwise(manifest, settings, host, port)
    if reason:
        raise pulumi.RunError(hiding.hidden(reason, values) if veiled else reason)
    try:
        lacks = await asyncio.to_thread(demand_way, manifest, settings, preview=preview)
    except ProcedureError as error:
        raise pulumi.RunError(str(error)) from None
    if lacks:
        pulumi.log.warn(
            f"these credentials may look, but an `up` with them is refused before it changes anything: they "
            f"{'; '.join(lacks)}",
            opts.parent,
        )


async def objects(
    settings: Settings, values: Mapping[str, Any], opts: pulumi.InvokeOptions, *, veiled: bool = False
) -> list[dict[str, Any]]:
    """The chart's objects with these values.

    Raises pulumi.RunError with Helm's own words where it can't be rendered.
    """
    told = {
        **_where(settings.chart),
        "version": settings.cilium_version,
        "namespace": settings.namespace,
        "release_name": settings.release_name,
        "values": values,
    }
    try:
        answer = await pulumi.runtime.invoke_async("kubernetes:helm:template", {"jsonOpts": json.dumps(told)}, opts)
    except Exception as error:  # noqa: BLE001 - the SDK raises nothing more particular
        words = str(error).split("returned an error: ", 1)[-1]
        words = hiding.hidden(words, values) if veiled else words
        raise pulumi.RunError(
            f"values: the chart can't be rendered with them, so nothing was changed. Helm says: {words}"
        ) from None
    return list((answer or {}).get("result") or [])


def demand_way(manifest: Sequence[Mapping[str, Any]], settings: Settings, *, preview: bool) -> list[str]:
    """Before kube-proxy is removed for it: whether Helm will be let to install what was rendered.

    Returns: what an `up` with these credentials would lack, the steps' own rights and Helm's, a phrase each; asked in a
        preview alone.
    Raises ProcedureError naming every right that is missing (not in a preview), or, in mode `replace`, each object in
        the way.
    """
    api = Api.connect(settings.kubeconfig, settings.kube_context)
    lacks: list[str] = []
    wanted = rights.installing(manifest, settings.namespace)
    if preview:
        lacks = rights.missing(api, rights.changing(settings.namespace) + wanted, manifest)
    else:
        rights.demand(api, wanted, manifest)
    # Only where kube-proxy is about to go: on the way back a «no» would keep it from being restored. Credentials that
    # lack rights leave it to those of the `up`.
    if settings.mode == "replace" and not lacks:
        in_the_way.demand_none(api, manifest, settings.namespace, settings.release_name)
    return lacks


def otherwise(rendered: Sequence[Mapping[str, Any]], settings: Settings, host: str, port: int) -> str | None:
    """Why what the chart rendered isn't what the procedure is about to rely on, or None where it is."""
    named = {(its.get("kind"), (its.get("metadata") or {}).get("name")): its for its in rendered}
    config = (named.get(("ConfigMap", "cilium-config")) or {}).get("data") or {}
    wanted = "true" if settings.mode == "replace" else "false"
    said = config.get("kube-proxy-replacement")
    if said != wanted:
        return (
            f"values: with them the chart renders kube-proxy-replacement: {said!r} in cilium-config, and mode "
            f"{settings.mode} needs {wanted!r}. Nothing was changed. Look for a value that overrides it (extraConfig?)."
        )
    template = (((named.get(("DaemonSet", "cilium")) or {}).get("spec") or {}).get("template") or {}).get("spec") or {}
    for container in template.get("containers") or []:
        if container.get("name") == "cilium-agent":
            env = {entry.get("name"): str(entry.get("value", "")) for entry in container.get("env") or []}
            given = env.get("KUBERNETES_SERVICE_HOST"), env.get("KUBERNETES_SERVICE_PORT")
            if given == (host, str(port)):
                return None
            return (
                f"values: with them the chart gives the agents the API server {given[0]}:{given[1]}, not "
                f"{host}:{port}. Nothing was changed. Set apiServerHost and apiServerPort, not a value of your own."
            )
    return "values: with them the chart renders no agents (DaemonSet cilium). Nothing was changed."


def _where(chart: str) -> dict[str, Any]:
    """The chart as helm:template takes it: a local one by its folder and its name in there."""
    if chart.startswith("oci://"):
        return {"chart": chart}
    if chart and not chart.startswith(("https://", "http://")):
        path = PurePath(chart)
        return {"path": str(path.parent), "chart": path.name}
    return {"chart": "cilium", "fetch_opts": {"repo": chart or REPOSITORY}}
