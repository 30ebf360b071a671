from __future__ import annotations

from typing import Any

import pytest

from kube_proxy_replacement.cluster.cni import refusal, serving_cni

from .fakes import daemon_set, node


@pytest.mark.parametrize(
    ("name", "namespace", "title"),
    [
        ("kube-flannel-ds", "kube-flannel", "Flannel"),
        ("kube-flannel-ds-amd64", "kube-system", "Flannel"),
        ("calico-node", "calico-system", "Calico"),
        ("canal", "kube-system", "Canal"),
        ("weave-net", "kube-system", "Weave Net"),
        ("aws-node", "kube-system", "AWS VPC CNI"),
        ("azure-cni", "kube-system", "Azure CNI"),
        ("antrea-agent", "kube-system", "Antrea"),
        ("kube-router", "kube-system", "kube-router"),
        ("kube-ovn-cni", "kube-system", "Kube-OVN"),
        ("ovnkube-node", "openshift-ovn-kubernetes", "OVN-Kubernetes"),
        ("kindnet", "kube-system", "kindnet"),
    ],
)
def test_well_known_names(name: str, namespace: str, title: str) -> None:
    found = serving_cni([daemon_set("kube-proxy"), daemon_set(name, namespace=namespace)])
    assert found == f"DaemonSet {namespace}/{name} ({title})"


@pytest.mark.parametrize(
    ("image", "title"),
    [
        ("docker.io/flannel/flannel:v0.25.1", "Flannel"),
        ("registry:5000/mirror/calico/node:v3", None),
        ("quay.io/calico/calico-node@sha256:abc", "Calico"),
        ("602401143452.dkr.ecr.eu-west-1.amazonaws.com/amazon-k8s-cni:v1.18.1", "AWS VPC CNI"),
        ("docker.io/kindest/kindnetd", "kindnet"),
        ("example.com/not-flannel:1", None),
        ("example.com/flannel/exporter:1", None),
    ],
)
def test_a_renamed_daemonset_is_known_by_its_image(image: str, title: str | None) -> None:
    found = serving_cni([daemon_set("net", image=image)])
    assert found == (f"DaemonSet kube-system/net ({title})" if title else None)


def test_ciliums_own_and_those_that_serve_no_pods_arent_others() -> None:
    others = ["kube-proxy", "cilium", "cilium-envoy", "kube-multus-ds", "node-exporter", "csi-node"]
    assert serving_cni([daemon_set(name) for name in others]) is None


def test_a_parked_cni_serves_nobody() -> None:
    assert serving_cni([daemon_set("calico-node", desired=0)]) is None


def test_flannel_inside_k3s_counts_only_without_cilium() -> None:
    its = node("a")
    its["metadata"]["annotations"] = {"flannel.alpha.coreos.com/backend-type": "vxlan"}
    assert "Flannel inside k3s" in (serving_cni([], [its]) or "")
    assert serving_cni([daemon_set("cilium")], [its]) is None
    assert serving_cni([], [node("a")]) is None


FOUND = "DaemonSet kube-system/aws-node (AWS VPC CNI)"


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"cni": None},
        {"cni": {"exclusive": False}},
        {"cni": {"chainingMode": None}},
        {"cni": {"chainingMode": "none"}},
        {"cni": {"chainingMode": "portmap"}},
        {"cni": {"chainingMode": "none", "chainingTarget": "aws-cni"}},
    ],
)
def test_a_cni_that_cilium_doesnt_join_is_refused_by_name(values: dict[str, Any]) -> None:
    text = refusal(FOUND, values)
    assert text is not None
    for part in ("kube-system/aws-node", "values.cni.chainingMode", "'aws-cni'", "cni.exclusive", "cut off"):
        assert part in text


@pytest.mark.parametrize(
    "values",
    [
        {"cni": {"chainingMode": "aws-cni"}},
        {"cni": {"chainingMode": "generic-veth"}},
        {"cni": {"chainingTarget": "aws-cni"}},
    ],
)
def test_a_chained_one_isnt(values: dict[str, Any]) -> None:
    assert refusal(FOUND, values) is None


def test_without_another_cni_nothing_is_refused() -> None:
    assert refusal(None, {}) is None


@pytest.mark.parametrize(
    ("found", "mode"),
    [
        ("DaemonSet kube-flannel/kube-flannel-ds (Flannel)", "'flannel'"),
        ("Flannel inside k3s (annotation x of node a)", "'flannel'"),
        ("DaemonSet calico-system/calico-node (Calico)", "'generic-veth'"),
    ],
)
def test_the_mode_to_write_fits_the_product(found: str, mode: str) -> None:
    assert f"here {mode}" in (refusal(found, {}) or "")
