"""The component served to programs in any language, as a Pulumi package (`package/` has what the engine looks for).

The schema is Pulumi's own analyzer's, from the component's annotations and docstrings.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pulumi
from pulumi.provider import ConstructResult, main
from pulumi.provider.experimental.analyzer import ComponentDefinition
from pulumi.provider.experimental.component import ComponentProvider

from . import interpreter
from .component import KubeProxyReplacement


def serve(source: Path) -> None:
    """Serves the component until the engine ends this process.

    Args:
        source: what pip can install this very package from.
    """
    main(Served(source), sys.argv[1:])


class Served(ComponentProvider):
    """The SDK's provider of components, with what it lacks for this one."""

    def __init__(self, source: Path) -> None:
        super().__init__([KubeProxyReplacement], interpreter.PACKAGE, version=interpreter.version())
        self._source = source
        self.schema = _with_secrets(str(self.schema))

    def construct(
        self, name: str, resource_type: str, inputs: pulumi.Inputs, options: pulumi.ResourceOptions | None = None
    ) -> ConstructResult:
        interpreter.demand(self._source)
        with interpreter.elsewhere():
            return super().construct(name, resource_type, inputs, options)

    def map_inputs(self, inputs: pulumi.Inputs, component_def: ComponentDefinition) -> pulumi.Inputs:
        """The arguments by their names in Python, each as it came: the component checks them itself.

        The SDK's own mapping fails on a whole number, and makes {} of an object, that isn't known yet or is secret.
        """
        return {component_def.inputs_mapping.get(name, name): value for name, value in inputs.items()}


def _with_secrets(schema: str) -> str:
    """The SDK's annotations have no word for it."""
    its: dict[str, Any] = json.loads(schema)
    its["resources"][f"{interpreter.PACKAGE}:index:KubeProxyReplacement"]["inputProperties"]["kubeconfig"]["secret"] = (
        True
    )
    return json.dumps(its)
