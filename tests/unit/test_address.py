from __future__ import annotations

from typing import Any

import pytest

from kube_proxy_replacement.cluster.address import (
    ApiServerAddress,
    candidates,
    check_host,
    check_port,
    find,
    parse_server,
)
from kube_proxy_replacement.cluster.errors import ApiError, ProcedureError
from kube_proxy_replacement.cluster.services import ServiceTable

from .fakes import FakeApi, config_map, forbidden, kubeconfig, service

KUBE_PROXY = "ConfigMap kube-system/kube-proxy"
KUBEADM = "ConfigMap kube-system/kubeadm-config"
CLUSTER_INFO = "ConfigMap kube-public/cluster-info"
CLUSTER_INFO_PATH = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
TABLE = ServiceTable((service("kubernetes", "10.96.0.1"), service("api", "10.96.3.3", externalIPs=["192.0.2.9"])), ())


def proxy(server: str, key: str = "kubeconfig.conf") -> dict[str, Any]:
    return config_map("kube-proxy", **{"config.conf": "kind: KubeProxyConfiguration", key: kubeconfig(server)})


def kubeadm(endpoint: str) -> dict[str, Any]:
    text = f"apiVersion: kubeadm.k8s.io/v1beta4\ncontrolPlaneEndpoint: '{endpoint}'\n"
    return config_map("kubeadm-config", ClusterConfiguration=text)


def cluster_info(server: str) -> dict[str, Any]:
    text = f"apiVersion: v1\nkind: Config\nclusters:\n- name: ''\n  cluster:\n    server: {server}\n"
    return config_map("cluster-info", namespace="kube-public", kubeconfig=text)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://10.0.0.10:6443", ("10.0.0.10", 6443)),
        ("https://api.example.com", ("api.example.com", 443)),
        ("https://API.example.com:8443/", ("api.example.com", 8443)),
        ("http://10.0.0.10", ("10.0.0.10", 80)),
        ("https://[fd00::10]:6443", ("fd00::10", 6443)),
        (" https://localhost:7445\n", ("localhost", 7445)),
    ],
)
def test_servers_are_split(url: str, found: tuple[str, int]) -> None:
    assert parse_server(url) == found


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("10.0.0.10:6443", "https://"),
        ("unix:///run/api", "https://"),
        ("https://rancher.example/k8s/clusters/c-1", "path"),
        ("https://:6443", "host"),
        ("https://user:word@host", "host"),
        ("https://host:99999", "port"),
        ("https://host:0", "port"),
        ("https://host:x", "port"),
        ("", "https://"),
    ],
)
def test_what_host_and_port_cant_say_is_refused(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_server(url)


def test_every_place_in_its_order() -> None:
    api = FakeApi().put(kubeadm("cp.example:6443"), cluster_info("https://10.0.0.12:6443"))
    assert candidates(api, proxy("https://10.0.0.11:6443")) == [
        ApiServerAddress("10.0.0.11", 6443, KUBE_PROXY),
        ApiServerAddress("cp.example", 6443, KUBEADM),
        ApiServerAddress("10.0.0.12", 6443, CLUSTER_INFO),
    ]
    assert candidates(FakeApi(), None) == []


@pytest.mark.parametrize("key", ["kubeconfig.conf", "kubeconfig", "anything"])
def test_kube_proxys_kubeconfig_may_have_any_key(key: str) -> None:
    found = candidates(FakeApi(), proxy("https://abc.eks.amazonaws.com", key))
    assert found == [ApiServerAddress("abc.eks.amazonaws.com", 443, KUBE_PROXY)]


def test_kubeadms_key_comes_before_others() -> None:
    both = config_map("kube-proxy", **{"a": kubeconfig("https://a"), "kubeconfig.conf": kubeconfig("https://b")})
    assert [one.host for one in candidates(FakeApi(), both)] == ["b"]


def test_a_kubeconfig_is_read_by_its_current_context() -> None:
    text = """
clusters:
- name: old
  cluster: {server: "https://10.0.0.1:6443"}
- name: new
  cluster: {server: "https://10.0.0.2:6443"}
contexts:
- name: c
  context: {cluster: new}
current-context: c
"""
    assert candidates(FakeApi(), config_map("kube-proxy", k=text))[0].host == "10.0.0.2"


@pytest.mark.parametrize("text", ["", "a: [", "clusters: 3", "clusters: [3]", "clusters: [{cluster: 3}]", "- 1"])
def test_keys_that_hold_something_else_are_passed_over(text: str) -> None:
    assert candidates(FakeApi(), config_map("kube-proxy", k=text)) == []


@pytest.mark.parametrize(
    ("endpoint", "found"),
    [
        ("cp.example:443", ("cp.example", 443)),
        ("cp.example", ("cp.example", 6443)),
        ("10.0.0.5", ("10.0.0.5", 6443)),
        ("[fd00::5]:8443", ("fd00::5", 8443)),
        ("fd00::5", ("fd00::5", 6443)),
    ],
)
def test_kubeadms_endpoint(endpoint: str, found: tuple[str, int]) -> None:
    assert candidates(FakeApi().put(kubeadm(endpoint)), None) == [ApiServerAddress(*found, KUBEADM)]


def test_the_first_is_taken_and_the_rest_isnt_asked() -> None:
    api = FakeApi().put(kubeadm("cp.example:6443"))
    assert find(api, proxy("https://10.0.0.11:6443"), TABLE).source == KUBE_PROXY
    assert api.calls == []


@pytest.mark.parametrize(
    "server",
    [
        "https://10.96.0.1:443",
        "https://192.0.2.9:443",
        "https://kubernetes.default.svc",
        "https://0.0.0.0:6443",
        "https://rancher.example/k8s/clusters/c-1",
    ],
)
def test_what_agents_cant_use_is_passed_over(server: str) -> None:
    api = FakeApi().put(kubeadm("cp.example:6443"))
    assert find(api, proxy(server), TABLE) == ApiServerAddress("cp.example", 6443, KUBEADM)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_loopback_is_believed_from_kube_proxy_alone(host: str) -> None:
    api = FakeApi().put(kubeadm(f"{host}:6443"), cluster_info("https://10.0.0.12:6443"))
    assert find(api, proxy(f"https://{host}:7445"), TABLE).source == KUBE_PROXY
    assert find(api, None, TABLE).source == CLUSTER_INFO


def test_an_error_says_what_was_looked_at_and_what_to_set() -> None:
    api = FakeApi().put(kubeadm(""))
    api.errors["GET", CLUSTER_INFO_PATH] = forbidden(CLUSTER_INFO_PATH)
    with pytest.raises(ProcedureError) as caught:
        find(api, proxy("https://10.96.0.1:443"), TABLE)
    text = str(caught.value)
    assert f"{KUBE_PROXY}: '10.96.0.1', port 443, is the Service default/kubernetes" in text
    assert f"{KUBEADM}: its ClusterConfiguration has no controlPlaneEndpoint" in text
    assert f"{CLUSTER_INFO}: these credentials may not read it" in text
    assert "Set apiServerHost" in text
    with pytest.raises(ProcedureError, match=r"kube-proxy: isn't there\n.*kubeadm-config: isn't there"):
        find(FakeApi(), None, TABLE)


def test_other_errors_of_the_api_server_arent_hidden() -> None:
    api = FakeApi()
    api.errors["GET", CLUSTER_INFO_PATH] = ApiError("broken", status=500, reason="")
    with pytest.raises(ApiError, match="broken"):
        find(api, None, TABLE)


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.10",
        "api.example.com",
        "api.example.com.",
        "kind-control-plane",
        "node_1",
        "fd00::10",
        "localhost",
    ],
)
def test_hosts_that_are_fine(host: str) -> None:
    assert check_host(host, TABLE) is None


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("", ("blank", "remove the setting")),
        (" \t\n", ("blank",)),
        ("auto", ("'auto'", "Remove the setting")),
        ("AUTO", ("'AUTO'",)),
        ("https://api.example:6443", ("scheme", "Write 'api.example', and 6443 as apiServerPort")),
        ("https://api.example", ("scheme", "Write 'api.example'.")),
        ("https://[fd00::10]:6443/x", ("scheme", "Write 'fd00::10', and 6443")),
        ("api.example:6443", ("port", "Write 'api.example', and 6443 as apiServerPort")),
        ("10.0.0.10:6443", ("port", "Write '10.0.0.10'")),
        ("[fd00::10]:6443", ("port", "Write 'fd00::10', and 6443")),
        ("[fd00::10]", ("brackets", "Write 'fd00::10'")),
        ("api.example/path", ("path", "Write 'api.example'")),
        (" api.example", ("blanks around", "Write 'api.example'")),
        ("api.example\n", ("blanks around", "Write 'api.example'")),
        ("10.0.0.256", ("no IP address",)),
        ("10.0.0", ("no IP address",)),
        ("api..example", ("no DNS name",)),
        ("-api.example", ("no DNS name",)),
        ("a" * 64, ("no DNS name",)),
        (".".join(["abcdefgh"] * 30), ("no DNS name",)),
        ("bücher.example", ("xn--",)),
        ("api;reboot", ("';'",)),
        ("$(reboot)", ("'$'", "'('")),
        ("a b", ("' '",)),
        ("a\nb", (r"'\n'",)),
        ("user@host", ("'@'",)),
        ("`id`", ("'`'",)),
        ("a'b\"c", ("no DNS name has",)),
        ("fe80::1%eth0", ("zone",)),
        ("0.0.0.0", ("no address that can be called",)),
        ("::", ("no address that can be called",)),
        ("ff02::1", ("no address that can be called",)),
        ("host:", ("':'",)),
    ],
)
def test_hosts_that_are_refused_with_what_to_write(host: str, said: tuple[str, ...]) -> None:
    reason = check_host(host, TABLE)
    assert reason is not None
    for part in ("apiServerHost", *said):
        assert part in reason


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("10.96.0.1", "default/kubernetes"),
        ("kubernetes.default.svc.cluster.local", "default/kubernetes"),
        ("https://KUBERNETES.default:443/", "default/kubernetes"),
        ("[::ffff:10.96.0.1]:443", "default/kubernetes"),
        ("192.0.2.9", "default/api"),
        ("api.default.svc", "default/api"),
    ],
)
def test_a_services_host_is_refused_however_it_is_written(host: str, named: str) -> None:
    reason = check_host(host, TABLE)
    assert reason is not None
    assert f"is the Service {named}" in reason


@pytest.mark.parametrize("port", [1, 443, 65535])
def test_ports_that_are_fine(port: int) -> None:
    assert check_port(port) is None


@pytest.mark.parametrize("port", [0, -1, 65536, True, "443", 1.5, None])
def test_ports_that_are_refused(port: object) -> None:
    assert "apiServerPort" in (check_port(port) or "")
