"""A proxy on loopback between a stack's kubeconfig and the API server, which can refuse, answer or hang instead of it.

It speaks TLS on both sides, with a certificate of the cluster's own authority, and asks the API server as the
administrator. HTTP/1.1 alone: clients that could do better do with it.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from local.cluster.certificates import KeyPair, Pki
from local.cluster.ports import LOOPBACK

_LONGEST_HEAD = 1 << 20
_CHUNK = 1 << 16
_SECONDS_TO_START = 10.0
_REASONS = {409: "Conflict", 429: "TooManyRequests", 500: "InternalError"}


@dataclass(frozen=True)
class Request:
    """What a client asks for."""

    method: str
    target: str

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def is_exec(self) -> bool:
        return self.path.endswith("/exec")

    @property
    def is_lease(self) -> bool:
        """Whether it is about the lock, which is renewed all the while."""
        return self.path.startswith("/apis/coordination.k8s.io/")

    @property
    def changes(self) -> bool:
        """Whether it is to change what the cluster holds."""
        reviews = self.path.startswith("/apis/authorization.k8s.io/")
        return self.method not in ("GET", "HEAD") and not reviews and "dryRun=" not in self.target


@dataclass(frozen=True)
class Closed:
    """Instead of an answer: the connection is closed."""


@dataclass(frozen=True)
class Answer:
    """Instead of the API server's own: a status."""

    status: int


Verdict = Closed | Answer | None


class Gate(Protocol):
    """Who decides, on a thread of its own for each request, so that it may take its time."""

    def before(self, request: Request) -> Verdict:
        """Before the API server is asked; None: let it be asked."""

    def after(self, request: Request, status: int) -> Verdict:
        """Before its answer is passed on."""


class Proxy:
    """Serves from `start` to `stop` on a port that stays the same."""

    def __init__(self, upstream: int, pki: Pki, gate: Gate) -> None:
        """`upstream`: the API server's port."""
        self._upstream = upstream
        self._gate = gate
        self._serving = _serving(pki.server("chaos-proxy", []))
        self._asking = ssl.create_default_context(cafile=str(pki.ca.certificate))
        admin = pki.client("admin", "kubernetes-admin", "kubeadm:cluster-admins")
        self._asking.load_cert_chain(admin.certificate, admin.key)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()), name="proxy", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event
        self.port = 0

    def start(self) -> None:
        self._thread.start()
        if not self._ready.wait(_SECONDS_TO_START):
            raise OSError("the proxy doesn't start")

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _listen(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(lambda *_: None)  # connections that end in the middle are what this is for
        server = await asyncio.start_server(self._serve, LOOPBACK, 0, ssl=self._serving, limit=_LONGEST_HEAD)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, with one of its own to the API server."""
        theirs: asyncio.StreamWriter | None = None
        try:
            source, theirs = await asyncio.open_connection(
                LOOPBACK, self._upstream, ssl=self._asking, limit=_LONGEST_HEAD
            )
            while await self._one(reader, writer, source, theirs):
                pass
        except (OSError, EOFError, asyncio.LimitOverrunError, ValueError):
            pass
        finally:
            writer.transport.abort()
            if theirs is not None:
                theirs.transport.abort()

    async def _one(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        source: asyncio.StreamReader,
        theirs: asyncio.StreamWriter,
    ) -> bool:
        """One request and its answer; whether another may follow."""
        head = await reader.readuntil(b"\r\n\r\n")
        body = b"".join([part async for part in _body(reader, _headers(head))])
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        request = Request(method, target)
        verdict = await asyncio.to_thread(self._gate.before, request)
        if verdict is not None:
            return await _instead(verdict, writer)
        theirs.write(head + body)
        await theirs.drain()
        answer = await source.readuntil(b"\r\n\r\n")
        status = int(answer.split(b" ", 2)[1])
        if request.changes or request.is_exec:
            verdict = await asyncio.to_thread(self._gate.after, request, status)
            if isinstance(verdict, Closed):
                return False
        writer.write(answer)
        if status == 101:
            await _both(_copied(reader, theirs), _copied(source, writer))
            return False
        headers = _headers(answer)
        if method != "HEAD" and status not in (204, 304):
            async for part in _body(source, headers, to_the_end=True):
                writer.write(part)
                await writer.drain()
        await writer.drain()
        return headers.get("connection", "") != "close"


def _serving(pair: KeyPair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    return context


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.strip().lower(): value.strip().lower() for name, _, value in (line.partition(":") for line in lines)}


async def _body(
    reader: asyncio.StreamReader, headers: dict[str, str], *, to_the_end: bool = False
) -> AsyncIterator[bytes]:
    """The parts of a body as they come, with the marks of their chunks.

    Args:
        to_the_end: whether one without a length goes on until the connection ends.
    """
    if "chunked" in headers.get("transfer-encoding", ""):
        while True:
            size = await reader.readuntil(b"\r\n")
            yield size + await reader.readexactly(int(size.split(b";")[0], 16) + 2)
            if int(size.split(b";")[0], 16) == 0:
                return
    left = int(headers.get("content-length", -1))
    if left < 0 and to_the_end:
        while part := await reader.read(_CHUNK):
            yield part
    while left > 0:
        part = await reader.read(min(left, _CHUNK))
        if not part:
            raise EOFError
        left -= len(part)
        yield part


async def _instead(verdict: Verdict, writer: asyncio.StreamWriter) -> bool:
    if not isinstance(verdict, Answer):
        return False
    reason = _REASONS[verdict.status]
    content = json.dumps(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": f"drawn by chaos: {reason}",
            "reason": reason,
            "code": verdict.status,
        }
    ).encode()
    again = "Retry-After: 1\r\n" if verdict.status == 429 else ""
    head = f"HTTP/1.1 {verdict.status} {reason}\r\nContent-Type: application/json\r\n{again}"
    writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    await writer.drain()
    return True


async def _copied(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while part := await source.read(_CHUNK):
            to.write(part)
            await to.drain()


async def _both(*ways: Coroutine[Any, Any, None]) -> None:
    """Until one of the two ends; then the other is of no use."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
