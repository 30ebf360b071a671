"""docs/distributions.md has what the program knows of distributions, and no distribution that it doesn't know."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from kube_proxy_replacement.cluster import distribution
from kube_proxy_replacement.cluster.api import Object
from kube_proxy_replacement.cluster.distribution import Distribution, Name, refusal
from local import clone

from .fakes import daemon_set

PAGE = (clone.ROOT / "docs" / "distributions.md").read_text()
NAMES: tuple[Name, ...] = get_args(Name)
SECTIONS = {
    heading.lower(): re.split(r"^## ", text, maxsplit=1, flags=re.MULTILINE)[0]
    for heading, _, text in (part.partition("\n") for part in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:])
}
"""What stands under each heading of the third level, by the heading in small letters."""

TABLES = (distribution._VERSIONS, distribution._LABELS, distribution._SERVERS, distribution._GROUPS)
PROXIES = (
    daemon_set("kube-proxy"),
    daemon_set("kube-proxy", managers=["eks"]),
    daemon_set("kube-proxy", labels={"kubernetes.azure.com/managedby": "aks"}),
    None,
)


def test_every_distribution_that_is_known_has_its_section_and_no_other_has() -> None:
    assert sorted(SECTIONS) == sorted(NAMES)


@pytest.mark.parametrize(("mark", "name"), [item for table in TABLES for item in table.items()])
def test_by_which_mark_it_is_recognised_stands_there(mark: str, name: Name) -> None:
    assert f"`{mark}" in SECTIONS[name]


@pytest.mark.parametrize(
    ("name", "proxy"), [(name, proxy) for name in NAMES for proxy in PROXIES if refusal(Distribution(name, ""), proxy)]
)
def test_what_a_refusal_says_to_do_stands_there(name: Name, proxy: Object | None) -> None:
    said = refusal(Distribution(name, ""), proxy) or ""
    told = re.findall(r"`([^`]+)`|(\{[^}]+\})", said)
    words = re.sub(r"[\s`]+", " ", SECTIONS[name])
    assert [each for pair in told for each in pair if each and each not in words] == []


@pytest.mark.parametrize("name", sorted(NAMES))
def test_it_stands_where_the_program_says_what_it_says(name: Name) -> None:
    """Under «Refused» are those that are always refused while their kube-proxy is there; EKS is by whose it is."""
    goes_on, _, refused = PAGE.partition("\n## Refused")
    own = PROXIES[2] if name == "aks" else PROXIES[0]
    part = refused if refusal(Distribution(name, ""), own) else goes_on
    assert f"### {name}\n" in part.lower()
