"""The step in which an adopted release is upgraded, with the chart that the settings mean."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from . import chart
from .cluster import helm_chart, helm_release, rollback, taking_over
from .cluster.api import Api, Object
from .cluster.errors import ProcedureError
from .cluster.told import Order


def release(api: Api, order: Order, say: Callable[[str], None]) -> None:
    """Upgrades it; in `coexist` kube-proxy routes by then, in `replace` it is gone."""
    with rollback.on_failure(api, order, say):
        _upgraded(api, order, say)


def _upgraded(api: Api, order: Order, say: Callable[[str], None]) -> None:
    runs = deployed(api, order.namespace, order.release)
    with tempfile.TemporaryDirectory(prefix="kube-proxy-replacement-") as folder:
        its_chart = place(order.chart, order.version, runs, Path(folder))
        try:
            version = chart.load(str(its_chart), None).version
        except chart.ChartError as error:
            raise ProcedureError(str(error)) from None
        taking_over.upgrade(api, order, its_chart, version, say)


def deployed(api: Api, namespace: str, name: str) -> Object:
    """The chart of the revision that runs, as Helm keeps it. Raises ProcedureError where there is none."""
    for its in helm_release.newest_first(api, namespace, name):
        if its.status in ("deployed", "superseded"):
            return its.chart
    raise ProcedureError(
        f"Helm has no revision of the release {namespace}/{name} that was ever deployed. It was not changed."
    )


def place(wanted: str, version: str, runs: Object, folder: Path, base: Path | None = None) -> Path:
    """A folder or an archive with the chart, for as long as `folder` is there.

    Args:
        wanted: the setting `chart`; version: `ciliumVersion`. Where neither says another, it is the chart that runs.
        runs: that one, as Helm keeps it.
        base: what a relative path is relative to: the project's folder, where None the one worked in.
    Raises ProcedureError.
    """
    running = runs["metadata"]["version"]
    try:
        if not wanted and (not version or chart.same_version(version, running)):
            return helm_chart.unpack(runs, folder)
        if chart.is_local(wanted):
            return ((base or Path.cwd()) / wanted).absolute()
        archive = folder / "chart.tgz"
        archive.write_bytes(chart.fetch(wanted, version or running))
        return archive
    except chart.ChartError as error:
        raise ProcedureError(str(error)) from None
