"""Addresses as settings hold them: shown without secrets, judged for loopback."""

from __future__ import annotations

import ipaddress
import json
from urllib.parse import SplitResult, urlsplit


def quoted(text: object) -> str:
    """A setting's value for a message: on one line, in quotes, long ones cut."""
    shown = str(text)
    return json.dumps(shown if len(shown) <= 200 else f"{shown[:200]}…", ensure_ascii=False)


def split(address: str) -> SplitResult | None:
    """The parts of an address, or None where it isn't one (bad port, bad brackets, no host)."""
    try:
        parts = urlsplit(address)
        _ = parts.port  # only reading it tells whether it is one
    except ValueError:
        return None
    return parts if parts.hostname else None


def shown(address: str) -> str:
    """The address without user, password, query and fragment: those can be secrets."""
    parts = split(address)
    if parts is None:
        return f"{address.partition('://')[0]}://…" if "@" in address else quoted(address)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
