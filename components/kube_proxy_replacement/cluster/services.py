"""The cluster's Services: which addresses and names are theirs, and what kube-proxy routes for them."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

from .api import Api, Object

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_SERVICE_OF_SLICE = "kubernetes.io/service-name"
_OTHER_PROXY = "service.kubernetes.io/service-proxy-name"
_OLD_NOTATION = re.compile(r"(?:0x[0-9a-f]+|[0-9]+)(?:\.(?:0x[0-9a-f]+|[0-9]+)){0,3}", re.IGNORECASE)
_ENTRY = re.compile(r"(\S+):(\d+)(?:/(TCP|UDP|SCTP))? \((\d+)\)")
_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - read, not bound
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_CLUSTER_DOMAINS = ((), ("cluster", "local"))


class Frontend(NamedTuple):
    """Where a Service is called; equal to the plain tuple, so it also serves as a key in plain dicts.

    Attributes:
        ip: a ClusterIP in its shortest notation.
        protocol: "TCP", "UDP" or "SCTP".
        port: the Service's own port.
    """

    ip: str
    protocol: str
    port: int

    def __str__(self) -> str:
        return f"{joined(self.ip, self.port)}/{self.protocol}"


def in_table(text: str) -> dict[Frontend, int]:
    """How many backends each address has in what `cilium-dbg bpf lb list` prints: `10.96.0.1:443/TCP (1)  BACKEND …`.

    Slot 0 is the address itself, any other one a backend. Up to Cilium 1.16 no protocol is printed: then it is found
    under each. A NodePort's address is 0.0.0.0, or ::.
    """
    found: dict[Frontend, int] = {}
    for line in text.splitlines():
        if match := _ENTRY.match(line):
            for protocol in [match[3]] if match[3] else _PROTOCOLS:
                its = Frontend(str(ip_address(match[1])), protocol, int(match[2]))
                found[its] = found.get(its, 0) + (match[4] != "0")
    return found


def joined(ip: str, port: int) -> str:
    """`ip:port`, an IPv6 address in brackets."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def ip_address(text: str) -> IpAddress | None:
    """The address that `text` means to a resolver, or None where it is a name.

    Also the notations that the C library still takes for IPv4 (`10.96.1`, `0x0a600001`, octal; inet_aton(3)),
    an IPv6 address in brackets, with a zone, or one that holds an IPv4 address (`::ffff:10.96.0.1`).
    """
    bare = text.strip().removeprefix("[").removesuffix("]").partition("%")[0]
    try:
        found = ipaddress.ip_address(bare)
    except ValueError:
        if not _OLD_NOTATION.fullmatch(bare):
            return None
        try:
            return ipaddress.IPv4Address(socket.inet_aton(bare))
        except OSError:
            return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


@dataclass(frozen=True)
class ServiceTable:
    """All Services and EndpointSlices of a cluster, as they were when they were read.

    Attributes:
        services, slices: the objects as the API server sent them.
    """

    services: tuple[Object, ...]
    slices: tuple[Object, ...]

    @classmethod
    def read(cls, api: Api) -> ServiceTable:
        """Two lists. Raises what the client raises."""
        return cls(
            services=tuple(api.list("/api/v1/services")),
            slices=tuple(api.list("/apis/discovery.k8s.io/v1/endpointslices")),
        )

    def service_named_by(self, host: str) -> str | None:
        """`namespace/name` of the Service whose address or DNS name this is, or None.

        Addresses: ClusterIPs, externalIPs, and what a load balancer was given (`status.loadBalancer`), in
        any notation. Names, in any case and with or without the last dot: `NAME.NAMESPACE` and
        `NAME.NAMESPACE.svc.DOMAIN` of a Service that is there, whatever the cluster's domain is; below
        `svc` and `svc.cluster.local`, which nothing else ever is, also of one that isn't (names of single
        endpoints too); and `kubernetes` alone. Other bare names are left to the nodes: an agent is on the
        host's network and asks its resolver, where the name of a machine is as likely.
        """
        address = ip_address(host)
        if address is not None:
            return self._addresses.get(address)
        name = host.strip().lower().removesuffix(".")
        if name in self._hostnames:
            return self._hostnames[name]
        return "default/kubernetes" if name == "kubernetes" else self._service_of(name.split("."))

    def load_balancers(self) -> list[str]:
        """`namespace/name` of every Service of type LoadBalancer, sorted."""
        return sorted(_name(item) for item in self.services if _spec(item).get("type") == "LoadBalancer")

    def from_outside(self, policy: str) -> list[str]:
        """`namespace/name` of every Service that is called at nodes or at addresses of its own, sorted.

        Args:
            policy: its externalTrafficPolicy, «Cluster» (the API's default) or «Local».
        """
        return sorted(
            _name(item)
            for item in self.services
            if (_spec(item).get("type") in ("NodePort", "LoadBalancer") or _spec(item).get("externalIPs"))
            and _OTHER_PROXY not in (item["metadata"].get("labels") or {})
            and (_spec(item).get("externalTrafficPolicy") or "Cluster") == policy
        )

    def missing_in(self, table: Mapping[Frontend, int]) -> list[Frontend]:
        """What an agent that replaces kube-proxy must have in its service table, and hasn't: ClusterIPs with their
        endpoints, and NodePorts.
        """
        wanted = [its for its, endpoints in self.ready_endpoints().items() if endpoints and not table.get(its)]
        for item in filter(_is_routed, self.services):
            for port in _spec(item).get("ports") or []:
                number, protocol = port.get("nodePort"), str(port.get("protocol") or "TCP")
                anywhere = [Frontend(ip, protocol, int(number)) for ip in _ANYWHERE] if number else []
                wanted += anywhere[:1] if anywhere and not any(its in table for its in anywhere) else []
        return sorted(wanted)

    def cluster_ips(self) -> list[str]:
        """Every ClusterIP in its shortest notation, sorted."""
        return sorted({ip for item in self.services for ip in _cluster_ips(item)})

    def ready_endpoints(self) -> dict[Frontend, frozenset[str]]:
        """What every kube-proxy has to route: each ClusterIP and port, and the endpoints behind it.

        Returns: Frontend → `ip:port` of each endpoint (`[ip]:port` for IPv6), of the frontend's own address
        family. Empty where the Service has none. Endpoints are the ready ones, or, where none is ready,
        those that still serve while they end (pkg/proxy/topology.go, CategorizeEndpoints).

        Left out, as kube-proxy does: Services without a ClusterIP, of type ExternalName, or with the label
        service.kubernetes.io/service-proxy-name. Left out too are those for which kube-proxy's choice
        depends on the node (internalTrafficPolicy Local; endpoints with hints for zones or nodes, which
        its versions read differently): what isn't the same everywhere can't be expected everywhere.
        """
        result: dict[Frontend, frozenset[str]] = {}
        for item in self.services:
            if not _is_routed(item):
                continue
            slices = self._slices_of.get(_name(item), ())
            for port in _spec(item).get("ports") or []:
                protocol = str(port.get("protocol") or "TCP")
                for ip in _cluster_ips(item):
                    endpoints = _endpoints(slices, str(port.get("name") or ""), protocol, _family(ip))
                    if endpoints is not None:
                        result[Frontend(ip, protocol, int(port["port"]))] = endpoints
        return result

    @cached_property
    def _addresses(self) -> Mapping[IpAddress, str]:
        pairs = ((ip_address(ip), _name(item)) for item in self.services for ip in _all_ips(item))
        return {address: name for address, name in pairs if address is not None}

    @cached_property
    def _hostnames(self) -> Mapping[str, str]:
        """A cloud gives some load balancers a name instead of an address; it leads back to these nodes."""
        return {
            str(entry["hostname"]).lower().removesuffix("."): _name(item)
            for item in self.services
            for entry in _ingress(item)
            if entry.get("hostname")
        }

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(_name(item) for item in self.services)

    @cached_property
    def _slices_of(self) -> Mapping[str, list[Object]]:
        found: dict[str, list[Object]] = {}
        for item in self.slices:
            service = (item["metadata"].get("labels") or {}).get(_SERVICE_OF_SLICE)
            if service:
                found.setdefault(f"{item['metadata'].get('namespace')}/{service}", []).append(item)
        return found

    def _service_of(self, labels: list[str]) -> str | None:
        if len(labels) == 2:
            service = f"{labels[1]}/{labels[0]}"
            return service if service in self._names else None
        for at in range(2, len(labels)):
            if labels[at] != "svc":
                continue
            service = f"{labels[at - 1]}/{labels[at - 2]}"
            if service in self._names or tuple(labels[at + 1 :]) in _CLUSTER_DOMAINS:
                return service
        return None


def _endpoints(slices: Iterable[Object], port: str, protocol: str, family: str) -> frozenset[str] | None:
    """The endpoints for one port, or None where the node decides which of them."""
    ready: dict[str, Object] = {}
    ending: set[str] = set()
    for where, endpoint in _of_port(slices, port, protocol, family):
        conditions = endpoint.get("conditions") or {}
        if conditions.get("ready") in (None, True):
            ready[where] = endpoint
        elif conditions.get("serving") in (None, True) and conditions.get("terminating"):
            ending.add(where)
    for hint in ("forZones", "forNodes"):
        # kube-proxy goes by hints only where every ready endpoint has one
        if ready and all((endpoint.get("hints") or {}).get(hint) for endpoint in ready.values()):
            return None
    return frozenset(ready) or frozenset(ending)


def _of_port(slices: Iterable[Object], port: str, protocol: str, family: str) -> Iterator[tuple[str, Object]]:
    for item in slices:
        if item.get("addressType") != family:
            continue
        for its in item.get("ports") or []:
            number = its.get("port")
            if (its.get("name") or "", its.get("protocol") or "TCP") != (port, protocol) or not number:
                continue
            for endpoint in item.get("endpoints") or []:
                addresses = endpoint.get("addresses") or []
                if addresses:  # kube-proxy takes the first, and the API says that all of them are the same
                    yield joined(_shortest(addresses[0]), int(number)), endpoint


def _is_routed(item: Object) -> bool:
    spec = _spec(item)
    return (
        spec.get("type") != "ExternalName"
        and spec.get("internalTrafficPolicy") != "Local"
        and _OTHER_PROXY not in (item["metadata"].get("labels") or {})
    )


def _cluster_ips(item: Object) -> list[str]:
    spec = _spec(item)
    found = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return [_shortest(ip) for ip in found if ip and ip != "None"]


def _all_ips(item: Object) -> list[str]:
    given = [str(entry["ip"]) for entry in _ingress(item) if entry.get("ip")]
    return [*_cluster_ips(item), *(_spec(item).get("externalIPs") or []), *given]


def _ingress(item: Object) -> list[Object]:
    balancer = (item.get("status") or {}).get("loadBalancer") or {}
    return list(balancer.get("ingress") or [])


def _spec(item: Object) -> Object:
    return dict(item.get("spec") or {})


def _name(item: Object) -> str:
    return f"{item['metadata'].get('namespace')}/{item['metadata']['name']}"


def _family(ip: str) -> str:
    return "IPv6" if ":" in ip else "IPv4"


def _shortest(ip: str) -> str:
    return str(ip_address(ip) or ip)
