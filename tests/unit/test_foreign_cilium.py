"""A Cilium that isn't this stack's: who runs it, and what is said to take it over or to leave it."""

from __future__ import annotations

from typing import Any

import pytest

from kube_proxy_replacement.cluster import foreign_cilium, helm_release
from kube_proxy_replacement.cluster.checks import Refusal

from .fakes import FakeApi, config_map, daemon_set, forbidden, made
from .test_helm_release import secret

CHARTS = "/apis/helm.cattle.io/v1/helmcharts"
TRACKED = "net:apps/DaemonSet:kube-system/cilium"
FLUX = {"helm.toolkit.fluxcd.io/name": "net", "helm.toolkit.fluxcd.io/namespace": "flux-system"}
K8S_APP = {"k8s-app": "cilium"}


class World(FakeApi):
    """A cluster with one Cilium."""

    def __init__(self) -> None:
        super().__init__({"/apis": {"groups": [{"name": "apps"}]}})

    def group(self, name: str, *versions: str) -> None:
        group = {"name": name, "versions": [{"version": version} for version in versions]}
        self.objects["/apis"]["groups"].append(group)

    def cilium(self, release: str = "", *, image: str = "quay.io/cilium/cilium:v1.17.4@sha256:0", **its: Any) -> None:
        """One in kube-system; `release`: NAMESPACE/NAME, "" not by Helm."""
        notes = dict(its.pop("annotations", {}))
        namespace, _, name = release.partition("/")
        if release:
            notes |= {"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": namespace}
            self.put(secret(3, name=name, namespace=namespace))
        labels = K8S_APP | its.pop("labels", {})
        self.put(daemon_set("cilium", image=image, labels=labels, annotations=notes, **its))

    def look(self, *, ours: bool = False) -> Refusal | None:
        found = foreign_cilium.refusal(
            self,
            self.list("/apis/apps/v1/daemonsets"),
            namespace="kube-system",
            release_name="cilium",
            release=helm_release.find(self, "kube-system", "cilium"),
            ours=ours,
        )
        assert self.changes() == []
        assert found is None or "Nothing was changed" in found.reason
        return found

    def refused(self, check: str = "") -> str:
        found = self.look()
        assert found is not None
        assert found.check == check
        return found.reason


@pytest.fixture
def world() -> World:
    return World()


def says(text: str, *words: str) -> None:
    for word in words:
        assert word in text


def test_a_cluster_without_cilium_is_free(world: World) -> None:
    world.put(daemon_set("kube-proxy"))
    assert world.look() is None


@pytest.mark.parametrize("manager", ["helm", "cilium", "terraform-provider-helm_v3.0.2"])
def test_one_that_helm_runs_under_our_name_is_taken_over_whatever_program_was_it(world: World, manager: str) -> None:
    world.cilium("kube-system/cilium", managers=[manager])
    assert world.look() is None


class TestAnotherName:
    @pytest.mark.parametrize("release", ["network/cilium", "kube-system/mesh"])
    def test_one_of_helm_is_named_with_the_settings_that_take_it_over(self, world: World, release: str) -> None:
        world.cilium(release)
        namespace, name = release.split("/")
        says(
            world.refused(),
            f"Helm release {release} (chart 1.18.6, revision 3)",
            f"set namespace {namespace}",
            f"set releaseName {name}",
        )

    def test_a_controller_s_is_never_skipped(self, world: World) -> None:
        """Skipped, a second Cilium would be installed beside it."""
        world.cilium("network/cilium", labels=FLUX)
        says(world.refused(), "HelmRelease flux-system/net", "namespace network and releaseName cilium")

    def test_cilium_cli_is_named(self, world: World) -> None:
        world.cilium("network/cilium", managers=["helm", "cilium"])
        says(world.refused(), "cilium-cli")

    def test_beside_our_own_there_are_two(self, world: World) -> None:
        world.put(secret(1))
        world.cilium("network/cilium")
        found = world.look(ours=True)
        assert found is not None
        says(found.reason, "two Ciliums", "kube-system/cilium", "helm uninstall cilium --namespace network")

    def test_a_release_that_helm_does_not_know_has_lost_its_values(self, world: World) -> None:
        world.cilium("network/cilium")
        del world.objects["/api/v1/namespaces/network/secrets/sh.helm.release.v1.cilium.v3"]
        says(world.refused(), "network/cilium", "HELM_DRIVER", "--take-ownership", "--version 1.17.4")

    def test_one_that_may_not_be_read_is_taken_for_helm_s(self, world: World) -> None:
        world.cilium("network/cilium")
        path = "/api/v1/namespaces/network/secrets"
        world.errors["LIST", path] = forbidden(path)
        says(world.refused(), "set namespace network")


class TestOurName:
    """One of Helm's, that a controller works on: the check `managed-by`."""

    def test_argo_cd_and_its_application_are_named(self, world: World) -> None:
        world.cilium("kube-system/cilium", annotations={"argocd.argoproj.io/tracking-id": TRACKED})
        says(world.refused("managed-by"), "Argo CD's Application net", "argocd app delete net --cascade=false")

    def test_flux_and_its_helm_release_are_named(self, world: World) -> None:
        world.cilium("kube-system/cilium", labels=FLUX)
        says(world.refused("managed-by"), "HelmRelease flux-system/net", "flux suspend helmrelease")

    @pytest.mark.parametrize("ours", [True, False])
    def test_it_is_a_fight_about_our_own_too(self, world: World, ours: bool) -> None:
        world.cilium("kube-system/cilium", labels=FLUX)
        found = world.look(ours=ours)
        assert found is not None
        assert found.check == "managed-by"

    def test_a_helm_chart_of_its_name_is_named(self, world: World) -> None:
        self.charted(world, "cilium")
        says(world.refused("managed-by"), "HelmChart kube-system/cilium", "helmcharts.helm.cattle.io/unmanaged=true")

    def test_rke2_s_own_has_its_own_way(self, world: World) -> None:
        self.charted(world, "rke2-cilium")
        says(world.refused(), "HelmChartConfig kube-system/rke2-cilium", "disable-kube-proxy: true", "valuesContent")

    def test_another_chart_s_is_not_it(self, world: World) -> None:
        self.charted(world, "cilium", chart="traefik")
        assert world.look() is None

    def test_one_for_another_namespace_is_not_it(self, world: World) -> None:
        self.charted(world, "cilium", spec={"targetNamespace": "network"})
        assert world.look() is None

    def test_one_that_its_controller_passes_over_is_nobody_s(self, world: World) -> None:
        self.charted(world, "cilium", annotations={"helmcharts.helm.cattle.io/unmanaged": "true"})
        assert world.look() is None

    def test_helm_charts_that_may_not_be_read_are_named(self, world: World) -> None:
        self.charted(world, "cilium")
        world.errors["LIST", CHARTS] = forbidden(CHARTS)
        says(world.refused("managed-by"), "may not list helmcharts.helm.cattle.io")

    def test_a_release_of_ours_asks_for_none(self, world: World) -> None:
        self.charted(world, "cilium")
        assert world.look(ours=True) is None

    def test_without_helm_s_record_its_values_would_be_lost(self, world: World) -> None:
        world.cilium("kube-system/cilium")
        del world.objects["/api/v1/namespaces/kube-system/secrets/sh.helm.release.v1.cilium.v3"]
        says(world.refused(), "no such release in its Secrets", "HELM_DRIVER", "--namespace kube-system")
        assert world.look(ours=True) is None  # it is mended

    def charted(
        self,
        world: World,
        name: str,
        *,
        chart: str = "",
        spec: dict[str, Any] | None = None,
        annotations: dict[str, str] | None = None,
    ) -> None:
        world.group("helm.cattle.io", "v1")
        world.cilium(f"kube-system/{name}")
        metadata = {"annotations": annotations or {}}
        world.put(
            made(
                "HelmChart",
                chart or name,
                namespace="kube-system",
                version="helm.cattle.io/v1",
                metadata=metadata,
                spec=spec or {},
            )
        )


class TestNotByHelm:
    """Helm doesn't install over what isn't its own: nothing skips these."""

    def test_plain_manifests_are_made_a_release(self, world: World) -> None:
        world.cilium(managers=["kubectl-client-side-apply"])
        says(
            world.refused(),
            "DaemonSet kube-system/cilium",
            "kubectl-client-side-apply",
            "not by Helm",
            "helm upgrade --install cilium cilium --repo https://helm.cilium.io --version 1.17.4",
            "--namespace kube-system --take-ownership",
        )

    @pytest.mark.parametrize(
        ("its", "words"),
        [
            ({"annotations": {"argocd.argoproj.io/tracking-id": TRACKED}}, ("Argo CD", "--take-ownership")),
            ({"labels": {"kustomize.toolkit.fluxcd.io/name": "net"}}, ("Flux", "prune: disabled", "--take-ownership")),
            ({"labels": {"app.kubernetes.io/managed-by": "kops"}}, ("kOps", "networking.cilium.enableNodePort")),
            ({"managers": ["talos"]}, ("Talos", "cluster.inlineManifests", "--take-ownership")),
            ({"annotations": {"objectset.rio.cattle.io/owner-name": "cni"}}, ("Addon cni", "server/manifests")),
            (
                {"labels": {"addonmanager.kubernetes.io/mode": "Reconcile"}},
                ("add-on manager", "/etc/kubernetes/addons"),
            ),
            ({"labels": {"kubernetes.azure.com/managedby": "aks"}}, ("AKS", "--network-plugin none")),
            ({"labels": {"resources.gardener.cloud/managed-by": "gardener"}}, ("Gardener", "Shoot")),
            ({"labels": {"kapp.k14s.io/app": "1"}}, ("kapp", "delete-strategy: orphan")),
        ],
    )
    def test_its_manager_is_named_with_his_way(self, world: World, its: dict[str, Any], words: tuple[str, ...]) -> None:
        world.cilium(**its)
        says(world.refused(), *words)

    def test_kubespray_is_known_by_its_folder_of_certificates(self, world: World) -> None:
        world.cilium(managers=["kubectl-client-side-apply"])
        configuration = {"ClusterConfiguration": "certificatesDir: /etc/kubernetes/ssl\n"}
        world.put(config_map("kubeadm-config", **configuration))
        says(world.refused(), "Kubespray", "kube_proxy_remove", "--take-ownership")

    @pytest.mark.parametrize("text", ["certificatesDir: /etc/kubernetes/pki\n", "{{{", "- a\n", ""])
    def test_kubeadm_alone_is_not_kubespray(self, world: World, text: str) -> None:
        world.cilium()
        world.put(config_map("kubeadm-config", ClusterConfiguration=text))
        assert "Kubespray" not in world.refused()

    def test_the_operator_of_olm_is_known_by_its_reference(self, world: World) -> None:
        world.cilium()
        owner = {"apiVersion": "cilium.io/v1alpha1", "kind": "CiliumConfig", "name": "cilium"}
        world.objects["/apis/apps/v1/namespaces/kube-system/daemonsets/cilium"]["metadata"]["ownerReferences"] = [owner]
        says(world.refused(), "CiliumConfig cilium", "deployKubeProxy: false")

    def test_the_operator_of_olm_is_known_by_its_api(self, world: World) -> None:
        world.group("cilium.io", "v2", "v1alpha1")
        world.cilium()
        says(world.refused(), "Operator Lifecycle Manager", "CiliumConfig", "deployKubeProxy: false")

    def test_cilium_s_own_api_is_not_its_operator_s(self, world: World) -> None:
        world.group("cilium.io", "v2", "v2alpha1")
        world.cilium()
        says(world.refused(), "plain manifests")
