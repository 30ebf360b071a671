"""The chart's version is said, and exact."""

from __future__ import annotations

import re

from pulumi_policy import ReportViolation, ResourceValidationArgs, ResourceValidationPolicy

from held import declared

_EXACT = re.compile(r"v?\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")


def _validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
    # Not the Release's version: its provider's check has written there what it found, whatever was asked for.
    if not declared.is_settings(args):
        return
    said = args.props.get("ciliumVersion") or ""
    if not _EXACT.fullmatch(said):
        report(
            f"ciliumVersion is {f'{said!r}, which is no exact version' if said else 'not set'}: what a repository, a "
            "folder or Helm's own record has would decide. Set it, such as 1.18.6; of a Cilium that is taken over to "
            "the one that runs.",
            args.urn,
        )


POLICY = ResourceValidationPolicy(
    name="pinned-chart-version",
    description="The version of Cilium's chart is written in the stack's settings.",
    validate=_validate,
)
