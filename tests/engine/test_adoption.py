"""A Cilium that its owner's Helm runs: taken over with his values, there and back, and left to him again.

Three owners, one after the other on one cluster. After each step the whole tree of values, from Helm's own Secrets, is
his, but for what the program sets. Each act is a fixture; the tests below it are its promises.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.toolchain import Toolchain
from tests.engine.acts import Act, act, helms_changes, pods, rules_read
from tests.engine.conftest import NewStack
from tests.engine.harness import CILIUM, RECORD, Cluster, Object, Stack, in_order, picked, wait_until

NEWER = "1.18.99"
VALUES = Path(__file__).with_name("values")
SECRETS = "/api/v1/namespaces/kube-system/secrets"
CANARIES = ("CANARY-in-a-list", "CANARY-under-its-name")
OURS = (
    "kubeProxyReplacement",
    "kubeProxyReplacementHealthzBindAddr",
    "k8sServiceHost",
    "k8sServicePort",
    "rollOutCiliumPods",
    "operator.rollOutPods",
    "envoy.rollOutPods",
    "socketLB.hostNamespaceOnly",
)
"""What the program sets; see the README, «A Cilium that is already there»."""

Tree = dict[str, Any]
RunHelm = Callable[..., str]


@pytest.fixture(scope="module")
def helm(cluster: Cluster, toolchain: Toolchain) -> RunHelm:
    """Helm's own program, as the owner runs it; gives what it prints."""

    def run(verb: str, *arguments: str) -> str:
        chart = [str(toolchain.cilium_chart)] if verb in ("install", "upgrade") else []
        done = subprocess.run(
            [str(toolchain.helm), verb, "cilium", *chart, "--namespace", "kube-system", *arguments],
            env=environment(cluster),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def environment(cluster: Cluster) -> dict[str, str]:
    return os.environ | {
        "KUBECONFIG": str(cluster.kubeconfig),
        "KUBECACHEDIR": str(cluster.kubeconfig.parent / "kubectl"),
    }


@dataclass(frozen=True)
class Step(Act):
    """Attributes:
    values: the release's tree of values after it.
    version: its chart's.
    revision: Helm's newest.
    """

    values: Tree
    version: str
    revision: int


def step(cluster: Cluster, stack: Stack, command: str, *, fails: bool = False) -> Step:
    done = act(cluster, stack, command, fails=fails)
    kept = revisions(cluster)
    version = kept[-1]["chart"]["metadata"]["version"]
    return Step(**vars(done), values=values(cluster), version=version, revision=len(kept))


def revisions(cluster: Cluster) -> list[Object]:
    """Every revision that Helm keeps, oldest first; numbers are texts, so that none is rounded by the comparing."""
    items = [item for item in cluster.items(SECRETS) if item["metadata"].get("labels", {}).get("owner") == "helm"]
    items.sort(key=lambda item: int(item["metadata"]["labels"]["version"]))
    packed = [base64.b64decode(base64.b64decode(item["data"]["release"])) for item in items]
    return [json.loads(gzip.decompress(each), parse_int=str, parse_float=str) for each in packed]


def values(cluster: Cluster) -> Tree:
    tree: Tree = revisions(cluster)[-1].get("config") or {}
    return tree


def without(tree: Mapping[str, Any], paths: tuple[str, ...] = OURS) -> Tree:
    """The tree without what stands at these paths, nor the maps that hold nothing else."""
    result = dict(tree)
    for path in paths:
        key, _, rest = path.partition(".")
        if key not in result:
            continue
        inner = without(result[key], (rest,)) if rest and isinstance(result[key], dict) else None
        if inner:
            result[key] = inner
        elif not rest or result[key].keys() <= {rest}:
            del result[key]
    return result


def installed(cluster: Cluster, helm: RunHelm, name: str) -> Tree:
    """The owner's own work; the tree as Helm has it afterwards."""
    helm("install", "--values", str(VALUES / f"{name}.yaml"))
    wait_until("the owner's agents are ready", lambda: agents_ready(cluster), 60)
    return values(cluster)


def agents_ready(cluster: Cluster) -> bool:
    status = (cluster.daemonset("cilium") or {}).get("status", {})
    return bool(status.get("numberReady") == len(cluster.node_names))


def gone(cluster: Cluster) -> bool:
    return cluster.daemonset("cilium") is None and cluster.find("/api/v1/namespaces/cilium-secrets") is None


def shown(stack: Stack) -> Iterator[str]:
    """All that a run leaves: what it displayed, its events, the state, its copies and history."""
    for file in stack.folder.rglob("*"):
        if file.is_file() and "project" not in file.parts and "home" not in file.parts:
            yield file.read_text(errors="replace")


# 1. A tunnel cluster: everything a tree of values can hold, and an owner who goes on working


@pytest.fixture(scope="module")
def owners(cluster: Cluster, helm: RunHelm) -> Tree:
    return installed(cluster, helm, "tunnel")


@pytest.fixture(scope="module")
def stack(cluster: Cluster, new_stack: NewStack, owners: Tree) -> Stack:
    return new_stack(cluster, mode="coexist", chart=None)  # the chart that runs, from Helm's own record


@pytest.fixture(scope="module")
def previewed(cluster: Cluster, stack: Stack) -> Act:
    done = act(cluster, stack, "preview")
    with_diff = stack.preview("--diff")
    assert [canary for canary in CANARIES if canary in with_diff.text] == []
    return done


def test_the_preview_says_whose_it_is_and_which_value_becomes_what(previewed: Act) -> None:
    notes = previewed.run.notes()
    assert "Helm release kube-system/cilium (chart 1.18.6, revision 1) is its owner's and is taken over" in notes
    assert "rollOutCiliumPods: not set (the chart's false) → true" in notes
    assert "kubeProxyReplacement: " not in notes, "false and «false» are the same to a reviewer"
    assert "site" in notes, "the chart doesn't know it, which is a warning"
    assert "MTU" not in notes, "what stays isn't told"


def test_a_preview_changes_nothing(previewed: Act) -> None:
    assert [entry for entry in previewed.audit if entry.by_person and entry.changes] == []


@pytest.fixture(scope="module")
def beside(cluster: Cluster, stack: Stack, previewed: Act) -> Step:
    return step(cluster, stack, "up")


def test_it_is_recorded_and_read_back_before_anything_is_changed(beside: Step) -> None:
    changes = [entry for entry in beside.audit if entry.by_person and entry.changes and entry.resource != "leases"]
    in_order(
        ("the owner's values are recorded", picked(changes, "create", "secrets", RECORD)),
        ("and read back", picked(beside.audit, "get", "secrets", RECORD)[:1]),
        ("the record says that it is adopted", picked(changes, "create", "configmaps", RECORD)),
        ("Helm upgrades it", picked(changes, "create", "secrets", "sh.helm.release.*")),
    )
    assert (changes[0].resource, changes[0].verb) == ("secrets", "create")


def test_the_owners_values_stay_in_coexist(beside: Step, owners: Tree) -> None:
    assert without(beside.values) == without(owners)
    assert beside.values["kubeProxyReplacement"] == "false"
    assert beside.values["operator"]["affinity"] is None


def test_the_secret_holds_the_owners_values_exactly(beside: Step, owners: Tree) -> None:
    data = beside.after[f"Secret kube-system/{RECORD}"]["data"]
    kept = json.loads(base64.b64decode(data["owner.json"]), parse_int=str, parse_float=str)
    assert (kept["release"], kept["version"], kept["revision"]) == ("kube-system/cilium", "1.18.6", "1")
    assert kept["values"] == owners


def test_it_is_upgraded_once_and_by_nobody_elses_plugin(beside: Step) -> None:
    assert beside.revision == 2
    assert helms_changes(beside.audit) == []
    assert beside.outputs["release"] == {
        "name": "cilium",
        "namespace": "kube-system",
        "version": "1.18.6",
        "revision": 2,
        "status": "deployed",
    }


@pytest.fixture(scope="module")
def looked_again(cluster: Cluster, stack: Stack, beside: Step) -> Act:
    return act(cluster, stack, "preview")


def test_the_next_preview_shows_no_change(looked_again: Act) -> None:
    assert looked_again.run.changes == {}


@pytest.fixture(scope="module")
def switched(cluster: Cluster, stack: Stack, looked_again: Act) -> Step:
    stack.config("mode", "replace")
    return step(cluster, stack, "up")


def test_the_owners_values_stay_through_the_switch_over(switched: Step, owners: Tree) -> None:
    assert without(switched.values) == without(owners)
    assert switched.values["kubeProxyReplacement"] == "true"
    assert switched.outputs["agents"]["switched"] == 3
    assert switched.outputs["kubeProxy"]["present"] is False


@pytest.fixture(scope="module")
def changed(cluster: Cluster, stack: Stack, helm: RunHelm, switched: Step) -> Act:
    """The owner sets one value of his own, and one of the program's. (Helm's --reuse-values stumbles over nulls.)"""
    helm("upgrade", "--reset-then-reuse-values", "--set", "debug.enabled=true", "--set", "rollOutCiliumPods=false")
    return act(cluster, stack, "preview")


def test_what_only_the_owner_has_changed_is_shown_and_kept(changed: Act) -> None:
    notes = changed.run.notes()
    assert "its owner has changed 1 values in revision 4" in notes
    assert "debug.enabled: not set → true" in notes or "debug: {} → " in notes


def test_what_the_program_sets_is_shown_as_changed_by_hand(changed: Act) -> None:
    assert "rollOutCiliumPods: False instead of True" in changed.run.notes()


@pytest.fixture(scope="module")
def mended(cluster: Cluster, stack: Stack, changed: Act) -> Step:
    return step(cluster, stack, "up")


def test_up_keeps_the_owners_change_and_mends_the_programs(mended: Step, owners: Tree, stack: Stack) -> None:
    assert without(mended.values) == without(owners | {"debug": {"enabled": True}})
    assert mended.values["rollOutCiliumPods"] is True
    assert stack.preview().changes == {}


@pytest.fixture(scope="module")
def back(cluster: Cluster, stack: Stack, mended: Step) -> Step:
    stack.config("mode", "coexist")
    return step(cluster, stack, "up")


def test_the_owners_values_stay_through_the_switch_back(back: Step, owners: Tree) -> None:
    assert without(back.values) == without(owners | {"debug": {"enabled": True}})
    assert back.outputs["kubeProxyReplacement"] == "False"


@pytest.fixture(scope="module")
def left(cluster: Cluster, stack: Stack, back: Step) -> Step:
    stack.config("mode", "replace")
    step(cluster, stack, "up")
    return step(cluster, stack, "destroy")


def test_destroy_gives_the_owner_his_values_back_and_uninstalls_nothing(left: Step, owners: Tree) -> None:
    assert left.values == owners | {"debug": {"enabled": True}}
    assert len(pods(left.after, "cilium")) == 3
    assert left.after["ConfigMap kube-system/cilium-config"]["data"]["kube-proxy-replacement"] == "false"


def test_destroy_gives_them_back_when_kube_proxy_routes(left: Step) -> None:
    upgraded = picked(left.audit, "create", "secrets", "sh.helm.release.*")
    assert len(upgraded) == 1
    in_order(
        ("kube-proxy's DaemonSet is back", picked(left.audit, "create", "daemonsets", "kube-proxy")),
        ("rules are read on every node", rules_read(left.audit, left.after, until=upgraded[0].began)),
        ("Helm gives the owner his values", upgraded),
        ("the record goes", picked(left.audit, "delete", "configmaps", RECORD)),
        ("the owner's values go", picked(left.audit, "delete", "secrets", RECORD)),
    )


def test_what_the_owner_keeps_secret_is_nowhere_in_what_the_runs_left(left: Step, stack: Stack) -> None:
    texts = list(shown(stack))
    assert len(texts) > 10
    assert any("kube-proxy-replacement" in text for text in texts)
    assert [canary for canary in CANARIES for text in texts if canary in text] == []


# 2. An owner whose Helm is at work, or was killed in it: which can't be told apart


@pytest.fixture(scope="module")
def busy(cluster: Cluster, stack: Stack, toolchain: Toolchain, left: Step) -> Act:
    upgrade = ["upgrade", "cilium", str(toolchain.cilium_chart), "--namespace", "kube-system"]
    upgrade += ["--values", str(VALUES / "tunnel.yaml")]
    with subprocess.Popen([str(toolchain.helm), *upgrade], env=environment(cluster)) as helm:
        wait_until("Helm has begun", lambda: is_pending(cluster), pause=0.01)
        helm.kill()
    assert is_pending(cluster), "Helm had ended before it was killed"
    return act(cluster, stack, "up", fails=True)


def is_pending(cluster: Cluster) -> bool:
    """By a label, as that's quick: Helm is at work for a second or two."""
    return bool(cluster.items(f"{SECRETS}?labelSelector=owner%3Dhelm%2Cstatus%3Dpending-upgrade"))


def test_a_release_that_somebody_else_may_be_at_work_on_is_left_alone(busy: Act, left: Step) -> None:
    said = busy.run.errors()
    revision = left.revision + 1
    assert f"Helm release kube-system/cilium is pending-upgrade (revision {revision}) since " in said
    assert ", by Helm: somebody else is at work on it. Nothing was changed." in said
    changes = [entry for entry in busy.audit if entry.by_person and entry.changes and entry.resource != "leases"]
    assert changes == []


# 3. Native routing with DSR, straight to replace; 4. encryption and Hubble's metrics


@dataclass(frozen=True)
class Story:
    """What has become of one owner's values."""

    owners: Tree
    switched: Step
    back: Step
    left: Step


def story(cluster: Cluster, new_stack: NewStack, helm: RunHelm, name: str, chart: Path | None = None) -> Story:
    """One owner's Cilium, from its install to the end.

    Args:
        chart: what the setting says; where None, it is the chart that runs.
    """
    helm("uninstall")
    wait_until("the last owner's Cilium is gone", lambda: gone(cluster), 60)
    owners = installed(cluster, helm, name)
    stack = new_stack(cluster, mode="replace", chart=chart and str(chart))
    switched = step(cluster, stack, "up")
    stack.config("mode", "coexist")
    return Story(owners, switched, step(cluster, stack, "up"), step(cluster, stack, "destroy"))


def his_values_are_kept(its: Story) -> None:
    assert without(its.switched.values) == without(its.owners)
    assert without(its.back.values) == without(its.owners)
    assert its.left.values == its.owners


@pytest.fixture(scope="module")
def native(cluster: Cluster, new_stack: NewStack, helm: RunHelm, busy: Act) -> Story:
    return story(cluster, new_stack, helm, "native-dsr")


def test_native_routing_with_dsr(native: Story) -> None:
    his_values_are_kept(native)
    config = native.switched.after["ConfigMap kube-system/cilium-config"]["data"]
    assert (config["bpf-lb-mode"], config["bpf-lb-algorithm"], config["routing-mode"]) == ("dsr", "maglev", "native")
    assert config["bpf-ct-global-tcp-max"] == "4194304"
    assert "enable-hubble" not in config or config["enable-hubble"] == "false", "the owner's, not the default"


@pytest.fixture(scope="module")
def encrypted(cluster: Cluster, new_stack: NewStack, helm: RunHelm, newer: Path, native: Story) -> Story:
    return story(cluster, new_stack, helm, "encrypted", newer)


@pytest.fixture(scope="module")
def newer(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart, as another version of itself."""
    folder = tmp_path_factory.mktemp("newer") / "cilium"
    shutil.copytree(toolchain.cilium_chart, folder)
    file = folder / "Chart.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"version": NEWER}))
    return folder


def test_encryption_and_hubble_metrics(encrypted: Story) -> None:
    his_values_are_kept(encrypted)
    config = encrypted.switched.after["ConfigMap kube-system/cilium-config"]["data"]
    assert config["enable-wireguard"] == "true"
    assert "dns:query;ignoreAAAA" in config["hubble-metrics"]


def test_values_are_kept_over_a_change_of_version(encrypted: Story) -> None:
    """There with the switch-over; `destroy` leaves the version that runs."""
    assert encrypted.switched.outputs["release"]["version"] == NEWER
    assert encrypted.back.outputs["release"]["version"] == NEWER
    assert encrypted.left.version == NEWER
    his_values_are_kept(encrypted)


# 5. An owner who has no kube-proxy


@pytest.fixture(scope="module")
def without_kube_proxy(cluster: Cluster, new_stack: NewStack, helm: RunHelm, encrypted: Story) -> Story:
    """He has done it by hand, long ago."""
    host = {"k8sServiceHost": cluster.host, "k8sServicePort": str(cluster.port), "kubeProxyReplacement": "true"}
    helm("upgrade", "--reset-then-reuse-values", *[f"--set-string={key}={value}" for key, value in host.items()])
    for path in ("/apis/apps/v1/namespaces/kube-system/daemonsets", "/api/v1/namespaces/kube-system/configmaps"):
        cluster.delete(f"{path}/kube-proxy")
    wait_until("kube-proxy is gone", lambda: not cluster.pods("k8s-app=kube-proxy"), 60)
    owners = values(cluster)
    stack = new_stack(cluster, mode="replace", chart=None)
    switched = step(cluster, stack, "up")
    return Story(owners, switched, switched, step(cluster, stack, "destroy"))


def test_an_owner_who_has_no_kube_proxy_is_left_so(without_kube_proxy: Story, cluster: Cluster) -> None:
    its = without_kube_proxy
    assert "this cluster has no kube-proxy" in its.switched.run.text
    assert its.switched.outputs["apiServer"]["source"] == "the release's own values"
    assert without(its.switched.values) == without(its.owners)
    assert its.left.values == its.owners
    assert cluster.daemonset("kube-proxy") is None
    assert its.left.after["ConfigMap kube-system/cilium-config"]["data"]["kube-proxy-replacement"] == "true"


def test_the_release_of_an_owner_is_a_command_and_never_uninstalled(encrypted: Story) -> None:
    assert encrypted.switched.run.step(CILIUM).type == "command:local:Command"
    assert encrypted.left.run.ops[CILIUM] == "delete"
