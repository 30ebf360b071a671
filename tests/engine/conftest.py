"""The engine lane: real `pulumi`, a real API server. Without its toolchain these tests fail, and say why.

ENGINE_TESTS=skip skips them instead, on machines that are known not to have it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from local.toolchain import Toolchain, ToolchainError, ensure
from tests.engine.harness import Cluster, Stack

HERE = Path(__file__).parent

NewStack = Callable[..., Stack]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "engine: runs the real engine against a cluster of its own on loopback")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("engine")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Which lanes didn't run here: a lane's absence is said, not hidden."""
    # by the reports: the runs themselves may have been another process's
    reports = [report for each in terminalreporter.stats.values() for report in each]
    if not any(str(getattr(report, "nodeid", "")).startswith("tests/engine/") for report in reports):
        return
    if any(ensure().plugins.glob("resource-command-*/STAND-IN")):
        terminalreporter.write_line("lane: the real command plugin can't be had here; its stand-in served instead")


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    try:
        return ensure()
    except ToolchainError as error:
        if os.environ.get("ENGINE_TESTS") == "skip":
            pytest.skip(f"ENGINE_TESTS=skip, and there is no toolchain: {error}")
        pytest.fail(f"The engine tests need the toolchain (ENGINE_TESTS=skip skips them): {error}", pytrace=False)


@pytest.fixture(scope="module")
def cluster(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for all tests of a file."""
    cluster = Cluster(toolchain, tmp_path_factory.mktemp("cluster") / "cluster")
    try:
        yield cluster.start()
    finally:
        cluster.remove()


@pytest.fixture(scope="module")
def new_stack(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> NewStack:
    """Makes a stack: `new_stack(cluster, mode="coexist")`; the chart is the toolchain's, so that no network is used.

    Its arguments are the cluster (or None: no kubeconfig) and settings (`strategy=None`: not said); `project` and
    `environment` as for `Stack`.
    """
    number = count(1)

    def new(
        cluster: Cluster | None,
        *,
        project: Path | None = None,
        environment: dict[str, str] | None = None,
        **settings: Any,
    ) -> Stack:
        stack = Stack(
            toolchain,
            tmp_path_factory.mktemp("stack") / "person",
            cluster.kubeconfig if cluster else None,
            project=project,
            name=f"dev{next(number)}",
            environment=environment,
        ).create()
        for key, value in {"chart": str(toolchain.cilium_chart), **settings}.items():
            stack.config(key, value)
        return stack

    return new
