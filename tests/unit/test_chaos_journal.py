"""How far a run is, from the engine's event log as it is written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.chaos.journal import USUAL, Journal

URN = "urn:pulumi:dev::kube-proxy-replacement::type::kube-proxy-replacement-"


class Engine:
    """Writes a journal's log, and waits until it is read."""

    def __init__(self, log: Path, verb: str) -> None:
        self.journal = Journal(verb, log, 2.0)
        self._log = os.open(log, os.O_WRONLY)

    def says(self, event: dict[str, Any]) -> None:
        os.write(self._log, json.dumps(event).encode() + b"\n")

    def begins(self, step: str) -> Engine:
        self.says({"resourcePreEvent": {"metadata": {"urn": f"{URN}{step}", "op": "update"}}})
        assert self.journal.wait(f"up {step}", self.journal.has_begun, 10)
        return self

    def ends(self, step: str) -> Engine:
        self.says({"resOutputsEvent": {"metadata": {"urn": f"{URN}{step}", "op": "update"}}})
        assert self.journal.wait(f"up {step}", self.journal.has_ended, 10)
        return self

    def close(self) -> None:
        os.close(self._log)
        self.journal.close()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path / "events", "up")
    yield engine
    engine.close()


@pytest.fixture
def destroy(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path / "events", "destroy")
    yield engine
    engine.close()


def test_an_up_begins_with_its_look(up: Engine) -> None:
    assert not up.journal.has_begun("found")
    up.says({"preludeEvent": {"config": {}}})
    assert up.journal.wait("up found", up.journal.has_begun, 10)
    assert up.journal.step == "up found"


def test_a_step_of_an_up_begins_where_the_one_before_it_has_ended(up: Engine) -> None:
    up.ends("found")
    assert up.journal.step == "up hand-over"
    assert up.ends("hand-over").ends("daemonset").ends("configmap").journal.step == "up cilium"


def test_a_step_of_destroy_begins_with_its_own_first_event(destroy: Engine) -> None:
    assert destroy.journal.step == "destroy way-back"
    assert destroy.begins("way-back").ends("way-back").journal.step == "destroy way-back"
    assert destroy.begins("cilium").journal.step == "destroy cilium"


def test_what_has_not_come_in_time_has_not(up: Engine) -> None:
    assert not up.journal.wait("up status", up.journal.has_begun, 0.01)


def test_other_resources_are_no_steps(up: Engine) -> None:
    up.says({"resOutputsEvent": {"metadata": {"urn": f"{URN}cluster", "op": "read"}}})
    up.says({"diagnosticEvent": {"urn": f"{URN}found", "message": "found"}})
    assert up.begins("found").journal.step == "up found"


def test_how_much_longer_steps_take_is_kept_until_this_runs_look_is_over(up: Engine) -> None:
    assert up.journal.haste == 2.0
    up.begins("found").ends("found")
    assert up.journal.haste == 0.5, f"less than {USUAL['up found']} s, and no less than this"
