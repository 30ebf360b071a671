"""Versions of charts: the same with and without v, ordered, and the ones to write instead."""

from __future__ import annotations

import pytest

from kube_proxy_replacement.chart import versions

KNOWN = ["1.16.19", "1.18.6", "v1.18.12", "1.19.0-rc.1", "1.20.2", "1.21.0-pre.0", "1.8-dev", "nonsense"]


@pytest.mark.parametrize(
    ("wanted", "advice"),
    [
        ("1.18.7", "1.18.12 (the newest 1.18), 1.18.6 (the nearest), 1.20.2 (the newest)"),
        ("1.18", "1.18.12 (the newest 1.18), 1.20.2 (the newest)"),
        ("v1.20.1", "1.20.2 (the newest 1.20)"),
        ("2.0.0", "1.20.2 (the newest)"),
        ("latest", "1.20.2 (the newest)"),
        ("^1.18.0", "1.18.12 (the newest 1.18), 1.20.2 (the newest)"),
        ("", "1.20.2 (the newest)"),
    ],
)
def test_what_to_write_instead(wanted: str, advice: str) -> None:
    assert versions.advice(wanted, KNOWN) == advice


def test_nothing_to_write_instead() -> None:
    assert versions.advice("1.18.6", []) == ""
    assert versions.advice("1.18.6", ["latest"]) == ""
    assert versions.advice("1.0.0", ["1.21.0-pre.0"]) == "1.21.0-pre.0 (the newest)"


def test_order() -> None:
    mixed = ["1.19.0", "1.19.0-rc.10", "1.9.0", "1.19.0-rc.2", "1.19.0-alpha", "v1.19.1"]
    ordered = ["1.9.0", "1.19.0-alpha", "1.19.0-rc.2", "1.19.0-rc.10", "1.19.0", "v1.19.1"]
    assert sorted(mixed, key=lambda version: versions.order(version) or ()) == ordered


def test_same() -> None:
    assert versions.same("v1.18.6", "1.18.6")
    assert versions.same("1.18.6", " v1.18.6 ")
    assert not versions.same("1.18.6", "1.18.60")
    assert not versions.same("1.18.6", "1.18.6-rc.1")
