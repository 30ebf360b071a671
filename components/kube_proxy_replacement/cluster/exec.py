"""Running a program in a container, over the API server's exec (WebSocket, `v4.channel.k8s.io`).

The official client's own reader can wait for ever for the rest of a frame; here one deadline holds
from the first byte to the last.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import websocket
from kubernetes.stream.ws_client import websocket_proxycare

from .errors import ApiError, UnreachableError

_STDOUT, _STDERR, _STATUS = 1, 2, 3
_CONNECT_TIMEOUT = 15.0

websocket.setdefaulttimeout(_CONNECT_TIMEOUT)


@dataclass(frozen=True)
class ExecResult:
    """What the program printed, and how it ended.

    Attributes:
        stdout, stderr: text, undecodable bytes replaced.
        exit_code: the program's, as an int.
    """

    stdout: str
    stderr: str
    exit_code: int


class Execs:
    """Makes one client's connections, as the official client's `create_websocket` does.

    That reads the CA's and the user's certificate from their files for each: half of an exec's time of the processor.
    """

    def __init__(self, configuration: Any, tls: ssl.SSLContext) -> None:
        """Args:
        configuration: a `kubernetes.client.Configuration`.
        """
        self._configuration = configuration
        name = configuration.tls_server_name
        self._tls = {"context": tls} | ({"server_hostname": name} if name else {})

    def connect(self, url: str, headers: Mapping[str, str]) -> Any:
        """A connected `websocket.WebSocket`. Raises WebSocketException or OSError."""
        secure = url.startswith("https:")
        connection = websocket.WebSocket(sslopt=self._tls if secure else None)
        options = {"header": [f"{name}: {value}" for name, value in headers.items()]}
        websocket_proxycare(options, self._configuration, url, headers)  # type: ignore[no-untyped-call]
        connection.connect(url.replace("http", "ws", 1), **options)  # type: ignore[no-untyped-call]
        return connection


def run_in_container(execs: Execs, url: str, headers: dict[str, str], *, what: str, timeout: float) -> ExecResult:
    """Connects, reads until the status channel says how the program ended, and disconnects.

    Raises ApiError where the API server or the kubelet refuses, UnreachableError where the connection
    breaks or `timeout` seconds pass. `what` is for the message.
    """
    deadline = time.monotonic() + timeout
    try:
        connection = execs.connect(url, headers | {"sec-websocket-protocol": "v4.channel.k8s.io"})
    except websocket.WebSocketBadStatusException as error:
        raise ApiError(f"{what}: {_refusal(error)}", status=int(error.status_code or 0), reason="") from None
    except (websocket.WebSocketException, OSError) as error:
        raise UnreachableError(f"{what}: no connection: {error}") from None
    # A frame that trickles in would start a socket's own time-out anew with each byte.
    watchdog = threading.Timer(max(deadline - time.monotonic(), 0), _hang_up, [connection])
    watchdog.daemon = True
    watchdog.start()
    try:
        return _read(connection, deadline, what, timeout)
    except (websocket.WebSocketException, OSError) as error:
        if time.monotonic() >= deadline:
            raise UnreachableError(f"{what}: no answer within {timeout:.0f} s") from None
        raise UnreachableError(f"{what}: the connection broke: {error}") from None
    finally:
        watchdog.cancel()
        connection.shutdown()


def _hang_up(connection: Any) -> None:
    with suppress(OSError, AttributeError):  # it may have ended by itself in this very moment
        connection.sock.shutdown(socket.SHUT_RDWR)


def _read(connection: Any, deadline: float, what: str, timeout: float) -> ExecResult:
    channels: dict[int, list[bytes]] = {_STDOUT: [], _STDERR: [], _STATUS: []}
    while not channels[_STATUS]:
        left = deadline - time.monotonic()
        if left <= 0:
            raise UnreachableError(f"{what}: no answer within {timeout:.0f} s")
        connection.settimeout(left)
        opcode, frame = connection.recv_data_frame(True)
        if opcode == websocket.ABNF.OPCODE_CLOSE and time.monotonic() < deadline:
            raise UnreachableError(f"{what}: the connection was closed before the program's end was known")
        if opcode in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT) and frame.data:
            channels.setdefault(frame.data[0], []).append(bytes(frame.data[1:]))
    return ExecResult(
        stdout=b"".join(channels[_STDOUT]).decode("utf-8", "replace"),
        stderr=b"".join(channels[_STDERR]).decode("utf-8", "replace"),
        exit_code=_exit_code(b"".join(channels[_STATUS]), what),
    )


def _exit_code(status: bytes, what: str) -> int:
    """The status channel holds a metav1.Status; a program's exit code is one of its causes."""
    try:
        body = dict(json.loads(status))
    except (ValueError, TypeError):
        raise UnreachableError(f"{what}: the kubelet didn't say how the program ended") from None
    if body.get("status") == "Success":
        return 0
    for cause in (body.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise ApiError(
        f"{what}: {body.get('message')}",
        status=int(body.get("code") or 0),
        reason=str(body.get("reason") or ""),
    )


def _refusal(error: Any) -> str:
    text = (error.resp_body or b"").decode("utf-8", "replace").strip()
    try:
        return str(json.loads(text).get("message") or text)
    except (ValueError, AttributeError):
        return text[:300] or f"refused with HTTP status {error.status_code}"
