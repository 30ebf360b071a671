"""What the cluster holds: kubeadm's objects with the fabric's address, and Services to send traffic to."""

import hashlib
import json
from pathlib import Path
from typing import Final

import yaml

from local.cluster import objects
from local.cluster.api import Object
from local.cluster.ports import LOOPBACK
from local.real import control_plane, images

_HASH: Final = "kubeadm.kubernetes.io/component-config.hash"

POD_PORT: Final = 8080
HOST_PORT: Final = 8081
CONTROL_PORT: Final = 8082
"""Of the same servers, behind no Service. Not HOST_PORT: a client that goes there directly and by a NodePort at once
loses some of the direct connections to Cilium's connection table, which finds the other's entry."""
NODE_PORTS: Final = {"web": 30080, "hostweb": 30081, "web-local": 30082}
CLUSTER_IPS: Final = {"web": "10.96.0.80", "hostweb": "10.96.0.81", "web-local": "10.96.0.82"}

_SERVER: Final = """\
import asyncio, os, sys
async def answer(reader, writer):
    writer.write((os.environ["WHO"] + "\\n").encode())
    try:
        await writer.drain()
        writer.close()
    except OSError:
        pass
async def main():
    servers = [await asyncio.start_server(answer, "0.0.0.0", int(port), backlog=512) for port in sys.argv[1:]]
    await asyncio.gather(*(server.serve_forever() for server in servers))
asyncio.run(main())
"""


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


def node_name(number: int) -> str:
    """Names as kubeadm's are, the machine's."""
    return f"node-{number}"


def pod_range(number: int) -> str:
    """The node's part of the cluster's pod addresses."""
    return f"10.244.{number}.0/24"


def kubeadm(ca: Path) -> list[Object]:
    """As the simulated cluster's, but for the API server's address and what a network namespace can't do."""
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
            config = yaml.safe_load(thing["data"]["config.conf"])
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


def services() -> list[Object]:
    """A backend on each node behind each: pods of the cluster's network, and pods of the nodes' own."""
    return [
        _backend("web", [POD_PORT], host_network=False),
        _backend("hostweb", [HOST_PORT, CONTROL_PORT], host_network=True),
        _service("web", "web", POD_PORT),
        _service("hostweb", "hostweb", HOST_PORT),
        _service("web-local", "web", POD_PORT),
    ]


def _backend(name: str, ports: list[int], *, host_network: bool) -> Object:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "hostNetwork": host_network,
                    "terminationGracePeriodSeconds": 0,
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [
                        {
                            "name": "server",
                            "image": f"docker.io/{images.TOOLS}",
                            "imagePullPolicy": "IfNotPresent",
                            "command": ["python3", "-c", _SERVER, *map(str, ports)],
                            "env": [{"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                            # Without it the kubelet gives the servers next to no share of a processor on which
                            # the agents compile, and what is measured is that.
                            "resources": {"requests": {"cpu": "200m"}},
                            "readinessProbe": {"tcpSocket": {"port": ports[0]}, "periodSeconds": 5},
                        }
                    ],
                },
            },
        },
    }


def _service(name: str, app: str, port: int) -> Object:
    local = {"externalTrafficPolicy": "Local"} if name.endswith("-local") else {}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "type": "NodePort",
            "clusterIP": CLUSTER_IPS[name],
            "selector": {"app": app},
            "ports": [{"port": 80, "targetPort": port, "nodePort": NODE_PORTS[name]}],
            **local,
        },
    }


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
