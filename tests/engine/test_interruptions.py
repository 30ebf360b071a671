"""Runs that are cut off: the next one ends where the first would have, and there is a way back from wherever it was.

One stack's life on one cluster. Each act is a fixture that keeps what was seen; the tests below it are its promises.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from tests.engine.acts import Act, act, but_for_proxies_pods, ending, is_kubelets, rules
from tests.engine.conftest import NewStack
from tests.engine.cut_off import COMMANDS, DYNAMIC, ENGINE, HELM, PROGRAM, Begun, Instant
from tests.engine.harness import (
    AGENTS,
    CILIUM,
    RECORD,
    STATUS,
    Cluster,
    Object,
    Run,
    Stack,
    compared,
    picked,
    wait_until,
)

PATIENCE = 40
"""The setting timeoutSeconds: longer than the API server is away."""

LONG = "10"
"""Seconds that the endpoints of an agent take, so that there is time to cut off the run that waits for it."""

HELMS = "sh.helm.release.*"
_LEASE = f"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{RECORD}"
_SECRETS = "/api/v1/namespaces/kube-system/secrets?labelSelector=owner%3Dhelm%2Cname%3Dcilium"


@dataclass(frozen=True)
class Left:
    """What a run has left that was cut off.

    Attributes:
        run: how it ended, None where its engine was killed.
        release: the status of Helm's newest revision, "" where there is none.
        safe: kube-proxy is there, or a backup of it that can be restored.
    """

    run: Run | None
    release: str
    safe: bool


class Life:
    """A stack whose runs are cut off."""

    def __init__(self, cluster: Cluster, stack: Stack) -> None:
        self.cluster = cluster
        self.stack = stack
        self.found = cluster.objects()
        self.kernels = cluster.kernels()
        self._begun: list[Begun] = []

    def cut(self, command: str, what: str, instant: Instant, *parts: str) -> Left:
        """A run of which parts are killed at an instant (all of it where none is named), what is left of it goes on."""
        begun = Begun(self.cluster, self.stack, command)
        self._begun.append(begun)
        begun.until(what, instant)
        begun.kill(*parts)
        if parts and ENGINE not in parts:
            run = begun.ended()
            assert not run.ok, f"it came to its end though {parts} was killed"
            return self._left(run)
        assert self.stack.run(["cancel", "--yes", "--stack", self.stack.name]).ok
        if not parts:
            self.cluster.delete(_LEASE)  # nobody is left who could renew it: the next run needn't wait
        return self._left(None)

    def destroyed(self) -> Act:
        """`destroy`, and the cluster when all that was deleted is gone."""
        done = act(self.cluster, self.stack, "destroy")
        wait_until("what was deleted is gone", lambda: not ending(self.cluster.objects()))
        return replace(done, after=self.cluster.objects())

    def _left(self, run: Run | None) -> Left:
        return Left(run, status(self.cluster), self.safe())

    def safe(self) -> bool:
        """Whether kube-proxy's DaemonSet is there, with its ConfigMap, or a backup of what isn't."""
        wanted = {"daemonset.json": ("DaemonSet.apps", "spec"), "configmap.json": ("ConfigMap", "data")}
        live = (self.cluster.daemonset("kube-proxy"), self.cluster.configmap("kube-proxy"))
        data = (self.cluster.configmap(RECORD) or {}).get("data") or {}
        kept = {key: data.get(key) for key in data if key != "sha256"}
        whole = data.get("sha256") == hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
        return all(
            item is not None
            or (whole and json.loads(kept[file])[part] == self.found[f"{kind} kube-system/kube-proxy"][part])
            for item, (file, (kind, part)) in zip(live, wanted.items(), strict=True)
        )

    def close(self) -> None:
        for begun in self._begun:
            begun.kill()


@pytest.fixture(scope="module")
def life(cluster: Cluster, new_stack: NewStack) -> Iterator[Life]:
    its = Life(cluster, new_stack(cluster, mode="replace", timeoutSeconds=PATIENCE))
    yield its
    its.close()


# 1. There: killed again and again, each time further, on a cluster that has no Cilium yet


@dataclass(frozen=True)
class Survived:
    """Runs that were cut off, by what they were cut off in, and one that wasn't."""

    left: dict[str, Left]
    last: Act


@pytest.fixture(scope="module")
def there(cluster: Cluster, life: Life) -> Survived:
    cluster.annotate("node-3", "endpoint-delay", LONG)
    left = {
        "the backup": life.cut("up", "the backup is written", asked("create", "configmaps", RECORD)),
        "removing": life.cut("up", "the DaemonSet is deleted", asked("delete", "daemonsets", "kube-proxy"), ENGINE),
        "Helm's plugin": life.cut("up", "Helm begins", asked("create", "secrets", HELMS), HELM),
        "Helm": life.cut("up", "Helm begins again", asked("create", "secrets", HELMS)),
        "the commands' plugin": life.cut("up", "agents are awaited", says("agents 2/3"), COMMANDS),
        "the program": life.cut("up", "agents are awaited again", begins(AGENTS), PROGRAM),
        "the dynamic provider": life.cut("up", "agents are read", begins(STATUS), DYNAMIC),
    }
    cluster.annotate("node-3", "endpoint-delay", None)
    return Survived(left, act(cluster, life.stack, "up"))


def test_wherever_a_run_there_is_killed_kube_proxy_is_there_or_its_backup(there: Survived) -> None:
    assert [what for what, its in there.left.items() if not its.safe] == []


def test_killed_in_the_middle_of_helms_work_the_release_is_left_pending(there: Survived) -> None:
    """Or the recovery of one is not what is tested here."""
    assert there.left["Helm's plugin"].release == "pending-install"
    assert there.left["Helm"].release == "pending-upgrade"


def test_after_killed_runs_there_the_next_ends_where_the_first_would_have(there: Survived, life: Life) -> None:
    switched(there.last)
    nothing_to_do(life.stack)


# 2. From there, destroy: killed again and again


@pytest.fixture(scope="module")
def away(cluster: Cluster, life: Life, there: Survived) -> Survived:
    left = {
        "restoring": life.cut("destroy", "the DaemonSet is back", asked("create", "daemonsets", "kube-proxy")),
        "letting go": life.cut("destroy", "Cilium lets go", asked("patch", "configmaps", "cilium-config"), COMMANDS),
        "uninstalling": life.cut("destroy", "Helm deletes", asked("delete", "daemonsets", "cilium"), HELM),
        "uninstalling again": life.cut("destroy", "Helm is at work", begins(CILIUM), ENGINE),
        "forgetting": life.cut("destroy", "the backup is removed", asked("delete", "configmaps", RECORD)),
    }
    return Survived(left, life.destroyed())


def test_wherever_a_destroy_is_killed_kube_proxy_is_there(away: Survived) -> None:
    assert [what for what, its in away.left.items() if not its.safe] == []


def test_killed_in_the_middle_of_an_uninstall_the_release_is_left_uninstalling(away: Survived) -> None:
    assert away.left["uninstalling"].release == "uninstalling"


def test_after_killed_destroys_the_next_leaves_the_cluster_as_it_was_found(away: Survived, life: Life) -> None:
    as_found(away.last, life)


# 3. Destroy from wherever the way there was cut off, on a cluster that had no Cilium


@pytest.fixture(scope="module")
def undone(cluster: Cluster, life: Life, away: Survived) -> dict[str, Act]:
    ways = {
        "the backup": asked("create", "configmaps", RECORD),
        "the DaemonSet": asked("delete", "daemonsets", "kube-proxy"),
        "the ConfigMap": asked("delete", "configmaps", "kube-proxy"),
        "the Helm release": asked("create", "secrets", HELMS),
        "the agents": says("agents 0/3"),
    }
    done = {}
    for what, instant in ways.items():
        life.cut("up", what, instant)
        done[what] = life.destroyed()
    return done


FROM = ("the backup", "the DaemonSet", "the ConfigMap", "the Helm release", "the agents")


@pytest.mark.parametrize("what", FROM)
def test_destroy_after_a_run_that_was_killed_leaves_the_cluster_as_it_was_found(
    what: str, undone: dict[str, Act], life: Life
) -> None:
    as_found(undone[what], life)


# What is looked for


def as_found(its: Act, life: Life) -> None:
    """Asserts that kube-proxy routes on every node as it did before, and that nothing else is there that wasn't."""
    assert (
        but_for_proxies_pods(compared(life.found, its.after)).items()
        <= {
            "ConfigMap kube-system/kube-proxy": "made anew",
            "DaemonSet.apps kube-system/kube-proxy": "made anew",
        }.items()
    )
    for node, text in its.kernels.items():
        assert rules(text) == rules(life.kernels[node]), node
    assert life.stack.state()["deployment"].get("resources", []) == []


def switched(its: Act) -> None:
    """Asserts that the agents replace kube-proxy on every node, and that nothing of it is left."""
    assert its.outputs["agents"] == {"desired": 3, "ready": 3, "replacing": 3, "switched": 3, "unreadable": 0}
    assert its.outputs["kubeProxy"] == {"present": False, "backup": f"kube-system/{RECORD}"}
    assert its.outputs["release"]["status"] == "deployed"
    for node, text in its.kernels.items():
        assert [line for line in rules(text) if not is_kubelets(line)] == [], node
    assert leftovers(its.after) == []


def leftovers(objects: dict[str, Object]) -> list[str]:
    """The program's own pods, and what they were allowed with."""
    kinds = ("Pod ", "ClusterRole", "ClusterRoleBinding", "ServiceAccount")
    return [key for key in objects if "kube-proxy-replacement-" in key and key.startswith(kinds)]


def nothing_to_do(stack: Stack) -> None:
    preview = stack.preview()
    assert preview.changes == {}
    assert "not as wanted" not in preview.notes()


def status(cluster: Cluster) -> str:
    """Helm's word on the release's newest revision."""
    labels = [item["metadata"]["labels"] for item in cluster.items(_SECRETS)]
    return str(max(labels, key=lambda its: int(its["version"]), default={"status": ""})["status"])


# Instants


def asked(verbs: str, resource: str, name: str = "*") -> Instant:
    """The API server was asked for it by the stack, and has answered."""
    return lambda its: bool(picked((entry for entry in its.asked if entry.by_person), verbs, resource, name))


def says(words: str) -> Instant:
    return lambda its: words in its.text


def begins(resource: str) -> Instant:
    return lambda its: its.began(resource)
