"""No Command is replaced by a trigger."""

from __future__ import annotations

from pulumi_policy import ReportViolation, ResourceValidationArgs, ResourceValidationPolicy
from pulumi_policy.proxy import UnknownValueError

from held import declared


def _validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
    step = declared.step(args)
    if step and _has_triggers(args):
        report(
            f"The Command of step {step} has triggers: a change of them replaces it, and that runs its old delete. "
            "Take them out; what is to be done again is found by the component's own look at the cluster.",
            args.urn,
        )


def _has_triggers(args: ResourceValidationArgs) -> bool:
    try:
        return bool(args.props.get("triggers"))
    except UnknownValueError:
        return True  # there are some, whatever they turn out to be


POLICY = ResourceValidationPolicy(
    name="no-triggers",
    description="A Command that removes or restores kube-proxy is updated, never replaced.",
    validate=_validate,
)
