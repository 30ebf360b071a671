"""A Cilium on the cluster that isn't this stack's: who runs it, and the way for exactly that one.

One that Helm runs under the settings' name is no refusal: it is taken over (cilium-cli's is one, it works with Helm's
own records). Everything else is refused: Helm doesn't install over objects that aren't its own, and says so when
kube-proxy has gone; and a controller that owns them puts its own values back, kube-proxy gone or not.
"""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from . import controllers, helm_release
from .api import Api, Object
from .checks import Refusal
from .controllers import Kind, Owner
from .errors import ApiError
from .helm_release import HelmRelease

_HELM_CHARTS = "/apis/helm.cattle.io/v1/helmcharts"
_UNMANAGED = "helmcharts.helm.cattle.io/unmanaged"
_KUBEADM = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
_KUBESPRAYS = "/etc/kubernetes/ssl"
"""Kubespray's `certificatesDir`; kubeadm's own is /etc/kubernetes/pki."""

_UNCHANGED = "Nothing was changed."


def refusal(
    api: Api,
    daemonsets: Sequence[Object],
    *,
    namespace: str,
    release_name: str,
    release: HelmRelease | None,
    ours: bool,
) -> Refusal | None:
    """Why this Cilium isn't this program's to change; None where there is none, it is ours, or Helm's under our name.

    Args:
        daemonsets: all of the cluster's.
        namespace, release_name: the settings.
        release: Helm's newest revision under that name, None where Helm has none.
        ours: the stack's state, or the record in the cluster, says that this release is this stack's.
    """
    own = f"{namespace}/{release_name}"
    agents = [item for item in daemonsets if (item["metadata"].get("labels") or {}).get("k8s-app") == "cilium"]
    for item in sorted(agents, key=lambda item: _release(item) == own):  # what is under another name first
        its = _Cilium(api, item, own, ours)
        if its.release != own:
            return its.under_another_name(two=release is not None and ours) if its.release else its.not_by_helm()
        if no := its.under_our_name(release):
            return no
    return None


class _Cilium:
    """One Cilium, by its agents' DaemonSet.

    Attributes:
        release: `NAMESPACE/NAME` of the Helm release that its annotations name, "" where they name none.
    """

    def __init__(self, api: Api, item: Object, own: str, ours: bool) -> None:
        self.api = api
        self.item = item
        self.own = own
        self.ours = ours
        self.release = _release(item)
        self.owner = controllers.owner(item)
        self.where = f"DaemonSet {item['metadata'].get('namespace')}/{item['metadata']['name']}"
        self.already = f"Cilium is already on this cluster ({self.where})"

    def under_our_name(self, release: HelmRelease | None) -> Refusal | None:
        if self.owner and self.owner.reconciles:
            return self._contested(self.owner)
        if self.ours:
            return None
        if no := self._by_a_chart_controller():
            return no
        return None if release else self._without_a_record()

    def under_another_name(self, *, two: bool) -> Refusal:
        if self.owner and self.owner.reconciles:
            return Refusal(self._contested(self.owner).reason)
        if no := self._by_a_chart_controller():
            return Refusal(no.reason)
        namespace, name = self.release.split("/")
        if two:
            return Refusal(
                f"There are two Ciliums on this cluster: this stack's release {self.own}, and the Helm release "
                f"{self.release} ({self.where}). {_UNCHANGED} Uninstall the one that isn't meant: `helm uninstall "
                f"{name} --namespace {namespace}`."
            )
        chart = _chart(self.api, namespace, name)
        if not chart:
            return self._without_a_record()
        return Refusal(
            f"{self.already}: the Helm release {self.release} ({chart}), last written by {_program(self.item)}. This "
            f"stack's release is {self.own} (settings namespace and releaseName). {_UNCHANGED} To take it over with "
            f"its values: `pulumi config set namespace {namespace}`, `pulumi config set releaseName {name}`."
        )

    def not_by_helm(self) -> Refusal:
        if self.owner and self.owner.reconciles:
            return Refusal(self._contested(self.owner).reason)
        if self._has_the_operators_api():
            return Refusal(
                f"{self.already}, by Cilium's operator of the Operator Lifecycle Manager (the API has "
                f"cilium.io/v1alpha1, its CiliumConfig), which puts its own values back. {_UNCHANGED} {_OLM}"
            )
        by, stay = f"from plain manifests, last written by {_program(self.item)}", ""
        if _by_kubespray(self.api):
            by = f"from Kubespray's manifests (kubeadm-config has its certificatesDir, {_KUBESPRAYS})"
            stay = (
                "Either stay with Kubespray: cilium_kube_proxy_replacement and kube_proxy_remove in its inventory, "
                "without this program. Or take Cilium out of its hands (kube_network_plugin: cni). "
            )
        return Refusal(f"{self.already}, {by}, not by Helm. {_UNCHANGED} {stay}{self._made_a_release()}")

    def _has_the_operators_api(self) -> bool:
        """Cilium's own resources have the versions v2 and v2alpha1; v1alpha1 is CiliumConfig's alone."""
        own = next((group for group in self._groups() if group.get("name") == "cilium.io"), {})
        return any(its.get("version") == "v1alpha1" for its in own.get("versions") or [])

    def _by_a_chart_controller(self) -> Refusal | None:
        """K3s's, RKE2's or another helm-controller: a HelmChart of the release's name. It leaves no mark on objects."""
        if not any(group.get("name") == "helm.cattle.io" for group in self._groups()):
            return None
        try:
            charts = self.api.list(_HELM_CHARTS)
        except ApiError as error:
            if error.status != 403:
                raise
            return Refusal(
                f"{self.already}: the Helm release {self.release}. This cluster has HelmCharts (K3s, RKE2), one of "
                "which may run it, and these credentials may not list helmcharts.helm.cattle.io. "
                f"{_UNCHANGED} Have them given that right.",
                "managed-by",
            )
        for chart in charts:
            metadata, spec = chart["metadata"], chart.get("spec") or {}
            target = f"{spec.get('targetNamespace') or metadata.get('namespace')}/{metadata['name']}"
            if target == self.release and _UNMANAGED not in (metadata.get("annotations") or {}):
                where, name = metadata.get("namespace"), metadata["name"]
                return Refusal(
                    f"{self.already}, by HelmChart {where}/{name}, whose controller (K3s, RKE2) puts its own values "
                    f"back. {_UNCHANGED} {_helm_charts_way(where, name)}",
                    "managed-by",
                )
        return None

    def _contested(self, owner: Owner) -> Refusal:
        stay, leave = _ways(owner)
        tail = "Take the mark off the DaemonSet then, and"
        way = (
            f"{stay} {leave} {tail} {self._run_again()}" if self.release else f"{stay} {leave} {self._made_a_release()}"
        )
        return Refusal(
            f"{self.already}, and belongs to {owner}, which puts its own values back. {_UNCHANGED} "
            f"{way if leave else stay}",
            "managed-by",
        )

    def _without_a_record(self) -> Refusal:
        return Refusal(
            f"{self.already}. Its annotations name the Helm release {self.release}, but Helm has no such release in "
            "its Secrets: it was deleted, or is kept elsewhere (HELM_DRIVER), and with it this Cilium's values. "
            f"{_UNCHANGED} {self._made_a_release()}"
        )

    def _made_a_release(self) -> str:
        """How objects are made a Helm release without changing what they say; `--take-ownership` is Helm 3.17's."""
        namespace, _, name = (self.release or self.own).partition("/")
        namespace = self.item["metadata"].get("namespace") or namespace
        return (
            "Make it a Helm release, with Helm 3.17 or newer and the values that it was rendered with in FILE: `helm "
            f"upgrade --install {name} cilium --repo https://helm.cilium.io --version {_version(self.item)} "
            f"--namespace {namespace} --take-ownership --values FILE`. Then {self._run_again(namespace, name)}"
        )

    def _run_again(self, namespace: str = "", name: str = "") -> str:
        its = f"{namespace}/{name}" if name else self.release
        other = "" if its == self.own else f" with namespace {its.split('/')[0]} and releaseName {its.split('/')[1]}"
        return f"run again{other}: it is taken over with its values."

    def _groups(self) -> list[Object]:
        return list(self.api.get("/apis").get("groups") or [])


_OLM = (
    "Set kubeProxyReplacement, k8sServiceHost and k8sServicePort in that CiliumConfig's spec, without this program; on "
    "OpenShift kube-proxy is the Network operator's (deployKubeProxy: false)."
)


def _ways(owner: Owner) -> tuple[str, str]:
    """How it is done with this owner, and how he lets go of it, "" where he doesn't."""
    its = owner.target
    if owner.kind == "operator":
        return (_OLM if "CiliumConfig" in owner.mark else f"Set it in {its}, its operator's own way."), ""
    ways: dict[Kind, tuple[str, str]] = {
        "flux-helm": (
            "Either stay with Flux: kubeProxyReplacement in its values, without this program.",
            f"Or `flux suspend helmrelease`, then delete {its} in Git too: a suspended one leaves Cilium there.",
        ),
        "flux-kustomize": (
            "Either stay with Flux: kubeProxyReplacement in its manifests, without this program.",
            "Or annotate the objects with kustomize.toolkit.fluxcd.io/prune: disabled and take them out of Git.",
        ),
        "argo": (
            "Either stay with Argo CD: kubeProxyReplacement in its values, without this program.",
            f"Or `argocd app delete {its} --cascade=false`, which leaves its objects.",
        ),
        "addon-manager": (
            "Either stay with it: kubeProxyReplacement in its manifest, without this program.",
            "Or take the manifest out of /etc/kubernetes/addons on the control plane nodes.",
        ),
        "addon": (
            "Either stay with it: kubeProxyReplacement in its manifest, without this program.",
            "Or take the manifest out of the servers' folder /var/lib/rancher/…/server/manifests.",
        ),
        "talos": (
            "Either stay with Talos: kubeProxyReplacement in its manifest there, without this program.",
            "Or take Cilium out of the machine configuration's cluster.inlineManifests and cluster.extraManifests.",
        ),
        "kapp": (
            "Either stay with kapp: kubeProxyReplacement in its app, without this program.",
            "Or take Cilium out of the app, annotated with kapp.k14s.io/delete-strategy: orphan.",
        ),
        "kops": (
            "Set kubeProxy.enabled: false and networking.cilium.enableNodePort: true in the cluster's spec, then `kops "
            "update cluster --yes`, restart Cilium, `kops rolling-update cluster --yes`; without this program.",
            "",
        ),
        "aks": ("On AKS a Cilium of one's own needs a cluster with --network-plugin none.", ""),
        "gardener": ("Set it in the Shoot (spec.networking.providerConfig), without this program.", ""),
    }
    return ways[owner.kind]


def _helm_charts_way(namespace: str, name: str) -> str:
    if name.startswith("rke2-"):
        return (
            f"RKE2's own way, without this program: HelmChartConfig {namespace}/{name} (helm.cattle.io/v1) with "
            "kubeProxyReplacement: true, k8sServiceHost: localhost and k8sServicePort: 6443 in spec.valuesContent, and "
            "disable-kube-proxy: true in /etc/rancher/rke2/config.yaml on the servers."
        )
    return (
        "Either stay with it: kubeProxyReplacement in spec.valuesContent, there or in a HelmChartConfig of its name, "
        "without this program. Or take its file out of the servers' manifests folder and have its controller "
        f"pass it over: `kubectl -n {namespace} annotate helmchart {name} {_UNMANAGED}=true` (deleting it would "
        "uninstall Cilium). Then run again: it is taken over with its values."
    )


def _release(item: Object) -> str:
    notes = item["metadata"].get("annotations") or {}
    name, namespace = notes.get("meta.helm.sh/release-name"), notes.get("meta.helm.sh/release-namespace")
    return f"{namespace}/{name}" if name and namespace else ""


def _chart(api: Api, namespace: str, name: str) -> str:
    """What Helm has of it, in words, "" where it has nothing."""
    try:
        found = helm_release.find(api, namespace, name)
    except ApiError as error:
        if error.status != 403:
            raise
        return "its Secrets may not be read"
    return f"chart {found.version}, revision {found.revision}" if found else ""


def _program(item: Object) -> str:
    """Who wrote it last, in words: cilium-cli's field manager is its own name, «cilium»."""
    by = (controllers.writers(item) or ["unknown"])[-1]
    return {"helm": "Helm", "cilium": "cilium-cli", "unknown": "whom, it doesn't say"}.get(by, f"«{by}»")


def _version(item: Object) -> str:
    """Of its image's tag, which is the chart's with a «v»: `quay.io/cilium/cilium:v1.18.6@sha256:…`."""
    containers = item["spec"]["template"]["spec"].get("containers") or [{}]
    tag = str(containers[0].get("image") or "").partition("@")[0].rpartition("/")[2].partition(":")[2]
    return tag.removeprefix("v") or "VERSION"


def _by_kubespray(api: Api) -> bool:
    found = ((api.find(_KUBEADM) or {}).get("data") or {}).get("ClusterConfiguration") or ""
    try:
        parsed = yaml.safe_load(found)
    except yaml.YAMLError:
        return False
    return isinstance(parsed, dict) and parsed.get("certificatesDir") == _KUBESPRAYS
