from __future__ import annotations

from typing import Any

import pytest

from kube_proxy_replacement.cluster.distribution import Distribution, detect, read, refusal

from .fakes import FakeApi, config_map, daemon_set, forbidden, node

SERVER = "https://10.0.0.1:6443"
KUBEADM_CONFIG = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"


@pytest.mark.parametrize(
    ("its", "name"),
    [
        ({"version": "v1.30.4+k3s1"}, "k3s"),
        ({"version": "v1.31.1+rke2r1"}, "rke2"),
        ({"version": "v1.31.1+k0s"}, "k0s"),
        ({"version": "v1.33.5-gke.1080000"}, "gke"),
        ({"version": "v1.33.5-eks-113cf36", "provider": "aws:///eu-central-1a/i-0"}, "eks"),
        ({"version": "v1.34.1-tke.2"}, "tke"),
        ({"os_image": "Talos (v1.11.2)"}, "talos"),
        ({"labels": {"cloud.google.com/gke-nodepool": "a"}}, "gke"),
        ({"labels": {"eks.amazonaws.com/nodegroup": "a"}}, "eks"),
        ({"labels": {"kubernetes.azure.com/cluster": "a"}}, "aks"),
        ({"labels": {"microk8s.io/cluster": "true"}}, "microk8s"),
        ({"labels": {"kops.k8s.io/instancegroup": "nodes"}}, "kops"),
        ({"labels": {"worker.gardener.cloud/pool": "a"}}, "gardener"),
        ({"provider": "kind://docker/kind/kind-worker"}, "kind"),
        ({}, "unknown"),
        ({"version": "v1.36.3", "provider": "aws:///eu-central-1a/i-0"}, "unknown"),
    ],
)
def test_nodes_tell(its: dict[str, Any], name: str) -> None:
    found = detect(nodes=[node("plain"), node("a", **its)], server=SERVER)
    assert found.name == name
    assert ("node a" in found.evidence) is (name != "unknown")


@pytest.mark.parametrize(
    ("its", "name"),
    [
        ({"server": "https://ABC.gr7.eu-central-1.eks.amazonaws.com"}, "eks"),
        ({"server": "https://a-dns-1.hcp.westeurope.azmk8s.io:443"}, "aks"),
        ({"server": "https://x.eks.amazonaws.com.example.com"}, "unknown"),
        ({"server": "https://ABC.sk1.cn-north-1.eks.amazonaws.com.cn"}, "eks"),
        ({"groups": ["apps", "config.openshift.io"]}, "openshift"),
        ({"daemonsets": [daemon_set("x", labels={"kubernetes.azure.com/managedby": "aks"})]}, "aks"),
        ({"kubeadm_config": True}, "kubeadm"),
    ],
)
def test_other_things_tell(its: dict[str, Any], name: str) -> None:
    found = detect(**({"nodes": [node("a")], "server": SERVER} | its))
    assert (found.name, bool(found.evidence)) == (name, name != "unknown")


def test_what_is_built_in_is_surer_than_what_is_written() -> None:
    both = node("a", version="v1.30.4+k3s1", labels={"kops.k8s.io/instancegroup": "x"}, provider="kind://x")
    assert detect(nodes=[both], server=SERVER, kubeadm_config=True).name == "k3s"


def test_kind_is_told_from_kubeadm() -> None:
    found = detect(nodes=[node("a", provider="kind://x")], server=SERVER, kubeadm_config=True)
    assert found.name == "kind"


def test_a_cluster_is_read() -> None:
    api = FakeApi({"/apis": {"groups": [{"name": "apps"}]}}).put(node("a"), config_map("kubeadm-config"))
    assert read(api).name == "kubeadm"
    api.errors["GET", KUBEADM_CONFIG] = forbidden(KUBEADM_CONFIG)
    assert read(api).name == "unknown"
    api.objects["/apis"] = {"groups": [{"name": "route.openshift.io"}]}
    assert read(api).name == "openshift"


KUBE_PROXY = daemon_set("kube-proxy")


@pytest.mark.parametrize("name", ["kubeadm", "kind", "unknown", "eks", "aks"])
def test_where_kube_proxy_is_the_users(name: str) -> None:
    assert refusal(Distribution(name, "x"), KUBE_PROXY) is None


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("gke", "--enable-dataplane-v2"),
        ("k3s", "disable-kube-proxy: true"),
        ("rke2", "disable-kube-proxy: true"),
        ("k0s", "kubeProxy.disabled: true"),
        ("talos", "cluster.proxy.disabled: true"),
        ("kops", "kubeProxy.enabled: false"),
        ("tke", "parked"),
        ("openshift", "deployKubeProxy: false"),
        ("microk8s", "microk8s enable cilium"),
        ("gardener", "kubeProxy.enabled: false"),
    ],
)
def test_where_it_isnt_what_was_seen_and_the_right_way_are_said(name: str, way: str) -> None:
    text = refusal(Distribution(name, "what was seen"), KUBE_PROXY)
    assert text is not None
    for part in ("what was seen", way, "Nothing was changed"):
        assert part in text


@pytest.mark.parametrize("name", ["rke2", "k0s", "talos", "kops", "tke", "openshift", "gardener", "kubeadm", "eks"])
def test_a_cluster_without_kube_proxy_goes_on(name: str) -> None:
    assert refusal(Distribution(name, "x"), None) is None


@pytest.mark.parametrize("name", ["gke", "k3s", "microk8s"])
def test_where_no_object_tells_of_kube_proxy_its_absence_says_nothing(name: str) -> None:
    assert refusal(Distribution(name, "x"), None) is not None


@pytest.mark.parametrize(
    ("arguments", "off"),
    [
        ('["server","--disable-kube-proxy","true"]', True),
        ('["server","--disable-kube-proxy"]', True),
        ('["server","--disable-kube-proxy=true"]', True),
        ('["server","--disable-kube-proxy", "false"]', False),
        ('["server","--disable-kube-proxy=false"]', False),
        ('["server","--disable","traefik"]', False),
        ("", False),
    ],
)
def test_k3s_says_in_its_arguments_that_it_runs_none(arguments: str, off: bool) -> None:
    server = node("a", version="v1.30.4+k3s1")
    server["metadata"]["annotations"] = {"k3s.io/node-args": arguments}
    found = detect(nodes=[node("b", version="v1.30.4+k3s1"), server], server=SERVER)
    assert found.kube_proxy_off is off
    assert (refusal(found, None) is None) is off


@pytest.mark.parametrize(
    "its",
    [
        {"managers": ["kube-controller-manager", "eks"]},
        {"labels": {"app.kubernetes.io/managed-by": "EKS"}},
        {"annotations": {"app.kubernetes.io/managed-by": "eks"}},
    ],
)
def test_an_eks_addon_isnt_the_users(its: dict[str, Any]) -> None:
    text = refusal(Distribution("eks", "x"), daemon_set("kube-proxy", **its)) or ""
    assert "aws eks delete-addon" in text
    assert "Nothing was changed" in text


def test_only_eks_itself_counts_as_eks() -> None:
    other = daemon_set("kube-proxy", managers=["eksctl"], labels={"eks.amazonaws.com/component": "kube-proxy"})
    assert refusal(Distribution("eks", "x"), other) is None
    assert refusal(Distribution("kubeadm", "x"), daemon_set("kube-proxy", managers=["eks"])) is None


@pytest.mark.parametrize(
    "labels", [{"addonmanager.kubernetes.io/mode": "Reconcile"}, {"kubernetes.azure.com/managedby": "aks"}]
)
def test_what_akss_addon_manager_owns_comes_back(labels: dict[str, str]) -> None:
    text = refusal(Distribution("aks", "x"), daemon_set("kube-proxy", labels=labels)) or ""
    assert "az aks update --kube-proxy-config" in text
