from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from kube_proxy_replacement import status_reading
from kube_proxy_replacement.cluster import record, routing
from kube_proxy_replacement.cluster.errors import ProcedureError, UnreachableError
from kube_proxy_replacement.cluster.exec import ExecResult
from kube_proxy_replacement.cluster.told import Order

from .fakes import FakeApi, agent_answers, agent_pod, kubeadm_objects, namespace, node, sample

ORDER = Order("uid-a", "replace", "kube-system", "cilium", "192.0.2.1", 6443, "", 600)
INPUTS = {"cluster": "uid-a", "namespace": "kube-system", "order": ORDER.to_json(), "mark": "m", "revision": "3"}
LEFTOVER = "cilium-1.20.2-iptables-save-stale.txt"
LEFTOVER_LINES = 93  # as test_rules counts them on that real node


class Agents:
    """A cluster with agents on n1, n2, …; `says` and `saves` are by node, an exception in `says` is raised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.api = FakeApi().put(namespace("kube-system", "uid-a"), *(node(name) for name in names))
        self.api.put(*(agent_pod(name) for name in names))
        self.says: dict[str, Any] = {}
        self.saves: dict[str, str] = {}
        self.connected: tuple[Any, ...] = ()
        self.api.on_exec = self._answer
        outer = self

        class Connect:
            @staticmethod
            def connect(*given: Any, **_: Any) -> FakeApi:
                outer.connected = given
                return outer.api

        monkeypatch.setattr(status_reading, "Api", Connect)

    def _answer(self, namespace: str, pod: str, container: str, command: Sequence[str]) -> ExecResult:
        name = pod.split("-")[1]
        says = self.says.get(name, "replace")
        if isinstance(says, Exception):
            raise says
        return agent_answers(command, says, self.saves.get(name, ""))

    def read(self, **inputs: Any) -> dict[str, Any]:
        outs: dict[str, Any] = status_reading.create({**INPUTS, **inputs}).outs
        return outs


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Agents:
    return Agents(monkeypatch, "n1", "n2", "n3")


class TestWhatAllSay:
    def test_three_that_are_switched(self, three: Agents) -> None:
        outs = three.read()
        assert outs["kubeProxyReplacement"] == "True"
        assert outs["agents"] == {"desired": 3, "ready": 3, "replacing": 3, "switched": 3, "unreadable": 0}

    def test_three_beside_kube_proxy(self, three: Agents) -> None:
        three.says = dict.fromkeys(("n1", "n2", "n3"), "kube-proxy")
        outs = three.read()
        assert outs["kubeProxyReplacement"] == "False"
        assert outs["agents"] == {"desired": 3, "ready": 3, "replacing": 0, "switched": 0, "unreadable": 0}

    def test_some_of_both_are_mixed(self, three: Agents) -> None:
        three.says = {"n2": "kube-proxy"}
        outs = three.read()
        assert outs["kubeProxyReplacement"] == "Mixed"
        assert outs["agents"]["replacing"] == 2

    def test_true_and_ready_is_not_switched_while_endpoints_are_not(self, three: Agents) -> None:
        three.says = {"n3": "ready-not-switched"}
        outs = three.read()
        assert outs["kubeProxyReplacement"] == "True"
        assert outs["agents"] == {"desired": 3, "ready": 3, "replacing": 3, "switched": 2, "unreadable": 0}

    def test_where_nothing_is_known_it_is_unknown(self, three: Agents) -> None:
        three.says = dict.fromkeys(("n1", "n2", "n3"), UnreachableError("no answer within 30 s"))
        outs = three.read()
        assert outs["kubeProxyReplacement"] == "Unknown"
        assert outs["agents"]["unreadable"] == 3

    def test_one_that_is_not_known_makes_it_mixed(self, three: Agents) -> None:
        three.says = {"n1": UnreachableError("no answer within 30 s")}
        assert three.read()["kubeProxyReplacement"] == "Mixed"

    def test_a_cluster_without_agents(self, monkeypatch: pytest.MonkeyPatch) -> None:
        bare = Agents(monkeypatch, "n1")
        del bare.api.objects["/api/v1/namespaces/kube-system/pods/cilium-n1-a"]
        outs = bare.read()
        assert outs["kubeProxyReplacement"] == "Unknown"
        assert outs["agents"] == {"desired": 1, "ready": 0, "replacing": 0, "switched": 0, "unreadable": 1}
        assert "no agent" in outs["nodes"]["n1"]["error"]

    def test_an_agent_that_replaces_in_part_is_mixed(self, three: Agents) -> None:
        def answer(namespace: str, pod: str, container: str, command: Sequence[str]) -> ExecResult:
            result = agent_answers(command)
            return ExecResult(result.stdout.replace('"mode": "True"', '"mode": "Partial"'), "", 0)

        three.api.on_exec = answer
        assert three.read()["kubeProxyReplacement"] in ("True", "False", "Mixed", "Unknown")


class TestHowFarTheNodesAre:
    def test_all_of_them(self, three: Agents) -> None:
        assert three.read()["handOver"] == {"done": 3, "total": 3, "failed": [], "now": []}

    def test_in_the_other_mode_it_is_the_others(self, three: Agents) -> None:
        three.says = {"n2": "kube-proxy"}
        order = replace(ORDER, mode="coexist").to_json()
        assert three.read(order=order)["handOver"] == {"done": 1, "total": 3, "failed": ["n1", "n3"], "now": []}

    def test_one_in_its_turn_has_not_failed_nor_has_one_that_is_not_ready(self, three: Agents) -> None:
        three.says = {"n2": "kube-proxy", "n3": "kube-proxy"}
        three.api.put(node("n2", labels={routing.LABEL: routing.CILIUM}), node("n3", ready=False))
        assert three.read()["handOver"] == {"done": 1, "total": 3, "failed": [], "now": ["n2"]}


class TestANodesLine:
    def test_what_a_real_agent_says(self, three: Agents) -> None:
        line = three.read()["nodes"]["n1"]
        assert set(line) == {
            "kubeProxyReplacement",
            "ready",
            "version",
            "devices",
            "features",
            "leftoverRules",
            "error",
        }
        assert (line["kubeProxyReplacement"], line["ready"], line["version"]) == ("True", True, "1.20.2")
        assert line["features"]["nodePort"] is True
        assert (line["leftoverRules"], line["error"]) == (0, "")

    def test_its_leftover_rules_are_counted(self, three: Agents) -> None:
        three.saves = {"n2": sample(LEFTOVER)}
        nodes = three.read()["nodes"]
        assert {name: line["leftoverRules"] for name, line in nodes.items()} == {"n1": 0, "n2": LEFTOVER_LINES, "n3": 0}

    def test_an_agent_that_cannot_be_read_is_a_line_with_the_reason_and_the_others_are_read(
        self, three: Agents
    ) -> None:
        three.says = {"n2": UnreachableError("cilium-dbg in kube-system/cilium-n2-a: no answer within 30 s")}
        outs = three.read()
        assert outs["nodes"]["n2"] == {
            "kubeProxyReplacement": "Unknown",
            "ready": True,
            "version": "",
            "devices": [],
            "features": {},
            "leftoverRules": -1,
            "error": "cilium-dbg in kube-system/cilium-n2-a: no answer within 30 s",
        }
        assert outs["agents"] == {"desired": 3, "ready": 3, "replacing": 2, "switched": 2, "unreadable": 1}

    def test_an_agent_that_is_not_ready_is_not_asked_and_its_line_says_why(self, three: Agents) -> None:
        state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m"}}
        three.api.put(agent_pod("n3", ready=False, state=state))
        outs = three.read()
        assert outs["nodes"]["n3"]["ready"] is False
        assert "CrashLoopBackOff" in outs["nodes"]["n3"]["error"]
        assert not [call for call in three.api.calls if call[0] == "EXEC" and "cilium-n3" in call[1]]

    def test_a_node_without_an_agent_is_a_line_too(self, three: Agents) -> None:
        three.api.put(node("n4"))
        outs = three.read()
        assert "no agent" in outs["nodes"]["n4"]["error"]
        assert outs["agents"]["desired"] == 4

    def test_rules_that_cannot_be_read_are_its_error(self, three: Agents) -> None:
        def answer(namespace: str, pod: str, container: str, command: Sequence[str]) -> ExecResult:
            if command[0] == "ip6tables-legacy-save":
                return ExecResult("", "cannot open /proc", 3)
            return agent_answers(command)

        three.api.on_exec = answer
        line = three.read()["nodes"]["n1"]
        assert line["leftoverRules"] == -1
        assert "ip6tables-legacy-save on n1 ended with exit code 3: cannot open /proc" in line["error"]
        assert line["kubeProxyReplacement"] == "True"

    def test_windows_and_virtual_nodes_have_no_line(self, three: Agents) -> None:
        three.api.put(node("w1", os="windows"), node("v1", labels={"type": "virtual-kubelet"}))
        assert set(three.read()["nodes"]) == {"n1", "n2", "n3"}


class TestKubeProxy:
    def test_where_there_is_none_and_never_was(self, three: Agents) -> None:
        assert three.read()["kubeProxy"] == {"present": False, "backup": ""}

    def test_where_it_is_there(self, three: Agents) -> None:
        three.api.put(kubeadm_objects()["daemonset"])
        assert three.read()["kubeProxy"] == {"present": True, "backup": ""}

    def test_where_its_backup_lies(self, three: Agents) -> None:
        bare = record.bare(kubeadm_objects()["daemonset"])
        record.write(three.api, record.Record(cluster="uid-a", release="kube-system/cilium", daemonset=bare))
        assert three.read()["kubeProxy"] == {"present": False, "backup": "kube-system/kube-proxy-replacement"}

    def test_a_record_without_a_kube_proxy_is_no_backup(self, three: Agents) -> None:
        record.write(three.api, record.Record(cluster="uid-a", release="kube-system/cilium"))
        assert three.read()["kubeProxy"] == {"present": False, "backup": ""}


class TestTheResource:
    def test_another_cluster_is_refused_with_both_uids_and_no_agent_is_asked(self, three: Agents) -> None:
        with pytest.raises(ProcedureError, match=r"uid-of-stack.*uid-a.*https://10\.0\.0\.1:6443"):
            three.read(cluster="uid-of-stack")
        assert not [call for call in three.api.calls if call[0] == "EXEC"]

    def test_it_is_read_with_the_credentials_that_it_was_given(self, three: Agents) -> None:
        three.read(kubeconfig="content", kubeContext="prod")
        assert three.connected == ("content", "prod")

    def test_the_inputs_stay_beside_what_was_read_on_create_and_update_alike(self, three: Agents) -> None:
        created = status_reading.create(INPUTS).outs
        assert {key: created[key] for key in INPUTS} == INPUTS
        assert status_reading.update(INPUTS).outs == created

    def test_agents_of_another_namespace_are_found_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        it = Agents(monkeypatch, "n1")
        del it.api.objects["/api/v1/namespaces/kube-system/pods/cilium-n1-a"]
        it.api.put(agent_pod("n1", namespace="network"))
        assert it.read(namespace="network")["agents"]["switched"] == 1

    def test_nothing_is_changed(self, three: Agents) -> None:
        three.read()
        assert three.api.changes() == []
