"""The API server's address that every node reaches without Service routing: found, or checked."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import yaml

from .api import Api, Object
from .errors import ApiError, ProcedureError
from .services import ServiceTable, ip_address

KUBE_PROXY = "ConfigMap kube-system/kube-proxy"
KUBEADM = "ConfigMap kube-system/kubeadm-config"
CLUSTER_INFO = "ConfigMap kube-public/cluster-info"

_KUBEADM_PORT = 6443  # kubeadm's default bindPort, which it takes for an endpoint without a port
_SCHEME_PORTS = {"https": 443, "http": 80}
# Underscores aren't RFC 1123, but machines have such names, and Go's TLS takes them (crypto/x509).
_DNS_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_SETTING = "apiServerHost"


@dataclass(frozen=True)
class ApiServerAddress:
    """Attributes:
    host: a DNS name or an IP address, IPv6 without brackets.
    port: 1 to 65535.
    source: where it was found, in words: "ConfigMap kube-system/kube-proxy", …
    """

    host: str
    port: int
    source: str


@dataclass(frozen=True)
class _Looked:
    """One place that was looked at: what it says, or why it says nothing."""

    source: str
    address: ApiServerAddress | None = None
    reason: str = ""


def parse_server(url: str) -> tuple[str, int]:
    """Host and port of a kubeconfig's `server`; IPv6 without brackets, the scheme's port where none is said.

    Raises ValueError with the reason where host and port can't say it: another scheme than https or http,
    no host, a bad port, a path (as Rancher's proxy has), credentials.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in _SCHEME_PORTS:
        raise ValueError(f"{url!r} doesn't begin with https://")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{url!r} has a path, which a host and a port can't say")
    if parts.username is not None or not parts.hostname:
        raise ValueError(f"{url!r} has no plain host")
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f"the port in {url!r} is no port") from None
    if port == 0:
        raise ValueError(f"the port in {url!r} is no port")
    return parts.hostname, port or _SCHEME_PORTS[parts.scheme]


def candidates(api: Api, kube_proxy_config: Object | None) -> list[ApiServerAddress]:
    """Every address that the cluster's own objects say, in the order in which they are trusted.

    kube-proxy's own kubeconfig (every node with kube-proxy proves it), kubeadm's controlPlaneEndpoint, and
    what joining nodes are told.

    Args:
        kube_proxy_config: the ConfigMap kube-system/kube-proxy, from the cluster or from the backup: its
            source reads the same in both cases. None where there is none.
    """
    return [looked.address for looked in _look(api, kube_proxy_config) if looked.address]


def find(api: Api, kube_proxy_config: Object | None, services: ServiceTable) -> ApiServerAddress:
    """The first candidate that agents can use: no Service's (it needs the routing that they are to
    provide), and reachable from every node as far as its form tells.

    An address on loopback is a node-local proxy (KubePrism, RKE2) where kube-proxy itself uses it, on every
    node. Elsewhere it is the control plane node's own.

    Raises ProcedureError that lists what was looked at, and asks for the setting apiServerHost.
    """
    seen = []
    for looked in _look(api, kube_proxy_config):
        reason = looked.reason
        if looked.address:
            reason = _unusable(looked.address, services)
            if not reason:
                return looked.address
        seen.append(f"{looked.source}: {reason}")
    raise ProcedureError(
        "No address was found at which every node reaches the API server without Service routing. "
        "Looked at:\n  " + "\n  ".join(seen) + f"\nNothing was changed. Set {_SETTING} (and apiServerPort) to "
        "the control plane's own address: its DNS name, its load balancer's address, or a control plane "
        "node's. https://docs.cilium.io/en/stable/network/kubernetes/kubeproxy-free/"
    )


def check_host(host: str, services: ServiceTable) -> str | None:
    """Why the setting apiServerHost can't be this, and what to write instead; None where it can.

    Whether a node reaches it isn't asked here.
    """
    text = host.strip()
    if not text:
        return (
            f"{_SETTING} is blank. Write a DNS name or an IP address, or remove the setting: then the "
            "address is looked up in the cluster."
        )
    bare, port = _parts(text)
    service = services.service_named_by(bare) if bare else None
    if service:
        return (
            f"{_SETTING} {text!r} is the Service {service} of this cluster: the agents would need the "
            "Service routing that they are to provide, and none could start. Write the control plane's "
            "own address, or remove the setting: then it is looked up in the cluster."
        )
    instead = f"Write {bare!r}" if bare and not _malformed(bare) else "Write a DNS name or an IP address"
    if text.lower() == "auto":
        return (
            f"{_SETTING} {text!r} is for Helm on the command line; here the agents would take it for a host's "
            "name. Remove the setting: then the address is looked up in the cluster."
        )
    if host != text:
        return f"{_SETTING} {host!r} has blanks around it. {instead}."
    if "://" in text:
        said = f", and {port} as apiServerPort" if port else ""
        return f"{_SETTING} {text!r} has a scheme; it takes a host alone. {instead}{said}."
    if "/" in text:
        return f"{_SETTING} {text!r} has a path; it takes a host alone. {instead}."
    if port:
        return f"{_SETTING} {text!r} has a port. {instead}, and {port} as apiServerPort."
    if text.startswith("["):
        return f"{_SETTING} {text!r} has brackets. {instead}: IPv6 addresses go without."
    malformed = _malformed(text)
    return f"{_SETTING} {text!r} {malformed}." if malformed else None


def check_port(port: object) -> str | None:
    """Why the setting apiServerPort can't be this; None for an int from 1 to 65535."""
    if isinstance(port, int) and not isinstance(port, bool) and 1 <= port <= 65535:
        return None
    return (
        f"apiServerPort {port!r} is no port. Write a number from 1 to 65535 (6443 on most clusters, 443 on "
        "most managed ones), or remove the setting: then it is looked up in the cluster."
    )


def _look(api: Api, kube_proxy_config: Object | None) -> Iterator[_Looked]:
    """One by one, so that a place is only asked when those before it had no answer."""
    yield _of_kubeconfig(KUBE_PROXY, kube_proxy_config)
    for source, read in ((KUBEADM, _of_kubeadm), (CLUSTER_INFO, _of_kubeconfig)):
        namespace, name = source.split()[1].split("/")
        try:
            found = api.find(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
        except ApiError as error:
            if error.status != 403:
                raise
            # a right that is missing here is no reason to stop while another place may do
            yield _Looked(source, reason="these credentials may not read it")
            continue
        yield read(source, found)


def _of_kubeconfig(source: str, config_map: Object | None) -> _Looked:
    """The server in the first key that holds a kubeconfig: kubeadm's is called `kubeconfig.conf`, EKS's
    `kubeconfig`, and so is that of cluster-info."""
    if config_map is None:
        return _Looked(source, reason="isn't there")
    data: dict[str, str] = config_map.get("data") or {}
    for key in sorted(data, key=lambda key: (key != "kubeconfig.conf", key)):
        server = _server(_yaml(data[key]))
        if server:
            return _address(source, server)
    return _Looked(source, reason="holds no kubeconfig with a server")


def _of_kubeadm(source: str, config_map: Object | None) -> _Looked:
    if config_map is None:
        return _Looked(source, reason="isn't there")
    text = (config_map.get("data") or {}).get("ClusterConfiguration", "")
    configuration = _yaml(text)
    endpoint = configuration.get("controlPlaneEndpoint") if isinstance(configuration, dict) else None
    if not isinstance(endpoint, str) or not endpoint.strip():
        return _Looked(source, reason="its ClusterConfiguration has no controlPlaneEndpoint")
    host, port = _parts(endpoint.strip())
    return _address(source, f"https://{f'[{host}]' if ':' in host else host}:{port or _KUBEADM_PORT}")


def _address(source: str, server: str) -> _Looked:
    try:
        host, port = parse_server(server)
    except ValueError as error:
        return _Looked(source, reason=f"its server {error}")
    return _Looked(source, ApiServerAddress(host, port, source))


def _server(parsed: Any) -> str:
    """The server of a kubeconfig's current context, else of its first cluster; "" where it isn't one."""
    if not isinstance(parsed, dict) or not isinstance(parsed.get("clusters"), list):
        return ""
    clusters = [entry for entry in parsed["clusters"] if isinstance(entry, dict)]
    contexts = parsed.get("contexts")
    for context in contexts if isinstance(contexts, list) else []:
        if isinstance(context, dict) and context.get("name") == parsed.get("current-context"):
            wanted = (context.get("context") or {}).get("cluster")
            clusters.sort(key=lambda entry: entry.get("name") != wanted)
    for entry in clusters:
        cluster = entry.get("cluster")
        if isinstance(cluster, dict) and cluster.get("server"):
            return str(cluster["server"])
    return ""


def _yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None  # a key that holds something else


def _unusable(address: ApiServerAddress, services: ServiceTable) -> str:
    shown = f"{address.host!r}, port {address.port}"
    service = services.service_named_by(address.host)
    if service:
        return f"{shown}, is the Service {service}, which needs the routing that is to be replaced"
    malformed = _malformed(address.host)
    if malformed:
        return f"{shown}, {malformed}"
    ip = ip_address(address.host)
    loopback = ip.is_loopback if ip else address.host.lower().removesuffix(".") == "localhost"
    if loopback and address.source != KUBE_PROXY:
        return f"{shown}, is another machine on every node"
    return ""


def _parts(text: str) -> tuple[str, str]:
    """The bare host in what somebody wrote, and the port, "" where there is none."""
    rest = re.split(r"[/?#]", text.split("://", 1)[-1], maxsplit=1)[0]
    rest = rest.rpartition("@")[2]
    found = re.fullmatch(r"\[([^\]]*)\](?::(\d*))?", rest)
    if found:
        return found[1], found[2] or ""
    if rest.count(":") > 1:
        return rest, ""
    host, _, port = rest.partition(":")
    return host, port


def _malformed(host: str) -> str:
    """Why this is neither an IP address nor a DNS name; "" where it is one of them."""
    if not host.isascii():
        return "has characters that no DNS name has. Write its ASCII form (xn--…)"
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return _malformed_name(host)
    if getattr(ip, "scope_id", None):
        return "has a zone, which is one node's own. Write an address that every node has a route to"
    if ip.is_unspecified or ip.is_multicast:
        return "is no address that can be called. Write the control plane's own"
    return ""


def _malformed_name(host: str) -> str:
    labels = host.removesuffix(".").split(".")
    illegal = sorted(set(re.findall(r"[^A-Za-z0-9_.-]", host)))
    if illegal:
        shown = " ".join(map(repr, illegal))
        return f"has characters that no DNS name has ({shown}). Write a DNS name or an IP address"
    if len(host) > 253 or not all(_DNS_LABEL.fullmatch(label) for label in labels):
        return "is no DNS name (parts of 1 to 63 letters, digits, hyphens). Write a DNS name or an IP address"
    if labels[-1].isdigit():
        return "is no IP address: an IPv4 address has four numbers from 0 to 255. Write the whole address"
    return ""
