from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kube_proxy_replacement.cluster import guard, lease, renewing
from kube_proxy_replacement.cluster.errors import ApiError, LockError, ProcedureError, UnreachableError
from kube_proxy_replacement.cluster.lease import PATH
from kube_proxy_replacement.cluster.renewing import Renewing

from .fakes import Clock, FakeApi

RUN = "project/prod/1"
ADA = f"ada@laptop, run {RUN}"
BOB = "bob@desk, run project/prod/2"
POD = "/api/v1/namespaces/kube-system/pods"
BODY = {"metadata": {"name": "x"}}


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lease, "time", clock)
    monkeypatch.setattr(guard, "time", clock)
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    monkeypatch.setattr("socket.gethostname", lambda: "laptop")
    return clock


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [thread for thread in threading.enumerate() if thread.name == "lease"] == []


class Busy(FakeApi):
    """Who doesn't try again gets no answer."""

    patience: float | None = None

    def beside(self, *, patience: float | None = None, timeout: tuple[float, float] | None = None) -> Busy:
        other = copy.copy(self)
        other.patience = patience
        return other

    def get(self, path: str, **query: str) -> dict[str, Any]:
        if self.patience == 0:
            raise UnreachableError("busy")
        return super().get(path, **query)


def holder(api: FakeApi) -> str | None:
    found = lease.read(api)
    return None if found is None else found.holder


class TestRenewing:
    def test_it_is_renewed_every_few_seconds(self, api: FakeApi, clock: Clock) -> None:
        its = Renewing(api, lease.take(api, ADA))
        clock.sleep(3)
        pause = its.once()
        assert pause is not None
        assert pause <= lease.DURATION / 4, "one that fails must not lose it"
        assert api.objects[PATH]["spec"]["renewTime"] == "1970-01-01T00:16:43.000000Z"

    @pytest.mark.parametrize(
        "error", [UnreachableError("away"), ApiError("no", status=500, reason=""), ApiError("?", status=401, reason="")]
    )
    def test_an_api_server_that_is_away_or_busy_is_tried_again_soon(self, api: FakeApi, error: ProcedureError) -> None:
        its = Renewing(api, lease.take(api, ADA))
        api.errors["PUT", PATH] = error
        assert its.once() == 1
        del api.errors["PUT", PATH]
        assert its.once() == 3

    def test_one_that_is_lost_is_not_taken_back(self, api: FakeApi) -> None:
        its = Renewing(api, lease.take(api, ADA))
        lease.take(api, BOB)
        assert its.once() is None
        assert holder(api) == BOB

    def test_what_is_not_needed_any_more_is_given_up(self, api: FakeApi) -> None:
        assert Renewing(api, lease.take(api, ADA), needed=lambda: False).once() is None
        assert holder(api) == ""

    def test_in_a_thread_it_is_renewed_until_it_is_given_up(self, api: FakeApi) -> None:
        renewed = threading.Event()
        held = lease.take(api, ADA)
        api.on_call = lambda method, path: renewed.set() if method == "PUT" else None
        its = Renewing(api, held).start()
        assert renewed.wait(10)
        its.give_up()
        assert holder(api) == ""

    @pytest.mark.parametrize(("end", "left"), [(Renewing.give_up, ""), (Renewing.remove, None)])
    def test_an_api_server_that_is_busy_in_that_moment_is_tried_again(
        self, end: Callable[[Renewing], None], left: str | None
    ) -> None:
        """Else the next run would take this one for one that was cut off."""
        api = Busy()
        end(Renewing(api, lease.take(api, ADA)))
        assert holder(api) == left

    def test_given_up_without_an_api_server_it_runs_out_by_itself(self, api: FakeApi) -> None:
        its = Renewing(api, lease.take(api, ADA))
        api.errors["GET", PATH] = UnreachableError("away")
        its.give_up()
        its.remove()


class TestTaken:
    def test_it_is_held_while_something_is_done_and_after_it(self, api: FakeApi) -> None:
        with renewing.taken(api, RUN):
            api.create(POD, BODY)
            assert holder(api) == ADA
        assert holder(api) == ADA

    def test_what_is_lost_meanwhile_stops_the_next_change(self, api: FakeApi) -> None:
        with pytest.raises(LockError, match="bob@desk"), renewing.taken(api, RUN):
            api.objects[PATH]["spec"]["holderIdentity"] = BOB
            api.objects[PATH]["metadata"]["resourceVersion"] = "7777"
            api.create(POD, BODY)
        assert f"{POD}/x" not in api.objects

    def test_where_what_is_done_fails_it_is_given_up(self, api: FakeApi) -> None:
        with pytest.raises(ProcedureError), renewing.taken(api, RUN):
            raise ProcedureError("no")
        assert holder(api) == ""


class Step:
    """One step of a run, with what it said."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.said: list[str] = []
        self.held = ""

    def run(self, run: str = RUN, *, deletes: bool = False, last: bool = False, then: Callable[[], Any] = int) -> None:
        self.api.guard = None
        with renewing.step(self.api, run, deletes=deletes, last=last, say=self.said.append):
            self.held = holder(self.api) or ""
            self.api.create(POD, BODY)
            then()

    @property
    def changed(self) -> bool:
        return f"{POD}/x" in self.api.objects


@pytest.fixture
def step(api: FakeApi) -> Step:
    return Step(api)


class TestStepOfAProgram:
    def test_while_its_program_holds_the_lock_it_takes_none(self, api: FakeApi, step: Step) -> None:
        lease.take(api, ADA)
        version = api.objects[PATH]["metadata"]["resourceVersion"]
        step.run()
        assert step.changed
        assert api.objects[PATH]["metadata"]["resourceVersion"] == version

    def test_where_its_program_loses_the_lock_it_stops(self, api: FakeApi, step: Step) -> None:
        lease.take(api, ADA)

        def lost() -> None:
            lease.take(api, BOB)
            del api.objects[f"{POD}/x"]
            api.create(POD, BODY)

        with pytest.raises(LockError, match="bob@desk"):
            step.run(then=lost)
        assert not step.changed

    @pytest.mark.parametrize("failure", [ProcedureError("no"), KeyboardInterrupt()])
    def test_where_it_fails_the_run_is_over_and_holds_nothing_any_more(
        self, api: FakeApi, step: Step, failure: BaseException
    ) -> None:
        """The engine ends the program then, without giving it the time to give up what it holds."""
        lease.take(api, ADA)

        def fail() -> None:
            raise failure

        with pytest.raises(type(failure)):
            step.run(then=fail)
        assert holder(api) == ""

    def test_where_it_fails_as_another_run_has_taken_over_that_one_s_is_left_alone(
        self, api: FakeApi, step: Step
    ) -> None:
        lease.take(api, ADA)

        def lost() -> None:
            lease.take(api, BOB)
            api.delete(f"{POD}/x")

        with pytest.raises(LockError):
            step.run(then=lost)
        assert holder(api) == BOB

    def test_where_another_run_holds_it_it_does_not_begin(self, api: FakeApi, step: Step) -> None:
        lease.take(api, BOB)
        with pytest.raises(LockError, match=r"bob@desk, run project/prod/2, since 1970"):
            step.run()
        assert not step.changed

    def test_where_another_run_has_been_at_work_it_does_not_begin(self, api: FakeApi, step: Step) -> None:
        lease.take(api, BOB)
        lease.give_up(api, BOB)
        with pytest.raises(LockError, match="has been at work"):
            step.run()
        assert not step.changed
        assert holder(api) == ""


class TestStepAlone:
    def test_where_nothing_was_found_changed_it_takes_the_lock_itself(self, api: FakeApi, step: Step) -> None:
        lease.take(api, ADA)
        lease.give_up(api, ADA)
        step.run()
        assert step.held == f"{ADA}, process {os.getppid()}"
        left = lease.read(api)
        assert left is not None
        assert (left.holder, left.run) == ("", RUN)

    def test_where_there_is_no_lock_yet_too(self, api: FakeApi, step: Step) -> None:
        step.run()
        assert step.held == f"{ADA}, process {os.getppid()}"
        assert holder(api) == ""

    def test_one_that_its_program_left_unrenewed_is_taken_over_in_the_open(self, api: FakeApi, step: Step) -> None:
        lease.take(api, ADA)
        api.objects[PATH]["spec"]["renewTime"] = "1969-12-31T23:16:40.000000Z"
        step.run()
        assert step.changed
        assert "taken over" in step.said[0]
        assert ADA in step.said[0]

    def test_where_it_fails_it_is_given_up(self, api: FakeApi, step: Step) -> None:
        def fail() -> None:
            raise ProcedureError("no")

        with pytest.raises(ProcedureError, match="no"):
            step.run(deletes=True, then=fail)
        assert holder(api) == ""

    def test_where_what_started_it_ends_it_stops(
        self, api: FakeApi, step: Step, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def orphaned() -> None:
            monkeypatch.setattr("os.getppid", lambda: 1)
            del api.objects[f"{POD}/x"]
            api.create(POD, BODY)

        with pytest.raises(LockError, match="has ended"):
            step.run(deletes=True, then=orphaned)
        assert not step.changed


class TestDeletes:
    def test_one_after_the_other_they_hold_the_same_and_the_last_one_removes_it(
        self, api: FakeApi, step: Step, clock: Clock
    ) -> None:
        step.run("project/prod/7", deletes=True)
        first = holder(api)
        del api.objects[f"{POD}/x"]
        step.run("project/prod/7", deletes=True)
        assert holder(api) == first == step.held
        del api.objects[f"{POD}/x"]
        step.run("project/prod/7", deletes=True, last=True)
        assert PATH not in api.objects
        assert clock.passed == 0

    def test_while_another_run_is_at_work_they_do_not_begin(self, api: FakeApi, step: Step, clock: Clock) -> None:
        held = [lease.take(api, BOB)]
        clock.on_sleep = lambda _: held.append(lease.renew(api, held[-1]))
        with pytest.raises(LockError, match="bob@desk"):
            step.run(deletes=True)
        assert not step.changed
        assert holder(api) == BOB

    def test_a_dead_run_s_is_taken_over_in_the_open(self, api: FakeApi, step: Step, clock: Clock) -> None:
        lease.take(api, BOB)
        step.run(deletes=True)
        assert clock.passed >= lease.DURATION
        assert BOB in step.said[0]

    def test_their_own_dead_program_s_too(self, api: FakeApi, step: Step, clock: Clock) -> None:
        lease.take(api, ADA)
        step.run(deletes=True)
        assert clock.passed >= lease.DURATION
        assert step.changed
