"""Charts from an OCI registry: a stand-in on loopback that speaks as much of the distribution API."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from kube_proxy_replacement.chart import ChartError, load
from kube_proxy_replacement.chart.registry import CHART_LAYER
from tests.unit.test_chart_loading import check, packed
from tests.unit.test_chart_repository import Answer, Server, own_cache

__all__ = ["own_cache"]

ARCHIVE = packed()
DIGEST = hashlib.sha256(ARCHIVE).hexdigest()
NAME = "charts/cilium"


class Registry(Server):
    """Wants a token, unless it is open."""

    def __init__(self) -> None:
        super().__init__()
        self.open = False
        self.token_field = "token"
        self.challenge = f'Bearer realm="{self.url}/token?x=1",service="the registry",scope="repository:{NAME}:pull"'
        self.answers["/token"] = self._token
        self.put("1.18.6")
        self.hold(f"/v2/{NAME}/blobs/sha256:{DIGEST}", ARCHIVE)
        self.hold(f"/v2/{NAME}/tags/list", json.dumps({"tags": ["1.18.6", "1.20.2", "1.19.0_b.1"]}).encode())

    def put(self, tag: str, **changes: Any) -> None:
        layers = [
            {"mediaType": "application/vnd.cncf.helm.chart.provenance.v1.prov", "digest": "sha256:" + "0" * 64},
            {"mediaType": CHART_LAYER, "digest": f"sha256:{DIGEST}", "size": len(ARCHIVE)},
        ]
        body = json.dumps({"schemaVersion": 2, "layers": layers, **changes}).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.hold(f"/v2/{NAME}/manifests/{tag}", body, {"Docker-Content-Digest": digest})

    def hold(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        def answer(handler: BaseHTTPRequestHandler) -> Answer:
            if self.open or handler.headers["Authorization"] == "Bearer a-token":
                return 200, headers or {}, body
            return 401, {"WWW-Authenticate": self.challenge}, b"{}"

        self.answers[path] = answer

    def _token(self, handler: BaseHTTPRequestHandler) -> Answer:
        asked = parse_qs(urlsplit(handler.path).query)
        assert asked == {"x": ["1"], "service": ["the registry"], "scope": [f"repository:{NAME}:pull"]}
        assert handler.headers["Authorization"] is None
        return 200, {}, json.dumps({self.token_field: "a-token"}).encode()

    @property
    def address(self) -> str:
        return f"oci://{self.authority}/{NAME}"


@pytest.fixture
def registry() -> Iterator[Registry]:
    running = Registry()
    yield running
    running.stop()


def refused(registry: Registry, version: str = "1.18.6") -> ChartError:
    with pytest.raises(ChartError) as caught:
        load(registry.address, version)
    assert "\n" not in str(caught.value)
    assert registry.address in str(caught.value)
    return caught.value


@pytest.mark.parametrize("field", ["token", "access_token"])
@pytest.mark.parametrize("version", ["1.18.6", "v1.18.6"])
def test_found_with_a_token(registry: Registry, field: str, version: str) -> None:
    registry.token_field = field
    check(load(registry.address, version))
    accepted = [headers["accept"] for path, headers in registry.asked if "/manifests/" in path]
    assert set(accepted) == {"application/vnd.oci.image.manifest.v1+json"}


def test_a_tag_with_a_v(registry: Registry) -> None:
    registry.put("v1.18.6")
    del registry.answers[f"/v2/{NAME}/manifests/1.18.6"]
    check(load(registry.address, "1.18.6"))


def test_an_open_registry_and_the_next_run(registry: Registry) -> None:
    registry.open = True
    check(load(f"{registry.address}/", "1.18.6"))
    manifest, blob = f"/v2/{NAME}/manifests/1.18.6", f"/v2/{NAME}/blobs/sha256:{DIGEST}"
    assert registry.paths() == [manifest, blob]
    check(load(registry.address, "1.18.6"))
    assert registry.paths() == [manifest]


def test_the_token_stays_with_the_registry(registry: Registry) -> None:
    blob = f"/v2/{NAME}/blobs/sha256:{DIGEST}"
    store = Server()
    try:
        store.answers["/blob"] = (200, {}, ARCHIVE)
        registry.answers[blob] = (307, {"Location": f"{store.url}/blob"}, b"")
        check(load(registry.address, "1.18.6"))
        assert [headers.get("authorization") for _, headers in store.asked] == [None]
    finally:
        store.stop()


def test_a_plus_in_a_version(registry: Registry) -> None:
    archive = packed({"Chart.yaml": "name: cilium\nversion: 1.18.6+b.1\n"})
    digest = hashlib.sha256(archive).hexdigest()
    registry.put("1.18.6_b.1", layers=[{"mediaType": CHART_LAYER, "digest": f"sha256:{digest}"}])
    registry.hold(f"/v2/{NAME}/blobs/sha256:{digest}", archive)
    assert load(registry.address, "1.18.6+b.1").version == "1.18.6+b.1"


def test_a_version_that_is_not_there(registry: Registry) -> None:
    error = refused(registry, "1.20.1")
    assert error.setting == "ciliumVersion"
    assert "1.20.2 (the newest 1.20)" in str(error)


def test_a_repository_that_is_not_there(registry: Registry) -> None:
    del registry.answers[f"/v2/{NAME}/tags/list"]
    error = refused(registry, "1.20.1")
    assert "is the address right?" in str(error)


@pytest.mark.parametrize("version", ["../../../secret", "a b", "ü\n", "$(id)"])
def test_a_version_that_is_none_stays_one_part_of_the_path(registry: Registry, version: str) -> None:
    assert refused(registry, version).setting == "ciliumVersion"
    assert all(path.startswith((f"/v2/{NAME}/", "/token")) for path in registry.paths())


@pytest.mark.parametrize(
    "challenge",
    ['Basic realm="x"', "", "Bearer", 'Bearer realm="nonsense"'],
)
def test_a_registry_that_wants_credentials(registry: Registry, challenge: str) -> None:
    registry.challenge = challenge
    error = refused(registry)
    assert "isn't readable without credentials (it answered 401)" in str(error)
    assert "helm pull" in str(error)


def test_a_token_from_somewhere_unencrypted(registry: Registry) -> None:
    registry.challenge = 'Bearer realm="http://tokens.example.com/"'
    assert "isn't https" in str(refused(registry))


def test_an_image_instead_of_a_chart(registry: Registry) -> None:
    registry.put("1.18.6", layers=[{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "sha256:1"}])
    assert "no Helm chart" in str(refused(registry))


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]"])
def test_a_manifest_that_is_none(registry: Registry, body: bytes) -> None:
    registry.hold(f"/v2/{NAME}/manifests/1.18.6", body)
    assert "its manifest isn't JSON" in str(refused(registry))


def test_a_manifest_with_another_digest(registry: Registry) -> None:
    registry.hold(f"/v2/{NAME}/manifests/1.18.6", b"{}", {"Docker-Content-Digest": "sha256:" + "0" * 64})
    assert "isn't what its digest says" in str(refused(registry))


def test_an_archive_with_another_digest(registry: Registry) -> None:
    registry.hold(f"/v2/{NAME}/blobs/sha256:{DIGEST}", packed({"values.yaml": "evil: 1\n"}))
    assert DIGEST in str(refused(registry))


@pytest.mark.parametrize(("path", "status"), [("manifests/1.18.6", 500), ("manifests/1.18.6", 410), ("blobs", 404)])
def test_faults(registry: Registry, path: str, status: int) -> None:
    whole = f"/v2/{NAME}/blobs/sha256:{DIGEST}" if path == "blobs" else f"/v2/{NAME}/{path}"
    registry.answers[whole] = (status, {}, b"")
    assert f"answered {status}" in str(refused(registry))
