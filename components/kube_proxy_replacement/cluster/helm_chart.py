"""The chart that Helm keeps with each revision of a release, written out: what runs can be given other values anywhere.

It is all there but the comments of values.yaml, and subcharts, which Helm leaves out of its record
(helm.sh/helm/v3 pkg/chart/chart.go: `json` tags).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

from .api import Object
from .errors import ProcedureError
from .trees import as_yaml


def unpack(kept: Object, folder: Path) -> Path:
    """Writes the chart into a new folder in this one, and returns that.

    Raises ProcedureError for one with subcharts, or with a path that leads out of it.
    """
    metadata = kept["metadata"]
    title = f"{metadata['name']} {metadata['version']}"
    if metadata.get("dependencies"):
        raise ProcedureError(
            f"The chart {title} has subcharts, which Helm doesn't keep in its record. Write the settings chart and "
            "ciliumVersion: where the chart comes from."
        )
    root = folder / "chart"
    root.mkdir()
    for name, data in _files(kept):
        path = root / name
        if not path.resolve().is_relative_to(root.resolve()):
            raise ProcedureError(f"The chart {title} that Helm keeps has a file outside of it: {name!r}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def _files(kept: Object) -> Iterator[tuple[str, bytes]]:
    yield "Chart.yaml", as_yaml(kept["metadata"])
    yield "values.yaml", as_yaml(kept.get("values") or {})
    if kept.get("schema"):
        yield "values.schema.json", base64.b64decode(kept["schema"])
    for kind in ("templates", "files"):
        for file in kept.get(kind) or []:
            yield file["name"], base64.b64decode(file.get("data") or "")
