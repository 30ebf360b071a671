"""The Service that is moved, what is asked once, and the senders' start and end: without a cluster."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from local.cluster.errors import ClusterError
from local.real import workload
from local.real.moving import Mover
from local.real.traffic import Traffic
from local.real.workload import UnansweredError

NODES = [
    SimpleNamespace(number=number, name=f"node-{number}", address=f"10.10.0.1{number}", joined=list)
    for number in (1, 2)
]


class FakeCluster:
    """As much of a cluster as senders need: what is done to it is noted."""

    def __init__(self, refusals: Sequence[int] = (), kubectl: int = 0) -> None:
        """
        Args:
            refusals: Which of the patches (by their number) the API server refuses.
            kubectl: The exit code of kubectl.
        """
        self.nodes = NODES
        self.api = self
        self.moved: list[str] = []
        self.created: list[tuple[str, str]] = []
        self.launched: list[str] = []
        self.ended: list[str] = []
        self.commands: list[tuple[str, ...]] = []
        self._refusals, self._code = list(refusals), kubectl
        self._patches = 0

    def patch(self, path: str, change: dict[str, Any]) -> None:
        assert path == "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/moving"
        self._patches += 1
        if self._patches - 1 in self._refusals:
            raise ClusterError("the API server refuses it")
        [endpoint] = change["endpoints"]
        self.moved += endpoint["addresses"]

    def create(self, thing: dict[str, Any]) -> None:
        self.created.append((thing["kind"], thing["metadata"]["name"]))
        if thing["kind"] == "DaemonSet":
            volumes = {its["name"]: its for its in thing["spec"]["template"]["spec"]["volumes"]}
            results = Path(volumes["results"]["hostPath"]["path"])
            file = Path(thing["spec"]["template"]["spec"]["containers"][0]["command"][-2]).name
            for node in NODES:
                (results / file.replace("$(NODE)", node.name)).write_text("1.0 a>b tcp 1 node-1:1\n")

    def outside(self, command: Sequence[str]) -> list[str]:
        return list(command)

    def launch(self, name: str, command: Sequence[str]) -> None:
        self.launched.append(name)
        Path(command[-2]).write_text("1.0 outside>b tcp 1 node-1:1\n")

    def end(self, name: str) -> None:
        self.ended.append(name)

    def kubectl(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        self.commands.append(arguments)
        return subprocess.CompletedProcess(arguments, self._code, "", "no such thing")


def fake(refusals: Sequence[int] = (), kubectl: int = 0) -> Any:
    return FakeCluster(refusals, kubectl)


@pytest.fixture(autouse=True)
def _program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "program", lambda: Path("/cache/traffic/traffic"))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it doesn't come"
        time.sleep(0.002)


def test_the_service_goes_from_node_to_node_and_each_move_is_noted(tmp_path: Path) -> None:
    cluster = fake()
    mover = Mover(cluster, tmp_path / "moves", seconds=0.005)
    mover.start()
    until(lambda: len(cluster.moved) >= 3)
    mover.stop()
    assert cluster.moved[:3] == ["10.10.0.11", "10.10.0.12", "10.10.0.11"]
    noted = [line.split() for line in (tmp_path / "moves").read_text().splitlines()]
    assert [node for *_, node in noted[:3]] == ["node-1", "node-2", "node-1"]
    assert len(noted) == len(cluster.moved)
    assert all(float(began) <= float(done) for began, done, _ in noted)


def test_a_move_that_is_refused_is_not_noted_and_tried_again(tmp_path: Path) -> None:
    cluster = fake(refusals=[1])
    mover = Mover(cluster, tmp_path / "moves", seconds=0.005)
    mover.start()
    until(lambda: len(cluster.moved) >= 2)
    mover.stop()
    assert cluster.moved[:2] == ["10.10.0.11", "10.10.0.12"]
    assert len((tmp_path / "moves").read_text().splitlines()) == len(cluster.moved)


def test_nothing_is_moved_after_the_end(tmp_path: Path) -> None:
    cluster = fake()
    mover = Mover(cluster, tmp_path / "moves", seconds=0.005)
    mover.start()
    mover.stop()
    assert "mover" not in {thread.name for thread in threading.enumerate()}


def saying(*lines: str) -> Callable[[Sequence[str]], list[str]]:
    """A place where the program says these lines, whatever it's asked."""
    return lambda _: ["/bin/sh", "-c", 'cat >/dev/null; printf "%s\\n" "$@"', "sh", *lines]


def test_an_answer_is_who_gave_it() -> None:
    assert workload.ask(saying("1.000 question tcp 3 node-1:18080"), "tcp", "10.10.0.11:30010") == "node-1:18080"


def test_no_answer_is_an_error_that_says_why() -> None:
    with pytest.raises(UnansweredError, match=r"^dial: connection refused$"):
        workload.ask(saying("1.000 question tcp 3 ! dial: connection refused"), "tcp", "10.10.0.11:30010")


def test_a_program_that_cannot_ask_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no such kind"):
        workload.ask(lambda _: ["/bin/sh", "-c", "cat >/dev/null; echo no such kind >&2; exit 1"], "tcp", "a:1")


def test_services_are_asked_until_each_answers() -> None:
    cluster = fake()
    said = iter(["1.0 cluster-host@node-1 tcp 3 ! read: timed out", *["1.0 cluster-host@node-1 tcp 3 node-1:1"] * 9])
    asked = []

    def outside(command: Sequence[str]) -> list[str]:
        asked.append(list(command))
        return saying(next(said))(command)

    cluster.outside = outside
    cluster.nodes = []
    workload.await_answers(cluster, "host")
    assert len(asked) == 2


def test_services_that_never_answer_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "_SECONDS", 0.0)
    cluster = fake()
    cluster.nodes = []
    cluster.outside = saying("1.0 cluster-host@node-1 tcp 3 ! read: timed out")
    with pytest.raises(RuntimeError, match="cluster-host@node-1 tcp 3 ! read: timed out"):
        workload.await_answers(cluster, "host")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[FakeCluster, Traffic]]:
    cluster: Any = FakeCluster()
    traffic = Traffic(cluster, tmp_path / "traffic")
    traffic.start("host")
    yield cluster, traffic
    traffic.stop()


def test_only_what_is_asked_for_is_started(running: tuple[FakeCluster, Traffic]) -> None:
    cluster, traffic = running
    assert cluster.launched == ["traffic-watched", "traffic-host"]
    assert cluster.created == [("ConfigMap", "sender-host-host"), ("DaemonSet", "sender-host-host")]
    traffic.start("pod")
    assert cluster.launched == ["traffic-watched", "traffic-host", "traffic-pod"]
    assert [name for kind, name in cluster.created if kind == "DaemonSet"][1:] == ["sender-host-pod", "sender-pod"]


def test_the_end_of_traffic_is_the_end_of_every_sender(running: tuple[FakeCluster, Traffic]) -> None:
    cluster, traffic = running
    traffic.start("pod")
    traffic.stop()
    assert sorted(cluster.ended) == sorted(cluster.launched)
    [command] = cluster.commands
    assert {name for kind, name in cluster.created} <= set(command)


def test_senders_that_cannot_be_ended_are_an_error(tmp_path: Path) -> None:
    traffic = Traffic(fake(kubectl=1), tmp_path / "traffic")
    traffic.start("host")
    with pytest.raises(RuntimeError, match="no such thing"):
        traffic.stop()


def test_a_sender_that_says_nothing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.real.traffic._SECONDS", 0.0)
    cluster = fake()
    cluster.create = lambda _: None
    traffic = Traffic(cluster, tmp_path / "traffic")
    with pytest.raises(RuntimeError, match=r"sender-host-host-node-1, sender-host-host-node-2$"):
        traffic.start("host")
    traffic.stop()
