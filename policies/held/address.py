"""Agents that replace kube-proxy reach the API server without the routing that they are to provide."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from pulumi_policy import PolicyConfigSchema, ReportViolation, ResourceValidationArgs, ResourceValidationPolicy

from held import declared

_KUBEADMS = ["10.96.0.0/12"]
"""The Services' addresses of a cluster whose kubeadm wasn't told others (kubeadm-config.v1beta4, serviceSubnet)."""

_OFF = ("", "false", "disabled")
_SERVICE = re.compile(r"kubernetes(\.default(\.svc(\..+)?)?)?|[^.]+\.[^.]+\.svc(\.cluster\.local)?")
"""The API server's own Service, whatever the cluster's domain; below `svc` alone there is nothing else anyway."""


def _validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
    if not declared.is_release(args):
        return
    given = declared.values(args)
    if str(given.get("kubeProxyReplacement") or "").lower() in _OFF:
        return
    reason = _unusable(str(given.get("k8sServiceHost") or ""), args.get_config()["serviceCidrs"])
    if reason:
        report(
            f"k8sServiceHost {reason}: the agents would need the Service routing that they are to provide, and none "
            "could start. Give them the control plane's own address (apiServerHost; without it, it is found).",
            args.urn,
        )


def _unusable(host: str, service_cidrs: Sequence[str]) -> str | None:
    """Why agents can't start with it; None where they can, as far as it tells without a look at the cluster."""
    name = host.strip().lower().removesuffix(".")
    if name in ("", "auto"):
        return f"is {host!r}" if name else "isn't set"
    if _SERVICE.fullmatch(name):
        return f"{host!r} is a Service's name"
    try:
        address = ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    address = getattr(address, "ipv4_mapped", None) or address
    networks = [ipaddress.ip_network(cidr) for cidr in service_cidrs]
    its = next((network for network in networks if address in network), None)
    return f"{host!r} is a Service's address (in {its})" if its else None


POLICY = ResourceValidationPolicy(
    name="api-server-not-a-service",
    description="In mode replace the agents get an address of the API server that isn't a Service's.",
    config_schema=PolicyConfigSchema(
        properties={"serviceCidrs": {"type": "array", "items": {"type": "string"}, "default": _KUBEADMS}}
    ),
    validate=_validate,
)
