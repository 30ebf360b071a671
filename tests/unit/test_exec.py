"""Exec against a WebSocket server on loopback; deadlines are short and real."""

from __future__ import annotations

import base64
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kube_proxy_replacement.cluster.api import Api
from kube_proxy_replacement.cluster.errors import ApiError, UnreachableError
from kube_proxy_replacement.cluster.exec import ExecResult

from .loopback import Answer, Hang, Proxy, Request, Server, Stream, authority, certificate, kubeconfig

WORDS = ["cilium-dbg", "status", "-o", "json"]


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module", params=["http", "https"])
def one_server(request: pytest.FixtureRequest, pem: Path) -> Iterator[Server]:
    server = Server(pem if request.param == "https" else None)
    yield server
    server.close()


@pytest.fixture
def server(one_server: Server) -> Server:
    one_server.reset()
    return one_server


@pytest.fixture
def api(server: Server, pem: Path) -> Api:
    cluster = {"certificate-authority-data": authority(pem)}
    return Api.connect(kubeconfig(server.url, cluster=cluster), patience=0)


def run(api: Api, words: list[str] | None = None, timeout: float = 10) -> ExecResult:
    return api.exec("kube-system", "cilium-n1", "cilium-agent", words or WORDS, timeout=timeout)


class TestWhatItPrinted:
    def test_both_streams_and_the_end(self, server: Server, api: Api) -> None:
        def stream(it: Stream) -> None:
            it.send(1, b"one ")
            it.send(2, b"warning")
            it.send(1, b"two")
            it.end()

        server.stream = stream
        assert run(api) == ExecResult("one two", "warning", 0)

    @pytest.mark.parametrize("code", [1, 2, 127])
    def test_an_exit_code_is_a_result_and_no_error(self, server: Server, api: Api, code: int) -> None:
        def stream(it: Stream) -> None:
            it.send(2, b"no such program")
            it.exit(code)

        server.stream = stream
        assert run(api) == ExecResult("", "no such program", code)

    def test_much_of_it_in_many_frames_arrives_whole(self, server: Server, api: Api) -> None:
        parts = [bytes([65 + number % 26]) * 70_000 for number in range(40)]

        def stream(it: Stream) -> None:
            for part in parts:
                it.send(1, part)
            it.end()

        server.stream = stream
        assert run(api).stdout == b"".join(parts).decode()

    def test_a_letter_that_is_cut_between_two_frames_is_put_together(self, server: Server, api: Api) -> None:
        whole = "«é»".encode()

        def stream(it: Stream) -> None:
            for byte in whole:
                it.send(1, bytes([byte]))
            it.end()

        server.stream = stream
        assert run(api).stdout == "«é»"

    def test_bytes_that_are_no_text_are_no_error(self, server: Server, api: Api) -> None:
        def stream(it: Stream) -> None:
            it.send(1, b"a\xff\xfeb")
            it.end()

        server.stream = stream
        assert run(api).stdout == "a\ufffd\ufffdb"

    def test_pings_and_empty_frames_in_between_are_nothing(self, server: Server, api: Api) -> None:
        def stream(it: Stream) -> None:
            it.send(1, b"")
            it.raw(it.frame(b"are you there", opcode=9))
            it.raw(it.frame(b""))
            it.send(1, b"a")
            it.end()

        server.stream = stream
        assert run(api) == ExecResult("a", "", 0)

    def test_the_connection_is_closed_afterwards(self, server: Server, api: Api) -> None:
        gone = threading.Event()

        def stream(it: Stream) -> None:
            it.end()
            if it.gone():
                gone.set()

        server.stream = stream
        run(api)
        assert gone.wait(10)


class TestTheRequest:
    def test_pod_container_program_and_words_in_their_order(self, server: Server, api: Api) -> None:
        words = ["sh", "-c", "a b&c=d;'\"$(x) é", "", "a"]
        run(api, words)
        (request,) = server.requests
        assert request.path == "/api/v1/namespaces/kube-system/pods/cilium-n1/exec"
        # parse_qsl leaves the empty word out
        assert [value for key, value in request.query if key == "command"] == [word for word in words if word]
        assert ("container", "cilium-agent") in request.query
        assert dict(request.query)["stdout"] == dict(request.query)["stderr"] == "true"

    def test_the_token_and_the_protocol_go_with_it(self, server: Server, api: Api) -> None:
        run(api)
        (request,) = server.requests
        assert request.headers["authorization"] == "Bearer secret-token"
        assert request.headers["sec-websocket-protocol"] == "v4.channel.k8s.io"


class TestRefusals:
    @pytest.mark.parametrize(
        ("code", "body", "said"),
        [
            (403, {"message": "pods is forbidden: cannot create pods/exec"}, "cannot create pods/exec"),
            (404, {"message": 'pods "cilium-n1" not found'}, "not found"),
            (500, b"plain words", "plain words"),
            (502, b"", "HTTP status 502"),
        ],
    )
    def test_the_api_server_s_words_are_told_with_program_and_pod(
        self, server: Server, api: Api, code: int, body: Any, said: str
    ) -> None:
        server.answer = lambda _: Answer(code, body)
        with pytest.raises(ApiError, match=f"cilium-dbg in kube-system/cilium-n1: .*{said}") as caught:
            run(api)
        assert caught.value.status == code

    def test_a_program_that_could_not_be_started_is_an_error_and_no_exit_code(self, server: Server, api: Api) -> None:
        def stream(it: Stream) -> None:
            it.end(status="Failure", code=500, reason="InternalError", message="container not running")

        server.stream = stream
        with pytest.raises(ApiError, match="cilium-n1: container not running") as caught:
            run(api)
        assert (caught.value.status, caught.value.reason) == (500, "InternalError")

    @pytest.mark.parametrize("end", [b"oops", b"[1]", b'"text"', b"5"])
    def test_an_end_that_cannot_be_read_is_an_error_and_no_success(self, server: Server, api: Api, end: bytes) -> None:
        server.stream = lambda it: it.send(3, end)
        with pytest.raises(UnreachableError, match="cilium-dbg in kube-system/cilium-n1"):
            run(api)


class TestNoAnswer:
    def ended(self, api: Api, timeout: float) -> tuple[str, float]:
        """What was told, and after how many seconds."""
        start = time.monotonic()
        with pytest.raises(UnreachableError) as caught:
            run(api, timeout=timeout)
        return str(caught.value), time.monotonic() - start

    def test_a_silent_program_is_given_up_at_the_deadline(self, server: Server, api: Api) -> None:
        server.stream = lambda it: it.gone() and None
        text, seconds = self.ended(api, 0.3)
        assert text == "cilium-dbg in kube-system/cilium-n1: no answer within 0 s"
        assert 0.3 <= seconds < 3

    def test_one_that_prints_and_prints_too(self, server: Server, api: Api) -> None:
        def stream(it: Stream) -> None:
            for _ in range(500):  # some five seconds
                it.send(1, b"still here\n")
                time.sleep(0.01)

        server.stream = stream
        text, seconds = self.ended(api, 0.3)
        assert "no answer within" in text
        assert seconds < 3

    def test_a_frame_that_trickles_in_does_not_start_the_deadline_anew(self, server: Server, api: Api) -> None:
        def stream(it: Stream) -> None:
            for byte in it.frame(b"\x01" + b"x" * 500):
                it.raw(bytes([byte]))
                time.sleep(0.01)

        server.stream = stream
        text, seconds = self.ended(api, 0.3)
        assert "no answer within" in text
        assert seconds < 3

    def test_a_connection_that_breaks_is_told_at_once(self, server: Server, api: Api) -> None:
        server.stream = lambda it: it.send(1, b"half of it")
        text, seconds = self.ended(api, 30)
        assert "cilium-dbg in kube-system/cilium-n1" in text
        assert "no answer within" not in text
        assert seconds < 10

    def test_a_connection_that_is_closed_before_the_end_is_no_success(self, server: Server, api: Api) -> None:
        def stream(it: Stream) -> None:
            it.send(1, b"half of it")
            it.raw(it.frame(b"\x03\xe8", opcode=8))

        server.stream = stream
        text, _ = self.ended(api, 30)
        assert "closed before the program's end was known" in text

    def test_a_server_that_hangs_up_at_once_is_told(self, server: Server, api: Api) -> None:
        def hang(_: Request) -> Answer:
            raise Hang

        server.answer = hang
        text, seconds = self.ended(api, 30)
        assert "no connection" in text
        assert seconds < 10

    def test_a_closed_port_is_told(self) -> None:
        server = Server()
        server.close()
        with pytest.raises(UnreachableError, match=r"cilium-dbg in kube-system/cilium-n1: no connection: .*refused"):
            run(Api.connect(kubeconfig(server.url), patience=0))


class TestTheWayThere:
    """What a kubeconfig says of the connection holds for an exec as for a request."""

    @pytest.fixture
    def secure(self, pem: Path) -> Iterator[Server]:
        server = Server(pem, clients=pem)
        yield server
        server.close()

    def api(self, server: Server, pem: Path, url: str = "", **cluster: Any) -> Api:
        user = {"client-certificate": str(pem), "client-key": str(pem)}
        return Api.connect(kubeconfig(url or server.url, user=user, cluster=cluster), patience=0)

    def test_the_user_s_certificate_is_shown(self, secure: Server, pem: Path) -> None:
        data = authority(pem)
        assert run(self.api(secure, pem, **{"certificate-authority-data": data})).exit_code == 0
        with pytest.raises(UnreachableError, match=r"(?i)certificate|connection"):
            run(Api.connect(kubeconfig(secure.url, cluster={"certificate-authority-data": data}), patience=0))
        assert len(secure.requests) == 1

    def test_the_files_are_read_once(self, secure: Server, pem: Path, tmp_path: Path) -> None:
        mine = tmp_path / "mine.pem"
        mine.write_bytes(pem.read_bytes())
        api = self.api(secure, mine, **{"certificate-authority": str(mine)})
        assert run(api).exit_code == 0
        mine.unlink()
        assert run(api).exit_code == 0

    def test_nothing_that_a_kubeconfig_carries_is_left_in_a_file(
        self, secure: Server, pem: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The engine kills its plugins: what is to be removed at their end stays."""
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        own = base64.b64encode(pem.read_bytes()).decode()
        user = {"client-certificate-data": own, "client-key-data": own}
        api = Api.connect(
            kubeconfig(secure.url, user=user, cluster={"certificate-authority-data": authority(pem)}), patience=0
        )
        assert list(tmp_path.iterdir()) == []
        assert run(api).exit_code == 0
        assert api.get("/version") is not None

    @pytest.mark.parametrize("name", ["", "127.0.0.1"])
    def test_the_certificate_s_name_may_be_another_than_the_server_s(
        self, secure: Server, pem: Path, name: str
    ) -> None:
        cluster = {"certificate-authority-data": authority(pem)} | ({"tls-server-name": name} if name else {})
        api = self.api(secure, pem, secure.url.replace("127.0.0.1", "localhost"), **cluster)
        if name:
            assert run(api).exit_code == 0
        else:
            with pytest.raises(UnreachableError, match=r"(?i)certificate"):
                run(api)

    def test_one_that_is_not_to_be_looked_at_is_not(self, secure: Server, pem: Path) -> None:
        assert run(self.api(secure, pem, **{"insecure-skip-tls-verify": True})).exit_code == 0

    def test_a_proxy_is_gone_through(self, secure: Server, pem: Path) -> None:
        proxy = Proxy(secure)
        cluster = {"certificate-authority-data": authority(pem), "proxy-url": proxy.url, "tls-server-name": "127.0.0.1"}
        assert run(self.api(secure, pem, "https://api.example:6443", **cluster)).exit_code == 0
        proxy.close()
        assert proxy.asked == ["CONNECT api.example:6443 HTTP/1.1"]


def test_a_certificate_that_is_not_trusted_gets_no_token(pem: Path) -> None:
    server = Server(pem)
    with pytest.raises(UnreachableError, match=r"(?i)certificate"):
        run(Api.connect(kubeconfig(server.url), patience=0))
    server.close()
    assert server.requests == []
