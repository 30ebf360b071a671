from __future__ import annotations

import pytest

from kube_proxy_replacement.cluster import guard, lease
from kube_proxy_replacement.cluster.errors import LockError, UnreachableError
from kube_proxy_replacement.cluster.guard import Guard
from kube_proxy_replacement.cluster.lease import PATH

from .fakes import Clock, FakeApi

ADA = "ada@laptop, run project/prod/1"
BOB = "bob@desk, run project/prod/2"


class World:
    """A cluster whose Lease Ada holds; `renewing` says until when she does so, every 3 seconds."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.api = FakeApi()
        self.held = lease.take(self.api, ADA)
        self.alive = True
        self.guard = Guard(self.api, ADA.__eq__, lambda: self.alive)

    def renew(self) -> None:
        self.held = lease.renew(self.api, self.held)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    clock = Clock()
    monkeypatch.setattr(lease, "time", clock)
    monkeypatch.setattr(guard, "time", clock)
    return World(clock)


def test_one_that_is_held_and_renewed_lets_a_change_pass_with_one_look(world: World) -> None:
    world.clock.sleep(9)
    world.api.calls.clear()
    world.guard()
    assert world.api.calls == [("GET", PATH)]
    assert world.clock.passed == 9


def test_where_another_run_took_it_over_it_says_who_and_since_when(world: World) -> None:
    lease.take(world.api, BOB)
    with pytest.raises(LockError, match=r"bob@desk, run project/prod/2, since 1970-01-01 00:16:5\d UTC"):
        world.guard()


def test_where_the_run_has_ended_a_left_over_step_stops(world: World) -> None:
    lease.give_up(world.api, ADA)
    with pytest.raises(LockError, match=r"The run of this step has ended.*stopped before its next change"):
        world.guard()


def test_where_what_started_it_has_ended_a_left_over_step_stops(world: World) -> None:
    world.alive = False
    with pytest.raises(LockError, match="The run that started this step has ended"):
        world.guard()


def test_one_that_nobody_renews_stops_a_step_before_others_may_begin(world: World) -> None:
    """From 10 s on a step no longer goes on by the clock; from 15 s on another run may."""
    world.clock.sleep(10)
    with pytest.raises(LockError, match="no longer renewed"):
        world.guard()
    assert world.clock.passed <= 10 + 16


def test_one_that_is_renewed_after_a_while_lets_the_change_pass(world: World) -> None:
    """The API server was away, or the machine slept: the program renews it when it can again."""
    world.clock.sleep(60)
    world.clock.on_sleep = lambda passed: world.renew() if passed >= 62 else None
    world.guard()
    assert 62 <= world.clock.passed < 63


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_clock_that_was_set_does_not_stop_a_step_whose_program_renews(world: World, jump: float) -> None:
    spec = world.api.objects[PATH]["spec"]
    spec["renewTime"] = "1970-01-01T01:16:40.000000Z" if jump < 0 else "1969-12-31T23:16:40.000000Z"
    world.clock.on_sleep = lambda passed: spec.update(renewTime="x") if passed >= 3 else None
    world.guard()
    assert world.clock.passed < 4


def test_one_that_was_deleted_by_hand_is_waited_for_as_its_holder_makes_it_again(world: World) -> None:
    del world.api.objects[PATH]
    world.clock.on_sleep = lambda passed: world.renew() if passed >= 3 else None
    world.guard()
    assert PATH in world.api.objects


def test_one_that_stays_away_stops_a_step(world: World) -> None:
    del world.api.objects[PATH]
    with pytest.raises(LockError, match="no longer renewed"):
        world.guard()


def test_an_api_server_that_does_not_answer_is_told(world: World) -> None:
    world.api.errors["GET", PATH] = UnreachableError("away")
    with pytest.raises(UnreachableError):
        world.guard()


def test_its_own_look_is_not_guarded(world: World) -> None:
    world.api.guard = world.guard
    world.guard()
