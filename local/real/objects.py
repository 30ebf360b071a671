"""What the cluster holds: kubeadm's objects with the fabric's address."""

import hashlib
import json
from pathlib import Path
from typing import Final

import yaml

from local.cluster import objects
from local.cluster.api import Object
from local.cluster.ports import LOOPBACK
from local.real import control_plane

_HASH: Final = "kubeadm.kubernetes.io/component-config.hash"


def node(number: int) -> Object:
    """A node before its kubelet takes it over, so that its pod addresses are known beforehand."""
    name = node_name(number)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": name},
        },
        "spec": {"podCIDR": pod_range(number), "podCIDRs": [pod_range(number)]},
    }


def node_name(number: int | str) -> str:
    """Names as kubeadm's are, the machine's."""
    return f"node-{number}"


def pod_range(number: int) -> str:
    """The node's part of the cluster's pod addresses."""
    return f"10.244.{number}.0/24"


def kubeadm(ca: Path, proxy_mode: str) -> list[Object]:
    """As the simulated cluster's, but for the API server's address and what a network namespace can't do.

    Args:
        proxy_mode: kube-proxy's; kubeadm leaves `iptables` unsaid.
    """
    text = json.dumps(objects.kubeadm(control_plane.PORTS, ca))
    things: list[Object] = json.loads(
        text.replace(f"{LOOPBACK}:{control_plane.PORTS.api_server}", control_plane.SERVER)
    )
    kept = []
    for thing in things:
        name, kind = thing["metadata"]["name"], thing["kind"]
        if kind == "Deployment" and name == "coredns":
            # Its image can't be made from what package registries have. Its Service stays, without endpoints.
            continue
        if kind == "ConfigMap" and name == "kube-proxy":
            config = yaml.safe_load(thing["data"]["config.conf"]) | {
                "mode": "" if proxy_mode == "iptables" else proxy_mode
            }
            # nf_conntrack_max can't be written in a network namespace.
            config["conntrack"] |= {"maxPerCore": 0, "min": 0}
            # Zero stands for a second between two syncs, and a change must be on every node within a second.
            for mode in ("iptables", "nftables"):
                config[mode]["minSyncPeriod"] = "100ms"
            thing["data"]["config.conf"] = yaml.safe_dump(config)
            digest = hashlib.sha256("".join(thing["data"][key] for key in sorted(thing["data"])).encode())
            thing["metadata"]["annotations"] = {_HASH: f"sha256:{digest.hexdigest()}"}
        kept.append(thing)
    return kept


def cni(number: int, mtu: int = 1500) -> str:
    """The bridge network that pods are on before there is Cilium, as a CNI configuration."""
    plugins: list[Object] = [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": False,
            "hairpinMode": True,
            "mtu": mtu,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": pod_range(number)}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return json.dumps({"cniVersion": "0.4.0", "name": "bridge", "plugins": plugins})
