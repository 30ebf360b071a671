"""The pod addresses that a cluster already uses, for the agents of a Cilium that is new on it.

The chart's default is the pool 10.0.0.0/8, which lies over the usual Service ranges (kubeadm's
10.96.0.0/12): pods would take the addresses of Services.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from . import kube_proxy
from .api import Api, Object
from .errors import ApiError, ProcedureError
from .nodes import Node, Nodes
from .services import ServiceTable, ip_address

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_KUBEADM_CONFIG = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
# What the controller manager gives a node unless it is told otherwise (--node-cidr-mask-size-ipv4, -ipv6).
_NODE_PREFIX = {4: 24, 6: 64}
# Cilium's operator divides an IPv6 pool into 2^16 parts at most (cilium/cilium pkg/ipam/cidrset).
_MOST_BITS = 16


@dataclass(frozen=True)
class PodAddresses:
    """Attributes:
    cidrs: the cluster's pod ranges, "10.244.0.0/16"; one for each address family, sometimes more.
    per_node: every Ready Linux node has its own part in `spec.podCIDRs`.
    source: where the ranges were found, in words.
    nodes: how many Linux nodes there are, for the size of a node's part.
    """

    cidrs: tuple[str, ...]
    per_node: bool
    source: str
    nodes: int = 1


def read(api: Api, kube_proxy_config: Object | None, nodes: Nodes, services: ServiceTable) -> PodAddresses:
    """From kube-proxy's `clusterCIDR`, else kubeadm's `networking.podSubnet`, else the nodes' own ranges.

    Args:
        kube_proxy_config: the ConfigMap kube-system/kube-proxy, from the cluster or the backup, or None.

    Raises ProcedureError where nothing says which ranges are used, where what says it is no range, and
    where a ClusterIP lies in one.
    """
    per_node = bool(nodes.ready) and all(node.pod_cidrs for node in nodes.ready)
    own = _distinct(_networks(_of_nodes(nodes.ready if per_node else nodes.all), "spec.podCIDRs of the nodes"))
    cidrs, source = own, "spec.podCIDRs of the nodes"
    for said, where in (
        (
            str(kube_proxy.configuration(kube_proxy_config).get("clusterCIDR") or ""),
            "clusterCIDR in ConfigMap kube-system/kube-proxy",
        ),
        (_pod_subnet(api), "networking.podSubnet in ConfigMap kube-system/kubeadm-config"),
    ):
        if said.strip():
            cidrs, source = _distinct(_networks(said.split(","), where)), where
            break
    if not cidrs or (not per_node and source.startswith("spec.podCIDRs")):
        raise ProcedureError(
            "Which addresses the pods of this cluster have is said nowhere: kube-proxy's configuration has no "
            "clusterCIDR, kubeadm-config no networking.podSubnet, and not every node has spec.podCIDRs "
            f"(without: {_some(nodes.ready)}). Nothing was changed. Set values.ipam, such as "
            '{"mode": "cluster-pool", "operator": {"clusterPoolIPv4PodCIDRList": ["10.244.0.0/16"]}}, to a '
            "range that nothing else uses: https://docs.cilium.io/en/stable/network/concepts/ipam/"
        )
    _refuse_overlap({*cidrs, *(own if per_node else ())}, source, services)
    # Where the nodes have ranges, those decide which families there are: agents wait for a range of each.
    return PodAddresses(
        tuple(map(str, _of_families(cidrs, own) if per_node else cidrs)), per_node, source, len(nodes.all)
    )


def helm_values(addresses: PodAddresses) -> dict[str, Any]:
    """The chart's values for these addresses.

    Where every node has its range, the mode `kubernetes`: the agents take the ranges that the controller
    manager gave the nodes, and pods keep the addresses that routes, firewalls and kube-proxy's clusterCIDR
    know. The agent waits for the ranges by itself in this mode (cilium/cilium pkg/option/config.go sets
    k8s-require-ipv4-pod-cidr and -ipv6-), so `k8s.requireIPv4PodCIDR` isn't needed.
    Else the mode `cluster-pool` with the ranges: Cilium's operator divides them among the nodes.
    https://docs.cilium.io/en/stable/network/concepts/ipam/

    `ipv4.enabled` and `ipv6.enabled` are said only where they aren't the chart's defaults (true, false).
    """
    networks = [ipaddress.ip_network(cidr) for cidr in addresses.cidrs]
    by_family = {version: [str(n) for n in networks if n.version == version] for version in (4, 6)}
    values: dict[str, Any] = {}
    if by_family[6]:
        values["ipv6"] = {"enabled": True}
        if not by_family[4]:
            values["ipv4"] = {"enabled": False}
    if addresses.per_node:
        return {"ipam": {"mode": "kubernetes"}} | values
    operator: dict[str, Any] = {}
    for version, cidrs in by_family.items():
        if cidrs:
            operator[f"clusterPoolIPv{version}PodCIDRList"] = cidrs
            operator[f"clusterPoolIPv{version}MaskSize"] = _node_prefix(
                [n for n in networks if n.version == version], max(addresses.nodes, 1)
            )
    return {"ipam": {"mode": "cluster-pool", "operator": operator}} | values


def _node_prefix(networks: list[Network], nodes: int) -> int:
    """The size of a node's part: the controller manager's, or a smaller one where it wouldn't do for all."""
    version = networks[0].version
    widest, longest = _NODE_PREFIX[version], 28 if version == 4 else 124
    while sum(2 ** max(widest - n.prefixlen, 0) for n in networks if n.prefixlen <= widest) < nodes:
        widest += 1
    if version == 6:
        widest = min(widest, min(n.prefixlen for n in networks) + _MOST_BITS)
    if widest > longest:
        raise ProcedureError(
            f"The pod range {', '.join(map(str, networks))} is too small for {nodes} nodes. Nothing was "
            "changed. Set values.ipam to a range that is large enough."
        )
    return widest


def _of_nodes(nodes: Iterable[Node]) -> list[str]:
    return [cidr for node in nodes for cidr in node.pod_cidrs]


def _of_families(cidrs: list[Network], own: list[Network]) -> list[Network]:
    """The cluster's ranges of those families that the nodes have, the nodes' own where it says none."""
    result: list[Network] = []
    for version in sorted({network.version for network in own}):
        same = [network for network in cidrs if network.version == version]
        result += same or [network for network in own if network.version == version]
    return result


def _pod_subnet(api: Api) -> str:
    try:
        found = api.find(_KUBEADM_CONFIG)
    except ApiError as error:
        if error.status != 403:
            raise
        return ""
    try:
        parsed = yaml.safe_load(((found or {}).get("data") or {}).get("ClusterConfiguration") or "")
    except yaml.YAMLError:
        return ""
    networking = parsed.get("networking") if isinstance(parsed, dict) else None
    return str(networking.get("podSubnet") or "") if isinstance(networking, dict) else ""


def _networks(texts: Iterable[str], where: str) -> list[Network]:
    result = []
    for text in texts:
        try:
            result.append(ipaddress.ip_network(text.strip(), strict=False))
        except ValueError:
            raise ProcedureError(
                f"{where} has {text.strip()!r}, which is no address range. Nothing was changed. Mend it, or "
                "set values.ipam."
            ) from None
    return result


def _distinct(networks: Iterable[Network]) -> list[Network]:
    return sorted(set(networks), key=lambda network: (network.version, network))


def _refuse_overlap(networks: set[Network], source: str, services: ServiceTable) -> None:
    for text in services.cluster_ips():
        address = ip_address(text)
        for network in networks:
            if address is not None and address in network:
                raise ProcedureError(
                    f"The pod range {network} ({source}) holds {text}, the address of the Service "
                    f"{services.service_named_by(text)}: pods and Services would take each other's addresses. "
                    "Nothing was changed. Set values.ipam to the range that the pods really have."
                )


def _some(nodes: Iterable[Node]) -> str:
    names = [node.name for node in nodes if not node.pod_cidrs]
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "") if names else "no node is Ready"
