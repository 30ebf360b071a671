"""Charts from a repository: a real HTTP server on loopback, its index, its archives, and its faults."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from kube_proxy_replacement.chart import ChartError, download, load, repository
from tests.unit.test_chart_loading import check, packed

Answer = tuple[int, dict[str, str], bytes]


class Server:
    """Answers by path; remembers what was asked for, with the headers."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer | Callable[[BaseHTTPRequestHandler], Answer]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                answer = outer.answers.get(self.path.partition("?")[0], (404, {}, b"not here"))
                status, headers, body = answer(self) if callable(answer) else answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if status != 304:
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nothing on the tests' standard error."""

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """A client that went away in the middle is what some of the tests are about."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.authority = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.authority}"

    def paths(self) -> list[str]:
        """What was asked for since the last call."""
        paths = [path for path, _ in self.asked]
        self.asked.clear()
        return paths

    def stop(self) -> None:
        """Ends it; a second time does nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "_PAUSE", 0)
    return tmp_path / "cache"


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


ARCHIVE = packed()
DIGEST = hashlib.sha256(ARCHIVE).hexdigest()


def release(version: str, **changes: Any) -> dict[str, Any]:
    entry = {
        "annotations": {"artifacthub.io/crds": "- kind: A\n  version: 9.9.9\n  name: cilium\n"},
        "apiVersion": "v2",
        "created": "2025-01-01T00:00:00Z",
        "dependencies": [{"name": "sub", "version": "7.7.7"}],
        "description": "|\n  version: 8.8.8",
        "digest": DIGEST,
        "name": "cilium",
        "urls": [f"cilium-{version}.tgz"],
        "version": version,
    }
    return {name: value for name, value in {**entry, **changes}.items() if value is not None}


def index(*releases: dict[str, Any]) -> bytes:
    entries = {"aaa": [release("1.18.6", name="aaa")], "cilium": list(releases), "zzz": [release("5.0.0", name="zzz")]}
    return yaml.safe_dump({"apiVersion": "v1", "entries": entries, "generated": "now"}).encode()


def serve(server: Server, *releases: dict[str, Any], prefix: str = "") -> None:
    server.answers[f"{prefix}/index.yaml"] = (200, {"ETag": '"one"'}, index(*(releases or (release("1.18.6"),))))
    server.answers[f"{prefix}/cilium-1.18.6.tgz"] = (200, {}, ARCHIVE)


def refused(server: Server, version: str = "1.18.6") -> ChartError:
    with pytest.raises(ChartError) as caught:
        load(server.url, version)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("version", ["1.18.6", "v1.18.6", " 1.18.6 "])
@pytest.mark.parametrize("prefix", ["", "/charts/stable"])
def test_found(server: Server, version: str, prefix: str) -> None:
    serve(server, release("1.18.5"), release("1.18.6"), release("1.18.60"), prefix=prefix)
    check(load(f"{server.url}{prefix}/", version))
    assert server.paths() == [f"{prefix}/index.yaml", f"{prefix}/cilium-1.18.6.tgz"]


def test_without_an_address_it_is_ciliums_own(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert repository.CILIUM == "https://helm.cilium.io"
    monkeypatch.setattr(repository, "CILIUM", server.url)
    serve(server)
    check(load("", "1.18.6"))


def test_the_next_run_downloads_nothing_again(server: Server) -> None:
    serve(server)
    check(load(server.url, "1.18.6"))
    server.paths()
    server.answers["/index.yaml"] = lambda handler: (
        (304, {}, b"") if handler.headers["If-None-Match"] == '"one"' else (500, {}, b"")
    )
    check(load(server.url, "v1.18.6"))
    assert server.paths() == ["/index.yaml"]


def test_a_new_index_with_the_same_archive_downloads_only_the_index(server: Server) -> None:
    serve(server)
    check(load(server.url, "1.18.6"))
    server.paths()
    server.answers["/index.yaml"] = (200, {"ETag": '"two"'}, index(release("1.18.6"), release("1.18.7")))
    check(load(server.url, "1.18.6"))
    assert server.paths() == ["/index.yaml"]


def test_a_replaced_archive_is_noticed(server: Server) -> None:
    serve(server)
    check(load(server.url, "1.18.6"))
    other = packed({"values.yaml": "other: 1\n"})
    server.answers["/index.yaml"] = (200, {}, index(release("1.18.6", digest=hashlib.sha256(other).hexdigest())))
    server.answers["/cilium-1.18.6.tgz"] = (200, {}, other)
    assert load(server.url, "1.18.6").values == {"other": 1}


def test_a_repository_that_is_gone_is_refused_though_its_chart_is_kept(server: Server) -> None:
    serve(server)
    check(load(server.url, "1.18.6"))
    server.stop()
    error = refused(server)
    assert error.setting == "chart"
    assert f"{server.url}/index.yaml" in str(error)
    assert "in 2 tries" in str(error)


def test_a_spoilt_cache_is_as_good_as_none(server: Server, own_cache: Path) -> None:
    serve(server)
    check(load(server.url, "1.18.6"))
    for path in own_cache.rglob("*.*"):
        path.write_bytes(b"spoilt")
    check(load(server.url, "1.18.6"))
    check(load(server.url, "1.18.6"))


def test_a_cache_that_can_not_be_written(server: Server, own_cache: Path) -> None:
    own_cache.write_text("a file where the folder should be")
    serve(server)
    check(load(server.url, "1.18.6"))


def test_nobody_at_home(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", homeless)
    serve(server)
    check(load(server.url, "1.18.6"))


def test_an_index_without_digests(server: Server) -> None:
    serve(server, release("1.18.6", digest=None))
    check(load(server.url, "1.18.6"))


@pytest.mark.parametrize("url", ["/elsewhere/c.tgz", "elsewhere/c.tgz", "{url}/elsewhere/c.tgz"])
def test_archives_that_lie_elsewhere(server: Server, url: str) -> None:
    serve(server, release("1.18.6", urls=[url.format(url=server.url)]))
    server.answers["/elsewhere/c.tgz"] = (200, {}, ARCHIVE)
    check(load(server.url, "1.18.6"))


def test_a_redirected_archive(server: Server) -> None:
    serve(server)
    server.answers["/cilium-1.18.6.tgz"] = (302, {"Location": "/stored/away"}, b"")
    server.answers["/stored/away"] = (200, {}, ARCHIVE)
    check(load(server.url, "1.18.6"))


def test_a_redirect_to_something_that_is_not_http(server: Server) -> None:
    serve(server)
    server.answers["/cilium-1.18.6.tgz"] = (302, {"Location": "file:///etc/passwd"}, b"")
    assert "can't be read" in str(refused(server))


@pytest.mark.parametrize("said", [True, False])
def test_a_compressed_index(server: Server, said: bool) -> None:
    serve(server)
    headers = {"Content-Encoding": "gzip"} if said else {}
    server.answers["/index.yaml"] = (200, headers, gzip.compress(index(release("1.18.6"))))
    check(load(server.url, "1.18.6"))


@pytest.mark.parametrize("style", ["json", "flow", "indented"])
def test_an_index_in_another_style(server: Server, style: str) -> None:
    parsed = yaml.safe_load(index(release("1.18.6")))
    text = {
        "json": lambda: json.dumps(parsed),
        "flow": lambda: yaml.safe_dump(parsed, default_flow_style=True),
        "indented": lambda: yaml.safe_dump(parsed, indent=6),
    }[style]()
    serve(server)
    server.answers["/index.yaml"] = (200, {}, text.encode())
    check(load(server.url, "1.18.6"))


def test_the_usual_index_is_not_parsed_whole(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("parsed the whole index")

    monkeypatch.setattr(repository, "_parse_all", never)
    serve(server, release("1.18.5"), release("1.18.6"))
    check(load(server.url, "1.18.6"))


def test_a_version_that_is_not_there(server: Server) -> None:
    serve(server, release("1.18.6"), release("1.18.12"), release("1.20.2"), release("1.21.0-pre.0"))
    error = refused(server, "1.18.7")
    assert error.setting == "ciliumVersion"
    assert '"1.18.7"' in str(error)
    assert "1.18.12 (the newest 1.18)" in str(error)
    assert "1.20.2 (the newest)" in str(error)


def test_a_repository_without_the_chart(server: Server) -> None:
    server.answers["/index.yaml"] = (200, {}, yaml.safe_dump({"entries": {"coredns": [], "istio": []}}).encode())
    error = refused(server)
    assert error.setting == "chart"
    assert "it has: coredns, istio" in str(error)


@pytest.mark.parametrize(
    "body", [b"<html><body>Welcome</body></html>", b"", b"entries: [1]", b"\xff\xfe", b"a: {", b"\x1f\x8bno gzip"]
)
def test_what_is_no_index(server: Server, body: bytes) -> None:
    server.answers["/index.yaml"] = (200, {}, body)
    error = refused(server)
    assert error.setting == "chart"
    assert "what came is no index" in str(error)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_an_index_that_is_refused(server: Server, status: int) -> None:
    server.answers["/index.yaml"] = (status, {}, b"no")
    assert f"it answered {status}" in str(refused(server))
    assert server.paths() == ["/index.yaml"]


def test_a_passing_fault_is_tried_again(server: Server) -> None:
    serve(server)
    good: Answer = (200, {}, index(release("1.18.6")))
    answers: Iterator[Answer] = iter([(503, {}, b"busy"), good])
    server.answers["/index.yaml"] = lambda _: next(answers)
    check(load(server.url, "1.18.6"))


def test_a_fault_that_stays_is_tried_twice(server: Server) -> None:
    server.answers["/index.yaml"] = (503, {}, b"busy")
    assert "gave no answer in 2 tries: it answered 503" in str(refused(server))
    assert server.paths() == ["/index.yaml", "/index.yaml"]


def test_a_server_that_says_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "CONNECT_AND_READ", 0.1)
    done = threading.Event()

    def silent(_: BaseHTTPRequestHandler) -> Answer:
        done.wait(10)
        return 404, {}, b""

    server.answers["/index.yaml"] = silent
    assert "nothing came within" in str(refused(server))
    done.set()


def test_a_server_that_drips(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "WHOLE", -1)
    serve(server)
    assert "to send it" in str(refused(server))


def test_an_answer_that_is_too_big(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "_INDEX_LIMIT", 1 << 20)
    server.answers["/index.yaml"] = (200, {}, bytes((1 << 20) + 1))
    assert "sends more than 1 MiB" in str(refused(server))
    server.answers["/index.yaml"] = (200, {"Content-Encoding": "gzip"}, gzip.compress(bytes((1 << 20) + 1)))
    assert "more than 1 MiB when unpacked" in str(refused(server))


def test_an_archive_with_another_digest(server: Server, own_cache: Path) -> None:
    serve(server)
    server.answers["/cilium-1.18.6.tgz"] = (200, {}, packed({"values.yaml": "evil: 1\n"}))
    error = refused(server)
    assert DIGEST in str(error)
    assert "isn't the archive that its repository's index names" in str(error)
    assert not list(own_cache.rglob("*.tgz"))


def test_an_archive_that_is_missing(server: Server) -> None:
    serve(server)
    del server.answers["/cilium-1.18.6.tgz"]
    assert "it answered 404" in str(refused(server))


def test_an_archive_that_is_none(server: Server) -> None:
    body = b"<html>"
    serve(server, release("1.18.6", digest=hashlib.sha256(body).hexdigest()))
    server.answers["/cilium-1.18.6.tgz"] = (200, {}, body)
    assert "not a gzip file" in str(refused(server))


def test_an_archive_of_another_version(server: Server) -> None:
    serve(server, release("1.18.7", urls=["cilium-1.18.6.tgz"]))
    error = refused(server, "1.18.7")
    assert error.setting == "ciliumVersion"
    assert "holds cilium 1.18.6" in str(error)


def test_an_index_that_names_no_archive(server: Server) -> None:
    serve(server, release("1.18.6", urls=[]))
    assert "names no archive" in str(refused(server))


def test_an_index_that_leads_to_a_registry(server: Server) -> None:
    serve(server, release("1.18.6", urls=["oci://registry.example.com/cilium"]))
    assert "chart: oci://registry.example.com/cilium" in str(refused(server))


def test_a_host_that_is_not_there() -> None:
    with pytest.raises(ChartError, match=r"^chart: http://127\.0\.0\.1:1/index\.yaml can't be read: .*refused"):
        load("http://127.0.0.1:1", "1.18.6")
