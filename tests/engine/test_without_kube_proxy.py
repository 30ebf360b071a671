"""A cluster that never had kube-proxy: `replace` goes on and says so, `coexist` is refused, `destroy` brings none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from tests.engine.acts import Act, act, ending
from tests.engine.conftest import NewStack
from tests.engine.harness import RECORD, Cluster, Object, Stack, changes_by_person, compared, picked, wait_until

KUBE_PROXY = (
    "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy",
    "/api/v1/namespaces/kube-system/configmaps/kube-proxy",
)
PODS = "/api/v1/namespaces/kube-system/pods"


@pytest.fixture(scope="module")
def bare(cluster: Cluster) -> dict[str, Object]:
    """The objects of a cluster without kube-proxy, and without any trace of it in the kernels."""
    image = _image(cluster)
    for path in KUBE_PROXY:
        cluster.delete(path)
    wait_until("kube-proxy's pods are gone", lambda: not cluster.pods("k8s-app=kube-proxy"))
    for node in cluster.node_names:
        cluster.create(PODS, _cleaning_pod(node, image))
    label = "kube-proxy-replacement/task=clean"
    wait_until("the rules are gone", lambda: _phases(cluster, label) == {"Succeeded"})
    for pod in cluster.pods(label).values():
        cluster.delete(f"{PODS}/{pod['metadata']['name']}")
    wait_until("the pods that cleaned are gone", lambda: not ending(cluster.objects()))
    return cluster.objects()


@pytest.fixture(scope="module")
def stack(cluster: Cluster, new_stack: NewStack, bare: dict[str, Object]) -> Stack:
    # without kube-proxy's own configuration nothing says an address that every node is known to reach
    return new_stack(cluster, mode="coexist", apiServerHost=cluster.host, apiServerPort=cluster.port)


# 1. coexist


@pytest.fixture(scope="module")
def refused(cluster: Cluster, stack: Stack) -> Act:
    before, mark = cluster.objects(), cluster.mark()
    run = stack.preview(fails=True)
    return Act(run, cluster.audit(mark), before, cluster.objects(), {}, {})


def test_coexist_is_refused_in_preview_with_what_to_write_instead(refused: Act) -> None:
    (reason,) = [line for line in refused.run.errors().splitlines() if "mode: " in line]
    assert "kube-proxy" in reason
    assert "Write replace" in reason
    assert "Traceback" not in refused.run.text


def test_refused_preview_changes_nothing(refused: Act) -> None:
    assert changes_by_person(refused.audit) == []
    assert compared(refused.before, refused.after) == {}


# 2. replace


@pytest.fixture(scope="module")
def foreseen(stack: Stack, refused: Act) -> str:
    stack.config("mode", "replace")
    return stack.preview().notes()


@pytest.fixture(scope="module")
def replaced(cluster: Cluster, stack: Stack, foreseen: str) -> Act:
    return act(cluster, stack, "up")


def test_preview_says_that_there_is_nothing_to_remove(foreseen: str) -> None:
    assert "this cluster has no kube-proxy: nothing is removed, and destroy will restore none" in foreseen


def test_up_goes_on_and_says_so(replaced: Act) -> None:
    assert any("no kube-proxy" in its.text and "nothing to remove" in its.text for its in replaced.run.said)
    removed = [*picked(replaced.audit, "delete", "daemonsets"), *picked(replaced.audit, "delete", "configmaps")]
    assert removed == []


def test_nothing_is_cleaned_where_there_are_no_rules(replaced: Act) -> None:
    assert picked(replaced.audit, "create", "pods", "*-clean-*") == []


def test_every_agent_is_switched_and_there_is_no_backup(replaced: Act) -> None:
    assert replaced.outputs["kubeProxyReplacement"] == "True"
    assert replaced.outputs["agents"] == {"desired": 3, "ready": 3, "replacing": 3, "switched": 3, "unreadable": 0}
    assert replaced.outputs["kubeProxy"] == {"present": False, "backup": ""}
    assert {node["leftoverRules"] for node in replaced.outputs["nodes"].values()} == {0}


def test_the_address_is_the_one_that_was_set(replaced: Act, cluster: Cluster) -> None:
    assert replaced.outputs["apiServer"] == {
        "host": cluster.host,
        "port": cluster.port,
        "source": "the setting apiServerHost",
    }


def test_a_second_preview_shows_no_change(stack: Stack, replaced: Act) -> None:
    assert stack.preview().changes == {}


# 3. destroy


@pytest.fixture(scope="module")
def gone(cluster: Cluster, stack: Stack, replaced: Act) -> Act:
    before, mark = cluster.objects(), cluster.mark()
    done = Act(stack.destroy(), cluster.audit(mark), before, {}, {}, {})
    wait_until("what was deleted is gone", lambda: not ending(cluster.objects()))
    return replace(done, after=cluster.objects())


def test_destroy_brings_no_kube_proxy(gone: Act) -> None:
    assert picked(gone.audit, "create", "daemonsets") == []
    assert f"ConfigMap kube-system/{RECORD}" not in gone.after


def test_after_destroy_the_cluster_is_as_it_was_found(bare: dict[str, Object], gone: Act) -> None:
    assert compared(bare, gone.after) == {}


# The cluster without kube-proxy


def _image(cluster: Cluster) -> str:
    spec = cluster.get(KUBE_PROXY[0])["spec"]["template"]["spec"]
    return str(spec["containers"][0]["image"])


def _cleaning_pod(node: str, image: str) -> Object:
    pod: Object = yaml.safe_load(f"""
        apiVersion: v1
        kind: Pod
        metadata:
          name: clean-{node}
          namespace: kube-system
          labels: {{kube-proxy-replacement/task: clean}}
        spec:
          nodeName: {node}
          hostNetwork: true
          restartPolicy: Never
          terminationGracePeriodSeconds: 0
          tolerations: [{{operator: Exists}}]
          containers:
          - {{name: clean, image: "{image}", command: [kube-proxy, --cleanup]}}
    """)
    return pod


def _phases(cluster: Cluster, label: str) -> set[str]:
    return {pod["status"].get("phase", "") for pod in cluster.pods(label).values()}
