from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from local.real import way
from local.real.manual import BACK, THERE, Command, Manual
from local.real.way import Way


class Node:
    """Runs nothing; says what it was told to say."""

    def __init__(self, name: str, code: int) -> None:
        self.name, self._code = name, code
        self.lines: list[str] = []

    def run(self, command: list[str]) -> Any:
        self.lines.append(command[-1])
        return SimpleNamespace(returncode=self._code, stdout="", stderr="")


class Cluster:
    """On this machine as it is."""

    kubeconfig = Path("kubeconfig")

    def __init__(self, *codes: int) -> None:
        self.nodes = [Node(f"node-{number}", code) for number, code in enumerate(codes, 1)]

    def in_fabric(self, command: list[str]) -> list[str]:
        return command


@pytest.fixture(autouse=True)
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(way, "held", lambda _: None)


def new_way(folder: Path, cluster: Any = None) -> Way:
    its: Any = cluster or Cluster()
    return Way(its, folder, lambda _: None)


def person(folder: Path, cluster: Cluster) -> tuple[Way, Manual]:
    taken = new_way(folder, cluster)
    toolchain: Any = SimpleNamespace(kubectl=folder / "no-kubectl", cilium_chart=folder / "chart")
    return taken, Manual(taken, taken.cluster, toolchain, folder / "no-helm")


def test_steps_belong_to_the_leg_that_they_were_taken_in(tmp_path: Path) -> None:
    its = new_way(tmp_path)
    its.calm(0)
    with its.leg("there"):
        its.step("one", lambda _: 0)
        its.calm(0)
    assert [step.name for step in its.of("there")] == ["one", "calm"]
    assert len(its.steps) == 3


def test_what_was_held_before_a_leg_is_of_the_last_calm_before_it(tmp_path: Path) -> None:
    its = new_way(tmp_path)
    calms = [its.calm(0), its.calm(0)]
    its.step("between", lambda _: 0)
    with its.leg("there"):
        its.step("one", lambda _: 0)
        its.calm(0)
    assert its.before("there") is calms[1]


def test_a_step_keeps_an_exit_code_that_it_must_not_have(tmp_path: Path) -> None:
    its = new_way(tmp_path)
    codes = [
        its.step("a", lambda _: 0).code,
        its.step("a", lambda _: 1, expected=1).code,
        its.step("a", lambda _: 2).code,
        its.step("a", lambda _: 0, expected=1).code,
    ]
    assert [code != 0 for code in codes] == [False, False, True, True]
    assert len(its.failed) == 2


def test_an_instant_belongs_to_the_last_step_that_began_before(tmp_path: Path) -> None:
    its = new_way(tmp_path)
    first, second = its.step("first", lambda _: 0), its.step("second", lambda _: 0)
    assert its.at(first.start - 1) == ""
    assert its.at((first.start + first.end) / 2) == "first"
    assert its.at(second.end + 1) == "second"


def test_a_line_is_run_as_a_person_types_it(tmp_path: Path) -> None:
    taken, its = person(tmp_path, Cluster())
    assert its.run([Command('echo "${API_SERVER_IP} ${API_SERVER_PORT}" | tr 1 2 > said')])
    assert (taken.folder / "manual" / "said").read_text() == "20.20.0.2 6443\n"


def test_the_first_line_that_fails_is_the_last(tmp_path: Path) -> None:
    taken, its = person(tmp_path, Cluster())
    assert not its.run([Command("true"), Command("exit 3"), Command("true")])
    assert [step.code for step in taken.steps] == [0, 3]


@pytest.mark.parametrize(("codes", "went_well"), [((1, 1), True), ((1, 0), False), ((0, 1), False)])
def test_a_line_for_the_nodes_is_run_on_each_and_judged_by_each(
    tmp_path: Path, codes: tuple[int, ...], went_well: bool
) -> None:
    cluster = Cluster(*codes)
    _, its = person(tmp_path, cluster)
    assert its.run([Command("iptables-save | grep KUBE-SVC", on_nodes=True, expected=1)]) is went_well
    assert [node.lines for node in cluster.nodes] == [["iptables-save | grep KUBE-SVC"]] * 2


def test_the_order_is_the_documentations() -> None:
    lines = [command.line for command in THERE]
    words = ["delete ds kube-proxy", "delete cm kube-proxy", "grep -v KUBE", "kubeProxyReplacement=true", "restart ds/"]
    places = [next(place for place, line in enumerate(lines) if word in line) for word in words]
    assert places == sorted(places)


def test_on_the_way_back_kube_proxy_comes_first() -> None:
    lines = [command.line for command in BACK]
    places = {word: next(n for n, line in enumerate(lines) if word in line) for word in ("apply", "=false")}
    assert places["apply"] < places["=false"]
