"""The lane of real nodes: real kube-proxy, real Cilium, real traffic, in namespaces on this machine.

Where the machine can't do it, the tests are left out, and the last lines say so with what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.real import footprint, machine
from local.real.cluster import PARTS
from local.toolchain import Toolchain, ensure
from tests.datapath.story import Ground, Story

HERE = Path(__file__).parent
LANE = "lane: real nodes (real kube-proxy, real Cilium, real traffic)"
IPVS = "lane: kube-proxy in IPVS mode on real nodes"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if lacking := machine.missing():
        for item in items:
            if item.path.is_relative_to(HERE):
                item.add_marker(pytest.mark.skip(reason=lacking))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lacking := machine.missing():
        terminalreporter.write_line(f"{LANE} can't run here: {lacking}")
    elif lacking := machine.lacks_ipvs():
        terminalreporter.write_line(f"{IPVS} can't run here: {lacking}")


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    return ensure(PARTS)


@pytest.fixture(scope="session")
def before_the_ground(toolchain: Toolchain) -> footprint.Footprint:
    """What the machine was before there was any node on it."""
    return footprint.take()


@pytest.fixture(scope="session")
def ground(
    toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory, before_the_ground: footprint.Footprint
) -> Iterator[Ground]:
    """Two real nodes with kube-proxy, Services of every kind, foreign rules and traffic; no Cilium yet."""
    ground = Ground(toolchain, tmp_path_factory.mktemp("real"))
    try:
        yield ground.start()
    finally:
        ground.remove()


@pytest.fixture(scope="session")
def story(ground: Ground) -> Story:
    """The way that the ground is taken, act after act."""
    return Story(ground)
