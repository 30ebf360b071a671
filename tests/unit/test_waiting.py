from __future__ import annotations

from collections.abc import Iterable
from itertools import islice, repeat

import pytest

from kube_proxy_replacement.cluster import waiting
from kube_proxy_replacement.cluster.waiting import Standing

from .fakes import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)
    monkeypatch.setattr(waiting, "pauses", lambda: repeat(1.0))
    return clock


def until(standings: Iterable[Standing], *, patience: float = 10) -> tuple[bool, list[str]]:
    """Whether it was done, and what was said; the last standing stays."""
    said: list[str] = []
    left = list(standings)

    def look() -> Standing:
        return left.pop(0) if len(left) > 1 else left[0]

    return waiting.until(look, patience=patience, say=said.append), said


def test_what_is_done_at_once_takes_no_time(clock: Clock) -> None:
    assert until([Standing(True, 3, "all")]) == (True, ["all"])
    assert clock.passed == 0


def test_it_looks_until_it_is_done(clock: Clock) -> None:
    assert until([Standing(False, 0, "")] * 3 + [Standing(True, 1, "")]) == (True, [])
    assert clock.passed == 3


def test_without_progress_the_patience_ends_it(clock: Clock) -> None:
    assert until([Standing(False, 0, "waits")], patience=10) == (False, ["waits"])
    assert 10 < clock.passed <= 12


def test_progress_renews_the_patience(clock: Clock) -> None:
    steps = [Standing(False, count, "") for count in range(20) for _ in range(8)]
    assert until([*steps, Standing(True, 20, "")], patience=10)[0] is True
    assert clock.passed == 160


def test_a_step_back_is_no_progress_nor_is_the_way_to_where_it_was(clock: Clock) -> None:
    restarting = [Standing(False, count, "") for count in (2, 1, 2, 1, 2, 0, 1, 2) * 5]
    assert until(restarting, patience=10)[0] is False
    assert clock.passed < 13


def test_what_stands_is_said_once_and_again_when_it_changes(clock: Clock) -> None:
    texts = ["1/2", "1/2", "", "1/2", "0/2", "1/2", "1/2"]
    standings = [Standing(False, 0, text) for text in texts] + [Standing(True, 2, "2/2")]
    assert until(standings)[1] == ["1/2", "0/2", "1/2", "2/2"]


def test_done_wins_over_a_patience_that_has_ended(clock: Clock) -> None:
    clock.pace = 60
    assert until([Standing(False, 0, ""), Standing(True, 1, "")], patience=10)[0] is True


def test_pauses_are_short_at_first_and_half_a_second_in_the_end() -> None:
    found = list(islice(waiting.pauses(), 10))
    assert found == sorted(found)
    assert found[0] <= 0.1
    assert sum(found[:3]) < 0.5
    assert set(found[5:]) == {0.5}
