"""Values of the user that contradict the mode, another setting, or the switch-over itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .rules import RULES, Mode, Settings, literal
from .sightings import sightings, truth


def contradictions(
    values: Mapping[str, Any],
    mode: Mode,
    *,
    base: Mapping[str, Any] | None = None,
    version: str | None = None,
    api_server_host: str | None = None,
    api_server_port: int | None = None,
    load_balancer: Mapping[str, Any] | None = None,
    hubble: bool | None = None,
    keep_connections: bool | None = None,
    namespace: str = "kube-system",
) -> list[str]:
    """Messages about the setting `values`, one for each value that can't be meant, in their order.

    Each begins with the value as it was written (`values.kubeProxyReplacement: false`), says what it
    contradicts and why, and which setting to use instead.

    Args:
        values: the setting `values`, nothing merged into it.
        mode: the setting.
        base: what applies where `values` says nothing: the chart's defaults, with an adopted release's
            own values over them. Without it, rules that need to know stay silent.
        version: the chart's version; without it, rules for certain versions stay silent.
        api_server_host, api_server_port: what agents will be given (set or found); None where it isn't
            known yet. Then every address in `values` is a contradiction.
        load_balancer, hubble, keep_connections: the settings; what isn't set ({} or None) contradicts
            nothing.
        namespace: the release's.
    """
    settings = Settings(
        mode=mode,
        base=base or {},
        values=values,
        version=version,
        api_server_host=api_server_host,
        api_server_port=api_server_port,
        load_balancer=load_balancer or {},
        hubble=hubble,
        keep_connections=keep_connections,
        namespace=namespace,
    )
    messages = []
    for sighting in sightings(values):
        rule = RULES.get(sighting.path)
        problem = rule(sighting.value, settings) if rule else None
        if problem:
            messages.append(f"values.{sighting.shown}: {literal(sighting.written)} {problem}")
    messages.extend(_direct_return(settings))
    return messages


def _direct_return(settings: Settings) -> Iterator[str]:
    """DSR through a tunnel: agents refuse to start, unless both it and the tunnel are Geneve."""
    in_setting = settings.load_balancer.get("mode")
    mode = in_setting or settings.effective("loadBalancer", "mode")
    routing = settings.effective("routingMode")
    clouds = (settings.effective(cloud, "enabled") for cloud in ("gke", "eni", "alibabacloud"))
    if settings.mode != "replace" or mode not in ("dsr", "hybrid") or (routing is None and not settings.base):
        return
    if (routing or "tunnel") != "tunnel" or any(truth(cloud) for cloud in clouds):
        return
    dispatch = settings.effective("loadBalancer", "dsrDispatch") or "opt"
    tunnel = settings.effective("tunnelProtocol") or "vxlan"
    if (dispatch, tunnel) != ("geneve", "geneve"):
        where = "loadBalancer.mode" if in_setting else "values.loadBalancer.mode"
        yield (
            f"{where}: {mode} contradicts values.routingMode, which is tunnel ({tunnel}, dispatch "
            f"{dispatch}): agents refuse to start with both. Write snat, or values.routingMode: native, or "
            "values.loadBalancer.dsrDispatch: geneve with values.tunnelProtocol: geneve."
        )
