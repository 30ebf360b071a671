"""Cilium takes over after kube-proxy was removed, and lets go after it was restored: by the graph, not by luck."""

from __future__ import annotations

from collections.abc import Iterable

from pulumi_policy import PolicyResource, ReportViolation, StackValidationArgs, StackValidationPolicy

from held import declared


def _validate(args: StackValidationArgs, report: ReportViolation) -> None:
    for component in args.resources:
        if component.resource_type != declared.COMPONENT:
            continue
        children = [each for each in args.resources if each.parent is component]
        releases = [child for child in children if declared.is_release(child)]
        if not releases:
            report("No release of Cilium stands under this component: its place isn't shown.", component.urn)
        for release in releases:
            before = {declared.step(each) for each in _all_before(release) if each in children}
            for missing in sorted(set(declared.REMOVALS) - before):
                report(
                    f"Cilium doesn't depend on the Command of step {missing}: both could be under way at once, and on "
                    "the way back Cilium could let go before kube-proxy routes.",
                    release.urn,
                )


def _all_before(resource: PolicyResource) -> Iterable[PolicyResource]:
    """What it depends on, and what that depends on."""
    found: dict[str, PolicyResource] = {}
    ahead = list(resource.dependencies)
    while ahead:
        its = ahead.pop()
        if its.urn not in found:
            found[its.urn] = its
            ahead += its.dependencies
    return found.values()


POLICY = StackValidationPolicy(
    name="cilium-after-removals",
    description="Cilium's release depends on both removals of kube-proxy: its DaemonSet's and its ConfigMap's.",
    validate=_validate,
)
