"""The Commands: one constant line, and what it is told by its environment.

A Command's `delete` runs as it was recorded, perhaps years later, on another machine, from another program's folder.
So its line holds no path: it finds Python (see `interpreter`), and runs a module by name. No setting is in the line.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pulumi
from pulumi_command import local

from . import interpreter

VERBS = ("create", "update", "delete")

_ENVIRONMENT = "KUBE_PROXY_REPLACEMENT_"


def line(step: str, verb: str) -> str:
    """The shell line for a step; `exec`, so that cancelling the run ends the step itself."""
    return f'{interpreter.FIND}exec "$@" -u -m kube_proxy_replacement.run {step} {verb}'


class Steps:
    """The Commands of one component: what they all are told.

    Args:
        order: JSON of `cluster.told.Order`.
        mark: the repair mark; a new one is an update of each.
        run: the run that holds the lock on the cluster.
        kubeconfig: its content, or None for the ambient one; context: None for the current one.
    """

    def __init__(
        self,
        parent: pulumi.Resource,
        *,
        order: pulumi.Input[str],
        mark: pulumi.Input[str],
        run: pulumi.Input[str],
        kubeconfig: pulumi.Input[str] | None,
        context: pulumi.Input[str] | None,
    ) -> None:
        self._parent = parent
        self._told: dict[str, pulumi.Input[str]] = {"ORDER": order, "MARK": mark, "RUN": run}
        if kubeconfig is not None:
            self._told["KUBECONFIG"] = pulumi.Output.secret(kubeconfig)
        if context is not None:
            self._told["CONTEXT"] = context

    def command(
        self,
        resource_name: str,
        step: str,
        *,
        depends_on: Sequence[pulumi.Input[pulumi.Resource]],
        verbs: Collection[str] = VERBS,
        more: Mapping[str, pulumi.Input[str]] | None = None,
    ) -> local.Command:
        """A Command that does a step of `run`: its create, its update, and its delete.

        Args:
            step: its name, as in `run.STEPS`.
            verbs: those that do something. For another one nothing is recorded, so nothing is started.
            more: further environment, whose change is an update.

        There are no `triggers`: a change of them replaces the Command, and that runs its old `delete`.
        """
        lines = {verb: line(step, verb) for verb in verbs}
        environment = {f"{_ENVIRONMENT}{key}": value for key, value in {**self._told, **(more or {})}.items()}
        return local.Command(
            resource_name,
            create=lines.get("create"),
            update=lines.get("update"),
            delete=lines.get("delete"),
            environment=environment,
            add_previous_output_in_env=False,
            opts=pulumi.ResourceOptions(parent=self._parent, depends_on=list(depends_on)),
        )
