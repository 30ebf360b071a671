"""What kube-proxy carries: a Service of each kind, and the servers behind them on every node.

Each kind is there twice, with servers on the nodes' own network (`host`) and with ordinary pods (`pod`), which have to
be made anew when another CNI takes their network over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from local.cluster import network
from local.cluster.api import Object
from local.real import images, objects

Backends = Literal["host", "pod"]
Kind = Literal[
    "cluster", "local", "internal", "external", "balancer", "sticky", "dns", "ports", "moving", "empty"
]  # fmt: skip

PORT: Final = 18080
SECOND_PORT: Final = 18081
CONTROL_PORT: Final = 18082
"""Of the same servers, behind no Service: what fails here too is the machine's load, not the routing of Services.
Not PORT: a client that goes there directly and by a NodePort at once loses some of the direct connections to Cilium's
connection table, which finds the other's entry."""
DNS_PORT: Final = 18053
HOST_PORT: Final = 18443
NAMESPACE: Final = "default"
ORDINARY: Final = "traffic-network=pod"
"""The label of all pods here that aren't on their node's own network."""

_KINDS: Final[tuple[Kind, ...]] = ("cluster", "local", "internal", "external", "balancer", "sticky", "dns", "ports")
# What sets a kind apart in the Service's spec.
_SPECS: Final[dict[Kind, Object]] = {
    "local": {"externalTrafficPolicy": "Local"},
    "internal": {"type": "ClusterIP", "internalTrafficPolicy": "Local"},
    "external": {"type": "ClusterIP"},
    "balancer": {"type": "LoadBalancer"},
    "sticky": {"sessionAffinity": "ClientIP"},
}


@dataclass(frozen=True)
class Carried:
    """A Service by its kind and what is behind it."""

    kind: Kind
    backends: Backends
    number: int
    """Of no other; its addresses and ports come of it."""

    @property
    def name(self) -> str:
        return self.kind if self.kind in ("moving", "empty") else f"{self.kind}-{self.backends}"

    @property
    def cluster_ip(self) -> str:
        # In the lower part of the range, from which the API server takes none by itself.
        return f"10.96.0.{100 + self.number}"

    @property
    def node_ports(self) -> tuple[int, ...]:
        """For each port its own; none for kinds that have none."""
        if self.type == "ClusterIP":
            return ()
        # In the lower part of the range, as above.
        return tuple(30010 + self.number + 30 * place for place in range(len(self.ports)))

    @property
    def ports(self) -> tuple[int, ...]:
        """The Service's ports."""
        return {"dns": (53,), "ports": (80, 81)}.get(self.kind, (80,))

    @property
    def targets(self) -> tuple[int, ...]:
        """The servers' ports behind them."""
        return {"dns": (DNS_PORT,), "ports": (PORT, SECOND_PORT)}.get(self.kind, (PORT,))

    @property
    def type(self) -> str:
        return str(_SPECS.get(self.kind, {}).get("type", "NodePort"))

    @property
    def protocol(self) -> str:
        return "UDP" if self.kind == "dns" else "TCP"

    @property
    def is_routed(self) -> bool:
        """Whether it has addresses of its own outside the cluster, one that is routed to each node."""
        return self.kind in ("external", "balancer")

    def address(self, node: int) -> str:
        """The address from outside that leads to the node: its own, or the Service's that is routed to it."""
        return f"10.20.{self.number}.{node}" if self.is_routed else network.node_address(node)

    def client(self, place: int = 0, *, kept: bool = False) -> str:
        """The address of those outside who ask for it: no other Service's clients have it.

        By Services of the same servers, two connections from one port of one client would come to the same server as
        one: kube-proxy's translation gives the second another port, Cilium's doesn't. What's measured isn't that.
        """
        return f"10.10.0.{130 + 3 * self.number + (2 if kept else place)}"

    def from_outside(self, node: int, place: int = 0) -> str:
        """HOST:PORT for clients outside the cluster."""
        return f"{self.address(node)}:{(self.ports if self.is_routed else self.node_ports)[place]}"

    def from_inside(self, place: int = 0) -> str:
        """HOST:PORT for clients on the cluster's nodes."""
        return f"{self.cluster_ip}:{self.ports[place]}"

    def service(self, nodes: Sequence[int]) -> Object:
        """The Service of a cluster with these nodes."""
        addresses = [self.address(node) for node in nodes]
        described: Object = {"type": "NodePort", "clusterIP": self.cluster_ip} | _SPECS.get(self.kind, {})
        described["ports"] = [
            {"name": f"port-{place + 1}", "port": port, "targetPort": target, "protocol": self.protocol}
            for place, (port, target) in enumerate(zip(self.ports, self.targets, strict=True))
        ]
        for port, own in zip(described["ports"], self.node_ports, strict=False):
            port["nodePort"] = own
        if self.kind == "empty":
            described["selector"] = {"app": "nobody"}
        elif self.kind != "moving":
            described["selector"] = {"app": f"server-{self.backends}"}
        if self.kind == "external":
            described["externalIPs"] = addresses
        status: Object = {}
        if self.kind == "balancer":
            status = {"status": {"loadBalancer": {"ingress": [{"ip": ip, "ipMode": "VIP"} for ip in addresses]}}}
        metadata = {"name": self.name, "namespace": NAMESPACE}
        return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": described, **status}


SERVICES: Final = (
    *(Carried(kind, "host", number) for number, kind in enumerate(_KINDS)),
    *(Carried(kind, "pod", number + len(_KINDS)) for number, kind in enumerate(_KINDS)),
    Carried("moving", "host", 2 * len(_KINDS)),
    Carried("empty", "host", 2 * len(_KINDS) + 1),
)


def service(kind: Kind, backends: Backends = "host") -> Carried:
    """The Service of a kind."""
    return next(its for its in SERVICES if (its.kind, its.backends) == (kind, backends))


def moved_to(node: int) -> Object:
    """The only EndpointSlice of the Service without a selector: the server on a node's own network."""
    name = service("moving").name
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "moving"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "port-1", "port": PORT, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [network.node_address(node)],
                "conditions": {"ready": True},
                "nodeName": objects.node_name(node),
            }
        ],
    }


def all_objects(nodes: Sequence[int], program: Path) -> list[Object]:
    """The servers, the Services, and the moving one's endpoints.

    Args:
        program: The folder that the program `traffic` lies in, on this machine and so on the nodes.
    """
    serve = [f"tcp=0.0.0.0:{port}" for port in (PORT, SECOND_PORT, CONTROL_PORT)]
    # By its own address: from a socket on all of them, an answer could leave by another than was asked.
    serve.append(f"udp=$(ADDRESS):{DNS_PORT}")
    hostport = daemon_set("server-hostport", program, ["serve", "$(NODE)", f"tcp=0.0.0.0:{PORT}"], host_network=False)
    hostport["spec"]["template"]["spec"]["containers"][0]["ports"] = [{"containerPort": PORT, "hostPort": HOST_PORT}]
    servers = [
        daemon_set("server-host", program, ["serve", "$(NODE)", *serve], host_network=True),
        daemon_set("server-pod", program, ["serve", "$(NODE)", *serve], host_network=False),
        hostport,
    ]
    for server in servers:
        container = server["spec"]["template"]["spec"]["containers"][0]
        container["readinessProbe"] = {"tcpSocket": {"port": PORT}, "periodSeconds": 5}
    return [*servers, *(its.service(nodes) for its in SERVICES), moved_to(nodes[0])]


def daemon_set(name: str, program: Path, arguments: Sequence[str], *, host_network: bool) -> Object:
    """A pod on each node that runs `traffic`. The arguments may have $(NODE) and $(ADDRESS), the pod's own."""
    key, _, value = ORDINARY.partition("=")
    labels = {"app": name} | ({} if host_network else {key: value})
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "hostNetwork": host_network,
                    "automountServiceAccountToken": False,
                    # Longer than a sender awaits its last answers.
                    "terminationGracePeriodSeconds": 5,
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [
                        {
                            "name": "traffic",
                            "image": f"docker.io/{images.TOOLS}",
                            "imagePullPolicy": "IfNotPresent",
                            "command": ["/opt/traffic/traffic", *arguments],
                            "env": [
                                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                                {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                            ],
                            # Without it the kubelet gives it next to no share of a processor on which the agents
                            # compile, and what is measured is that.
                            "resources": {"requests": {"cpu": "100m"}},
                            "volumeMounts": [{"name": "program", "mountPath": "/opt/traffic", "readOnly": True}],
                        }
                    ],
                    "volumes": [{"name": "program", "hostPath": {"path": str(program), "type": "Directory"}}],
                },
            },
        },
    }
