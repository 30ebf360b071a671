"""In production nothing of the way there and back is deleted by mistake."""

from __future__ import annotations

from fnmatch import fnmatchcase

from pulumi_policy import PolicyConfigSchema, ReportViolation, ResourceValidationArgs, ResourceValidationPolicy

from held import declared

_PRODUCTION = ["prod", "prod-*", "*-prod", "production"]


def _validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
    # The release alone wouldn't do: destroy deletes first what depends on it, and that brings kube-proxy back.
    if args.opts.protect or not (declared.is_release(args) or declared.step(args)):
        return
    its_stack = declared.stack(args.urn)
    if any(fnmatchcase(its_stack, pattern) for pattern in args.get_config()["stacks"]):
        report(
            f"Stack {its_stack} is production, and this isn't protected: a destroy would bring kube-proxy back and let "
            "Cilium go. Set protect; in a program of your own, in the component's options: that protects all of it.",
            args.urn,
        )


POLICY = ResourceValidationPolicy(
    name="protected-in-production",
    description="Cilium's release and the Commands around it are protected where the stack is production.",
    config_schema=PolicyConfigSchema(
        properties={"stacks": {"type": "array", "items": {"type": "string"}, "default": _PRODUCTION}}
    ),
    validate=_validate,
)
