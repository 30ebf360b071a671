"""The proxy between a stack and the API server: what passes, and what is done instead."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from kube_proxy_replacement.cluster.api import Api
from kube_proxy_replacement.cluster.errors import ApiError, UnreachableError
from local.chaos.proxy import Answer, Closed, Proxy, Request, Verdict
from local.cluster.certificates import Pki

from . import loopback

CONFIGMAPS = "/api/v1/namespaces/kube-system/configmaps"


class Gate:
    """Does what a test says to the next requests, and remembers them."""

    def __init__(self) -> None:
        self.first: list[Verdict] = []
        self.then: list[Verdict] = []
        self.asked: list[Request] = []

    def before(self, request: Request) -> Verdict:
        self.asked.append(request)
        return self.first.pop(0) if self.first else None

    def after(self, _request: Request, _status: int) -> Verdict:
        return self.then.pop(0) if self.then else None


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def server(pki: Pki, tmp_path: Path) -> Iterator[loopback.Server]:
    pair, pem = pki.server("api-server", []), tmp_path / "server.pem"
    pem.write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())
    server = loopback.Server(pem, clients=pki.ca.certificate)
    yield server
    server.close()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def api(pki: Pki, server: loopback.Server, gate: Gate) -> Iterator[Api]:
    proxy = Proxy(server.address[1], pki, gate)
    proxy.start()
    authority = base64.b64encode(pki.ca.certificate.read_bytes()).decode()
    text = loopback.kubeconfig(
        f"https://127.0.0.1:{proxy.port}", user={}, cluster={"certificate-authority-data": authority}
    )
    yield Api.connect(text, patience=0)
    proxy.stop()


def test_what_is_asked_and_answered_passes(server: loopback.Server, api: Api) -> None:
    server.answer = lambda request: loopback.Answer(201, {"its": request.body, "large": "x" * 300_000})
    answer = api.create(CONFIGMAPS, {"kind": "ConfigMap"})
    assert answer["its"] == {"kind": "ConfigMap"}
    assert len(answer["large"]) == 300_000
    assert server.requests[0].path == CONFIGMAPS


def test_one_request_after_another_passes(server: loopback.Server, api: Api, gate: Gate) -> None:
    for _ in range(3):
        api.get(CONFIGMAPS)
    assert len(server.requests) == len(gate.asked) == 3
    assert server.connections == 1


def test_exec_passes(server: loopback.Server, api: Api, gate: Gate) -> None:
    def stream(its: loopback.Stream) -> None:
        its.send(1, b"rules")
        its.end()

    server.stream = stream
    assert api.exec("kube-system", "cilium-1", "agent", ["iptables-save"], timeout=10).stdout == "rules"
    assert gate.asked[0].is_exec


def test_a_connection_that_is_closed_before_it_asks_nobody(server: loopback.Server, api: Api, gate: Gate) -> None:
    gate.first = [Closed()]
    with pytest.raises(UnreachableError):
        api.create(CONFIGMAPS, {})
    assert server.requests == []


def test_a_connection_that_is_closed_after_has_asked(server: loopback.Server, api: Api, gate: Gate) -> None:
    gate.then = [Closed()]
    with pytest.raises(UnreachableError):
        api.create(CONFIGMAPS, {})
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [409, 429, 500])
def test_another_answer_comes_instead_of_the_api_servers(
    server: loopback.Server, api: Api, gate: Gate, status: int
) -> None:
    gate.first = [Answer(status)]
    with pytest.raises(ApiError) as error:
        api.create(CONFIGMAPS, {})
    assert error.value.status == status
    assert server.requests == []
    api.create(CONFIGMAPS, {})
    assert len(server.requests) == 1, "only once"


@pytest.mark.parametrize(
    ("method", "target", "changes"),
    [
        ("GET", CONFIGMAPS, False),
        ("PATCH", f"{CONFIGMAPS}/kube-proxy", True),
        ("POST", f"{CONFIGMAPS}?dryRun=All", False),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", False),
    ],
)
def test_what_changes_the_cluster(method: str, target: str, changes: bool) -> None:
    assert Request(method, target).changes is changes
