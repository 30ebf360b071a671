"""The stack's last resource: what every agent says, read when something has changed."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, Resource, ResourceProvider, UpdateResult

from . import interpreter


class AgentStatusProvider(ResourceProvider):
    """The name of this class is in people's states and never changes; what it does is in `status_reading`."""

    def create(self, props: dict[str, Any]) -> CreateResult:
        from . import status_reading

        return status_reading.create(props)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        from . import status_reading

        return status_reading.update(_news)


class AgentStatus(Resource):
    """The reading; see `status_reading` for the shapes."""

    kubeProxyReplacement: pulumi.Output[str]  # noqa: N815 - the names of the stack's outputs
    agents: pulumi.Output[dict[str, int]]
    nodes: pulumi.Output[dict[str, dict[str, Any]]]
    handOver: pulumi.Output[dict[str, Any]]  # noqa: N815
    kubeProxy: pulumi.Output[dict[str, Any]]  # noqa: N815
    release: pulumi.Output[dict[str, Any]]

    def __init__(self, name: str, inputs: pulumi.Inputs, opts: pulumi.ResourceOptions) -> None:
        empty = dict.fromkeys(("kubeProxyReplacement", "agents", "nodes", "handOver", "kubeProxy", "release"))
        super().__init__(interpreter.guarded(AgentStatusProvider()), name, {**empty, **inputs}, opts)
