from __future__ import annotations

import getpass
from typing import Any

import pytest

from kube_proxy_replacement.cluster import lease
from kube_proxy_replacement.cluster.errors import ApiError, LockError, UnreachableError
from kube_proxy_replacement.cluster.lease import COLLECTION, PATH

from .fakes import Clock, FakeApi

ADA = "ada@laptop, run project/prod/1"
BOB = "bob@desk, run project/prod/2"


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lease, "time", clock)
    return clock


def spec(api: FakeApi) -> dict[str, Any]:
    found: dict[str, Any] = api.objects[PATH]["spec"]
    return found


class TestIdentity:
    def test_it_says_who_where_and_which_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("getpass.getuser", lambda: "ada")
        monkeypatch.setattr("socket.gethostname", lambda: "laptop")
        assert lease.identity("project/prod/1") == ADA

    @pytest.mark.parametrize("error", [KeyError("uid"), OSError("no username")])
    def test_a_user_without_a_name_is_somebody(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        def nameless() -> str:
            raise error

        monkeypatch.setattr(getpass, "getuser", nameless)
        assert lease.identity("project/prod/1").startswith("somebody@")

    @pytest.mark.parametrize("own", ["", "4711"])
    def test_the_run_of_a_program_and_of_its_steps_is_the_same(self, own: str) -> None:
        assert lease.run_of(lease.identity("pro.ject/prod-1.x/3f2a", own)) == "pro.ject/prod-1.x/3f2a"

    def test_a_step_s_own_is_not_its_program_s(self) -> None:
        assert lease.is_program_of(lease.identity("project/prod/1"), "project/prod/1")
        assert not lease.is_program_of(lease.identity("project/prod/1", "4711"), "project/prod/1")
        assert not lease.is_program_of(lease.identity("other-project/prod/1"), "project/prod/1")

    def test_somebody_elses_is_no_run_of_ours(self) -> None:
        assert lease.run_of("kube-controller-manager_7c2b") == ""


class TestTaking:
    def test_one_that_is_not_there_is_made(self, api: FakeApi, clock: Clock) -> None:
        held = lease.take(api, ADA)
        assert spec(api) == {
            "holderIdentity": ADA,
            "leaseDurationSeconds": 15,
            "acquireTime": "1970-01-01T00:16:40.000000Z",
            "renewTime": "1970-01-01T00:16:40.000000Z",
            "leaseTransitions": 0,
        }
        assert (held.holder, held.run, held.taken_over, clock.passed) == (ADA, "project/prod/1", "", 0)

    def test_one_that_was_given_up_is_taken_at_once(self, api: FakeApi, clock: Clock) -> None:
        lease.take(api, ADA)
        lease.give_up(api, ADA)
        held = lease.take(api, BOB)
        assert (held.holder, held.taken_over, clock.passed) == (BOB, "", 0)
        assert spec(api)["leaseTransitions"] == 1

    def test_one_s_own_is_taken_at_once_and_held_since_it_was(self, api: FakeApi, clock: Clock) -> None:
        since = lease.take(api, ADA).since
        clock.sleep(9)
        held = lease.take(api, ADA)
        assert held.since == since
        assert held.renewed > since
        assert clock.passed == 9

    def test_one_that_is_renewed_is_refused_with_who_holds_it_since_when(self, api: FakeApi, clock: Clock) -> None:
        held = [lease.take(api, ADA)]

        def world(passed: float) -> None:
            if passed >= 3:
                held.append(lease.renew(api, held[-1]))

        clock.on_sleep = world
        with pytest.raises(LockError, match=r"ada@laptop, run project/prod/1, since 1970-01-01 00:16:40 UTC"):
            lease.take(api, BOB)
        assert spec(api)["holderIdentity"] == ADA
        assert clock.passed < 4, "refused as soon as it is seen"

    def test_one_that_is_not_renewed_is_taken_over_when_it_has_run_out(self, api: FakeApi, clock: Clock) -> None:
        lease.take(api, ADA)
        held = lease.take(api, BOB)
        assert 15 <= clock.passed < 16
        assert held.holder == BOB
        assert held.taken_over == (
            "ada@laptop, run project/prod/1, since 1970-01-01 00:16:40 UTC, last renewed 1970-01-01 00:16:40 UTC"
        )

    def test_who_says_longer_is_waited_for_longer(self, api: FakeApi, clock: Clock) -> None:
        lease.take(api, ADA)
        spec(api)["leaseDurationSeconds"] = 40
        lease.take(api, BOB)
        assert clock.passed >= 40

    @pytest.mark.parametrize("moment", ["2286-11-20T17:46:40.000000Z", "1969-12-31T23:00:00.000000Z", ""])
    def test_what_the_other_machine_s_clock_says_does_not_matter(self, api: FakeApi, clock: Clock, moment: str) -> None:
        lease.take(api, ADA)
        spec(api)["renewTime"] = moment
        lease.take(api, BOB)
        assert 15 <= clock.passed < 16

    def test_time_in_which_nobody_looked_does_not_count(self, api: FakeApi, clock: Clock) -> None:
        """The API server was away for both: who holds it could not renew it either."""
        lease.take(api, ADA)

        def away(passed: float) -> None:
            if 5 < passed < 6:
                clock.now += 30

        clock.on_sleep = away
        lease.take(api, BOB)
        assert clock.passed >= 35 + 15

    def test_one_that_is_given_up_while_it_is_watched_is_taken(self, api: FakeApi, clock: Clock) -> None:
        lease.take(api, ADA)
        clock.on_sleep = lambda passed: lease.give_up(api, ADA) if passed >= 4 else None
        held = lease.take(api, BOB)
        assert (held.holder, held.taken_over) == (BOB, "")
        assert clock.passed < 5

    def test_of_two_who_take_it_over_in_the_same_moment_one_is_refused(self, api: FakeApi, clock: Clock) -> None:
        lease.take(api, ADA)
        eve = "eve@desk, run project/prod/3"

        def quicker(method: str, path: str) -> None:
            if method == "PUT":
                api.on_call = lambda *_: None
                spec(api)["holderIdentity"] = eve
                api.objects[PATH]["metadata"]["resourceVersion"] = "9999"

        api.on_call = quicker
        with pytest.raises(LockError, match="eve@desk"):
            lease.take(api, BOB)
        assert spec(api)["holderIdentity"] == eve

    def test_of_two_who_make_it_in_the_same_moment_one_is_refused(self, api: FakeApi, clock: Clock) -> None:
        def quicker(method: str, path: str) -> None:
            if method == "POST":
                api.on_call = lambda *_: None
                held.append(lease.take(api.beside(), ADA))  # type: ignore[arg-type]

        held: list[lease.Lease] = []
        api.on_call = quicker
        clock.on_sleep = lambda _: held.append(lease.renew(api, held[-1]))
        with pytest.raises(LockError, match="ada@laptop"):
            lease.take(api, BOB)

    def test_what_else_is_in_it_stays(self, api: FakeApi, clock: Clock) -> None:
        lease.take(api, ADA)
        api.objects[PATH]["metadata"]["annotations"] = {"theirs": "x"}
        lease.give_up(api, ADA)
        lease.take(api, BOB)
        assert api.objects[PATH]["metadata"]["annotations"] == {"theirs": "x"}

    def test_a_right_that_is_missing_is_told(self, api: FakeApi, clock: Clock) -> None:
        api.errors["POST", COLLECTION] = ApiError("no", status=403, reason="Forbidden")
        with pytest.raises(ApiError, match="no"):
            lease.take(api, ADA)


class TestRenewing:
    def test_it_is_held_since_it_was_and_renewed_now(self, api: FakeApi, clock: Clock) -> None:
        held = lease.take(api, ADA)
        clock.sleep(3)
        again = lease.renew(api, held)
        assert again.since == held.since
        assert again.renewed == "1970-01-01T00:16:43.000000Z"
        assert spec(api)["leaseTransitions"] == 0

    def test_it_takes_one_request(self, api: FakeApi, clock: Clock) -> None:
        held = lease.take(api, ADA)
        api.calls.clear()
        lease.renew(api, held)
        assert api.calls == [("PUT", PATH)]

    def test_one_that_somebody_wrote_on_is_still_held(self, api: FakeApi, clock: Clock) -> None:
        held = lease.take(api, ADA)
        api.objects[PATH]["metadata"]["resourceVersion"] = "7777"
        assert lease.renew(api, held).holder == ADA

    def test_one_that_was_deleted_by_hand_is_made_again(self, api: FakeApi, clock: Clock) -> None:
        held = lease.take(api, ADA)
        del api.objects[PATH]
        assert lease.renew(api, held).holder == ADA
        assert spec(api)["holderIdentity"] == ADA

    def test_one_that_was_taken_over_is_lost(self, api: FakeApi, clock: Clock) -> None:
        held = lease.take(api, ADA)
        lease.take(api, BOB)
        with pytest.raises(LockError, match="bob@desk"):
            lease.renew(api, held)
        assert spec(api)["holderIdentity"] == BOB

    def test_who_it_was_taken_over_from_stays_written_in_it(self, api: FakeApi, clock: Clock) -> None:
        lease.take(api, ADA)
        held = lease.take(api, BOB)
        assert lease.renew(api, held).taken_over == held.taken_over != ""

    def test_an_api_server_that_is_away_is_told(self, api: FakeApi, clock: Clock) -> None:
        held = lease.take(api, ADA)
        api.errors["PUT", PATH] = UnreachableError("away")
        with pytest.raises(UnreachableError):
            lease.renew(api, held)


class TestGivingUp:
    def test_nobody_holds_it_and_who_did_is_remembered(self, api: FakeApi, clock: Clock) -> None:
        lease.take(api, ADA)
        lease.give_up(api, ADA)
        left = lease.read(api)
        assert left is not None
        assert (left.holder, left.last, left.run) == ("", ADA, "project/prod/1")
        assert "holderIdentity" not in spec(api)

    def test_one_that_is_renewed_in_that_moment_is_given_up_nevertheless(self, api: FakeApi, clock: Clock) -> None:
        held = lease.take(api, ADA)

        def renewing(method: str, _: str) -> None:
            if method == "PUT":
                api.on_call = lambda *_: None
                lease.renew(api, held)

        api.on_call = renewing
        lease.give_up(api, ADA)
        assert "holderIdentity" not in spec(api)

    @pytest.mark.parametrize("done", [lease.give_up, lease.remove])
    def test_somebody_elses_is_left_alone(self, api: FakeApi, clock: Clock, done: Any) -> None:
        lease.take(api, ADA)
        done(api, BOB)
        assert spec(api)["holderIdentity"] == ADA

    @pytest.mark.parametrize("done", [lease.give_up, lease.remove])
    def test_one_that_is_not_there_stays_away(self, api: FakeApi, clock: Clock, done: Any) -> None:
        done(api, ADA)
        assert api.changes() == []

    def test_removed_it_is_gone(self, api: FakeApi, clock: Clock) -> None:
        lease.take(api, ADA)
        lease.remove(api, ADA)
        assert PATH not in api.objects

    @pytest.mark.parametrize("holder", [ADA, f"{ADA}, process 7"])
    @pytest.mark.parametrize("given_up", [False, True])
    def test_what_a_run_has_left_is_forgotten_with_it(
        self, api: FakeApi, clock: Clock, holder: str, given_up: bool
    ) -> None:
        lease.take(api, holder)
        if given_up:
            lease.give_up(api, holder)
        lease.forget(api, "project/prod/1")
        assert PATH not in api.objects

    @pytest.mark.parametrize("run", ["project/prod/1", ""])
    def test_what_another_one_has_left_stays(self, api: FakeApi, clock: Clock, run: str) -> None:
        lease.take(api, BOB)
        lease.forget(api, run)
        lease.forget(FakeApi(), run)
        assert spec(api)["holderIdentity"] == BOB
