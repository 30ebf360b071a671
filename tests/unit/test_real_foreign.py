"""Which lines of a real node are the foreign ones that were planted there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from local.real.foreign import foreign, rules

SAMPLES = Path(__file__).parent / "samples"
NFT, LEGACY = (f"iptables-1.8.9-{backend}-save-foreign-switched.txt" for backend in ("nft", "legacy"))


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith((":", "-A "))]


@pytest.mark.parametrize("name", [NFT, LEGACY])
def test_each_that_was_planted_is_found_among_all_others(name: str) -> None:
    said = re.sub(r"^\[\d+:\d+\] ", "", (SAMPLES / name).read_text(), flags=re.MULTILINE)
    planted = {re.sub(r" \[\d+:\d+\]$", "", line) for line in lines(rules("192.0.2.1/32", "198.51.100.0/24"))}
    found = foreign(said)
    assert set(lines("\n".join(found))) == planted
    assert [line for line in found if line.startswith("*")] == [
        line for line in said.splitlines() if line.startswith("*")
    ]


def test_a_rule_that_is_gone_or_changed_or_out_of_order_shows() -> None:
    said = rules("192.0.2.1/32", "198.51.100.0/24")
    whole = foreign(said)
    one = '-A PREROUTING -d 192.0.2.1/32 -m comment --comment "kubernetes service portals: no rule of the proxy"'
    assert foreign(said.replace(one, "# ")) != whole
    assert foreign(said.replace("-j RETURN", "-j DROP", 1)) != whole
    assert foreign(said.replace(":MY-KUBE-SERVICES - [0:0]\n", "")) != whole


def test_counters_are_no_change() -> None:
    said = rules("192.0.2.1/32", "198.51.100.0/24")
    assert foreign(said.replace("[0:0]", "[7:420]")) == foreign(said)


def test_no_chain_has_a_name_that_kube_proxys_own_cleaning_takes() -> None:
    names = re.findall(r"^:(\S+)", rules("192.0.2.1/32", "198.51.100.0/24"), flags=re.MULTILINE)
    assert names
    assert all(len(name) <= 28 for name in names)
    assert not [name for name in names if name.startswith(("KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-FW-"))]
