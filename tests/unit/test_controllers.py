"""Who owns an object, by the marks that owners leave on it."""

from __future__ import annotations

from typing import Any

import pytest

from kube_proxy_replacement.cluster import controllers
from kube_proxy_replacement.cluster.checks import NAMES

from .fakes import config_map, daemon_set

TRACKED = "net:apps/DaemonSet:kube-system/kube-proxy"

RECONCILING: list[tuple[dict[str, Any], str, str]] = [
    (
        {"labels": {"helm.toolkit.fluxcd.io/name": "net", "helm.toolkit.fluxcd.io/namespace": "flux"}},
        "flux/net",
        "Flux",
    ),
    ({"labels": {"kustomize.toolkit.fluxcd.io/name": "net"}}, "Kustomization net", "prune"),
    ({"annotations": {"argocd.argoproj.io/tracking-id": TRACKED}}, "Argo CD's Application net", "Prune=false"),
    ({"labels": {"argocd.argoproj.io/instance": "net"}}, "Argo CD's Application net", "Prune=false"),
    (
        {"labels": {"app.kubernetes.io/instance": "net"}, "managers": ["argocd-controller"]},
        "Argo CD's Application net",
        "Prune=false",
    ),
    ({"labels": {"kubernetes.azure.com/managedby": "aks"}}, "AKS", "az aks update --kube-proxy-config"),
    ({"labels": {"addonmanager.kubernetes.io/mode": "Reconcile"}}, "add-on manager", "/etc/kubernetes/addons"),
    ({"labels": {"addonmanager.kubernetes.io/mode": "EnsureExists"}}, "add-on manager", "/etc/kubernetes/addons"),
    ({"annotations": {"objectset.rio.cattle.io/owner-name": "kp"}}, "Addon kp", "server/manifests"),
    ({"labels": {"app.kubernetes.io/managed-by": "kops"}}, "kOps", "kubeProxy.enabled: false"),
    (
        {"annotations": {"config.k8s.io/owning-inventory": "talos-bootstrap-manifests-inventory"}},
        "Talos",
        "cluster.proxy.disabled: true",
    ),
    ({"managers": ["talos"]}, "Talos", "cluster.proxy.disabled: true"),
    ({"labels": {"resources.gardener.cloud/managed-by": "gardener"}}, "Gardener", "Shoot"),
    ({"labels": {"kapp.k14s.io/app": "1600"}}, "kapp", "app that kapp deploys"),
]


@pytest.mark.parametrize(("its", "name", "way"), RECONCILING)
def test_who_puts_it_back_is_named_with_his_mark_and_his_way(its: dict[str, Any], name: str, way: str) -> None:
    found = controllers.refusal([daemon_set("kube-proxy", **its)])
    assert found is not None
    marks = [f"{key}={value}" for part in ("labels", "annotations") for key, value in its.get(part, {}).items()]
    for words in ("kube-proxy's DaemonSet belongs to", name, way, "Nothing was changed", *marks[:1]):
        assert words in found.reason
    assert found.check in NAMES


def test_an_operator_is_known_by_the_reference_to_its_resource() -> None:
    item = daemon_set("kube-proxy")
    item["metadata"]["ownerReferences"] = [{"kind": "Network", "name": "cluster", "controller": True}]
    found = controllers.refusal([item])
    assert found is not None
    assert "the operator of Network cluster" in found.reason


def test_its_configmap_counts_too() -> None:
    item = config_map("kube-proxy")
    item["metadata"]["labels"] = {"addonmanager.kubernetes.io/mode": "Reconcile"}
    found = controllers.refusal([daemon_set("kube-proxy"), None, item])
    assert found is not None
    assert "kube-proxy's ConfigMap" in found.reason


@pytest.mark.parametrize(
    "its",
    [
        {},
        {"managers": ["kubeadm", "kubectl-edit"]},
        # as Argo CD itself has it: an annotation that was copied from another object makes nobody its owner
        {"annotations": {"argocd.argoproj.io/tracking-id": "net:apps/DaemonSet:kube-system/cilium"}},
        {"labels": {"app.kubernetes.io/instance": "net"}},
        {"annotations": {"config.k8s.io/owning-inventory": "mine"}},
    ],
)
def test_nobody_s_is_nobody_s(its: dict[str, Any]) -> None:
    item = daemon_set("kube-proxy", **its)
    assert controllers.owner(item) is None
    assert controllers.refusal([item]) is None
    assert controllers.warning(item) is None


def test_helm_changes_nothing_by_itself() -> None:
    notes = {"meta.helm.sh/release-name": "kp", "meta.helm.sh/release-namespace": "kube-system"}
    item = daemon_set("kube-proxy", annotations=notes)
    assert controllers.refusal([item]) is None
    assert "the Helm release kube-system/kp" in (controllers.warning(item) or "")


def test_a_controller_that_works_with_helm_comes_before_helm() -> None:
    its = daemon_set(
        "cilium",
        labels={"helm.toolkit.fluxcd.io/name": "net"},
        annotations={"meta.helm.sh/release-name": "net", "meta.helm.sh/release-namespace": "kube-system"},
    )
    found = controllers.owner(its)
    assert found is not None
    assert (found.kind, found.reconciles) == ("flux-helm", True)


def test_who_made_it_is_the_first_who_wrote_its_fields() -> None:
    item = daemon_set("kube-proxy")
    item["metadata"] |= {
        "creationTimestamp": "2026-11-01T10:00:00Z",
        "managedFields": [
            {"manager": "kubectl-edit", "time": "2026-11-02T10:00:00Z"},
            {"manager": "kube-controller-manager", "time": "2026-10-01T10:00:00Z", "subresource": "status"},
            {"manager": "kubeadm", "time": "2026-11-01T10:00:00Z"},
        ],
    }
    assert controllers.writers(item) == ["kubeadm", "kubectl-edit"]
    assert controllers.made_by(item) == ", made by kubeadm at 2026-11-01T10:00:00Z"
    assert controllers.made_by({"metadata": {}}) == ""
    assert controllers.written_by(item) == " by kubectl-edit"
    assert controllers.written_by({"metadata": {}}) == ""


def back(when: str) -> Any:
    item = daemon_set("kube-proxy", managers=["an-operator"])
    item["metadata"]["creationTimestamp"] = when
    return item


TWICE = ("2026-11-23T10:00:00Z", "2026-11-23T11:00:00Z")


def test_what_comes_back_a_third_time_within_a_day_is_a_fight() -> None:
    found = controllers.coming_back(back("2026-11-24T10:00:00Z"), TWICE)
    assert found is not None
    for words in ("third time", "by an-operator", *TWICE, "Nothing was changed"):
        assert words in found.reason
    assert found.check == "managed-by"


@pytest.mark.parametrize(
    ("when", "returns"),
    [
        ("2026-11-24T10:00:01Z", TWICE),
        ("2026-11-23T12:00:00Z", TWICE[:1]),
        ("2026-11-23T12:00:00Z", ()),
        ("2026-11-23T11:00:00Z", TWICE),  # the same one: a run was stopped before it was removed
    ],
)
def test_less_often_it_is_removed_again(when: str, returns: tuple[str, ...]) -> None:
    assert controllers.coming_back(back(when), returns) is None


def test_one_that_is_not_there_has_not_come_back() -> None:
    assert controllers.coming_back(None, TWICE) is None
