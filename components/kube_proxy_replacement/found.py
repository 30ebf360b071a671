"""The stack's first resource: what step 1 found and checked, in its `check`, so in every preview."""

from __future__ import annotations

import uuid
from typing import Any

import pulumi
from pulumi.dynamic import CheckResult, CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

from . import interpreter


class FoundProvider(ResourceProvider):
    """The name of this class is in people's states and never changes; what it does is in `finding`."""

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        from . import finding

        return finding.check(_olds, news)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        from . import finding

        return finding.diff(_olds, _news)

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        from . import finding

        return finding.read(id_, props)

    def create(self, props: dict[str, Any]) -> CreateResult:
        from . import finding

        return finding.create(props)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        from . import finding

        return finding.update(_olds, _news)

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        from . import finding

        finding.delete(_props)


class Found(Resource):
    """What is known of the cluster before anything is changed; see `looking.Found` for the shapes."""

    cluster: pulumi.Output[str]
    server: pulumi.Output[str]
    apiServer: pulumi.Output[dict[str, Any]]  # noqa: N815 - the name in the state
    podAddresses: pulumi.Output[dict[str, Any]]  # noqa: N815
    image: pulumi.Output[str]
    mark: pulumi.Output[str]
    run: pulumi.Output[str]
    findings: pulumi.Output[list[str]]
    unreadable: pulumi.Output[list[str]]
    restart: pulumi.Output[list[str]]
    notes: pulumi.Output[list[str]]
    adopted: pulumi.Output[bool]
    owner: pulumi.Output[str]
    way: pulumi.Output[str]
    own: pulumi.Output[dict[str, Any]]
    changing: pulumi.Output[bool]
    """Whether this resource is created or updated in this very run: whether anything changes at all."""

    def __init__(self, name: str, settings: pulumi.Inputs, opts: pulumi.ResourceOptions) -> None:
        empty = dict.fromkeys(
            (
                "cluster",
                "server",
                "apiServer",
                "podAddresses",
                "image",
                "mark",
                "findings",
                "unreadable",
                "restart",
                "backedUp",
                "notes",
                "plan",
                "backup",
                "adopted",
                "owner",
                "way",
                "own",
            )
        )
        run = f"{pulumi.get_project()}/{pulumi.get_stack()}/{uuid.uuid4().hex[:12]}"
        opts = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=["backup"]))
        # `check` runs in both and can't tell them apart by itself; it keeps no trace of this
        told = {**empty, **settings, "run": run, "preview": pulumi.runtime.is_dry_run()}
        # nor can it tell what is secret: it is given everything in plain
        told["veiled"] = pulumi.Output.from_input(settings.get("values")).is_secret()
        super().__init__(interpreter.guarded(FoundProvider()), name, told, opts)
        # an unchanged resource keeps the outputs, and so the run, of its last change
        self.changing = pulumi.Output.from_input(self.run).apply(lambda its: its == run)
