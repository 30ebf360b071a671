"""How two looks at a machine are compared."""

from __future__ import annotations

from local.real import machine
from local.real.footprint import Footprint, difference


def test_nothing_differs() -> None:
    assert difference(Footprint({"link": {"lo": "up"}}), Footprint({"link": {"lo": "up"}})) == []


def test_each_difference_is_a_line_with_its_kind() -> None:
    before = Footprint({"link": {"lo": "up", "eth0": "up"}, "setting": {"kernel/panic": "1"}})
    after = Footprint({"link": {"lo": "up", "br0": "down"}, "setting": {"kernel/panic": "10"}})
    assert difference(before, after) == [
        "link br0: new, down",
        "link eth0: gone, was up",
        "setting kernel/panic: 1 → 10",
    ]


def test_the_one_setting_that_cant_be_put_back_is_let_through() -> None:
    before = Footprint({"setting": {machine.ONE_WAY: "2"}})
    assert difference(before, Footprint({"setting": {machine.ONE_WAY: "1"}})) == []


def test_a_new_folder_stands_for_what_is_in_it() -> None:
    before = Footprint({"cgroup": {"cpu": ""}})
    after = Footprint({"cgroup": {"cpu": "", "cpu/kpr-1": "", "cpu/kpr-1/pods": "", "cpu/kpr-1/pods/one": ""}})
    assert difference(before, after) == ["cgroup cpu/kpr-1: new"]
