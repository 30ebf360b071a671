"""The cluster's addresses, as `kubeadm init --pod-network-cidr 10.244.0.0/16` chooses them."""

import ipaddress

PODS = "10.244.0.0/16"
SERVICES = "10.96.0.0/12"
VERSION = "v1.36.3"

_NODES = ipaddress.ip_address("10.10.0.10")


def node_address(number: int) -> str:
    """The address of the node of a number, from 1 on. Nobody ever connects to it."""
    return str(_NODES + number)


def pod_mask(nodes: int) -> int:
    """The length of each node's own range of pod addresses: kubeadm's 24 for as many nodes as it serves."""
    length = 24
    while 2 ** (length - 16) < nodes + 8:
        length += 1
    return length
