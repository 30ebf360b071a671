"""A failing test shows what the engine has said in it."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.engine.harness import RUNS

_FIRST = pytest.StashKey[int]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    item.stash[_FIRST] = len(RUNS)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failing test shows what the engine has said in it, or last before it."""
    report = yield
    if report.failed:
        first = min(item.stash.get(_FIRST, 0), max(len(RUNS) - 1, 0))
        for run in RUNS[first:]:
            report.sections.append((f"pulumi {' '.join(run.command[1:2])}", run.report()))
    return report
