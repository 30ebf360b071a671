"""The program's hold on the lock: the engine is a real gRPC server, or none; the cluster is a fake."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent import futures
from types import SimpleNamespace
from typing import Any

import grpc
import pulumi
import pytest
from pulumi.runtime.proto import resource_pb2, resource_pb2_grpc

from kube_proxy_replacement import holding
from kube_proxy_replacement.cluster import api as api_module
from kube_proxy_replacement.cluster import lease

from .fakes import FakeApi

RUN = "project/prod/1"
ADA = f"ada@laptop, run {RUN}"
BOB = "bob@desk, run project/prod/2"


class Engine(resource_pb2_grpc.ResourceMonitorServicer):  # type: ignore[misc]
    """An engine that answers, unless it is told to be busy."""

    def __init__(self) -> None:
        self.busy = threading.Event()
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        resource_pb2_grpc.add_ResourceMonitorServicer_to_server(self, self.server)  # type: ignore[no-untyped-call]
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.monitor: Any = resource_pb2_grpc.ResourceMonitorStub(self.channel)

    def SupportsFeature(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        if self.busy.is_set():
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "busy")
        return resource_pb2.SupportsFeatureResponse(hasSupport=True)


@pytest.fixture
def engine() -> Iterator[Engine]:
    its = Engine()
    yield its
    its.channel.close()
    its.server.stop(None).wait()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    fake = FakeApi()
    monkeypatch.setattr(api_module.Api, "connect", lambda *_: fake)
    return fake


def holder(cluster: FakeApi) -> str:
    found = lease.read(cluster)
    assert found is not None
    return found.holder


class TestTheEngine:
    def test_while_it_answers_its_run_is_under_way(self, engine: Engine) -> None:
        assert holding._answers(engine.monitor)

    def test_one_that_is_busy_is_there(self, engine: Engine) -> None:
        engine.busy.set()
        assert holding._answers(engine.monitor)

    def test_one_that_has_ended_has_no_run_any_more(self, engine: Engine) -> None:
        """A program that is part of another one (Automation API) goes on without it."""
        engine.server.stop(None).wait()
        assert not holding._answers(engine.monitor)

    def test_nor_has_one_whose_channel_was_closed(self, engine: Engine) -> None:
        engine.channel.close()
        assert not holding._answers(engine.monitor)


class TestHolding:
    def test_what_step_1_has_taken_is_renewed_and_given_up_at_the_end(self, cluster: FakeApi) -> None:
        lease.take(cluster, ADA)
        renewed = threading.Event()
        cluster.on_call = lambda method, _: renewed.set() if method == "PUT" else None
        its = holding._Holding(lambda: True)
        assert its.begin(None, None, RUN) == ""
        assert renewed.wait(10)
        assert holder(cluster) == ADA
        its.end()
        assert holder(cluster) == ""

    def test_whom_it_was_taken_over_from_is_said(self, cluster: FakeApi) -> None:
        lease.take(cluster, BOB)
        cluster.objects[lease.PATH]["spec"]["leaseDurationSeconds"] = 0
        lease.take(cluster, ADA)
        its = holding._Holding(lambda: True)
        assert BOB in its.begin(None, None, RUN)
        its.end()

    @pytest.mark.parametrize("who", [BOB, f"{ADA}, process 7"])
    def test_what_another_one_holds_is_left_alone(self, cluster: FakeApi, who: str) -> None:
        lease.take(cluster, who)
        its = holding._Holding(lambda: True)
        its.begin(None, None, RUN)
        its.end()
        assert holder(cluster) == who

    def test_without_its_engine_it_is_given_up(self, cluster: FakeApi) -> None:
        lease.take(cluster, ADA)
        given_up = threading.Event()
        cluster.on_call = lambda method, _: given_up.set() if method == "PUT" else None
        its = holding._Holding(lambda: False)
        its.begin(None, None, RUN)
        assert given_up.wait(10)
        its.end()
        assert holder(cluster) == ""

    def test_a_run_that_changed_nothing_has_nothing_to_end(self, cluster: FakeApi) -> None:
        holding._Holding(lambda: True).end()
        assert cluster.calls == []


def test_the_end_is_handed_on_only_when_the_lock_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin is ended by the engine as soon as its component's outputs are there."""
    done: list[str] = []
    monkeypatch.setattr(holding, "get_monitor", lambda: None)
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: False)
    monkeypatch.setattr(holding._Holding, "end", lambda _: done.append("given up"))

    async def handed_on() -> Any:
        found: Any = SimpleNamespace(changing=False, run=RUN)
        component: Any = None
        value = await holding.until(pulumi.Output.from_input("True"), found, None, None, component).future()
        return value, list(done)

    assert asyncio.run(handed_on()) == ("True", ["given up"])
