"""Which distribution this cluster is, and whether kube-proxy on it is the user's to remove.

Signs and ways are those of each distribution's own documentation; docs/distributions.md has them for people.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from .api import Api, Object
from .errors import ApiError

_KUBEADM_CONFIG = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
_ADDON_MANAGER = "addonmanager.kubernetes.io/mode"

Name: TypeAlias = Literal[
    "kubeadm", "kind", "k3s", "rke2", "k0s", "talos", "kops", "eks", "gke", "aks", "tke", "openshift", "microk8s",
    "gardener", "unknown",
]  # fmt: skip


@dataclass(frozen=True)
class Distribution:
    """Attributes:
    name: which one.
    evidence: what was seen, in words: "node a has kubelet v1.30.4+k3s1"; "" for unknown.
    kube_proxy_off: the distribution's own configuration, where the API shows it, says that it runs no
        kube-proxy (k3s alone, whose kube-proxy is in its own process, and no object tells of it).
    """

    name: Name
    evidence: str
    kube_proxy_off: bool = False


def read(api: Api) -> Distribution:
    """Looks at the cluster. Rights it can do without are passed over; other errors are the client's."""
    return detect(
        nodes=api.list("/api/v1/nodes"),
        server=api.server,
        daemonsets=api.list("/apis/apps/v1/daemonsets"),
        groups=[str(group.get("name")) for group in api.get("/apis").get("groups") or []],
        kubeadm_config=_exists(api, _KUBEADM_CONFIG),
    )


def detect(
    *,
    nodes: Sequence[Object],
    server: str,
    daemonsets: Sequence[Object] = (),
    groups: Collection[str] = (),
    kubeadm_config: bool = False,
) -> Distribution:
    """Args:
    nodes, daemonsets: the objects as the API server sent them.
    server: the API server's URL, as in the kubeconfig.
    groups: names of the API's groups.
    kubeadm_config: there is a ConfigMap kube-system/kubeadm-config.
    """
    for name, evidence in _signs(nodes, server, daemonsets, groups):
        return Distribution(name, evidence, kube_proxy_off=name == "k3s" and _told_to_run_none(nodes))
    if kubeadm_config:
        return Distribution("kubeadm", "ConfigMap kube-system/kubeadm-config is there")
    return Distribution("unknown", "")


def refusal(distribution: Distribution, kube_proxy: Object | None) -> str | None:
    """Why kube-proxy must not be removed through the API here: what was seen, what would happen, and the
    right way. None where it may be.

    Args:
        kube_proxy: the DaemonSet kube-system/kube-proxy, or None where there is none. A distribution that
            has been told to run none has none, and then nothing is refused; but on GKE, k3s and MicroK8s
            no object tells whether kube-proxy runs.
    """
    for_all = _for_all(distribution)
    if for_all:
        return _said(distribution, for_all)
    if kube_proxy is None:
        return None
    if own := way(distribution):
        return own
    labels, annotations = _labels(kube_proxy), kube_proxy["metadata"].get("annotations") or {}
    managers = [str(entry.get("manager")) for entry in kube_proxy["metadata"].get("managedFields") or []]
    if distribution.name == "eks" and ("eks" in managers or _is_eks(labels) or _is_eks(annotations)):
        return _said(
            distribution,
            "kube-proxy's DaemonSet is an EKS add-on (its fields are managed by «eks»), and the add-on puts "
            "it back at its next update. Delete the add-on first, without preserving it: "
            "`aws eks delete-addon --cluster-name NAME --addon-name kube-proxy`. Then this program goes on "
            "without kube-proxy; the way back is `aws eks create-addon`.",
        )
    if distribution.name == "aks" and (
        _ADDON_MANAGER in labels or labels.get("kubernetes.azure.com/managedby") == "aks"
    ):
        return _said(
            distribution,
            "kube-proxy's DaemonSet belongs to AKS's add-on manager, which puts it back within minutes. "
            'Turn it off in AKS: `az aks update --kube-proxy-config FILE` with {"enabled": false} (preview '
            "feature KubeProxyConfigurationPreview, clusters with --network-plugin none).",
        )
    return None


def way(distribution: Distribution) -> str | None:
    """What its own way is, where no kube-proxy of it can be removed through the API; None where none is known."""
    reason = _for_all(distribution) or _OWNED.get(distribution.name)
    return _said(distribution, reason) if reason else None


_OWNED: dict[Name, str] = {
    "rke2": (
        "RKE2 runs kube-proxy from its own configuration and starts it again. Set `disable-kube-proxy: true` "
        "in /etc/rancher/rke2/config.yaml on the servers and restart them. RKE2's own Cilium is set through "
        "the HelmChartConfig rke2-cilium, not through a Helm release."
    ),
    "k0s": (
        "k0s puts its own kube-proxy back. Set `spec.network.kubeProxy.disabled: true` in the cluster's "
        "configuration (k0s.yaml) and restart the controllers."
    ),
    "talos": (
        "Talos puts kube-proxy back at its next sync. Set `cluster.proxy.disabled: true` in the machine "
        "configuration, then run `talosctl upgrade-k8s`. The API server's address is then KubePrism's, "
        "localhost and port 7445."
    ),
    "kops": (
        "kOps runs kube-proxy from the cluster's spec. Set `kubeProxy.enabled: false` there, and "
        "`networking.cilium.enableNodePort: true`, then `kops update cluster`, restart Cilium, and "
        "`kops rolling-update cluster`."
    ),
    "tke": (
        "TKE's later upgrades fail where kube-proxy's DaemonSet was deleted. There it is parked with a "
        "nodeSelector instead, which this program doesn't do."
    ),
    "openshift": (
        "the Network operator puts kube-proxy back. Set `deployKubeProxy: false` in the Network operator's "
        "configuration (networks.operator.openshift.io cluster)."
    ),
    "gardener": (
        "Gardener puts kube-proxy back. Set `kubernetes.kubeProxy.enabled: false` in the Shoot, and use "
        "Gardener's own Cilium extension."
    ),
}


def _for_all(distribution: Distribution) -> str:
    """Reasons that hold whether or not there is a DaemonSet."""
    if distribution.name == "gke":
        return (
            "on GKE kube-proxy is Google's, started on the nodes, and can't be turned off on a cluster that "
            "exists. Make a cluster with Dataplane V2 (`--enable-dataplane-v2`), which is Cilium already."
        )
    if distribution.name == "k3s" and not distribution.kube_proxy_off:
        return (
            "k3s runs kube-proxy inside its own process: there is no object to delete, and rules that are "
            "cleaned come back. Set `disable-kube-proxy: true` in /etc/rancher/k3s/config.yaml on every "
            "server and restart k3s on servers and agents; then this program goes on without kube-proxy."
        )
    if distribution.name == "microk8s":
        return (
            "MicroK8s runs kube-proxy inside its own process (kubelite): there is no object to delete, and "
            "rules that are cleaned come back. Use MicroK8s' own add-on: `microk8s enable cilium`."
        )
    return ""


def _said(distribution: Distribution, reason: str) -> str:
    return f"This is {_TITLES[distribution.name]} ({distribution.evidence}): {reason} Nothing was changed."


_TITLES: dict[Name, str] = {
    "gke": "a GKE cluster",
    "eks": "an EKS cluster",
    "aks": "an AKS cluster",
    "tke": "a TKE cluster",
    "k3s": "a k3s cluster",
    "rke2": "an RKE2 cluster",
    "k0s": "a k0s cluster",
    "talos": "a Talos cluster",
    "kops": "a kOps cluster",
    "openshift": "an OpenShift cluster",
    "microk8s": "a MicroK8s cluster",
    "gardener": "a Gardener shoot cluster",
}

_GROUPS: dict[str, Name] = {"config.openshift.io": "openshift", "route.openshift.io": "openshift"}

# Parts of a kubelet's version.
_VERSIONS: dict[str, Name] = {
    "+k3s": "k3s",
    "+rke2": "rke2",
    "+k0s": "k0s",
    "-gke.": "gke",
    "-eks-": "eks",
    "-tke.": "tke",
}

# Beginnings of node labels.
_LABELS: dict[str, Name] = {
    "cloud.google.com/gke-nodepool": "gke",
    "eks.amazonaws.com/": "eks",
    "kubernetes.azure.com/cluster": "aks",
    "microk8s.io/cluster": "microk8s",
    "kops.k8s.io/": "kops",
    "worker.gardener.cloud/": "gardener",
}

_SERVERS: dict[str, Name] = {".eks.amazonaws.com": "eks", ".eks.amazonaws.com.cn": "eks", ".azmk8s.io": "aks"}


def _signs(
    nodes: Sequence[Object], server: str, daemonsets: Sequence[Object], groups: Collection[str]
) -> Iterator[tuple[Name, str]]:
    """The surest first: what a distribution builds into its binaries comes before what anybody can write."""
    for group, name in _GROUPS.items():
        if group in groups:
            yield name, f"the API has the group {group}"
    for node in nodes:
        info = (node.get("status") or {}).get("nodeInfo") or {}
        version, image = str(info.get("kubeletVersion") or ""), str(info.get("osImage") or "")
        if image.startswith("Talos"):
            yield "talos", f"node {_name(node)} runs {image}"
        for part, name in _VERSIONS.items():
            if part in version:
                yield name, f"node {_name(node)} has kubelet {version}"
    for node in nodes:
        for label in sorted(_labels(node)):
            for beginning, name in _LABELS.items():
                if label.startswith(beginning):
                    yield name, f"node {_name(node)} has the label {label}"
    host = urlsplit(server).hostname or ""
    for ending, name in _SERVERS.items():
        if host.endswith(ending):
            yield name, f"the API server is {host}"
    for item in daemonsets:
        if _labels(item).get("kubernetes.azure.com/managedby") == "aks":
            yield "aks", f"DaemonSet {_name(item)} is managed by AKS"
    for node in nodes:
        provider = str((node.get("spec") or {}).get("providerID") or "")
        if provider.startswith("kind://"):
            yield "kind", f"node {_name(node)} has the providerID {provider}"


def _told_to_run_none(nodes: Sequence[Object]) -> bool:
    """Whether a k3s server was started with --disable-kube-proxy: the agents go by their server.

    k3s writes its arguments, those from its configuration file too, into an annotation of the node, as a
    JSON list: `["server","--disable-kube-proxy","true"]`.
    """
    arguments = [str((node["metadata"].get("annotations") or {}).get("k3s.io/node-args")) for node in nodes]
    return any(
        "--disable-kube-proxy" in text
        and '"--disable-kube-proxy","false"' not in text.replace(" ", "")
        and "--disable-kube-proxy=false" not in text
        for text in arguments
    )


def _is_eks(marks: dict[str, str]) -> bool:
    return marks.get("app.kubernetes.io/managed-by", "").lower() == "eks"


def _exists(api: Api, path: str) -> bool:
    try:
        return api.find(path) is not None
    except ApiError as error:
        if error.status != 403:
            raise
        return False


def _labels(item: Object) -> dict[str, str]:
    return dict(item["metadata"].get("labels") or {})


def _name(item: Object) -> str:
    namespace = item["metadata"].get("namespace")
    return f"{namespace}/{item['metadata']['name']}" if namespace else str(item["metadata"]["name"])
