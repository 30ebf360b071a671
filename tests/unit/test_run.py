from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kube_proxy_replacement import run
from kube_proxy_replacement.cluster import lease
from kube_proxy_replacement.cluster.errors import ApiError, KubeconfigError, ProcedureError, UnreachableError
from kube_proxy_replacement.cluster.told import Order

from .fakes import Clock, FakeApi, namespace

ORDER = Order(
    cluster="uid-a",
    mode="replace",
    namespace="kube-system",
    release="cilium",
    host="192.0.2.10",
    port=6443,
    image="quay.io/cilium/cilium:v1.18.6",
    timeout=600,
)
STEP = ("kube-proxy-daemonset", "create")


class Run:
    """`main` with a stand-in for the API server and for the step.

    Attributes:
        connected: what the connection was made with.
        done: what the step was told.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.api = FakeApi().put(namespace("kube-system", "uid-a"))
        self.connected: list[Any] = []
        self.done: list[Order] = []
        self.step: Callable[[Any], None] = lambda say: None
        outer = self

        class Connect:
            @staticmethod
            def connect(kubeconfig: str | None, context: str | None, *, patience: float) -> FakeApi:
                outer.connected.append((kubeconfig, context, patience))
                return outer.api

        def step(api: Any, order: Order, say: Any) -> None:
            assert api is self.api
            self.done.append(order)
            self.step(say)

        monkeypatch.setattr(run, "Api", Connect)
        monkeypatch.setitem(run.STEPS, STEP, step)

    def main(self, *arguments: str, **environment: str) -> int:
        told = {"ORDER": ORDER.to_json(), **environment}
        return run.main(list(arguments or STEP), {f"KUBE_PROXY_REPLACEMENT_{k}": v for k, v in told.items()})


@pytest.fixture
def it(monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(monkeypatch)


def test_the_names_that_are_in_people_s_states_are_all_there() -> None:
    verbs = {
        "hand-over": ("create", "update"),
        "kube-proxy-daemonset": ("create", "update", "delete"),
        "kube-proxy-configmap": ("create", "update", "delete"),
        "release": ("create", "update"),
        "way-back": ("delete",),
        "agents": ("create", "update"),
    }
    assert set(run.STEPS) == {(step, verb) for step, its in verbs.items() for verb in its}


def test_a_step_is_done_with_its_order(it: Run) -> None:
    assert it.main() == 0
    assert it.done == [ORDER]


def test_what_it_says_goes_to_standard_output(it: Run, capsys: pytest.CaptureFixture[str]) -> None:
    it.step = lambda say: say("agents 2/3 replacing")
    it.main()
    assert capsys.readouterr() == ("agents 2/3 replacing\n", "")


@pytest.mark.parametrize(
    ("environment", "connected"),
    [
        ({}, (None, None)),
        ({"KUBECONFIG": "content", "CONTEXT": "prod"}, ("content", "prod")),
        ({"CONTEXT": "prod"}, (None, "prod")),
    ],
)
def test_the_kubeconfig_and_the_context_are_those_that_it_was_told(
    it: Run, environment: dict[str, str], connected: tuple[str | None, str | None]
) -> None:
    it.main(**environment)
    assert [entry[:2] for entry in it.connected] == [connected]


def test_an_api_server_that_restarts_is_waited_for(it: Run) -> None:
    it.main()
    assert it.connected[0][2] >= 60


def test_another_cluster_is_refused_before_the_step(it: Run, capsys: pytest.CaptureFixture[str]) -> None:
    it.api.put(namespace("kube-system", "uid-b"))
    assert it.main() == 1
    assert it.done == []
    error = capsys.readouterr().err
    assert "uid-a" in error
    assert "uid-b" in error
    assert it.api.changes() == []


@pytest.mark.parametrize("error", [ProcedureError("node-2: because\nthat"), KubeconfigError("no such context")])
def test_a_step_that_cannot_be_done_says_why_without_a_traceback(
    it: Run, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail(say: Any) -> None:
        raise error

    it.step = fail
    assert it.main() == 1
    assert capsys.readouterr() == ("", f"{error}\n")


NAMESPACE = "/api/v1/namespaces/kube-system"


@pytest.mark.parametrize(
    "error",
    [
        UnreachableError("The API server doesn't answer"),
        ApiError("GET /api/v1/namespaces/kube-system: 403 forbidden", status=403, reason="Forbidden"),
    ],
)
def test_a_step_that_cannot_begin_says_that_it_has_changed_nothing_and_what_to_do(
    it: Run, capsys: pytest.CaptureFixture[str], error: ProcedureError
) -> None:
    it.api.errors["GET", NAMESPACE] = error
    assert it.main() == 1
    assert it.done == []
    said = capsys.readouterr().err
    assert said.startswith(f"{error}\n")
    assert "has changed nothing" in said
    assert "Run the same command again" in said


def test_a_step_that_has_begun_does_not_say_that_it_has_not(it: Run, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(say: Any) -> None:
        raise UnreachableError("The API server doesn't answer")

    it.step = fail
    it.main()
    assert "has changed nothing" not in capsys.readouterr().err


@pytest.mark.parametrize("status", [403, 409])
@pytest.mark.parametrize("begun", [False, True])
def test_rights_that_are_missing_are_told_where_to_be_found(
    it: Run, capsys: pytest.CaptureFixture[str], status: int, begun: bool
) -> None:
    error = ApiError("no", status=status, reason="")

    def fail(say: Any) -> None:
        raise error

    if begun:
        it.step = fail
    else:
        it.api.errors["GET", NAMESPACE] = error
    it.main()
    assert ("the rights that the README names" in capsys.readouterr().err) == (status == 403)


@pytest.mark.parametrize(
    "arguments", [["kube-proxy-daemonset"], ["agents", "destroy"], ["agents", "create", "x"], ["no-step", "create"]]
)
def test_a_wrong_call_is_told_every_right_one(
    it: Run, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert it.main(*arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert all(" ".join(step) in output.err for step in run.STEPS)
    assert it.connected == []


def test_no_line_is_so_long_that_the_command_plugin_hangs_on_it(it: Run, capsys: pytest.CaptureFixture[str]) -> None:
    it.step = lambda say: say("é" * 100_000 + "\nnext")
    it.main()
    first, second = capsys.readouterr().out.splitlines()
    assert len(first.encode()) < 64 * 1024
    assert second == "next"


def test_nothing_that_it_prints_holds_the_kubeconfig(it: Run, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(say: Any) -> None:
        say("progress")
        raise ProcedureError("failed")

    it.step = fail
    it.main(KUBECONFIG="hunter2")
    output = capsys.readouterr()
    assert "hunter2" not in output.out + output.err


class TestTheLock:
    THEIRS = "bob@desk, run project/prod/7"
    RUN = "project/dev/1"

    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> Clock:
        clock = Clock()
        monkeypatch.setattr(lease, "time", clock)
        return clock

    def test_without_a_run_as_in_older_states_it_goes_without(self, it: Run) -> None:
        lease.take(it.api, self.THEIRS)
        assert it.main() == 0
        assert it.done == [ORDER]

    def test_with_one_it_is_held_while_the_step_is_done(self, it: Run) -> None:
        held: list[Any] = []
        it.step = lambda say: held.append(lease.read(it.api))
        assert it.main(RUN=self.RUN) == 0
        assert [lease.run_of(its.holder) for its in held] == [self.RUN]
        left = lease.read(it.api)
        assert left is not None
        assert (left.holder, left.run) == ("", self.RUN)

    def test_where_another_run_holds_it_the_step_says_who_and_has_changed_nothing(
        self, it: Run, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lease.take(it.api, self.THEIRS)
        assert it.main(RUN=self.RUN) == 1
        assert it.done == []
        said = capsys.readouterr().err
        assert f"{self.THEIRS}, since 1970-01-01" in said
        assert "has changed nothing" in said

    @pytest.mark.parametrize(
        ("step", "left"), [("kube-proxy-daemonset", False), ("kube-proxy-configmap", True), ("way-back", True)]
    )
    def test_of_the_deletes_the_last_one_removes_it(
        self, it: Run, monkeypatch: pytest.MonkeyPatch, step: str, left: bool
    ) -> None:
        monkeypatch.setitem(run.STEPS, (step, "delete"), run.STEPS[STEP])
        assert it.main(step, "delete", RUN=self.RUN) == 0
        assert (lease.read(it.api) is not None) is left


def test_an_order_of_a_newer_program_is_read(it: Run) -> None:
    newer = json.loads(ORDER.to_json()) | {"invented_later": {"a": 1}}
    assert it.main(ORDER=json.dumps(newer)) == 0
    assert it.done == [ORDER]
