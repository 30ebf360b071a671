"""The two programs that are compared, each in a folder of its own."""

import json
import sys
from pathlib import Path
from typing import Any, Final

_ROOT: Final = Path(__file__).resolve().parents[2]

_OF_CLUSTER: Final = ("k8sServiceHost", "k8sServicePort")

_MINIMAL_PROJECT: Final = """\
name: minimal
runtime:
  name: python
  options:
    toolchain: pip
    virtualenv: .venv
"""

_MINIMAL: Final = """\
from pulumi_kubernetes.helm.v3 import Release

Release("cilium", name={name}, namespace={namespace}, chart={chart}, values={values}, skip_await=False)
"""


def ours(folder: Path) -> Path:
    """This repository's program; the settings of its stacks are the folder's own."""
    (folder / "stacks").mkdir(parents=True)
    _virtual_environment(folder)
    for name in ("Pulumi.yaml", "__main__.py"):
        (folder / name).symlink_to(_ROOT / name)
    return folder


def minimal(folder: Path, release: dict[str, Any], server: str) -> Path:
    """A program that has a Release, awaited by Helm, and nothing else.

    Args:
        release: our Release's inputs, whose name, namespace, chart and values it gets.
        server: the API server of its own cluster, HOST:PORT.
    """
    folder.mkdir()
    _virtual_environment(folder)
    (folder / "Pulumi.yaml").write_text(_MINIMAL_PROJECT)
    its = {name: release[name] for name in ("name", "namespace", "chart", "values")}
    its["values"] = its["values"] | dict(zip(_OF_CLUSTER, server.split(":"), strict=True))
    (folder / "__main__.py").write_text(_MINIMAL.format(**{name: repr(value) for name, value in its.items()}))
    return folder


def release_inputs(resources: list[dict[str, Any]]) -> dict[str, Any]:
    """The inputs of the Release among a state's resources, or a preview's."""
    (found,) = (its["inputs"] for its in resources if its["type"] == "kubernetes:helm.sh/v3:Release")
    return dict(found)


def same(*inputs: dict[str, Any]) -> bool:
    """Whether Releases install the same thing, each on its own cluster."""

    def text(its: dict[str, Any]) -> str:
        values = {key: value for key, value in its["values"].items() if key not in _OF_CLUSTER}
        return json.dumps([values, *(its[key] for key in ("name", "namespace", "chart", "version"))], sort_keys=True)

    return len({text(its) for its in inputs}) == 1


def _virtual_environment(folder: Path) -> None:
    (folder / ".venv").symlink_to(sys.prefix)
