"""Which other CNI serves the cluster's pods.

Cilium installed over another CNI isn't a switch-over: from the moment that its agents set their routes,
every pod that ran before is cut off until it is made anew, as real nodes have shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .api import Object


@dataclass(frozen=True)
class _Product:
    """How a CNI's DaemonSet is known: by its own name, or by the last part of one of its images' names.

    `chaining` is the mode in which Cilium joins it, as its documentation or its chart has it.
    """

    title: str
    names: str
    images: str
    chaining: str = "generic-veth"


# Names and images are those of the projects' own manifests and charts. Multus only hands on to others.
_PRODUCTS = (
    _Product("Canal", "canal|rke2-canal", "-"),
    _Product("Calico", "calico-node|calico-node-windows", "calico-node|mirrored-calico-node"),
    _Product("Flannel", "kube-flannel(-ds.*)?|rke2-flannel", "flannel|mirrored-flannel-io-flannel", "flannel"),
    _Product("Weave Net", "weave-net", "weave-kube"),
    _Product("AWS VPC CNI", "aws-node", "amazon-k8s-cni", "aws-cni"),
    _Product("Azure CNI", "azure-cni|azure-cns|azure-ip-masq-agent-v2-cni", "azure-cni|azure-cns"),
    _Product("Antrea", "antrea-agent", "antrea-agent-ubuntu|antrea-ubuntu|antrea-agent-ubi|antrea-agent"),
    _Product("kube-router", "kube-router", "kube-router"),
    _Product("Kube-OVN", "kube-ovn-cni|ovs-ovn", "kube-ovn"),
    _Product("OVN-Kubernetes", "ovnkube-node.*", "ovn-kube.*|ovn-kubernetes"),
    _Product("OpenShift SDN", "sdn", "-"),
    _Product("kindnet", "kindnet|create-kindnet", "kindnetd"),
    _Product("Romana", "romana-agent", "romana-agent|agent-romana"),
    _Product("Terway", "terway|terway-eniip|terway-eni", "terway"),
    _Product("GKE's Dataplane V2", "anetd", "-"),
    _Product("Contiv-VPP", "contiv-vswitch", "contiv-vswitch|vswitch"),
    _Product("Spiderpool", "spiderpool-agent", "spiderpool-agent"),
    _Product("TKE's network", "tke-bridge-agent|tke-cni-agent|tke-eni-agent", "tke-cni-agent|tke-bridge-agent"),
)

_K3S_FLANNEL = "flannel.alpha.coreos.com/backend-type"
_JOINS_NOBODY = ("", "none", "portmap")


def serving_cni(daemonsets: Sequence[Object], nodes: Sequence[Object] = ()) -> str | None:
    """The other CNI that serves the pods, in words, or None: "DaemonSet kube-flannel/kube-flannel-ds (Flannel)".

    Args:
        daemonsets: all of the cluster's. One that wants no pod on any node (parked) serves nobody.
        nodes: the Node objects; k3s runs Flannel in its own process, and only an annotation of the nodes
            tells. It stays when Cilium takes over, so it counts only where there is no Cilium.
    """
    for item in daemonsets:
        product = _product(item)
        if product and (item.get("status") or {}).get("desiredNumberScheduled") != 0:
            return f"DaemonSet {item['metadata'].get('namespace')}/{item['metadata']['name']} ({product.title})"
    if any(_is_cilium(item) for item in daemonsets):
        return None
    for node in nodes:
        if _K3S_FLANNEL in (node["metadata"].get("annotations") or {}):
            return f"Flannel inside k3s (annotation {_K3S_FLANNEL} of node {node['metadata']['name']})"
    return None


def refusal(found: str | None, values: Mapping[str, Any]) -> str | None:
    """Why Cilium isn't installed beside that CNI; None where there is none, or the values say how it joins.

    Args:
        found: what `serving_cni` says.
        values: the Helm values that Cilium will get. `cni.chainingMode` (or `cni.chainingTarget`, which
            the chart takes for the mode generic-veth) says how; «none» and «portmap» join no other CNI.
    """
    cni = values.get("cni")
    given = cni if isinstance(cni, Mapping) else {}
    mode = str(given.get("chainingMode") or "")
    if found is None or mode not in _JOINS_NOBODY or (given.get("chainingTarget") and not mode):
        return None
    chaining = next((one.chaining for one in _PRODUCTS if f"({one.title})" in found), "generic-veth")
    chaining = "flannel" if found.startswith("Flannel inside k3s") else chaining
    said = f", and values.cni.chainingMode is {mode!r}, which joins no other CNI" if mode else ""
    return (
        f"Another CNI serves the pods of this cluster: {found}{said}. Installing Cilium over it isn't a "
        "switch-over: the chart's cni.exclusive renames that CNI's configuration on every node, and the pods "
        "that run are cut off until they are made anew. Nothing was changed. Either let Cilium join it: set "
        f"values.cni.chainingMode, here {chaining!r}, with the other values of "
        "https://docs.cilium.io/en/stable/installation/cni-chaining/ ; or migrate the pods to Cilium first: "
        "https://docs.cilium.io/en/stable/installation/k8s-install-migration/ ."
    )


def _product(item: Object) -> _Product | None:
    if _is_cilium(item):
        return None
    name = str(item["metadata"]["name"])
    for product in _PRODUCTS:
        if re.fullmatch(product.names, name):
            return product
    for product in _PRODUCTS:
        if any(re.fullmatch(product.images, image) for image in _images(item)):
            return product
    return None


def _is_cilium(item: Object) -> bool:
    labels = item["spec"]["template"]["metadata"].get("labels") or {}
    return labels.get("k8s-app") == "cilium" and item["metadata"]["name"] != "anetd"


def _images(item: Object) -> list[str]:
    """The last part of each image's name: `registry:5000/flannel/flannel:v1@sha256:…` is `flannel`.

    Not those of init containers: many DaemonSets that serve no pods copy a CNI plugin with one.
    """
    containers = item["spec"]["template"]["spec"].get("containers") or []
    names = [str(its.get("image") or "").partition("@")[0].rsplit("/", 1)[-1] for its in containers]
    return [name.partition(":")[0] for name in names]
