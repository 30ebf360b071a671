"""The two programs that are compared, each in a folder of its own."""

import json
import sys
from pathlib import Path
from typing import Any, Final

_ROOT: Final = Path(__file__).resolve().parents[2]

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


def minimal(folder: Path, release: dict[str, Any]) -> Path:
    """A program that has a Release, awaited by Helm, and nothing else.

    Args:
        release: our Release's inputs, whose name, namespace, chart and values it gets.
    """
    folder.mkdir()
    _virtual_environment(folder)
    (folder / "Pulumi.yaml").write_text(_MINIMAL_PROJECT)
    its = {name: repr(release[name]) for name in ("name", "namespace", "chart", "values")}
    (folder / "__main__.py").write_text(_MINIMAL.format(**its))
    return folder


def release_inputs(resources: list[dict[str, Any]]) -> dict[str, Any]:
    """The inputs of the Release among a state's resources, or a preview's."""
    (found,) = (its["inputs"] for its in resources if its["type"] == "kubernetes:helm.sh/v3:Release")
    return dict(found)


def same(ours_: dict[str, Any], minimals: dict[str, Any]) -> bool:
    """Whether two Releases install the same thing."""
    keys = ("name", "namespace", "chart", "version", "values")
    return json.dumps([ours_[key] for key in keys], sort_keys=True) == json.dumps(
        [minimals[key] for key in keys], sort_keys=True
    )


def _virtual_environment(folder: Path) -> None:
    (folder / ".venv").symlink_to(sys.prefix)
