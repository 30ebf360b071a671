from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kube_proxy_replacement.cluster.nodes import Node, Taint
from kube_proxy_replacement.cluster.scheduling import left_out

EXISTS = {"operator": "Exists"}


def a_node(name: str = "n1", *, taints: tuple[Taint, ...] = (), **labels: str) -> Node:
    return Node(name, f"uid-of-{name}", True, {"kubernetes.io/os": "linux", **labels}, (), taints)


def runs(spec: dict[str, Any], node: Node) -> bool:
    return left_out(spec, [node]) == {}


def affine(*terms: dict[str, Any]) -> dict[str, Any]:
    """A pod's spec with this required node affinity."""
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"affinity": {"nodeAffinity": required}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def test_nothing_said_leaves_no_node_out() -> None:
    assert left_out({}, [a_node("n1"), a_node("n2")]) == {}


@pytest.mark.parametrize("empty", [None, {}])
def test_fields_that_are_there_and_empty_leave_no_node_out(empty: Any) -> None:
    spec = {"nodeSelector": empty, "affinity": empty, "tolerations": None}
    assert left_out(spec, [a_node()]) == {}
    assert left_out({"affinity": {"nodeAffinity": empty}}, [a_node()]) == {}


class TestNodeSelector:
    def test_every_key_must_be_as_it_says(self) -> None:
        selector = {"nodeSelector": {"kubernetes.io/os": "linux", "pool": "a"}}
        nodes = [a_node("n1", pool="a"), a_node("n2", pool="b"), a_node("n3")]
        found = left_out(selector, nodes)
        assert sorted(found) == ["n2", "n3"]
        assert all("nodeSelector" in reason and "pool=a" in reason for reason in found.values())


class TestAffinity:
    @pytest.mark.parametrize(
        ("term", "fits"),
        [
            (expression("pool", "In", "a", "b"), True),
            (expression("pool", "In", "b"), False),
            (expression("other", "In", "a"), False),
            (expression("pool", "NotIn", "b"), True),
            (expression("pool", "NotIn", "a", "b"), False),
            (expression("other", "NotIn", "a"), True),  # as Kubernetes has it: a key that isn't there isn't in either
            (expression("pool", "Exists"), True),
            (expression("other", "Exists"), False),
            (expression("other", "DoesNotExist"), True),
            (expression("pool", "DoesNotExist"), False),
            (expression("size", "Gt", "15"), True),
            (expression("size", "Gt", "16"), False),
            (expression("size", "Gt", "9"), True),  # as numbers
            (expression("size", "Lt", "17"), True),
            (expression("size", "Lt", "16"), False),
            (expression("other", "Gt", "1"), False),
            (expression("other", "Lt", "1"), False),
            (expression("pool", "Gt", "1"), False),  # no number
            (expression("pool", "Lt", "1"), False),
            (expression("size", "Gt"), False),
            (expression("pool", "Like", "a"), False),  # no such operator
        ],
    )
    def test_operators(self, term: dict[str, Any], fits: bool) -> None:
        assert runs(affine(term), a_node(pool="a", size="16")) is fits

    def test_one_term_is_enough(self) -> None:
        spec = affine(expression("pool", "In", "b"), expression("pool", "In", "a"))
        assert runs(spec, a_node(pool="a"))

    def test_all_of_a_term_s_expressions_must_fit(self) -> None:
        both = {
            "matchExpressions": [
                {"key": "pool", "operator": "In", "values": ["a"]},
                {"key": "zone", "operator": "Exists"},
            ]
        }
        assert runs(affine(both), a_node(pool="a", zone="1"))
        assert not runs(affine(both), a_node(pool="a"))

    @pytest.mark.parametrize("empty", [{}, {"matchExpressions": []}, {"matchExpressions": None, "matchFields": []}])
    def test_an_empty_term_matches_no_node(self, empty: dict[str, Any]) -> None:
        assert list(left_out(affine(empty), [a_node()])) == ["n1"]
        assert runs(affine(empty, expression("pool", "Exists")), a_node(pool="a"))

    def test_by_the_node_s_name(self) -> None:
        spec = affine({"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n2"]}]})
        found = left_out(spec, [a_node("n1"), a_node("n2")])
        assert list(found) == ["n2"]
        assert "affinity.nodeAffinity" in found["n2"]

    def test_fields_and_expressions_must_both_fit(self) -> None:
        name = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
        assert runs(affine(name | expression("pool", "In", "a")), a_node("n1", pool="a"))
        assert not runs(affine(name | expression("pool", "In", "b")), a_node("n1", pool="a"))
        assert not runs(affine(name | expression("pool", "In", "a")), a_node("n2", pool="a"))

    def test_a_label_is_no_field(self) -> None:
        spec = affine({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]})
        assert not runs(spec, replace(a_node("n1"), labels={"metadata.name": "n2"}))

    def test_what_is_only_preferred_leaves_no_node_out(self) -> None:
        preferred = [{"weight": 1, "preference": expression("pool", "In", "b")}]
        spec = {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}}
        assert runs(spec, a_node(pool="a"))

    def test_the_affinity_of_pods_binds_no_daemon_set_s_pod_to_other_nodes(self) -> None:
        # the chart's own: no two agents on a node
        its = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"k8s-app": "cilium"}}}
        assert runs(
            {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [its]}}}, a_node()
        )


class TestTolerations:
    GPU = Taint("gpu", "yes", "NoSchedule")

    @pytest.mark.parametrize(
        ("toleration", "covers"),
        [
            (EXISTS, True),
            ({"key": "gpu", "operator": "Exists"}, True),
            ({"key": "", "operator": "Exists", "effect": ""}, True),
            ({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}, True),
            ({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
            ({"key": "cpu", "operator": "Exists"}, False),
            ({"operator": "Exists", "effect": "NoExecute"}, False),
            ({"key": "gpu", "operator": "Equal", "value": "yes"}, True),
            ({"key": "gpu", "value": "yes"}, True),  # Equal, unless it says otherwise
            ({"key": "gpu", "value": "no"}, False),
            ({"key": "gpu"}, False),
            ({"key": "gpu", "value": "yes", "effect": "NoExecute"}, False),
        ],
    )
    def test_which_cover_a_taint(self, toleration: dict[str, str], covers: bool) -> None:
        assert runs({"tolerations": [toleration]}, a_node(taints=(self.GPU,))) is covers

    def test_a_taint_without_a_value(self) -> None:
        node = a_node(taints=(Taint("gpu", "", "NoSchedule"),))
        assert runs({"tolerations": [{"key": "gpu"}]}, node)
        assert not runs({"tolerations": [{"key": "gpu", "value": "yes"}]}, node)

    def test_every_taint_must_be_covered(self) -> None:
        node = a_node(taints=(self.GPU, Taint("owner", "me", "NoExecute")))
        found = left_out({"tolerations": [{"key": "gpu", "operator": "Exists"}]}, [node])
        assert "owner:NoExecute" in found["n1"]

    def test_without_tolerations_a_tainted_node_is_left_out(self) -> None:
        for effect in ("NoSchedule", "NoExecute"):
            assert not runs({}, a_node(taints=(Taint("gpu", "", effect),)))

    def test_a_preference_leaves_no_node_out(self) -> None:
        assert runs({}, a_node(taints=(Taint("gpu", "", "PreferNoSchedule"),)))

    @pytest.mark.parametrize(
        "key",
        [
            # https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/#taints-and-tolerations
            "node.kubernetes.io/not-ready",
            "node.kubernetes.io/unreachable",
            "node.kubernetes.io/disk-pressure",
            "node.kubernetes.io/memory-pressure",
            "node.kubernetes.io/pid-pressure",
            "node.kubernetes.io/unschedulable",
            "node.kubernetes.io/network-unavailable",
            # goes when the agent has come
            "node.cilium.io/agent-not-ready",
        ],
    )
    def test_a_state_s_taint_leaves_no_node_out(self, key: str) -> None:
        assert runs({}, a_node(taints=(Taint(key, "", "NoSchedule"),)))
