"""What the program does where the engine tells it that the Release failed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pulumi
import pytest

from kube_proxy_replacement import undoing
from kube_proxy_replacement.cluster import renewing, rollback
from kube_proxy_replacement.cluster.api import Api
from kube_proxy_replacement.cluster.errors import KubeconfigError, LockError, ProcedureError
from kube_proxy_replacement.cluster.told import Order

from .fakes import FakeApi, namespace
from .test_order import ORDER


class Told:
    """What is asked of `rollback`, with what lock, and what is said.

    Attributes:
        became: what `rollback.after` returns, or raises.
    """

    def __init__(self) -> None:
        self.became: str | Exception = "It was rolled back."
        self.asked: list[tuple[Order, str]] = []
        self.runs: list[str] = []
        self.errors: list[str] = []
        self.lost = False

    def after(self, api: Api, told: Order, reason: str, say: Any) -> str:
        assert self.runs, "without the lock"
        self.asked.append((told, reason))
        if isinstance(self.became, Exception):
            raise self.became
        return self.became

    @contextmanager
    def step(self, api: Api, run: str, **_: Any) -> Iterator[None]:
        if self.lost:
            raise LockError("Another run has taken it over.")
        self.runs.append(run)
        yield


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()
    api = FakeApi().put(namespace("kube-system", "uid-a"))
    monkeypatch.setattr(Api, "connect", lambda *_, **__: api)
    monkeypatch.setattr(rollback, "after", told.after)
    monkeypatch.setattr(renewing, "step", told.step)
    monkeypatch.setattr(pulumi.log, "error", lambda text, _: told.errors.append(text))
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: False)
    return told


def fails(*, operation: str = "update", its: Order = ORDER) -> bool:
    """Whether it is to be tried again."""

    async def failed() -> bool:
        component: Any = None
        hook = undoing.where_it_fails(
            order=pulumi.Output.from_input(its.to_json()),
            run=pulumi.Output.from_input("run-1"),
            kubeconfig=None,
            context=None,
            component=component,
        )
        args = pulumi.ErrorHookArgs("urn", "id", "name", "type", failed_operation=operation, errors=["no:\n\t* way"])
        return await hook(args)

    return asyncio.run(failed())


@pytest.mark.parametrize("operation", ["create", "update"])
def test_a_release_that_fails_is_undone_and_not_tried_again(told: Told, operation: str) -> None:
    assert fails(operation=operation) is False
    assert told.asked == [(ORDER, "Helm release kube-system/cilium: no: * way")]
    assert (told.runs, told.errors) == (["run-1"], ["It was rolled back."])


def test_an_uninstall_that_fails_is_not(told: Told) -> None:
    fails(operation="delete")
    assert told.asked == []


def test_in_a_preview_nothing_is_done(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: True)
    fails()
    assert told.asked == []


def test_where_there_is_nothing_to_say_nothing_is_said(told: Told) -> None:
    told.became = ""
    fails(operation="create", its=replace(ORDER, keep=True))
    assert told.errors == []


@pytest.mark.parametrize(
    ("operation", "keep", "said"), [("create", True, True), ("update", True, False), ("create", False, False)]
)
def test_a_first_release_that_is_kept_needs_one_more_up(told: Told, operation: str, keep: bool, said: bool) -> None:
    fails(operation=operation, its=replace(ORDER, keep=keep))
    assert ("One more `pulumi up` comes before `pulumi destroy`" in told.errors[0]) is said


def test_where_the_lock_is_lost_nothing_is_rolled_back(told: Told) -> None:
    told.lost = True
    fails()
    assert (told.asked, told.errors) == ([], ["Nothing was rolled back: Another run has taken it over."])


def test_another_cluster_is_refused(told: Told) -> None:
    fails(its=replace(ORDER, cluster="uid-b"))
    assert told.asked == []
    assert "another cluster" in told.errors[0]


@pytest.mark.parametrize("error", [ProcedureError("no"), KubeconfigError("no"), ValueError("no")])
def test_it_never_raises(told: Told, error: Exception) -> None:
    told.became = error
    assert fails() is False
    assert told.errors[0].endswith("no")
