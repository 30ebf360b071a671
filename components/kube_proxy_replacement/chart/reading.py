"""A chart made from its files: Chart.yaml, values, schema, and every text that Helm runs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from .errors import ChartError
from .files import Files
from .model import Chart

# The loader over libyaml reads Cilium's values.yaml in 20 ms, the one in Python in a second.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_READS_FILES = re.compile(r'\.Files\.(?:Get|Lines|Glob)\s+"([^"]+)"')


def parse_yaml(text: str | bytes) -> Any:
    """Parses one YAML document.

    Raises:
        ValueError: with the first line of what is wrong.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a safe loader, the fast one)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        mark = getattr(error, "problem_mark", None)
        raise ValueError(f"{problem}, line {mark.line + 1}" if mark else str(problem)) from None


def read_chart(files: Files, *, source: str) -> Chart:
    """Reads a chart.

    Args:
        source: where the files come from, for messages: «the folder /x».

    Raises:
        ChartError: Chart.yaml is missing, or a file of the chart can't be read or parsed.
    """
    try:
        return _read(files, source)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ChartError(
            "chart",
            f"{source} can't be read as a Helm chart: {why}",
            "Give a chart's folder (the one that holds Chart.yaml), an archive that `helm package` made, "
            "or leave chart out for Cilium's own repository",
        ) from None


def _read(files: Files, source: str) -> Chart:
    about = _yaml_mapping(files, "Chart.yaml")
    if about is None:
        raise ValueError("there is no Chart.yaml in it")
    for field in ("name", "version"):
        if not about.get(field):
            raise ValueError(f"Chart.yaml says no {field}")
    values_text = _text(files, "values.yaml")
    return Chart(
        name=str(about["name"]),
        version=str(about["version"]),
        app_version=str(about.get("appVersion") or ""),
        values=_yaml_mapping(files, "values.yaml") or {},
        values_text=values_text or "",
        schema=_schema(files),
        templates=_templates(files),
        dependencies=tuple(_dependencies(about)),
        source=source,
    )


def _text(files: Files, name: str) -> str | None:
    data = files.read(name)
    if data is None:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{name} isn't UTF-8 text") from None


def _yaml_mapping(files: Files, name: str) -> Mapping[str, Any] | None:
    text = _text(files, name)
    if text is None:
        return None
    try:
        parsed = parse_yaml(text)
    except ValueError as error:
        raise ValueError(f"{name} isn't YAML ({error})") from None
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise ValueError(f"{name} holds no map")
    return parsed


def _schema(files: Files) -> Mapping[str, Any] | None:
    text = _text(files, "values.schema.json")
    if text is None:
        return None
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"values.schema.json isn't JSON ({error})") from None
    return parsed if isinstance(parsed, dict) else None


def _templates(files: Files) -> dict[str, str]:
    templates = {name: _lenient(files.read(name)) for name in files.matching("templates/*")}
    named: set[str] = set()
    for text in templates.values():
        named.update(_READS_FILES.findall(text))
    for pattern in sorted(named):
        if pattern.startswith("/") or ".." in pattern.split("/"):
            continue
        for name in files.matching(pattern) if "*" in pattern else (pattern,):
            data = files.read(name)
            # Dashboards and scripts are shown as they are; only what mentions values is of interest.
            if data is not None and b".Values" in data:
                templates[name] = _lenient(data)
    return templates


def _lenient(data: bytes | None) -> str:
    return "" if data is None else data.decode("utf-8", errors="replace")


def _dependencies(about: Mapping[str, Any]) -> list[str]:
    listed = about.get("dependencies")
    return [
        str(entry.get("alias") or entry["name"])
        for entry in (listed if isinstance(listed, list) else ())
        if isinstance(entry, dict) and entry.get("name")
    ]
