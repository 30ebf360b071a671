"""Nodes handed over by a window of a given width, against a controller and agents that do as they are told."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from kube_proxy_replacement.cluster import (
    by_hand,
    hand_over,
    kube_proxy,
    node_config,
    nodes,
    parking,
    restoring,
    routing,
    waiting,
)
from kube_proxy_replacement.cluster.exec import ExecResult
from kube_proxy_replacement.cluster.hand_over import TO_CILIUM, HandOver, HandOverError
from kube_proxy_replacement.cluster.nodes import read as read_nodes
from kube_proxy_replacement.cluster.services import Frontend, ServiceTable, in_table

from .fakes import (
    Clock,
    FakeApi,
    agent_answers,
    agent_pod,
    agents_daemon_set,
    daemon_set,
    endpoint,
    endpoint_slice,
    kube_proxy_pod,
    node,
    revision,
    sample,
    service,
)

PODS = "/api/v1/namespaces/kube-system/pods"
OK = "HTTP/1.0 200 OK\r\n"


class World(FakeApi):
    """Nodes, each with an agent; a controller that makes a new one at once, and parks kube-proxy by the label.

    Attributes:
        broken: nodes whose new agent never gets ready; silent: agents of which node leave port 10256 unanswered.
        lingers: nodes whose kube-proxy doesn't end; unswitched: whose agent's endpoints don't get ready.
        restarts: the nodes whose agents were restarted, in order.
        narrowed: by what was listed, whether it was asked for by one node.
    """

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.broken: set[str] = set()
        self.silent: dict[str, int] = {}
        self.lingers: set[str] = set()
        self.unswitched: set[str] = set()
        self.restarts: list[str] = []
        self.narrowed: dict[str, set[bool]] = {}
        its = agents_daemon_set()
        self.put(its, revision(1, its, "hash-1"), daemon_set("kube-proxy"))
        for name in names:
            self.put(node(name), agent_pod(name), kube_proxy_pod(name))
        self.on_exec = self._answered
        self.on_call = self.controlled

    def list(self, path: str, **query: str) -> list[Any]:
        self.narrowed.setdefault(path, set()).add("fieldSelector" in query)
        return super().list(path, **query)

    def says(self, name: str) -> str:
        label = self.objects[f"/api/v1/nodes/{name}"]["metadata"]["labels"].get(routing.LABEL)
        if name not in self.restarts or label not in ("cilium", "both"):
            return "kube-proxy"
        return "ready-not-switched" if name in self.unswitched else "replace"

    def controlled(self, method: str, path: str) -> None:
        if method == "DELETE" and path.startswith(f"{PODS}/cilium-"):
            name = self.objects[path]["spec"]["nodeName"]
            self.restarts.append(name)
            new = agent_pod(name, suffix=f"r{len(self.restarts)}", ready=name not in self.broken)
            self.put(new)
        if method == "LIST" and path == PODS:
            for key, pod in list(self.objects.items()):
                its = pod.get("spec", {}).get("nodeName", "")
                labels = self.objects.get(f"/api/v1/nodes/{its}", {}).get("metadata", {}).get("labels", {})
                if "/pods/kube-proxy-" in key and its not in self.lingers and labels.get(routing.LABEL) == "cilium":
                    self.objects.pop(key, None)  # several nodes are looked at at a time

    def _answered(self, _: str, pod: str, __: str, command: Sequence[str]) -> ExecResult:
        name = pod.split("-")[1]
        if command[0] == "timeout":
            if self.silent.get(name, 0) > 0 and name in self.restarts:
                return ExecResult("", "bash: connect: Connection refused", 1)
            return ExecResult(OK, "", 0)
        if command[:3] == ["cilium-dbg", "bpf", "lb"]:
            return ExecResult(sample("cilium-1.20.2-bpf-lb-list-replace.txt"), "", 0)
        return agent_answers(command, self.says(name))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (hand_over, waiting):
        monkeypatch.setattr(module, "time", clock)
    return clock


def over(api: World, **more: Any) -> HandOver:
    its: dict[str, Any] = {"size": 1, "patience": 60.0, "total": 3, **more}
    return HandOver(api, TO_CILIUM, "kube-system", say=lambda _: None, **its)


def labels(api: World) -> dict[str, str]:
    return routing.labelled(api)


@pytest.mark.usefixtures("clock")
class TestWindow:
    def test_one_after_the_other(self) -> None:
        api = World("a", "b", "c")
        its = over(api)
        its.over(read_nodes(api).ready)
        assert (its.done, api.restarts) == (["a", "b", "c"], ["a", "b", "c"])
        turns = [call for call in api.changes() if "cilium" in call[1] or call[0] == "PATCH"]
        assert [method for method, _ in turns] == ["PATCH", "DELETE"] * 3, "a label before its turn"
        assert labels(api) == dict.fromkeys("abc", "cilium")

    def test_as_many_at_a_time_as_said(self) -> None:
        api = World("a", "b", "c")
        over(api, size=2).over(read_nodes(api).ready)
        assert [method for method, _ in api.changes()][:4] == ["PATCH", "PATCH", "DELETE", "DELETE"]

    @pytest.mark.parametrize(("size", "alone"), [(3, True), (4, False)])
    def test_a_few_are_asked_for_alone_and_many_are_listed(self, size: int, alone: bool) -> None:
        api = World(*"abcdefgh")
        queue = read_nodes(api).ready
        api.narrowed.clear()
        over(api, size=size).over(queue)
        assert api.narrowed.pop(nodes.LIST) == api.narrowed.pop(PODS) == {alone}

    def test_a_slow_api_server_is_asked_less_often(self, clock: Clock) -> None:
        api = World("a", "b")
        slept: list[float] = []

        def takes_long(method: str, path: str) -> None:
            api.controlled(method, path)
            clock.now += 2.0 * ((method, path) == ("LIST", nodes.LIST))

        queue = read_nodes(api).ready
        api.on_call, clock.on_sleep = takes_long, lambda _: slept.append(clock.now)
        over(api).over(queue)
        assert len(slept) > 3
        assert min(after - before for before, after in pairwise([1000.0, *slept])) >= 4.0

    def test_a_place_that_gets_free_is_taken_without_a_pause(self, clock: Clock) -> None:
        api = World("a", "b", "c")
        told: list[str] = []
        api.unswitched = {"b"}

        def until_c_has_its_turn(_: float) -> None:
            told.append("pause")
            if labels(api).get("c"):
                api.unswitched.clear()

        clock.on_sleep = until_c_has_its_turn
        HandOver(api, TO_CILIUM, "kube-system", size=2, patience=60.0, total=3, say=told.append).over(
            read_nodes(api).ready
        )
        place = told.index("handed over 1/3, now: b")
        assert told[place + 1] == "handed over 1/3, now: b, c"

    def test_one_that_is_as_wanted_is_not_restarted(self) -> None:
        api = World("a", "b")
        over(api).over(read_nodes(api).ready)
        count = len(api.changes())
        again = over(api)
        again.over(read_nodes(api).ready)
        assert (again.done, len(api.changes())) == (["a", "b"], count)

    def test_no_other_one_is_begun_after_one_that_fails(self) -> None:
        api = World("a", "b", "c")
        api.broken = {"b"}
        its = over(api)
        with pytest.raises(HandOverError, match=r"b: its agent .* isn't ready"):
            its.over(read_nodes(api).ready)
        assert (its.done, labels(api)) == (["a"], {"a": "cilium", "b": "cilium"})

    def test_one_that_leaves_the_port_unanswered_is_restarted_and_then_given_up(self) -> None:
        api = World("a", "b")
        api.silent = {"a": 1}
        with pytest.raises(HandOverError, match="port 10256 isn't answered"):
            over(api).over(read_nodes(api).ready)
        assert api.restarts == ["a", "a"]

    def test_no_agent_is_restarted_before_its_kube_proxy_has_ended(self) -> None:
        api = World("a")
        api.lingers = {"a"}
        with pytest.raises(HandOverError, match="its kube-proxy hasn't ended"):
            over(api).over(read_nodes(api).ready)
        assert api.restarts == []

    def test_endpoints_that_are_not_ready_are_awaited(self) -> None:
        api = World("a")
        api.unswitched = {"a"}
        with pytest.raises(HandOverError, match=r"endpoints of its agent cilium-a-\w+ aren't ready"):
            over(api).over(read_nodes(api).ready)

    def test_and_so_is_what_its_service_table_lacks(self) -> None:
        api = World("a")
        web = service("web", "10.96.0.9", ports=({"port": 80, "protocol": "TCP", "nodePort": 30999},), type="NodePort")
        api.put(web)
        with pytest.raises(HandOverError, match=r"first 0\.0\.0\.0:30999/TCP"):
            over(api).over(read_nodes(api).ready)

    def test_a_node_must_stay_as_wanted_as_long_as_said(self, clock: Clock) -> None:
        api = World("a", "b")
        over(api, settle=30.0).over(read_nodes(api).ready)
        assert clock.passed >= 60

    def test_which_may_be_longer_than_it_may_go_without_a_step_forward(self) -> None:
        api = World("a")
        its = over(api, settle=90.0, patience=60.0)
        its.over(read_nodes(api).ready)
        assert its.done == ["a"]

    def test_of_several_that_fail_at_a_time_each_is_named(self) -> None:
        api = World("a", "b", "c")
        api.broken = {"a", "b"}
        with pytest.raises(HandOverError) as raised:
            over(api, size=2).over(read_nodes(api).ready)
        assert [raised.value.node, *(its.node for its in raised.value.beside)] == ["a", "b"]
        assert "c" not in labels(api)

    def test_one_that_is_gone_is_not_awaited(self) -> None:
        api = World("a", "b")
        api.broken = {"a"}
        its = over(api)
        ready = read_nodes(api).ready
        del api.objects["/api/v1/nodes/a"]
        its.over(ready)
        assert its.done == ["b"]

    def test_one_that_goes_back_is_without_the_label_and_its_agent_restarted(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        api = World("a", "b")
        api.broken = {"a"}
        its = over(api)
        with pytest.raises(HandOverError):
            its.over(read_nodes(api).ready)
        api.broken = set()
        awaited: list[dict[str, str]] = []
        monkeypatch.setattr(restoring, "wait_until_routing", lambda *_, **__: awaited.append(labels(api)))
        hand_over.go_back(its, read_nodes(api).ready[0], patience=60.0)
        assert awaited == [{"a": "both"}], "its agent replaces kube-proxy until that routes"
        assert labels(api) == {}
        assert api.says("a") == "kube-proxy"

    def test_at_the_end_nothing_is_left(self) -> None:
        api = World("a")
        parking.park(api, api.get(kube_proxy.DAEMONSET))
        over(api).over(read_nodes(api).ready)
        hand_over.finish(api, "kube-system")
        assert labels(api) == {}

    def test_what_was_written_before_the_first_label_is_taken_away_too(self) -> None:
        api = World("a")
        agents_path = "/apis/apps/v1/namespaces/kube-system/daemonsets/cilium"
        api.objects["/apis/cilium.io/v2"] = {"resources": [{"name": "ciliumnodeconfigs"}]}
        api.merge(agents_path, by_hand.held(api.get(agents_path)))
        node_config.write(api, "kube-system", "v2", replaces=True, defaults={})
        hand_over.finish(api, "kube-system")
        assert [key for key in api.objects if "ciliumnodeconfigs/" in key] == []
        assert not hand_over.is_held(api, "kube-system")


class TestTables:
    def test_what_a_real_agent_prints(self) -> None:
        table = in_table(sample("cilium-1.20.2-bpf-lb-list-replace.txt"))
        assert table[Frontend("10.96.133.139", "TCP", 80)] == 2
        assert table[Frontend("0.0.0.0", "TCP", 30080)] >= 1
        assert Frontend("10.96.0.1", "UDP", 443) not in table

    def test_an_older_one_prints_no_protocol(self) -> None:
        table = in_table("10.96.0.1:443 (0)  0.0.0.0:0 (1) (0)\n10.96.0.1:443 (1)  10.0.0.1:6443 (1) (1)\n")
        assert table[Frontend("10.96.0.1", "TCP", 443)] == 1

    def test_what_is_missing(self) -> None:
        web = service("web", "10.96.0.9", ports=({"port": 80, "protocol": "TCP", "nodePort": 30999},), type="NodePort")
        slices = endpoint_slice("web", endpoint("10.0.0.7"), ports=({"port": 8080, "protocol": "TCP"},))
        services = ServiceTable((web,), (slices,))
        assert services.missing_in({}) == [Frontend("0.0.0.0", "TCP", 30999), Frontend("10.96.0.9", "TCP", 80)]
        there = {Frontend("::", "TCP", 30999): 0, Frontend("10.96.0.9", "TCP", 80): 1}
        assert services.missing_in(there) == []
        assert services.missing_in(there | {Frontend("10.96.0.9", "TCP", 80): 0}) != [], "without a backend"
