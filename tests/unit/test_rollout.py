from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from kube_proxy_replacement.cluster import awaited, nodes, rollout, waiting
from kube_proxy_replacement.cluster.agents import Agent
from kube_proxy_replacement.cluster.errors import ProcedureError, UnreachableError
from kube_proxy_replacement.cluster.exec import ExecResult

from .fakes import Clock, FakeApi, agent_answers, agent_pod, agents_daemon_set, node, revision

PODS = "/api/v1/namespaces/kube-system/pods"
OWNER = "/apis/apps/v1/namespaces/kube-system/daemonsets/cilium"
NAMES = ("n1", "n2", "n3")


class World(FakeApi):
    """Three nodes with agents of revision 1, and a DaemonSet that is at revision 2.

    Attributes:
        says: what each node's agent says (a sample's name, an ExecResult, or an exception).
        events: by seconds: what happens then; each happens once.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        owner = agents_daemon_set(generation=2)
        self.put(owner, revision(1, owner), revision(2, owner))
        self.put(*(node(name) for name in NAMES), *(agent_pod(name) for name in NAMES))
        self.clock = clock
        self.says: dict[str, Any] = {}
        self.events: dict[float, Any] = {}
        self.said: list[str] = []
        self.on_exec = self._answer
        clock.on_sleep = self._happen

    def _happen(self, passed: float) -> None:
        for when in [when for when in sorted(self.events) if passed >= when]:
            self.events.pop(when)()

    def _answer(self, namespace: str, pod: str, container: str, command: Sequence[str]) -> ExecResult:
        says = self.says.get(pod.split("-")[1], "replace")
        if isinstance(says, Exception):
            raise says
        return says if isinstance(says, ExecResult) else agent_answers(command, says)

    def restart(self, name: str, suffix: str = "b", **pod: Any) -> None:
        """The node's agent goes, and a new one of revision 2 is there."""
        for path in [path for path in self.objects if path.startswith(f"{PODS}/cilium-{name}-")]:
            del self.objects[path]
        self.put(agent_pod(name, suffix=suffix, **{"hash_": "hash-2"} | pod))

    def restart_all(self, **pod: Any) -> None:
        for name in NAMES:
            self.restart(name, **pod)

    def wait(self, *, replacing: bool = True, patience: float = 10) -> dict[str, Agent]:
        return self.roll_out(replacing=replacing, patience=patience).agents

    def roll_out(self, *, replacing: bool = True, patience: float = 10) -> rollout.Rollout:
        return rollout.wait(
            self,
            "kube-system",
            nodes.read(self).ready,
            replacing=replacing,
            patience=patience,
            say=self.said.append,
        )

    def refused(self, **how: Any) -> str:
        with pytest.raises(ProcedureError) as caught:
            self.wait(**how)
        return str(caught.value)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(pace=2)  # a look a second
    monkeypatch.setattr(waiting, "time", clock)
    monkeypatch.setattr(awaited, "time", clock)
    return clock


@pytest.fixture
def world(clock: Clock) -> World:
    return World(clock)


class TestSwitched:
    def test_every_agent_of_the_newest_revision_and_switched_is_done(self, world: World) -> None:
        world.restart_all()
        assert {name: agent.pod for name, agent in world.wait().items()} == {name: f"cilium-{name}-b" for name in NAMES}

    def test_they_are_awaited(self, world: World, clock: Clock) -> None:
        world.events = {
            after: lambda name=name: world.restart(name) for after, name in zip((5, 12, 19), NAMES, strict=True)
        }
        assert set(world.wait()) == set(NAMES)
        assert clock.passed >= 19

    def test_an_agent_of_an_older_revision_is_not_done_whatever_it_says(self, world: World) -> None:
        world.restart("n1")
        world.restart("n3")
        text = world.refused()
        assert "n2: its agent cilium-n2-a wasn't restarted" in text
        assert "n1:" not in text

    def test_it_is_not_even_asked(self, world: World) -> None:
        world.refused()
        assert not [call for call in world.calls if call[0] == "EXEC"]

    def test_no_agent_is_done_before_the_controller_has_seen_the_new_template(self, world: World) -> None:
        owner = world.objects[OWNER]
        owner["metadata"]["generation"] = 3
        world.restart_all()
        assert "n1: its agent cilium-n1-b wasn't restarted" in world.refused()

        def seen() -> None:
            owner["status"]["observedGeneration"] = 3

        world.events = {world.clock.passed + 4: seen}
        assert set(world.wait()) == set(NAMES)

    def test_true_but_endpoints_not_ready_is_not_done(self, world: World) -> None:
        world.restart_all()
        world.says["n2"] = "ready-not-switched"
        text = world.refused()
        assert "n2: " in text
        assert "endpoints" in text
        assert ": restoring" in text

    def test_true_becomes_done_when_its_endpoints_are_ready(self, world: World, clock: Clock) -> None:
        world.restart_all()
        world.says = dict.fromkeys(NAMES, "ready-not-switched")
        world.events = {9: world.says.clear}
        assert set(world.wait()) == set(NAMES)
        assert clock.passed >= 9

    def test_one_that_says_false_is_not_done(self, world: World) -> None:
        world.restart_all()
        world.says["n3"] = "kube-proxy"
        assert "n3: " in (text := world.refused())
        assert "KubeProxyReplacement: False" in text

    @pytest.mark.parametrize(
        ("says", "said"),
        [
            (UnreachableError("cilium-dbg in kube-system/cilium-n1-b: no answer within 30 s"), "no answer within 30 s"),
            (ExecResult("", "connection refused", 1), "connection refused"),
        ],
    )
    def test_one_that_cannot_be_read_is_not_done_but_no_lost_run(self, world: World, says: Any, said: str) -> None:
        world.restart_all()
        world.says["n1"] = says
        assert set(world.wait()) == set(NAMES) - {"n1"}
        assert re.search(r"n1: .*can't be read", world.said[-1])
        assert said in world.said[-1]

    def test_beside_one_that_is_not_as_wanted_one_that_cannot_be_read_is_no_excuse(self, world: World) -> None:
        world.restart_all()
        world.says |= {"n1": UnreachableError("no answer within 30 s"), "n2": "kube-proxy"}
        assert "n2: " in world.refused()

    def test_one_failed_reading_is_tried_again(self, world: World) -> None:
        world.restart_all()
        world.says["n1"] = UnreachableError("broken")
        world.events = {5: world.says.clear}
        assert set(world.wait()) == set(NAMES)

    def test_one_that_does_not_get_ready_is_named_with_pod_and_reason(self, world: World) -> None:
        world.restart_all()
        crash = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
        world.restart("n2", ready=False, state=crash, last={"reason": "Error", "message": "no route to 192.0.2.10"})
        text = world.refused()
        assert "n2: " in text
        assert "cilium-n2-b" in text
        assert "CrashLoopBackOff" in text
        assert "no route to 192.0.2.10" in text

    def test_a_node_without_an_agent_is_named(self, world: World) -> None:
        world.restart_all()
        del world.objects[f"{PODS}/cilium-n3-b"]
        assert "n3: no agent pod yet" in world.refused()

    def test_a_node_that_the_daemon_set_leaves_out_is_awaited_for_its_kube_proxy_is_gone(self, world: World) -> None:
        world.put(node("n4", labels={"kubernetes.io/os": "linux", "special": "yes"}))
        world.objects[OWNER]["spec"]["template"]["spec"]["nodeSelector"] = {"special": "no"}
        world.restart_all()
        assert "n4: no agent pod yet" in world.refused()


class TestRestartBetweenReads:
    def test_one_that_was_done_and_restarts_must_be_read_again(self, world: World) -> None:
        for name in ("n1", "n3"):
            world.restart(name)
        world.events = {
            3: lambda: (world.restart("n1", suffix="c"), world.says.update(n1="ready-not-switched")),
            4: lambda: world.restart("n2"),
        }
        assert "n1: " in (text := world.refused())
        assert ": restoring" in text

    def test_the_agents_that_are_returned_are_those_that_run(self, world: World) -> None:
        for name in ("n1", "n3"):
            world.restart(name)
        world.events = {3: lambda: world.restart("n1", suffix="c"), 5: lambda: world.restart("n2")}
        assert world.wait()["n1"].pod == "cilium-n1-c"

    def test_one_that_was_done_and_is_gone_is_not_done(self, world: World) -> None:
        for name in ("n1", "n3"):
            world.restart(name)
        world.events = {
            3: lambda: world.objects.pop(f"{PODS}/cilium-n1-b"),
            5: lambda: world.restart("n2"),
        }
        assert "n1: no agent pod yet" in world.refused()

    def test_one_that_was_done_and_lost_its_readiness_is_not_done(self, world: World) -> None:
        for name in ("n1", "n3"):
            world.restart(name)
        world.events = {
            3: lambda: world.put(agent_pod("n1", suffix="b", hash_="hash-2", ready=False)),
            5: lambda: world.restart("n2"),
        }
        assert re.search(r"n1: .*cilium-n1-b isn't ready", world.refused())

    def test_a_newer_revision_in_between_makes_none_done(self, world: World) -> None:
        world.restart("n1")
        world.restart("n2")

        def upgraded() -> None:
            world.put(revision(3, world.objects[OWNER]))
            world.restart("n3", hash_="hash-3")

        world.events = {5: upgraded}
        text = world.refused()
        assert "n1: its agent cilium-n1-b wasn't restarted" in text
        assert "n3:" not in text


class TestPatience:
    def test_each_agent_that_is_done_renews_it(self, world: World, clock: Clock) -> None:
        world.events = {
            after: lambda name=name: world.restart(name) for after, name in zip((9, 18, 27), NAMES, strict=True)
        }
        world.wait(patience=10)
        assert clock.passed >= 27

    def test_an_agent_that_restarts_again_and_again_is_no_progress(self, world: World, clock: Clock) -> None:
        world.restart("n2")
        world.restart("n3")
        for turn in range(1, 60):
            world.events[turn] = lambda turn=turn: world.restart("n2", suffix=f"c{turn}", ready=turn % 2 == 0)
        assert "n1: its agent cilium-n1-a wasn't restarted" in world.refused(patience=10)
        assert clock.passed < 20

    def test_it_ends_when_nothing_moves(self, world: World, clock: Clock) -> None:
        world.refused(patience=10)
        assert 10 < clock.passed < 14


class TestBesideKubeProxy:
    def test_agents_that_let_kube_proxy_route_are_done(self, world: World) -> None:
        world.restart_all()
        world.says = dict.fromkeys(NAMES, "kube-proxy")
        assert set(world.wait(replacing=False)) == set(NAMES)

    def test_one_that_still_replaces_is_not(self, world: World) -> None:
        world.restart_all()
        world.says = {"n1": "kube-proxy", "n2": "kube-proxy"}
        assert "n3: " in (text := world.refused(replacing=False))
        assert "KubeProxyReplacement: True" in text

    def test_one_whose_endpoints_are_not_ready_is_not(self, world: World) -> None:
        world.restart_all()
        world.says = dict.fromkeys(NAMES, "kube-proxy")
        listed = agent_answers(["cilium-dbg", "endpoint", "list", "-o", "json"], "ready-not-switched")
        inner = world.on_exec

        def answer(namespace: str, pod: str, container: str, command: Sequence[str]) -> ExecResult:
            return listed if "endpoint" in command else inner(namespace, pod, container, command)

        world.on_exec = answer
        assert ": restoring" in world.refused(replacing=False)

    def test_a_node_that_the_daemon_set_leaves_out_keeps_its_kube_proxy_and_is_not_awaited(self, world: World) -> None:
        world.put(node("n4", labels={"special": "yes"}))
        affinity = {"key": "special", "operator": "DoesNotExist"}
        world.objects[OWNER]["spec"]["template"]["spec"]["affinity"] = {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [affinity]}]
                }
            }
        }
        world.restart_all()
        world.says = dict.fromkeys(NAMES, "kube-proxy")
        assert set(world.wait(replacing=False)) == set(NAMES)


class TestWhatIsSaid:
    def test_progress_counts_and_names_who_is_awaited(self, world: World) -> None:
        world.restart("n1")
        world.restart("n3")
        world.events = {5: lambda: world.restart("n2")}
        world.wait()
        assert world.said == ["agents 2/3 replacing, restarting: n2", "agents 3/3 replacing"]

    def test_what_is_awaited_is_told_by_its_kind(self, world: World) -> None:
        world.restart_all()
        world.says["n2"] = "ready-not-switched"
        world.refused()
        assert world.said == ["agents 2/3 replacing, endpoints not ready: n2"]

    def test_the_error_says_what_was_done_and_what_to_do(self, world: World) -> None:
        text = world.refused()
        assert "No leftover rule was cleaned" in text
        assert "pulumi up" in text

    @pytest.mark.parametrize("says", ["ready-not-switched", "kube-proxy"])
    def test_the_error_names_the_pod_also_of_one_that_was_read(self, world: World, says: str) -> None:
        world.restart_all()
        world.says["n2"] = says
        assert "cilium-n2-b" in world.refused()

    def test_without_the_daemon_set_it_is_told_at_once(self, world: World, clock: Clock) -> None:
        del world.objects[OWNER]
        assert "no DaemonSet cilium in namespace kube-system" in world.refused()
        assert clock.passed == 0


class TestNodesThatComeAndGo:
    def go(self, world: World, name: str) -> None:
        del world.objects[f"/api/v1/nodes/{name}"]

    def test_one_that_leaves_the_cluster_is_dropped_and_said(self, world: World) -> None:
        world.restart("n1")
        world.restart("n3")
        world.events = {5: lambda: self.go(world, "n2")}
        done = world.roll_out()
        assert (set(done.agents), done.unread) == ({"n1", "n3"}, [])
        assert "n2 has left the cluster: it isn't awaited any more" in world.said

    def test_one_that_is_not_ready_any_more_is_dropped_and_said(self, world: World) -> None:
        world.restart("n1")
        world.restart("n3")
        world.events = {5: lambda: world.put(node("n2", ready=False))}
        done = world.roll_out()
        assert (set(done.agents), done.unread) == ({"n1", "n3"}, [])
        assert [said for said in world.said if said.startswith("n2 isn't Ready any more: it isn't awaited")]

    def test_one_that_was_done_and_goes_is_not_among_those_to_clean(self, world: World) -> None:
        world.restart("n1")
        world.restart("n2")
        world.events = {5: lambda: self.go(world, "n2"), 9: lambda: world.restart("n3")}
        assert {its.name for its in world.roll_out().nodes} == {"n1", "n3"}

    def test_one_that_joins_is_awaited_too(self, world: World, clock: Clock) -> None:
        world.restart_all()
        world.says["n1"] = "ready-not-switched"
        world.events = {
            4: lambda: world.put(node("n4"), agent_pod("n4", hash_="hash-2", ready=False)),
            6: lambda: world.says.pop("n1"),
            9: lambda: world.restart("n4"),
        }
        done = world.roll_out()
        assert set(done.agents) == {*NAMES, "n4"}
        assert "n4 has joined, or is Ready again: it is awaited too" in world.said
        assert clock.passed >= 9

    def test_one_that_joins_at_the_last_moment_is_seen(self, world: World) -> None:
        world.restart_all()
        world.put(node("n4"), agent_pod("n4", hash_="hash-2"))
        known = tuple(its for its in nodes.read(world).ready if its.name != "n4")
        say = world.said.append
        done = rollout.wait(world, "kube-system", known, replacing=True, patience=10, say=say)
        assert "n4" in done.agents

    def test_where_all_of_them_go_at_once_nothing_is_done(self, world: World) -> None:
        world.restart("n1")
        world.events = {3: lambda: world.put(*(node(name, ready=False) for name in NAMES))}
        assert "n2" in world.refused()


class TestLastWords:
    def test_why_a_container_ended_is_in_the_error(self, world: World) -> None:
        world.restart("n1")
        world.restart("n3")
        crashed = {"reason": "Error", "exitCode": 1, "message": 'level=fatal msg="no" error="too old"'}
        state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
        world.restart("n2", ready=False, state=state, last=crashed)
        words = "container cilium-agent: CrashLoopBackOff, exit code 1, its last words: no: too old"
        assert f"n2: its agent cilium-n2-b isn't ready: {words}" in world.refused()

    def test_no_more_than_twenty_are_named(self, world: World) -> None:
        world.put(*(node(f"m{number:02}") for number in range(30)))
        text = world.refused()
        assert text.startswith("33 agents aren't replacing")
        assert "\n  and 13 more\n" in text
