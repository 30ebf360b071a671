"""What is known of a chart once it has been read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Chart:
    """One version of one Helm chart. Subcharts are left out.

    Attributes:
        name, version, app_version: from Chart.yaml; `app_version` is "" where it says none.
        values: the parsed values.yaml; {} where there is none.
        values_text: values.yaml as it is written, comments and all; "" where there is none.
        schema: the parsed values.schema.json, or None.
        templates: every text that Helm may run as a template, by its path in the chart:
            all of templates/, and the files that those read with `.Files`.
        dependencies: the names (or aliases) under which subcharts take their values.
        source: where it was read from, for messages: «the folder /x», «the repository https://…».
    """

    name: str
    version: str
    app_version: str
    values: Mapping[str, Any]
    values_text: str
    schema: Mapping[str, Any] | None
    templates: Mapping[str, str]
    dependencies: tuple[str, ...]
    source: str

    @property
    def title(self) -> str:
        """Name and version, as messages show them: «cilium 1.18.6»."""
        return f"{self.name} {self.version}"
