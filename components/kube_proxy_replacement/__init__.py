"""A live Kubernetes cluster from kube-proxy to Cilium's eBPF replacement, and back, as a Pulumi component.

    from kube_proxy_replacement import KubeProxyReplacement

    KubeProxyReplacement("cluster", {"mode": "replace", "cilium_version": "1.18.6"})

The names here, and those of the modules `run`, `found` and `agent_status`, are in people's states and never change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .component import KubeProxyReplacement, KubeProxyReplacementArgs, LoadBalancerArgs, NodeByNodeArgs

__all__ = ["KubeProxyReplacement", "KubeProxyReplacementArgs", "LoadBalancerArgs", "NodeByNodeArgs"]


def __getattr__(name: str) -> Any:
    """Imports the component when it is asked for: `run` and the dynamic providers start without Pulumi's SDK for it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import component

    return getattr(component, name)
