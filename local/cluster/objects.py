"""What the cluster holds before anybody does anything with it."""

import base64
import hashlib
from pathlib import Path
from string import Template
from typing import Final

import yaml

from local.cluster import network
from local.cluster.api import Object
from local.cluster.ports import LOOPBACK, Ports

_MANIFESTS: Final = Path(__file__).with_name("manifests")
_HASH: Final = "kubeadm.kubernetes.io/component-config.hash"


def kubeadm(ports: Ports, ca: Path) -> list[Object]:
    """What kubeadm leaves: its own configuration, kube-proxy and CoreDNS."""
    words = {
        "api_server": f"{LOOPBACK}:{ports.api_server}",
        "ca": base64.b64encode(ca.read_bytes()).decode(),
        "pod_range": network.PODS,
        "service_range": network.SERVICES,
        "version": network.VERSION,
    }
    found = [thing for name in ("kubeadm", "kube-proxy", "coredns") for thing in _load(name, words)]
    for thing in found:
        if thing["kind"] == "ConfigMap" and thing["metadata"]["name"] == "kube-proxy":
            thing["metadata"]["annotations"] = {_HASH: _checksum(thing)}
    return found


def shop() -> list[Object]:
    """Somebody's application, its namespace first."""
    return _load("shop", {})


def node(number: int, simulator_port: int) -> Object:
    """A node as its kubelet registers it; kwok gives it its conditions, the first is the control plane's."""
    name = f"node-{number}"
    labels = {
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
    }
    spec: Object = {}
    if number == 1:
        labels["node-role.kubernetes.io/control-plane"] = ""
        labels["node.kubernetes.io/exclude-from-external-load-balancers"] = ""
        spec["taints"] = [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]
    capacity = {"cpu": "4", "memory": "8Gi", "pods": "110", "ephemeral-storage": "50Gi"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": spec,
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": network.node_address(number)},
                {"type": "Hostname", "address": name},
                # Where the API server finds this node's kubelet: the simulator answers for all of them.
                {"type": "InternalDNS", "address": LOOPBACK},
            ],
            "allocatable": capacity,
            "capacity": capacity,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": simulator_port}},
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": _identifier(name, "boot"),
                "containerRuntimeVersion": "containerd://2.2.1",
                "kernelVersion": "6.12.48-amd64",
                "kubeProxyVersion": "",
                "kubeletVersion": network.VERSION,
                "machineID": _identifier(name, "machine").replace("-", ""),
                "operatingSystem": "linux",
                "osImage": "Debian GNU/Linux 13 (trixie)",
                "systemUUID": _identifier(name, "system"),
            },
        },
    }


def _load(name: str, words: dict[str, str]) -> list[Object]:
    text = (_MANIFESTS / f"{name}.yaml").read_text()
    if words:
        text = Template(text).substitute(words)
    return [thing for thing in yaml.safe_load_all(text) if thing]


def _checksum(config_map: Object) -> str:
    """How kubeadm marks a component's configuration that nobody has edited."""
    data: dict[str, str] = config_map["data"]
    return "sha256:" + hashlib.sha256("".join(data[key] for key in sorted(data)).encode()).hexdigest()


def _identifier(name: str, kind: str) -> str:
    digest = hashlib.sha256(f"{kind} {name}".encode()).hexdigest()
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))
