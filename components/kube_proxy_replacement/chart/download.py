"""Bounded HTTP reads: bounded in time, in tries, and in size."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from .address import shown

CONNECT_AND_READ = 10.0
"""Seconds for a connection, and for each read from it."""

WHOLE = 120.0
"""Seconds for one whole answer, however slowly it drips."""

TRIES = 2

_PAUSE = 0.5
_PIECE = 1 << 16
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_NOT_MODIFIED = 304


class DownloadError(Exception):
    """No usable answer came. Its text is half a sentence that ends a message: why."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer below 500: `headers` as received, `body` decompressed, `url` after redirects."""

    status: int
    headers: Message
    body: bytes
    url: str


def get(url: str, *, limit: int, headers: Mapping[str, str] | None = None, token: str | None = None) -> Answer:
    """Reads one http(s) address, up to `limit` bytes.

    Args:
        token: sent as a bearer token to that host only, not to where it redirects.

    Raises:
        DownloadError: after the last try, or at once where another try can't help.
    """
    reason = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(_PAUSE)
        try:
            answer = _once(url, limit, headers or {}, token)
        except (URLError, HTTPException, OSError) as error:
            reason = _why(error)
            continue
        except ValueError as error:  # an address that urllib can't take apart
            raise DownloadError(f"{shown(url)} is no address to read from ({error})") from None
        if answer.status not in _PASSING:
            return answer
        reason = f"it answered {answer.status}"
    raise DownloadError(f"{shown(url)} gave no answer in {TRIES} tries: {reason}")


def gunzip(data: bytes, limit: int) -> bytes:
    """Decompresses gzip data.

    Raises:
        ValueError: it isn't gzip, it is cut off, or it holds more than `limit` bytes.
    """
    decompressor = zlib.decompressobj(wbits=31)
    try:
        plain = decompressor.decompress(data, limit + 1)
    except zlib.error as error:
        raise ValueError(f"not a gzip file ({error})") from None
    if len(plain) > limit:
        raise ValueError(f"more than {limit >> 20} MiB when unpacked")
    if not decompressor.eof:
        raise ValueError("cut off: the end of the gzip file is missing")
    return plain


def _once(url: str, limit: int, headers: Mapping[str, str], token: str | None) -> Answer:
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError("not http or https")
    request = Request(url, headers={"User-Agent": "kube-proxy-replacement", **headers})  # noqa: S310
    if token is not None:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    until = time.monotonic() + WHOLE
    try:
        with urlopen(request, timeout=CONNECT_AND_READ) as response:  # noqa: S310
            body = _read(response, limit, until, url)
            return Answer(response.status, response.headers, _plain(response.headers, body, limit, url), response.url)
    except HTTPError as error:
        with error:
            body = b"" if error.code == _NOT_MODIFIED else error.read(_PIECE)
        return Answer(error.code, error.headers, body, error.url or url)


def _read(response: IO[bytes], limit: int, until: float, url: str) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := response.read(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise DownloadError(f"{shown(url)} sends more than {limit >> 20} MiB")
        if time.monotonic() > until:
            raise DownloadError(f"{shown(url)} took more than {WHOLE:.0f} s to send it")
    return b"".join(pieces)


def _plain(headers: Message, body: bytes, limit: int, url: str) -> bytes:
    if headers.get("Content-Encoding", "").lower() != "gzip":
        return body
    try:
        return gunzip(body, limit)
    except ValueError as error:
        raise DownloadError(f"what {shown(url)} sent can't be unpacked: {error}") from None


def _why(error: Exception) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"nothing came within {CONNECT_AND_READ:.0f} s"
    text = str(cause).strip() or type(cause).__name__
    return text.splitlines()[0]
