from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from kube_proxy_replacement.cluster import agents, cleaning, ipvs, node_pods, record
from kube_proxy_replacement.cluster.errors import ProcedureError
from kube_proxy_replacement.cluster.exec import ExecResult
from kube_proxy_replacement.cluster.nodes import Node
from kube_proxy_replacement.cluster.record import Record, bare

from .fakes import Clock, FakeApi, agent_answers, agent_pod, kubeadm_objects, sample, service
from .fakes import node as a_node

PODS = "/api/v1/namespaces/kube-system/pods"
NODES = [Node(name, f"uid-of-{name}", True, {}, ()) for name in ("n1", "n2", "n3")]
ALL = frozenset(node.uid for node in NODES)
STALE = "cilium-1.20.2-iptables-save-stale.txt"
CLEANED = "cilium-1.20.2-iptables-save-cleaned.txt"
FAILED = {
    "phase": "Failed",
    "containerStatuses": [{"name": "clean", "state": {"terminated": {"exitCode": 1, "message": "locked"}}}],
}


def backup(mode: str = "", **changes: Any) -> Record:
    objects = kubeadm_objects()
    data = objects["configmap"]["data"]
    data["config.conf"] = data["config.conf"].replace('mode: ""', f"mode: {mode}")
    full = Record(
        cluster="uid-a",
        release="kube-system/cilium",
        daemonset=bare(objects["daemonset"]),
        configmap=bare(objects["configmap"]),
        uncleaned=ALL,
    )
    return replace(full, **changes)


class World(FakeApi):
    """Three nodes with switched agents; cleaning pods end as `status` says by node, and clean where they end well.

    Attributes:
        stays: the nodes whose rules stay whatever is done; an ExecResult is what reading them gives.
    """

    def __init__(self) -> None:
        super().__init__()
        self.status: dict[str, Any] = {}
        self.stays: dict[str, ExecResult | None] = {}
        self.cleaned: set[str] = set()
        self.said: list[str] = []
        self.put(*(agent_pod(node.name) for node in NODES))
        self.on_call = self._kubelets
        self.on_exec = self._rules

    def _kubelets(self, method: str, path: str) -> None:
        if method != "LIST":
            return
        for path_, body in self.objects.items():
            if "kube-proxy-replacement-clean" in path_:
                name = body["spec"]["nodeName"]
                body["status"] = self.status.get(name, {"phase": "Succeeded"})
                if body["status"]["phase"] == "Succeeded":
                    self.cleaned.add(name)

    def _rules(self, namespace: str, pod: str, container: str, command: Sequence[str]) -> ExecResult:
        name = pod.split("-")[1]
        result = self.stays.get(name)
        if result:
            return result
        stale = name not in self.cleaned or name in self.stays
        return agent_answers(command, saves=sample(STALE if stale else CLEANED))

    def clean(self, kept: Record, *switched: str, timeout: float = 10) -> None:
        record.write(self, kept)
        self.calls.clear()
        self.bodies.clear()
        found = agents.find(self, "kube-system")
        cleaning.clean(
            self,
            kept,
            NODES,
            {name: found[name] for name in switched or ("n1", "n2", "n3")},
            "kube-system",
            timeout=timeout,
            say=self.said.append,
        )

    def pods(self) -> dict[str, Any]:
        """The specs of the pods that were made, by node."""
        return {body["spec"]["nodeName"]: body["spec"] for method, path, body in self.bodies if path == PODS}

    @property
    def uncleaned(self) -> frozenset[str]:
        kept = record.read(self)
        assert kept is not None
        return kept.uncleaned


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(node_pods, "time", Clock(pace=5))
    return World()


class TestWhichNodes:
    def test_every_node_is_cleaned_and_the_record_says_so(self, world: World) -> None:
        world.clean(backup())
        assert set(world.pods()) == {"n1", "n2", "n3"}
        assert world.uncleaned == frozenset()

    def test_nodes_that_are_cleaned_already_are_left_out(self, world: World) -> None:
        world.cleaned = {"n1", "n3"}
        world.clean(backup(uncleaned=frozenset({"uid-of-n2"})))
        assert set(world.pods()) == {"n2"}

    def test_where_all_are_cleaned_no_pod_is_made_and_nothing_written(self, world: World) -> None:
        world.cleaned = {"n1", "n2", "n3"}
        world.clean(backup(uncleaned=frozenset()))
        assert world.changes() == []

    def test_rules_that_have_come_back_to_a_cleaned_node_are_cleaned_again(self, world: World) -> None:
        world.cleaned = {"n1", "n2"}
        world.clean(backup(uncleaned=frozenset()))
        assert set(world.pods()) == {"n3"}
        assert world.uncleaned == frozenset()

    def test_a_cleaned_node_whose_rules_cannot_be_read_is_left_as_it_is(self, world: World) -> None:
        world.cleaned = {"n1", "n3"}
        world.stays = {"n2": ExecResult("", "no such file", 1)}
        world.clean(backup(uncleaned=frozenset()))
        assert world.pods() == {}

    def test_no_node_is_touched_without_a_switched_agent(self, world: World) -> None:
        world.clean(backup(), "n1", "n3")
        assert set(world.pods()) == {"n1", "n3"}
        assert world.uncleaned == {"uid-of-n2"}

    def test_a_cluster_that_had_no_kube_proxy_has_nothing_to_clean(self, world: World) -> None:
        world.clean(Record(cluster="uid-a", release="kube-system/cilium", uncleaned=ALL))
        assert world.changes() == []
        assert "no kube-proxy" in world.said[0]

    def test_a_node_that_is_away_stays_to_be_cleaned(self, world: World) -> None:
        world.clean(backup(uncleaned=ALL | {"uid-of-n4"}))
        assert world.uncleaned == {"uid-of-n4"}


class TestOutcome:
    def test_each_node_is_told(self, world: World) -> None:
        world.clean(backup())
        assert [text for text in world.said if "cleaned, no leftover rules" in text] == [
            "n1: cleaned, no leftover rules",
            "n2: cleaned, no leftover rules",
            "n3: cleaned, no leftover rules",
        ]

    def test_rules_that_are_still_there_fail_it_with_the_node_and_the_others_are_recorded(self, world: World) -> None:
        world.stays = {"n2": None}
        with pytest.raises(ProcedureError, match=r"(?s)1 of 3 nodes.*n2: cleaned, but its rules are: 93 lines") as c:
            world.clean(backup())
        assert "n1:" not in str(c.value)
        assert world.uncleaned == {"uid-of-n2"}

    def test_a_pod_that_failed_fails_it_with_node_and_reason(self, world: World) -> None:
        world.status = {"n3": FAILED}
        with pytest.raises(ProcedureError, match=r"(?s)n3: exit code 1: locked.*Cilium routes|Cilium routes.*n3: exit"):
            world.clean(backup())
        assert world.uncleaned == {"uid-of-n3"}

    def test_a_pod_that_failed_counts_although_no_rule_is_left(self, world: World) -> None:
        world.status = {"n3": FAILED}
        world.cleaned.add("n3")
        with pytest.raises(ProcedureError, match="n3: exit code 1"):
            world.clean(backup())
        assert world.uncleaned == {"uid-of-n3"}

    def test_rules_that_cannot_be_read_are_not_taken_for_none(self, world: World) -> None:
        world.stays = {"n1": ExecResult("", "no such program", 127)}
        with pytest.raises(ProcedureError, match=r"n1: .*not readable.*exit code 127"):
            world.clean(backup())
        assert world.uncleaned == {"uid-of-n1"}

    def test_pods_that_never_start_fail_their_nodes_and_the_record_is_written(self, world: World) -> None:
        world.status = {"n1": {"phase": "Pending"}, "n2": {"phase": "Pending"}}
        with pytest.raises(ProcedureError, match=r"(?s)2 of 3.*n1: its pod is still Pending.*n2: "):
            world.clean(backup())
        assert world.uncleaned == {"uid-of-n1", "uid-of-n2"}

    def test_the_rest_of_the_record_stays(self, world: World) -> None:
        kept = backup(kubeadm={"before": "a", "after": "b"})
        world.clean(kept)
        assert record.read(world) == replace(kept, uncleaned=frozenset())

    def test_the_rules_are_read_after_the_pods_have_ended(self, world: World) -> None:
        world.clean(backup())
        last_pod = max(at for at, call in enumerate(world.calls) if call == ("POST", PODS))
        first_read = min(at for at, call in enumerate(world.calls) if call[0] == "EXEC")
        assert last_pod < first_read

    def test_its_pods_are_gone_afterwards(self, world: World) -> None:
        world.stays = {"n2": None}
        with pytest.raises(ProcedureError):
            world.clean(backup())
        assert not [path for path in world.objects if "replacement-clean" in path]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec["initContainers"], *spec["containers"]]


class TestThePod:
    @pytest.fixture(params=["", "iptables", "nftables"])
    def spec(self, request: pytest.FixtureRequest, world: World) -> dict[str, Any]:
        world.clean(backup(request.param))
        spec: dict[str, Any] = world.pods()["n1"]
        return spec

    def test_it_runs_the_removed_daemon_set_s_own_program_from_its_image(self, spec: dict[str, Any]) -> None:
        first = containers(spec)[0]
        assert first["image"] == "registry.k8s.io/kube-proxy:v1.36.3"
        assert first["command"][:2] == ["/usr/local/bin/kube-proxy", "--cleanup"]
        assert all(its["image"] == first["image"] for its in containers(spec))

    def test_it_has_no_kernel_modules_to_load(self, spec: dict[str, Any]) -> None:
        assert [volume["name"] for volume in spec["volumes"]] == ["xtables-lock"]
        assert "/lib/modules" not in str(spec)

    def test_it_shares_the_lock_that_others_on_the_node_take(self, spec: dict[str, Any]) -> None:
        assert spec["volumes"][0]["hostPath"]["path"] == "/run/xtables.lock"
        for its in containers(spec):
            assert its["volumeMounts"] == [{"name": "xtables-lock", "mountPath": "/run/xtables.lock"}]

    def test_it_may_change_the_kernel_and_knows_no_credentials(self, spec: dict[str, Any]) -> None:
        assert all(its["securityContext"] == {"privileged": True} for its in containers(spec))
        assert spec["automountServiceAccountToken"] is False

    @pytest.mark.parametrize("mode", ["", "iptables"])
    def test_with_iptables_it_is_one_container(self, world: World, mode: str) -> None:
        world.clean(backup(mode))
        assert len(containers(world.pods()["n1"])) == 1
        assert len(world.pods()["n1"]["containers"]) == 1

    def test_with_nftables_a_transaction_after_it_proves_both_tables_gone(self, world: World) -> None:
        world.clean(backup("nftables"))
        spec = world.pods()["n1"]
        assert [its["command"][1] for its in spec["initContainers"]] == ["--cleanup"]
        (proof,) = spec["containers"]
        program, script = proof["command"]
        assert program == "nft"
        assert [part.strip() for part in script.rstrip("; ").split(";")] == [
            "add table ip kube-proxy",
            "delete table ip kube-proxy",
            "add table ip6 kube-proxy",
            "delete table ip6 kube-proxy",
        ]

    @pytest.mark.parametrize(
        ("command", "program"),
        [
            (["/hyperkube/kube-proxy", "--config=x"], "/hyperkube/kube-proxy"),
            (["/bin/sh", "-c", "exec kube-proxy"], "/usr/local/bin/kube-proxy"),
            (None, "/usr/local/bin/kube-proxy"),
        ],
    )
    def test_the_program_s_path_is_the_daemon_set_s(
        self, world: World, command: list[str] | None, program: str
    ) -> None:
        kept = backup()
        assert kept.daemonset is not None
        kept.daemonset["spec"]["template"]["spec"]["containers"][0]["command"] = command
        world.clean(kept)
        assert containers(world.pods()["n1"])[0]["command"][0] == program

    def test_the_image_is_pulled_with_the_daemon_set_s_secrets(self, world: World) -> None:
        kept = backup()
        assert kept.daemonset is not None
        kept.daemonset["spec"]["template"]["spec"]["imagePullSecrets"] = [{"name": "mine"}]
        world.clean(kept)
        assert world.pods()["n1"]["imagePullSecrets"] == [{"name": "mine"}]


class TestIpvs:
    """`ipvs.read` is tested for itself; here, what is done with what it says."""

    OWN = sample("ip_vs-by-hand-kube-proxy.txt")
    OTHERS = sample("ip_vs-by-hand-keepalived.txt")
    SERVICES = ("10.96.0.1", "10.96.141.139", "10.96.0.10", "fd00::1")

    @pytest.fixture
    def held(self, monkeypatch: pytest.MonkeyPatch, world: World) -> dict[str, Any]:
        """What each node's IPVS holds until it is cleaned with modules; a str is why it can't be read."""
        held: dict[str, Any] = {node.name: self.parsed(self.OWN) for node in NODES}

        def read(_api: object, _namespace: str, its_agents: Sequence[agents.Agent], **_: bool) -> dict[str, Any]:
            nothing = self.parsed("", device=False)
            flushed = {name for name, spec in world.pods().items() if "/lib/modules" in str(spec)}
            return {its.node: nothing if its.node in flushed else held[its.node] for its in its_agents}

        monkeypatch.setattr(ipvs, "read", read)
        ports = [{"port": 80, "nodePort": 30064}]
        world.put(service("web", "10.96.141.139", ports=ports))
        return held

    def parsed(self, table: str, *, device: bool = True) -> ipvs.Held:
        own = [{"ifname": "kube-ipvs0", "addr_info": [{"local": ip} for ip in self.SERVICES]}] if device else []
        eth0 = {"ifname": "eth0", "addr_info": [{"local": "10.0.0.11"}, {"local": "fd00::b"}]}
        return ipvs.parse(table, json.dumps([eth0, *own]), "")

    def test_where_all_are_its_own_the_pod_gets_the_modules_to_read(self, world: World, held: object) -> None:
        world.clean(backup("ipvs"))
        spec = world.pods()["n1"]
        assert {"name": "lib-modules", "hostPath": {"path": "/lib/modules"}} in spec["volumes"]
        mount = {"name": "lib-modules", "mountPath": "/lib/modules", "readOnly": True}
        assert mount in containers(spec)[0]["volumeMounts"]
        assert world.uncleaned == frozenset()

    def test_a_node_with_others_virtual_servers_is_not_touched_and_named(
        self, world: World, held: dict[str, Any]
    ) -> None:
        held["n2"] = self.parsed(self.OWN + "".join(self.OTHERS.splitlines(keepends=True)[3:]))
        with pytest.raises(ProcedureError, match=r"n2: not cleaned: .*firewall mark 17.*10\.0\.0\.5:6443/TCP"):
            world.clean(backup("ipvs"))
        assert set(world.pods()) == {"n1", "n3"}
        assert world.uncleaned == {"uid-of-n2"}

    def test_a_node_that_cannot_be_read_is_not_touched_and_named(self, world: World, held: dict[str, Any]) -> None:
        held["n2"] = "no answer within 30 s"
        with pytest.raises(ProcedureError, match=r"n2: not cleaned: .*no answer within 30 s"):
            world.clean(backup("ipvs"))
        assert set(world.pods()) == {"n1", "n3"}

    def test_a_node_that_holds_none_gets_no_modules(self, world: World, held: dict[str, Any]) -> None:
        held["n2"] = self.parsed("", device=False)
        world.clean(backup("ipvs"))
        assert "/lib/modules" not in str(world.pods()["n2"])

    def test_what_stays_is_named(self, world: World, held: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ipvs, "read", lambda *its, **_: {agent.node: held[agent.node] for agent in its[2]})
        with pytest.raises(ProcedureError, match="n1: cleaned, but kube-ipvs0 is still there"):
            world.clean(backup("ipvs"))
        assert world.uncleaned == ALL

    def old(self, mode: str = "") -> Record:
        kept = backup(mode)
        assert kept.daemonset is not None
        kept.daemonset["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.k8s.io/kube-proxy:v1.33.6"
        return kept

    def test_an_old_kube_proxy_would_flush_others_in_any_mode(self, world: World, held: dict[str, Any]) -> None:
        held |= {"n1": self.parsed("", device=False), "n2": self.parsed(self.OTHERS, device=False)}
        with pytest.raises(ProcedureError, match=r"n2: not cleaned: .*firewall mark 17"):
            world.clean(self.old())
        assert set(world.pods()) == {"n1", "n3"}

    def test_a_newer_one_in_another_mode_leaves_them_alone(self, world: World, held: dict[str, Any]) -> None:
        held["n2"] = self.parsed(self.OTHERS, device=False)
        world.clean(backup())
        assert set(world.pods()) == {"n1", "n2", "n3"}
        assert "/lib/modules" not in str(world.pods())

    @pytest.mark.parametrize(("mode", "left"), [("", frozenset[str]()), ("nftables", frozenset({"uid-of-n2"}))])
    def test_a_node_that_was_rebooted_since_has_nothing_to_clean(
        self, world: World, held: dict[str, Any], mode: str, left: frozenset[str]
    ) -> None:
        held["n2"] = self.parsed(self.OTHERS, device=False)
        world.cleaned = {"n2"}
        with pytest.raises(ProcedureError) if left else nullcontext():
            world.clean(self.old(mode))
        assert "n2" not in world.pods()
        assert world.uncleaned == left


def test_a_node_that_went_away_meanwhile_fails_nothing_and_is_not_taken_for_cleaned(world: World) -> None:
    world.put(*(a_node(name, ready=name != "n3") for name in ("n1", "n2", "n3")))
    world.status = {"n3": FAILED}
    world.clean(backup())
    assert world.uncleaned == {"uid-of-n3"}
    assert [said for said in world.said if said.startswith("n3 isn't Ready any more")]
