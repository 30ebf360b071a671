"""An API server on loopback that says what a test wants: HTTP or HTTPS, and exec's WebSocket."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Request:
    """One request as it came; `query` in its order, `body` read as JSON or None."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Answer:
    """What the server says; a body that isn't bytes goes out as JSON."""

    status: int = 200
    body: Any = field(default_factory=dict)


class Hang(Exception):  # noqa: N818 - no error, an order
    """The connection is closed without an answer."""


class Stream:
    """The server's side of an exec after the handshake."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def frame(self, data: bytes, opcode: int = 2) -> bytes:
        size = len(data)
        if size < 126:
            length = bytes([size])
        elif size < 65_536:
            length = bytes([126]) + struct.pack("!H", size)
        else:
            length = bytes([127]) + struct.pack("!Q", size)
        return bytes([0x80 | opcode]) + length + data

    def raw(self, data: bytes) -> None:
        self._connection.sendall(data)

    def send(self, channel: int, data: bytes) -> None:
        """One binary frame on one of exec's channels: 1 standard output, 2 standard error, 3 the end."""
        self.raw(self.frame(bytes([channel]) + data))

    def end(self, **status: Any) -> None:
        """The metav1.Status that ends an exec; `Success` unless said."""
        self.send(3, json.dumps({"status": "Success"} | status).encode())

    def exit(self, code: int) -> None:
        causes = [{"reason": "ExitCode", "message": str(code)}]
        self.end(status="Failure", reason="NonZeroExitCode", details={"causes": causes})

    def gone(self) -> bool:
        """Waits until the other side has hung up (at most 10 s)."""
        self._connection.settimeout(10)
        try:
            while self._connection.recv(4096):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True


class Server:
    """A server in a thread; `answer` decides, `stream` serves what asks for a WebSocket.

    Args:
        certificate: its own, for HTTPS.
        clients: who has signed its clients' certificates; without it clients need none.
    Attributes:
        requests: what was asked, in order.
        connections: how many connections there were.
        cut: how many it is still to hang up on in the middle of the TLS handshake.
    """

    def __init__(self, certificate: Path | None = None, clients: Path | None = None) -> None:
        self.reset()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def log_message(self, *_: Any) -> None:
                pass

            def _serve(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = Request(
                    self.command,
                    parts.path,
                    parse_qsl(parts.query),
                    {key.lower(): value for key, value in self.headers.items()},
                    json.loads(body) if body else None,
                )
                outer.requests.append(request)
                try:
                    answer = outer.answer(request)
                except Hang:
                    self.close_connection = True
                    return
                if request.headers.get("upgrade", "").lower() == "websocket" and answer.status == 200:
                    self._upgrade(request)
                    return
                data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def _upgrade(self, request: Request) -> None:
                key = request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
                accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()  # the protocol's own
                self.send_response(101)
                for name, value in (
                    ("Upgrade", "websocket"),
                    ("Connection", "Upgrade"),
                    ("Sec-WebSocket-Accept", accept),
                    ("Sec-WebSocket-Protocol", request.headers["sec-websocket-protocol"]),
                ):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.flush()
                self.close_connection = True
                with suppress(OSError):  # the client has hung up: what it makes of it is the test's matter
                    outer.stream(Stream(self.connection))

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass  # a client that refuses the certificate

            def verify_request(self, request: Any, _: Any) -> bool:
                if not outer.cut:
                    return True
                outer.cut -= 1
                socket.socket.recv(request, 65536)  # the client's hello: left unread, it would be a reset
                return False

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._tls = certificate is not None
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            if clients:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(clients)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """As it was made, for the next test."""
        self.requests: list[Request] = []
        self.connections = self.cut = 0
        self.answer: Callable[[Request], Answer] = lambda _: Answer()
        self.stream: Callable[[Stream], None] = lambda stream: stream.end()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Proxy:
    """An HTTP proxy that brings every CONNECT to one server; `asked` are the lines that it got."""

    def __init__(self, to: Server) -> None:
        self.asked: list[str] = []
        self._to = to
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _serve(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                near, _ = self._listening.accept()
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += near.recv(1)
                self.asked.append(head.split(b"\r\n")[0].decode())
                far = socket.create_connection(self._to.address)
                near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    @staticmethod
    def _carry(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65_536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)


def certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key, in one file; it is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "loopback.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def authority(path: Path) -> str:
    """The certificate alone, as a kubeconfig's certificate-authority-data."""
    found = x509.load_pem_x509_certificate(path.read_bytes())
    return base64.b64encode(found.public_bytes(serialization.Encoding.PEM)).decode()


def kubeconfig(server: str, *, user: Any = None, cluster: Any = None, **more: Any) -> str:
    """A kubeconfig for a server, with the token `secret-token` unless `user` says otherwise."""
    parts: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server, **(cluster or {})}}],
        "users": [{"name": "u", "user": {"token": "secret-token"} if user is None else user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    return json.dumps(parts | more)
