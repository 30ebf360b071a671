"""What the step does with its queue: canaries, pauses, and nodes that fail."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from kube_proxy_replacement import handing_over
from kube_proxy_replacement.cluster import cleaning, draining, hand_over, node_config, record, rollout, routing, waiting
from kube_proxy_replacement.cluster import order as steps
from kube_proxy_replacement.cluster.errors import ProcedureError
from kube_proxy_replacement.cluster.hand_over import TO_CILIUM, HandOver
from kube_proxy_replacement.cluster.node_order import Queue
from kube_proxy_replacement.cluster.nodes import Node, read
from kube_proxy_replacement.cluster.record import Record
from kube_proxy_replacement.cluster.told import NodeByNode, Order

from .fakes import Clock, FakeApi, config_map
from .test_hand_over import World


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (hand_over, waiting):
        monkeypatch.setattr(module, "time", clock)
    return clock


def order(*, keep: bool = False, **by_node: Any) -> Order:
    return Order(
        *("uid-a", "replace", "kube-system", "cilium", "192.0.2.1", 6443, "", 60),
        keep=keep,
        node_by_node=NodeByNode(**by_node),
    )


def run(api: World, its_order: Order, canaries: str = "", *, size: int = 1, drain: bool = False) -> HandOver:
    """One run of the step over the cluster as it is now; `canaries`: their names, a letter each."""
    nodes = read(api).ready
    queue = Queue(
        tuple(node for node in nodes if node.name in canaries),
        tuple(node for node in nodes if node.name not in canaries),
    )
    over = HandOver(api, TO_CILIUM, "kube-system", size, lambda _: None, 60.0, drain=drain, total=len(nodes))
    handing_over._turns(over, its_order, queue)
    return over


class TestPauses:
    def test_each_run_goes_on_where_the_one_before_it_stopped(self) -> None:
        api, its = World("a", "b", "c"), order(pause_after="1")
        for count, last in (("1", "a"), ("2", "b")):
            with pytest.raises(ProcedureError, match=rf"nodeByNode\.pauseAfter says: {count} of 3 nodes"):
                run(api, its)
            assert api.restarts[-1] == last
        assert run(api, its).done == ["a", "b", "c"]
        assert api.restarts == ["a", "b", "c"]

    def test_canaries_come_first_and_no_other_until_it_may_go_on(self) -> None:
        api = World("a", "b", "c")
        for _ in range(2):
            with pytest.raises(ProcedureError, match=r"nodeByNode\.canaries says: 1 of 3 nodes .*\(b\)"):
                run(api, order(canaries="x=y"), "b")
            assert api.restarts == ["b"]
        assert run(api, order(canaries="x=y", go_on=True), "b").done == ["b", "a", "c"]

    def test_canaries_alone_are_no_reason_to_stop(self) -> None:
        api = World("a")
        assert run(api, order(canaries="x=y"), "a").done == ["a"]

    def test_a_node_is_drained_before_its_turn_and_not_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        api, drained = World("a", "b"), []
        monkeypatch.setattr(draining, "cordon", lambda _, node: drained.append((node.name, routing.labelled(api))))
        monkeypatch.setattr(draining, "evict", lambda *_, **__: None)
        monkeypatch.setattr(draining, "uncordon", lambda *_: None)
        with pytest.raises(ProcedureError):
            run(api, order(pause_after="1"), drain=True)
        run(api, order(pause_after="1"), drain=True)
        assert drained == [("a", {}), ("b", {"a": "cilium"})]


class TestNodesThatFail:
    @pytest.fixture
    def gone_back(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        gone_back: list[str] = []

        def go_back(_: HandOver, node: Node, *, patience: float) -> None:
            if node.name == "b" and patience == 60:
                raise ProcedureError("b: kube-proxy doesn't route there")
            gone_back.append(node.name)

        monkeypatch.setattr(hand_over, "go_back", go_back)
        return gone_back

    def test_each_goes_back_and_is_told_of(self, gone_back: list[str]) -> None:
        api = World("a", "b", "c")
        api.broken = {"b", "c"}
        record.write(api, Record("uid-a", "kube-system/cilium"))
        with pytest.raises(ProcedureError) as raised:
            run(api, order(), size=3)
        assert gone_back == ["c"]
        for words in ("b can't be handed over: its agent", "c can't be handed over: its agent"):
            assert words in raised.value.what
        for words in (
            "b couldn't go back either: b: kube-proxy doesn't route there",
            "c has gone back alone, and is as it was before.",
            "1 of 3 nodes are handed over and stay so; no other one was begun. Mend b, c, then",
        ):
            assert words in str(raised.value)
        kept = record.read(api)
        assert kept and kept.failed and "b can't be handed over" in kept.failed.reason

    def test_or_is_left_for_a_look(self, gone_back: list[str]) -> None:
        api = World("a")
        api.broken = {"a"}
        with pytest.raises(ProcedureError, match="a was left as it is, for a look"):
            run(api, order(keep=True))
        assert gone_back == []

    def test_one_that_cannot_be_drained_is_as_it_was(
        self, gone_back: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(*_: Any, **__: Any) -> None:
            raise ProcedureError("shop/web: The disruption budget all")

        monkeypatch.setattr(draining, "cordon", lambda *_: True)
        monkeypatch.setattr(draining, "uncordon", lambda *_: True)
        monkeypatch.setattr(draining, "evict", refused)
        with pytest.raises(ProcedureError, match=r"Nothing was changed on a\."):
            run(World("a"), order(), drain=True)
        assert gone_back == []


class TestWhatAgentsStartWith:
    """What `_prepare` gives the agents that restart from then on."""

    AGENTS = "/apis/apps/v1/namespaces/kube-system/daemonsets/cilium"

    def prepared(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        live: dict[str, str],
        coming: dict[str, str],
        replaces: bool = True,
        version: str = "v2",
    ) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
        """The CiliumNodeConfig, the agents' DaemonSet, and what was said."""
        api = World("a")
        api.put(config_map("cilium-config", **live))
        api.objects[f"/apis/cilium.io/{version}"] = {"resources": [{"name": "ciliumnodeconfigs"}]}
        api.merge(self.AGENTS, {"spec": {"template": {"spec": {"containers": [{"name": "mesh"}, {"name": "agent"}]}}}})
        template = {
            "metadata": {"annotations": {"cilium.io/cilium-configmap-checksum": "new"}},
            "spec": {
                "containers": [{"name": "agent", "env": [{"name": "KUBERNETES_SERVICE_HOST", "value": "10.0.0.9"}]}]
            },
        }
        monkeypatch.setattr(handing_over, "_rendered", lambda *_: handing_over._Coming(coming, template))
        said: list[str] = []
        handing_over._prepare(api, order(), replaces, said.append)
        name = f"kube-proxy-replacement-{'on' if replaces else 'off'}"
        path = f"/apis/cilium.io/{version}/namespaces/kube-system/ciliumnodeconfigs/{name}"
        return api.get(path), api.get(self.AGENTS), said

    def test_on_a_labelled_node_what_the_release_will_say_and_the_live_one_does_not(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config, agents, said = self.prepared(
            monkeypatch,
            live={"kube-proxy-replacement": "false", "mtu": "1400", "enable-node-port": "false"},
            coming={"kube-proxy-replacement": "true", "mtu": "1400", "bpf-lb-sock": "true"},
        )
        assert config["spec"]["defaults"] == {
            "kube-proxy-replacement": "true",
            "bpf-lb-sock": "true",
            "enable-node-port": "true",  # which the chart leaves out then, and the live one says
        }
        assert config["spec"]["nodeSelector"]["matchExpressions"][0]["values"] == ["cilium", "both"]
        assert agents["spec"]["updateStrategy"]["type"] == "OnDelete"
        its = agents["spec"]["template"]
        assert its["metadata"]["annotations"]["cilium.io/cilium-configmap-checksum"] == "new"
        assert [container["name"] for container in its["spec"]["containers"]] == ["agent", "mesh"], "and others' stay"
        assert said == []

    def test_what_the_release_takes_out_is_said_and_left_to_its_own_roll_out(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, agents, said = self.prepared(
            monkeypatch,
            live={"kube-proxy-replacement": "false", "debug": "true"},
            coming={"kube-proxy-replacement": "true"},
        )
        assert "the release takes debug out of cilium-config: it restarts every agent once more" in said[0]
        assert "cilium.io/cilium-configmap-checksum" not in json.dumps(agents["spec"]["template"].get("metadata"))

    def test_on_the_way_back_port_10256_is_let_go_and_what_says_nothing_then_stays(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        health = "kube-proxy-replacement-healthz-bind-address"
        config, _, said = self.prepared(
            monkeypatch,
            live={"kube-proxy-replacement": "true", health: "0.0.0.0:10256", "bpf-lb-algorithm": "maglev"},
            coming={"kube-proxy-replacement": "false"},
            replaces=False,
        )
        assert config["spec"]["defaults"] == {"kube-proxy-replacement": "false", health: ""}
        assert config["spec"]["nodeSelector"]["matchExpressions"][0]["values"] == ["kube-proxy"]
        assert said == []

    def test_an_older_api_has_them_in_an_older_version(self, monkeypatch: pytest.MonkeyPatch) -> None:
        config, *_ = self.prepared(monkeypatch, live={}, coming={"kube-proxy-replacement": "true"}, version="v2alpha1")
        assert config["apiVersion"] == "cilium.io/v2alpha1"


def test_somebody_elses_node_config_stands_against_ours_only_where_it_says_who_replaces() -> None:
    api = FakeApi()
    for name, defaults in (("theirs", {"kube-proxy-replacement": "false"}), ("mtu", {"mtu": "1400"})):
        api.create(
            "/apis/cilium.io/v2/namespaces/kube-system/ciliumnodeconfigs",
            {"metadata": {"name": name}, "spec": {"defaults": defaults}},
        )
    node_config.write(api, "kube-system", "v2", replaces=True, defaults={"kube-proxy-replacement": "true"})
    assert node_config.others(api, "kube-system", "v2") == ["theirs"]


@pytest.mark.parametrize("replaces", [True, False])
def test_the_way_ends_in_the_last_step_of_an_up_in_both_modes(replaces: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    api = World("a")
    record.write(api, Record("uid-a", "kube-system/cilium"))
    routing.write(api, "a", routing.CILIUM if replaces else routing.KUBE_PROXY)
    done = rollout.Rollout({}, ())
    monkeypatch.setattr(rollout, "wait", lambda *_, **__: done)
    monkeypatch.setattr(cleaning, "clean", lambda _, kept, *__, **___: kept)
    its_order = dataclasses.replace(order(), mode="replace" if replaces else "coexist")
    steps.agents_switched(api, its_order, lambda _: None)
    assert routing.labelled(api) == {}
