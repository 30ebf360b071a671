from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from kube_proxy_replacement.cluster import drift, kube_proxy, kubeadm, nodes, record
from kube_proxy_replacement.cluster.drift import NOTHING, Drift, Given
from kube_proxy_replacement.cluster.errors import UnreachableError
from kube_proxy_replacement.cluster.exec import ExecResult
from kube_proxy_replacement.cluster.helm_release import HelmRelease
from kube_proxy_replacement.cluster.record import Record, bare

from .fakes import FakeApi, agent_answers, agent_pod, agents_daemon_set, config_map, kubeadm_objects, node, sample

CONFIG = "/api/v1/namespaces/kube-system/configmaps/cilium-config"
KUBEADM = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
PODS = "/api/v1/namespaces/kube-system/pods"
RENDERED = {
    "kube-proxy-replacement": "true",
    "cluster-id": "0",
    "enable-ipv4": "true",
    "cgroup-root": "/run/cilium/cgroupv2",
}
SHOWN = {"kubeProxyReplacement": "true", "hubble": {"enabled": True}}
VALUES = {**SHOWN, "cluster": {"name": "a", "id": 7}, "tls": {"ca": {"key": "hunter2"}}, "tolerations": [{"key": "x"}]}
STALE = "cilium-1.20.2-iptables-save-stale.txt"
ATTACHED, LINKED = "bpftool-7.1-cgroup-show-switched.json", "bpftool-7.1-links-switched.json"
DETACHED, UNLINKED = "bpftool-7.1-cgroup-show-detached.json", "bpftool-7.1-links-detached.json"
STARTED = "2026-11-01T10:00:00Z"


class World(FakeApi):
    """A cluster as a run has left it: two nodes, switched (or beside kube-proxy), cleaned.

    Attributes:
        kept, release: what the record and Helm say.
        given: what the last run gave the release.
        says: what each node's agent says; an exception is raised.
        saves, sockets, links: what iptables-nft-save and bpftool print on a node, where it isn't what a run leaves.
    """

    def __init__(self, mode: str = "replace") -> None:
        super().__init__()
        self.mode = mode
        self.says: dict[str, Any] = {}
        self.saves: dict[str, str] = {}
        self.sockets: dict[str, str] = {}
        self.links: dict[str, str] = {}
        objects = kubeadm_objects()
        self.kept: Record | None = Record(
            cluster="uid-a",
            release="kube-system/cilium",
            daemonset=bare(objects["daemonset"]),
            configmap=bare(objects["configmap"]),
        )
        self.release: HelmRelease | None = HelmRelease(
            "kube-system", "cilium", "1.18.6", 4, "deployed", RENDERED, VALUES
        )
        self.given: Given | None = Given("1.18.6", VALUES, SHOWN)
        config = config_map("cilium-config", **RENDERED)
        config["metadata"] |= {"creationTimestamp": "2026-10-01T00:00:00Z", "resourceVersion": "77"}
        self.put(node("n1"), node("n2"), agent_pod("n1"), agent_pod("n2"), agents_daemon_set(), config)
        if mode == "coexist":
            self.put(*objects.values())
        else:
            data = objects["kubeadm-config"]["data"]
            data["ClusterConfiguration"] = kubeadm.with_disabled(data["ClusterConfiguration"], True)
            self.put(objects["kubeadm-config"])
        self.on_exec = self._answer

    def _answer(self, namespace: str, pod: str, container: str, command: Sequence[str]) -> ExecResult:
        name = pod.split("-")[1]
        says = self.says.get(name, "replace" if self.mode == "replace" else "kube-proxy")
        if isinstance(says, Exception):
            raise says
        if command[0] == "bpftool":
            here, usual = (self.sockets, ATTACHED) if "cgroup" in command else (self.links, LINKED)
            return ExecResult(here.get(name, sample(usual)), "", 0)
        return agent_answers(command, says, saves=self.saves.get(name, ""))

    def edit(self, when: str = "2026-11-01T12:00:00Z", **data: str | None) -> None:
        """Someone edits cilium-config by hand, and the API server notes when; None takes a key away."""
        config = self.objects[CONFIG]
        config["data"] = {k: v for k, v in {**config["data"], **data}.items() if v is not None}
        config["metadata"]["resourceVersion"] = str(int(config["metadata"]["resourceVersion"]) + 1)
        config["metadata"]["managedFields"] = [
            {"manager": "helm", "time": "2026-10-01T00:00:00Z"},
            {"manager": "kubectl-edit", "time": when},
        ]

    def upgrade(self, description: str = "Upgrade complete", **changes: Any) -> None:
        """Somebody's own `helm upgrade` or `helm rollback`."""
        assert self.release is not None
        self.release = replace(self.release, revision=5, description=description, **changes)

    def look(self, mark: str = "", *, reads_agents: bool = True) -> Drift:
        return drift.look(
            self,
            self.mode,
            "kube-system",
            nodes.read(self),
            kube_proxy.find(self),
            self.kept,
            self.release,
            mark,
            reads_agents=reads_agents,
            given=self.given,
        )


@pytest.fixture
def switched() -> World:
    return World("replace")


@pytest.fixture
def beside() -> World:
    return World("coexist")


def put_back(kind: str, uid: str = "uid-1") -> Callable[[World], None]:
    def change(world: World) -> None:
        body = kubeadm_objects()[kind]
        body["metadata"]["uid"] = uid
        world.put(body)

    return change


def without(path: str) -> Callable[[World], None]:
    return lambda world: world.objects.pop(path) and None


def not_ready(world: World) -> None:
    world.put(agent_pod("n2", ready=False, state={"waiting": {"reason": "CrashLoopBackOff", "message": "m"}}))


def reenabled(world: World) -> None:
    world.put(kubeadm_objects()["kubeadm-config"])


WRONG_SWITCHED: list[tuple[Callable[[World], None], list[str]]] = [
    (put_back("daemonset"), ["DaemonSet is back"]),
    (put_back("configmap"), ["ConfigMap is back"]),
    (reenabled, ["kubeadm-config"]),
    (lambda world: setattr(world, "kept", None), ["record in ConfigMap kube-system/kube-proxy-replacement"]),
    (
        lambda world: setattr(world, "kept", replace(world.kept, uncleaned=frozenset({"uid-of-n2"}))),  # type: ignore[type-var]
        ["n2: its leftover rules"],
    ),
    (lambda world: world.says.update(n1="kube-proxy"), ["n1: its agent says KubeProxyReplacement: False"]),
    (lambda world: world.saves.update(n2=sample(STALE)), ["n2: 93 lines of kube-proxy's rules are in its kernel"]),
    (
        lambda world: world.sockets.update(n1=sample(ATTACHED).replace("cgroup_inet4_connect", "cgroup_device")),
        ["n1: no eBPF program hangs at cgroup_inet4_connect"],
    ),
]
WRONG_BESIDE: list[tuple[Callable[[World], None], list[str]]] = [
    (without(kube_proxy.DAEMONSET), ["DaemonSet is gone"]),
    (without(kube_proxy.CONFIGMAP), ["ConfigMap is gone"]),
    (lambda world: world.says.update(n1="replace"), ["n1: its agent says KubeProxyReplacement: True"]),
]
WRONG_IN_BOTH: list[tuple[Callable[[World], None], list[str]]] = [
    (lambda world: setattr(world, "release", None), ["Helm release in namespace kube-system is gone"]),
    (
        lambda world: setattr(world, "release", replace(world.release, status="failed")),  # type: ignore[type-var]
        ["Helm release cilium is failed"],
    ),
    (without(CONFIG), ["ConfigMap kube-system/cilium-config is gone"]),
    (
        lambda world: world.edit(**{"kube-proxy-replacement": "partial"}),
        ["cilium-config was edited", "kube-proxy-replacement: 'partial' instead of 'true'"],
    ),
    (lambda world: world.edit(**{"cluster-id": None}), ["cluster-id: None instead of '0'"]),
    (lambda world: world.edit(added="x"), ["added: 'x' instead of None"]),
    (not_ready, ["n2: its agent isn't ready", "CrashLoopBackOff"]),
    (without(f"{PODS}/cilium-n1-a"), ["n1: its agent isn't ready (there is none)"]),
]
WRONG = (
    [("replace", *case) for case in WRONG_SWITCHED + WRONG_IN_BOTH]
    + [("coexist", *case) for case in WRONG_BESIDE + WRONG_IN_BOTH]
)  # fmt: skip


class TestWhatIsWrong:
    @pytest.mark.parametrize("mode", ["replace", "coexist"])
    def test_as_a_run_left_it_nothing_is(self, mode: str) -> None:
        assert World(mode).look() == NOTHING
        assert World(mode).look("mark") == NOTHING

    @pytest.mark.parametrize(("mode", "change", "said"), WRONG)
    def test_it_is_named(self, mode: str, change: Callable[[World], None], said: list[str]) -> None:
        world = World(mode)
        change(world)
        found = world.look()
        assert len(found.findings) == 1
        assert all(words in found.findings[0] for words in said)
        assert found.mark

    @pytest.mark.parametrize(("mode", "change", "said"), WRONG)
    def test_looking_changes_nothing(self, mode: str, change: Callable[[World], None], said: list[str]) -> None:
        world = World(mode)
        change(world)
        world.look()
        assert world.changes() == []

    def test_everything_is_named_at_once(self, switched: World) -> None:
        for change in (put_back("daemonset"), put_back("configmap"), not_ready, reenabled):
            change(switched)
        assert len(switched.look().findings) == 4


class TestWhatIsNot:
    def test_a_cluster_that_never_had_kube_proxy_has_its_own_kubeadm_config(self, switched: World) -> None:
        switched.kept = Record(cluster="uid-a", release="kube-system/cilium")
        reenabled(switched)
        assert switched.look() == NOTHING

    def test_a_node_that_joined_later_was_never_to_be_cleaned(self, switched: World) -> None:
        switched.put(node("n3"), agent_pod("n3"))
        assert switched.look() == NOTHING

    def test_a_node_that_is_away_is_not_looked_at(self, switched: World) -> None:
        switched.kept = replace(switched.kept, uncleaned=frozenset({"uid-of-n3"}))  # type: ignore[type-var]
        switched.put(node("n3", ready=False), agent_pod("n3", ready=False))
        assert switched.look() == NOTHING

    def test_once_it_is_back_it_is(self, switched: World) -> None:
        switched.kept = replace(switched.kept, uncleaned=frozenset({"uid-of-n3"}))  # type: ignore[type-var]
        switched.put(node("n3"), agent_pod("n3"))
        assert switched.look().findings == ("n3: its leftover rules aren't cleaned yet",)

    def test_while_kube_proxy_is_back_no_node_is_said_to_be_uncleaned(self, switched: World) -> None:
        switched.kept = replace(switched.kept, uncleaned=frozenset({"uid-of-n1"}))  # type: ignore[type-var]
        put_back("daemonset")(switched)
        (said,) = switched.look().findings
        assert said.startswith("kube-proxy's DaemonSet is back, made by kubeadm at ")

    def test_an_agent_that_cannot_be_read_is_named_and_calls_for_no_repair(self, switched: World) -> None:
        switched.says["n1"] = UnreachableError("no answer within 30 s")
        found = switched.look()
        assert replace(found, unreadable={}) == NOTHING
        assert found.unreadable == {"n1": "no answer within 30 s"}

    def test_rules_where_kube_proxy_is_back_or_never_was_are_no_finding_of_their_own(self, switched: World) -> None:
        switched.saves = {"n1": sample(STALE)}
        put_back("daemonset")(switched)
        (said,) = switched.look().findings
        assert said.startswith("kube-proxy's DaemonSet is back, made by kubeadm at ")
        del switched.objects[kube_proxy.DAEMONSET]
        switched.kept = Record(cluster="uid-a", release="kube-system/cilium")
        assert switched.look() == NOTHING

    def test_a_node_that_is_to_be_cleaned_anyway_is_named_once(self, switched: World) -> None:
        switched.saves = {"n1": sample(STALE)}
        switched.kept = replace(switched.kept, uncleaned=frozenset({"uid-of-n1"}))  # type: ignore[type-var]
        assert switched.look().findings == ("n1: its leftover rules aren't cleaned yet",)

    def test_a_node_whose_bpftool_is_not_understood_misses_none(self, switched: World) -> None:
        switched.sockets, switched.links = {"n1": "Error: permission"}, {"n1": "Error: permission"}
        assert switched.look() == NOTHING

    def test_beside_kube_proxy_rules_and_no_programs_are_as_they_should_be(self, beside: World) -> None:
        beside.saves, beside.sockets = {"n1": sample(STALE)}, {"n1": ""}
        assert beside.look() == NOTHING

    def test_a_kube_proxy_that_never_mounted_a_config_map_misses_none(self, beside: World) -> None:
        del beside.objects[kube_proxy.CONFIGMAP]
        beside.objects[kube_proxy.DAEMONSET]["spec"]["template"]["spec"]["volumes"] = []
        assert beside.look() == NOTHING

    def test_beside_kube_proxy_a_node_that_the_daemon_set_leaves_out_needs_no_agent(self, beside: World) -> None:
        beside.put(node("n3", labels={"kubernetes.io/os": "linux", "gpu": "yes"}))
        spec = agents_daemon_set()
        spec["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "n1"}
        beside.put(spec)
        del beside.objects[f"{PODS}/cilium-n2-a"]
        assert beside.look() == NOTHING

    def test_in_replace_mode_every_node_needs_one(self, switched: World) -> None:
        switched.put(node("n3"))
        spec = agents_daemon_set()
        spec["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "n1"}
        switched.put(spec)
        assert switched.look().findings == ("n3: its agent isn't ready (there is none)",)

    def test_a_chart_whose_config_was_not_found_in_the_release_is_not_compared(self, switched: World) -> None:
        switched.release = replace(switched.release, config={})  # type: ignore[type-var]
        assert switched.look() == NOTHING

    def test_other_releases_agents_are_not_asked(self, switched: World) -> None:
        switched.put(agent_pod("n1", suffix="x", namespace="elsewhere"))
        switched.look()
        assert not [call for call in switched.calls if call[0] == "EXEC" and "elsewhere" in call[1]]


class TestMark:
    @pytest.mark.parametrize(("mode", "change", "said"), WRONG)
    def test_the_same_is_the_same_for_two_people(
        self, mode: str, change: Callable[[World], None], said: list[str]
    ) -> None:
        one, two = World(mode), World(mode)
        change(one)
        change(two)
        assert one.look("m") == two.look("m")

    @pytest.mark.parametrize(("mode", "change", "said"), WRONG)
    def test_what_goes_wrong_again_after_its_repair_is_mended_again(
        self, mode: str, change: Callable[[World], None], said: list[str]
    ) -> None:
        world = World(mode)
        change(world)
        first = world.look("").mark
        assert world.look(first).mark not in ("", first)

    def test_different_things_have_different_marks(self) -> None:
        marks = set()
        for number, (mode, change, _) in enumerate(WRONG):
            world = World(mode)
            world.objects[CONFIG]["metadata"]["resourceVersion"] = str(100 * number)
            change(world)
            marks.add((mode, world.look().mark))
        assert len(marks) == len(WRONG)

    def test_a_daemon_set_that_was_put_back_twice_has_two(self, switched: World) -> None:
        put_back("daemonset", "uid-1")(switched)
        first = switched.look().mark
        put_back("daemonset", "uid-2")(switched)
        assert switched.look().mark != first

    def test_a_second_edit_has_another(self, switched: World) -> None:
        switched.edit(**{"cluster-id": "1"})
        first = switched.look().mark
        switched.edit(**{"cluster-id": "2"})
        assert switched.look().mark != first

    def test_one_thing_more_has_another(self, switched: World) -> None:
        put_back("daemonset")(switched)
        first = switched.look().mark
        not_ready(switched)
        assert switched.look().mark != first


class TestRestart:
    def test_agents_that_started_on_the_edited_config_are_restarted_by_name(self, switched: World) -> None:
        switched.put(agent_pod("n1", started="2026-11-01T12:00:01Z"), agent_pod("n2", started=STARTED))
        switched.edit(when="2026-11-01T12:00:00Z", **{"cluster-id": "9"})
        assert switched.look().restart == ("uid-of-cilium-n1-a",)

    def test_one_that_started_in_the_very_second_of_the_edit_is_too(self, switched: World) -> None:
        switched.put(agent_pod("n1", started="2026-11-01T12:00:00Z"))
        switched.edit(when="2026-11-01T12:00:00Z", **{"cluster-id": "9"})
        assert switched.look().restart == ("uid-of-cilium-n1-a",)

    def test_the_last_of_several_edits_counts_and_the_making_where_none_is_noted(self, switched: World) -> None:
        switched.edit(when="2026-11-01T12:00:00Z", **{"cluster-id": "9"})
        switched.objects[CONFIG]["metadata"]["managedFields"] = None
        assert switched.look().restart == ("uid-of-cilium-n1-a", "uid-of-cilium-n2-a")

    def test_one_that_has_not_started_yet_needs_none(self, switched: World) -> None:
        switched.put(agent_pod("n1", ready=False, state={"waiting": {"reason": "PodInitializing"}}))
        switched.edit(when="2026-11-01T12:00:00Z", **{"cluster-id": "9"})
        assert switched.look().restart == ()

    def test_an_agent_of_the_wrong_mode_is_restarted(self, switched: World) -> None:
        switched.says["n2"] = "kube-proxy"
        assert switched.look().restart == ("uid-of-cilium-n2-a",)

    def test_an_agent_whose_programs_were_taken_off_is_restarted(self, switched: World) -> None:
        switched.sockets, switched.links = {"n2": sample(DETACHED)}, {"n2": sample(UNLINKED)}
        found = switched.look()
        assert found.findings == ("n2: no eBPF program hangs at cgroup_inet4_connect, cil_from_netdev at eth0",)
        assert found.restart == ("uid-of-cilium-n2-a",)

    def test_rules_that_have_come_back_restart_nobody(self, switched: World) -> None:
        switched.saves = {"n2": sample(STALE)}
        assert switched.look().restart == ()

    def test_one_that_a_rollout_will_restart_is_left_to_it(self, switched: World) -> None:
        switched.says["n2"] = "kube-proxy"
        switched.edit(when="2026-11-01T12:00:00Z", **{"kube-proxy-replacement": "false"})
        assert switched.look().restart == ()

    def test_one_on_a_node_that_is_away_is_left_alone(self, switched: World) -> None:
        switched.put(node("n3", ready=False), agent_pod("n3", started="2026-11-01T13:00:00Z", ready=False))
        switched.edit(when="2026-11-01T12:00:00Z", **{"cluster-id": "9"})
        assert switched.look().restart == ()

    def test_what_is_wrong_elsewhere_restarts_nobody(self, switched: World) -> None:
        put_back("daemonset")(switched)
        reenabled(switched)
        assert switched.look().restart == ()


def test_a_record_that_was_written_is_what_is_compared(switched: World) -> None:
    assert switched.kept is not None
    record.write(switched, switched.kept)
    switched.kept = record.read(switched)
    assert switched.look() == NOTHING


class TestUnread:
    """By credentials that may not exec in agents."""

    CHECKSUM = "cilium.io/cilium-configmap-checksum"

    def test_nothing_is_read_and_nothing_is_wrong(self, switched: World) -> None:
        switched.says.update(n1="kube-proxy")
        assert switched.look(reads_agents=False) == NOTHING
        assert not [call for call in switched.calls if call[0] == "EXEC"]

    def test_what_the_api_server_has_is_still_compared(self, switched: World) -> None:
        put_back("daemonset")(switched)
        not_ready(switched)
        found = switched.look(reads_agents=False)
        assert len(found.findings) == 2
        assert found.mark

    def test_an_agent_that_started_on_an_edited_text_is_named(self, switched: World) -> None:
        switched.edit("2026-11-01T09:00:00Z", **{"cluster-id": "7"})
        switched.put(agent_pod("n2", started="2026-11-01T08:00:00Z"))
        found = switched.look(reads_agents=False)
        assert any(said.startswith("n1: its agent started after cilium-config was edited") for said in found.findings)
        assert not any(said.startswith("n2:") for said in found.findings)

    def test_an_agent_of_another_checksum_is_named(self, switched: World) -> None:
        owner, pods = agents_daemon_set(), (agent_pod("n1"), agent_pod("n2"))
        owner["spec"]["template"].setdefault("metadata", {})["annotations"] = {self.CHECKSUM: "b" * 64}
        for pod, checksum in zip(pods, ("b" * 64, "a" * 64), strict=True):
            pod["metadata"]["annotations"] = {self.CHECKSUM: checksum}
        switched.put(owner, *pods)
        (said,) = switched.look(reads_agents=False).findings
        assert said.startswith("n2: its agent didn't start with")
        assert "aaaaaaaa" in said
        assert switched.look().findings == ()


class TestTheRelease:
    """Upgraded or rolled back by hand."""

    def found(self, world: World) -> str:
        (finding,) = world.look().findings
        return finding

    def test_a_value_of_the_program_is_named_with_what_it_is_and_was(self, switched: World) -> None:
        switched.upgrade(values={**VALUES, "kubeProxyReplacement": "false", "hubble": {}})
        said = self.found(switched)
        assert "the Helm release cilium is at revision 5 («Upgrade complete»)" in said
        assert "kubeProxyReplacement: 'false' instead of 'true'" in said
        assert "hubble.enabled: None instead of True" in said

    def test_of_any_other_value_only_the_name_is_said(self, switched: World) -> None:
        switched.upgrade(values={**VALUES, "tls": {"ca": {"key": "hunter3"}}, "added": "hunter4"})
        said = self.found(switched)
        assert "(added, tls.ca.key)" in said
        assert "hunter" not in said

    def test_a_rollback_says_so_itself(self, switched: World) -> None:
        switched.upgrade("Rollback to 2", values={"kubeProxyReplacement": "false"})
        assert "«Rollback to 2»" in self.found(switched)

    def test_another_chart_is_named(self, switched: World) -> None:
        switched.upgrade(version="1.18.7")
        assert "of chart 1.18.7 instead of 1.18.6" in self.found(switched)

    def test_many_are_cut_the_program_s_own_first(self, switched: World) -> None:
        switched.upgrade(values={f"a{number}": 1 for number in range(20)})
        said = self.found(switched)
        assert "kubeProxyReplacement: None instead of 'true'" in said
        assert said.count(",") < 10
        assert "…" in said

    @pytest.mark.parametrize(
        "values",
        [
            {**VALUES, "empty": {}, "none": None, "nothing": [], "deep": {"er": {}}},
            {**VALUES, "cluster": {"name": "a", "id": 7.0}},
        ],
    )
    def test_what_says_the_same_is_no_drift(self, switched: World, values: dict[str, Any]) -> None:
        switched.upgrade(values=values)
        assert switched.look() == NOTHING

    def test_a_large_integer_that_the_state_could_not_hold_is_none(self, switched: World) -> None:
        switched.given = Given("1.18.6", {"id": float(2**63 - 1)}, {})
        switched.upgrade(values={"id": 2**63 - 1})
        assert switched.look() == NOTHING

    @pytest.mark.parametrize("other", [[{"key": "y"}], [], [{"key": "x"}, {"key": "y"}], "x", [{"key": "x", "a": 1}]])
    def test_a_list_is_compared_as_a_whole(self, switched: World, other: Any) -> None:
        switched.upgrade(values={**VALUES, "tolerations": other})
        assert "tolerations" in self.found(switched)

    def test_true_is_not_one(self, switched: World) -> None:
        switched.upgrade(values={**VALUES, "hubble": {"enabled": 1}})
        assert "hubble.enabled: 1 instead of True" in self.found(switched)

    def test_beside_an_owner_s_values_only_ours_count(self, switched: World) -> None:
        switched.given = Given("1.18.6", VALUES, SHOWN, alone=False)
        switched.upgrade(values={**VALUES, "owners": 1})
        assert switched.look() == NOTHING
        switched.upgrade(values={"owners": 1})
        assert "kubeProxyReplacement" in self.found(switched)

    def test_where_the_chart_is_to_change_its_version_is_not_compared(self, switched: World) -> None:
        switched.given = Given("", VALUES, SHOWN)
        switched.upgrade(version="1.18.7")
        assert switched.look() == NOTHING

    def test_each_revision_is_another_finding(self, switched: World) -> None:
        switched.upgrade(values={})
        first = switched.look("m")
        switched.release = replace(switched.release, revision=6)  # type: ignore[type-var]
        assert switched.look("m").mark != first.mark

    def test_who_edited_cilium_config_last_is_named(self, switched: World) -> None:
        switched.edit(**{"cluster-id": "5"})
        assert "by kubectl-edit" in self.found(switched)
