from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from kube_proxy_replacement.cluster import agents
from kube_proxy_replacement.cluster.agents import Agent
from kube_proxy_replacement.cluster.errors import ApiError, ProcedureError, UnreachableError
from kube_proxy_replacement.cluster.exec import ExecResult

from .fakes import FakeApi, agent_answers, agent_pod, agents_daemon_set, node, revision, sample

NAMESPACE = "kube-system"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
STALE = "cilium-1.20.2-iptables-save-stale.txt"


def cluster(*names: str) -> FakeApi:
    api = FakeApi().put(*(agent_pod(name) for name in names))
    api.on_exec = lambda namespace, pod, container, command: agent_answers(command)
    return api


def execs(api: FakeApi) -> list[str]:
    return [call[1] for call in api.calls if call[0] == "EXEC"]


def found(api: FakeApi) -> list[Agent]:
    return list(agents.find(api, NAMESPACE).values())


class TestFind:
    def test_an_agent_as_the_api_server_has_it(self) -> None:
        api = FakeApi().put(agent_pod("n1", suffix="x", hash_="hash-7", started="2026-11-02T03:04:05Z"))
        assert agents.find(api, NAMESPACE) == {
            "n1": Agent(
                node="n1",
                pod="cilium-n1-x",
                uid="uid-of-cilium-n1-x",
                ready=True,
                revision="hash-7",
                started="2026-11-02T03:04:05Z",
                waiting="",
            )
        }

    def test_a_cluster_without_cilium_has_none(self) -> None:
        assert agents.find(FakeApi(), NAMESPACE) == {}

    def test_one_that_is_being_deleted_is_none(self) -> None:
        old = agent_pod("n1", suffix="old")
        old["metadata"]["deletionTimestamp"] = "2026-11-01T00:00:00Z"
        api = FakeApi().put(old, agent_pod("n1", suffix="new"))
        assert [agent.pod for agent in found(api)] == ["cilium-n1-new"]

    def test_one_that_has_no_node_yet_is_none(self) -> None:
        pod = agent_pod("n1")
        del pod["spec"]["nodeName"]
        assert found(FakeApi().put(pod)) == []

    def test_other_pods_of_the_namespace_are_none(self) -> None:
        operator = agent_pod("n1")
        operator["metadata"]["labels"] = {"io.cilium/app": "operator"}
        assert found(FakeApi().put(operator)) == []

    def test_one_that_has_not_started_has_no_time(self) -> None:
        pod = agent_pod("n1", ready=False, state={"waiting": {"reason": "PodInitializing"}})
        assert [(agent.started, agent.ready, agent.waiting) for agent in found(FakeApi().put(pod))] == [("", False, "")]

    @pytest.mark.parametrize(
        ("state", "last", "said"),
        [
            (
                {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}},
                None,
                ["cilium-agent", "ImagePullBackOff", "no such tag"],
            ),
            (
                {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}},
                {"reason": "Error", "message": "level=fatal msg=port 10256 in use"},
                ["cilium-agent", "CrashLoopBackOff", "port 10256 in use"],
            ),
            (
                {"running": {"startedAt": "2026-11-01T10:00:00Z"}},
                {"reason": "OOMKilled"},
                ["cilium-agent", "OOMKilled"],
            ),
        ],
    )
    def test_why_it_does_not_run_is_in_the_kubelet_s_and_its_own_words(
        self, state: dict[str, Any], last: dict[str, Any] | None, said: list[str]
    ) -> None:
        (agent,) = found(FakeApi().put(agent_pod("n1", ready=False, state=state, last=last)))
        assert all(word in agent.waiting for word in said)

    def test_an_init_container_that_fails_is_named(self) -> None:
        pod = agent_pod("n1", ready=False, state={"waiting": {"reason": "PodInitializing"}})
        pod["status"]["initContainerStatuses"] = [
            {
                "name": "config",
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"reason": "Error", "message": "dial tcp 192.0.2.10:6443: i/o timeout"}},
            }
        ]
        (agent,) = found(FakeApi().put(pod))
        assert "container config" in agent.waiting
        assert "192.0.2.10:6443: i/o timeout" in agent.waiting


class TestRevision:
    def owner(self, **more: Any) -> dict[str, Any]:
        return agents_daemon_set(**more)

    def test_the_newest_of_the_daemon_set_counts_not_the_last_name(self) -> None:
        owner = self.owner()
        api = FakeApi().put(*(revision(number, owner) for number in (2, 10, 9)))
        assert agents.revision(api, NAMESPACE, owner) == "hash-10"

    def test_until_the_controller_has_seen_the_template_there_is_none(self) -> None:
        owner = self.owner(generation=3, observed=2)
        assert agents.revision(FakeApi().put(revision(2, owner)), NAMESPACE, owner) == ""

    def test_a_controller_that_has_seen_nothing_yet(self) -> None:
        owner = self.owner()
        del owner["status"]
        assert agents.revision(FakeApi().put(revision(1, owner)), NAMESPACE, owner) == ""

    def test_revisions_of_another_daemon_set_do_not_count(self) -> None:
        owner, other = self.owner(), self.owner()
        other["metadata"] |= {"name": "other", "uid": "uid-of-other"}
        api = FakeApi().put(revision(1, owner), revision(5, other))
        assert agents.revision(api, NAMESPACE, owner) == "hash-1"

    def test_without_one_there_is_none(self) -> None:
        assert agents.revision(FakeApi(), NAMESPACE, self.owner()) == ""


class TestRead:
    def test_each_by_its_node(self) -> None:
        api = cluster("n1", "n2")
        readings = agents.read(api, NAMESPACE, found(api))
        assert set(readings) == {"n1", "n2"}
        assert all(reading.answer and reading.answer.switched and not reading.error for reading in readings.values())

    def test_its_own_container_is_asked_for_status_and_endpoints(self) -> None:
        api = cluster("n1")
        agents.read(api, NAMESPACE, found(api))
        (call,) = execs(api)
        assert call.startswith("kube-system/cilium-n1-a/cilium-agent: sh -c ")
        assert "; cilium-dbg status -o json; " in call
        assert "; cilium-dbg endpoint list -o json; " in call
        assert "-save" not in call

    def test_its_node_s_leftover_rules_are_counted_in_the_same_exec(self) -> None:
        api = cluster("n1", "n2")
        api.on_exec = lambda namespace, pod, container, command: agent_answers(
            command, saves=sample(STALE) if pod == "cilium-n2-a" else ""
        )
        readings = agents.read(api, NAMESPACE, found(api), leftover=True)
        assert {name: reading.leftover for name, reading in readings.items()} == {"n1": 0, "n2": 93}
        assert all(reading.answer for reading in readings.values())
        assert len(execs(api)) == 2

    def test_they_are_not_asked_for_where_nobody_wants_them(self) -> None:
        api = cluster("n1")
        assert agents.read(api, NAMESPACE, found(api))["n1"].leftover is None

    @pytest.mark.parametrize("broken", ["cilium-dbg", "iptables-nft-save"])
    def test_one_part_that_fails_takes_no_other_with_it(self, broken: str) -> None:
        api = cluster("n1")

        def answers(namespace: str, pod: str, container: str, command: Sequence[str]) -> ExecResult:
            return ExecResult("", "segmentation fault", 139) if command[0] == broken else agent_answers(command)

        api.on_exec = answers
        reading = agents.read(api, NAMESPACE, found(api), leftover=True)["n1"]
        left, error = (0, reading.error) if broken == "cilium-dbg" else (reading.leftover, reading.leftover)
        assert reading.leftover == left
        assert bool(reading.answer) == (broken != "cilium-dbg")
        assert "n1 ended with exit code 139: segmentation fault" in str(error)

    def test_without_its_endpoints_none_is_switched(self) -> None:
        api = cluster("n1")
        reading = agents.read(api, NAMESPACE, found(api), endpoints=False)["n1"]
        assert reading.answer is not None
        assert reading.answer.replacing
        assert not reading.answer.switched
        assert "endpoint" not in execs(api)[0]

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (UnreachableError("no answer within 30 s"), "no answer within 30 s"),
            (ApiError("container not found", status=404, reason=""), "container not found"),
            (ExecResult("", "Cannot get status: connection refused", 1), "exit code 1: Cannot get status"),
            (ExecResult("Error: agent is starting", "", 0), "no JSON"),
            (ExecResult("{}", "", 0), "kube-proxy-replacement"),
        ],
    )
    def test_one_that_cannot_be_read_says_why_and_the_others_are_read(
        self, answer: Exception | ExecResult, said: str
    ) -> None:
        api = cluster("n1", "n2", "n3")

        def answers(namespace: str, pod: str, container: str, command: Sequence[str]) -> ExecResult:
            if pod != "cilium-n2-a":
                return agent_answers(command)
            if isinstance(answer, Exception):
                raise answer
            return answer

        api.on_exec = answers
        readings = agents.read(api, NAMESPACE, found(api))
        assert readings["n2"].answer is None
        assert said in readings["n2"].error
        assert readings["n1"].answer == readings["n3"].answer is not None

    def test_one_whose_endpoints_cannot_be_read_is_not_read(self) -> None:
        api = cluster("n1")

        def answers(namespace: str, pod: str, container: str, command: Sequence[str]) -> ExecResult:
            return ExecResult("", "timeout", 1) if "endpoint" in command else agent_answers(command)

        api.on_exec = answers
        assert agents.read(api, NAMESPACE, found(api))["n1"].answer is None

    def test_one_that_is_not_ready_is_not_asked(self) -> None:
        api = FakeApi().put(agent_pod("n1", ready=False))
        reading = agents.read(api, NAMESPACE, found(api))["n1"]
        assert reading.answer is None
        assert reading.error
        assert execs(api) == []

    def test_many_are_read_at_a_time(self) -> None:
        """Each waits until all eight are asked: read one after the other, the first would wait for ever."""
        names = [f"n{number}" for number in range(8)]
        api = cluster(*names)
        together = threading.Barrier(8, timeout=10)

        def answers(namespace: str, pod: str, container: str, command: Sequence[str]) -> ExecResult:
            together.wait()
            return agent_answers(command)

        api.on_exec = answers
        readings = agents.read(api, NAMESPACE, found(api), endpoints=False)
        assert all(reading.answer for reading in readings.values())

    def test_none_are_none(self) -> None:
        assert agents.read(FakeApi(), NAMESPACE, []) == {}


class TestLeftoverRules:
    def saves(self, **text: str) -> FakeApi:
        api = cluster("n1")

        def answers(namespace: str, pod: str, container: str, command: Sequence[str]) -> ExecResult:
            assert list(command) == [command[0]]
            return ExecResult(text.get(command[0].replace("-", "_"), ""), "", 0)

        api.on_exec = answers
        return api

    @pytest.mark.parametrize(
        "save", ["iptables_nft_save", "ip6tables_nft_save", "iptables_legacy_save", "ip6tables_legacy_save"]
    )
    def test_both_backends_and_both_families_are_counted(self, save: str) -> None:
        api = self.saves(**{save: sample(STALE)})
        assert agents.leftover_rules(api, NAMESPACE, found(api)) == {"n1": 93}

    def test_they_add_up(self) -> None:
        api = self.saves(iptables_nft_save=sample(STALE), iptables_legacy_save=":KUBE-SERVICES - [0:0]\n")
        assert agents.leftover_rules(api, NAMESPACE, found(api)) == {"n1": 94}

    def test_a_clean_node_has_none(self) -> None:
        api = self.saves(iptables_nft_save=sample("cilium-1.20.2-iptables-save-cleaned.txt"))
        assert agents.leftover_rules(api, NAMESPACE, found(api)) == {"n1": 0}

    @pytest.mark.parametrize("broken", ["iptables-nft-save", "ip6tables-legacy-save"])
    def test_one_that_cannot_be_read_is_a_reason_and_no_count(self, broken: str) -> None:
        api = cluster("n1", "n2")

        def answers(namespace: str, pod: str, container: str, command: Sequence[str]) -> ExecResult:
            if pod == "cilium-n1-a" and command[0] == broken:
                return ExecResult("", "permission denied", 4)
            return ExecResult("", "", 0)

        api.on_exec = answers
        counted = agents.leftover_rules(api, NAMESPACE, found(api))
        assert counted["n2"] == 0
        assert f"{broken} on n1 ended with exit code 4: permission denied" in str(counted["n1"])


class TestRestart:
    @staticmethod
    def with_a_controller(*names: str, maximum: int | str = 1) -> tuple[FakeApi, list[str]]:
        """A cluster whose DaemonSet makes each deleted agent anew; and what happened: «-n1» deleted, «?» looked."""
        owner = agents_daemon_set()
        owner["spec"]["updateStrategy"] = {"rollingUpdate": {"maxUnavailable": maximum}}
        api, events = cluster(*names).put(owner, *map(node, names)), []

        def answer(method: str, path: str) -> None:
            name = path.rpartition("cilium-")[2].removesuffix("-a")
            if method == "DELETE" and path in api.objects:
                events.append(f"-{name}")
                api.put(agent_pod(name, suffix="new"))
            elif path == PODS:
                events.append("?")

        api.on_call = answer
        return api, events

    def restart(self, api: FakeApi, *uids: str, patience: float = 5) -> list[str]:
        said: list[str] = []
        agents.restart(api, NAMESPACE, uids, patience=patience, say=said.append)
        return said

    def test_those_that_are_named_and_no_others(self) -> None:
        api, _ = self.with_a_controller("n1", "n2", "n3")
        said = self.restart(api, "uid-of-cilium-n2-a")
        assert {agent.node for agent in found(api) if agent.uid.endswith("-a")} == {"n1", "n3"}
        assert len(said) == 1
        assert "n2" in said[0]

    @pytest.mark.parametrize(("maximum", "most"), [(1, 1), (2, 2), ("50%", 2), ("10%", 1)])
    def test_never_more_at_a_time_than_the_daemonset_would(self, maximum: int | str, most: int) -> None:
        names = ["n1", "n2", "n3", "n4"]
        api, events = self.with_a_controller(*names, maximum=maximum)
        self.restart(api, *(f"uid-of-cilium-{name}-a" for name in names))
        batches = [len(batch.split("-")) - 1 for batch in "".join(events).split("?") if batch]
        assert sum(batches) == len(names)
        assert max(batches) == most

    def test_one_whose_successor_does_not_get_ready_is_named_and_the_next_stays(self) -> None:
        api, _ = self.with_a_controller("n1", "n2")
        api.on_call = lambda *_: None
        with pytest.raises(ProcedureError, match=r"(?s)don't get ready:\n  n1: no agent pod yet\nThe others"):
            self.restart(api, "uid-of-cilium-n1-a", "uid-of-cilium-n2-a", patience=0)
        assert {agent.node for agent in found(api)} == {"n2"}

    def test_one_that_has_been_restarted_since_stays(self) -> None:
        api, _ = self.with_a_controller("n1")
        self.restart(api, "uid-of-an-older-pod")
        assert api.changes() == []

    def test_without_names_nothing_is_asked_to_go(self) -> None:
        api, _ = self.with_a_controller("n1")
        self.restart(api)
        assert api.changes() == []

    def test_one_that_was_exchanged_in_between_stays(self) -> None:
        api, _ = self.with_a_controller("n1")

        def exchange(method: str, path: str) -> None:
            if method == "DELETE":
                api.objects[path]["metadata"]["uid"] = "another"

        api.on_call = exchange
        self.restart(api, "uid-of-cilium-n1-a")
        assert f"{PODS}/cilium-n1-a" in api.objects
