"""Who else owns an object, and would put back what is changed in it: by the marks that owners leave.

Only what is on the object itself is read, so no right is needed beyond that of reading it. Marks are those of each
project's own documentation or source:
Argo CD: argo-cd.readthedocs.io, user-guide/resource_tracking; Flux: its controllers' origin labels;
add-on manager: kubernetes/kubernetes cluster/addons/addon-manager; K3s and RKE2: rancher/wrangler pkg/apply;
kOps: upup/pkg/fi/cloudup/bootstrapchannelbuilder; Talos: machinery's KubernetesFieldManagerName and its inventory;
Gardener: the resource manager; kapp: carvel.dev.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from .api import Object
from .checks import Refusal

Kind = Literal[
    "operator", "flux-helm", "flux-kustomize", "argo", "aks", "addon-manager", "addon", "kops", "talos", "gardener",
    "kapp", "helm",
]  # fmt: skip

_ADDON_MANAGER = "addonmanager.kubernetes.io/mode"
_OBJECTSET = "objectset.rio.cattle.io/owner-name"
_HELM = "meta.helm.sh/release-name"
_TRACKING = "argocd.argoproj.io/tracking-id"
_ROUNDS, _ROUNDS_WITHIN = 2, timedelta(days=1)
"""After how many rounds within which time it is a fight. `kubeadm upgrade` brings it back once in months."""

_INVENTORY = "config.k8s.io/owning-inventory"


@dataclass(frozen=True)
class Owner:
    """Who owns an object.

    Attributes:
        kind: how it is told what to do.
        name: of the owner, in words: «Argo CD's Application network».
        target: the name of what is to be changed there («network», «flux-system/cilium»), "" where there is none.
        mark: what was seen: «annotation argocd.argoproj.io/tracking-id=…».
        reconciles: it puts things back by itself; otherwise only when somebody runs it.
    """

    kind: Kind
    name: str
    target: str
    mark: str
    reconciles: bool = True

    def __str__(self) -> str:
        return f"{self.name} ({self.mark})"


def owner(item: Object) -> Owner | None:
    """Who owns this object, the surest sign first; None where it has no owner's mark."""
    labels, notes = _labels(item), _annotations(item)
    for reference in item["metadata"].get("ownerReferences") or []:
        what = f"{reference.get('kind')} {reference.get('name')}"
        return Owner("operator", f"the operator of {what}", str(reference.get("name")), f"ownerReference {what}")
    for key, kind, title in (
        ("helm.toolkit.fluxcd.io", "flux-helm", "Flux's HelmRelease"),
        ("kustomize.toolkit.fluxcd.io", "flux-kustomize", "Flux's Kustomization"),
    ):
        if name := labels.get(f"{key}/name"):
            target = f"{labels.get(f'{key}/namespace', '')}/{name}".removeprefix("/")
            return Owner(kind, f"{title} {target}", target, _label(labels, f"{key}/name"))  # type: ignore[arg-type]
    if argo := _argo(item, labels, notes):
        return argo
    if labels.get("kubernetes.azure.com/managedby") == "aks":
        return Owner("aks", "AKS", "", "label kubernetes.azure.com/managedby=aks")
    if _ADDON_MANAGER in labels:
        return Owner("addon-manager", "the cluster's add-on manager", "", _label(labels, _ADDON_MANAGER))
    if _OBJECTSET in notes:
        return Owner("addon", f"K3s's or RKE2's Addon {notes[_OBJECTSET]}", notes[_OBJECTSET], _note(notes, _OBJECTSET))
    if labels.get("app.kubernetes.io/managed-by") == "kops":
        return Owner("kops", "kOps", "", "label app.kubernetes.io/managed-by=kops")
    if notes.get(_INVENTORY, "").startswith("talos"):
        return Owner("talos", "Talos", "", _note(notes, _INVENTORY))
    if labels.get("resources.gardener.cloud/managed-by"):
        return Owner("gardener", "Gardener", "", _label(labels, "resources.gardener.cloud/managed-by"))
    if "kapp.k14s.io/app" in labels:
        return Owner("kapp", "kapp", "", _label(labels, "kapp.k14s.io/app"))
    if _HELM in notes:
        release = f"{notes.get('meta.helm.sh/release-namespace', '')}/{notes[_HELM]}".removeprefix("/")
        return Owner("helm", f"the Helm release {release}", release, _note(notes, _HELM), reconciles=False)
    if "talos" in writers(item):
        return Owner("talos", "Talos", "", "its fields are written by «talos»")
    return None


def writers(item: Object) -> list[str]:
    """Who has written its fields (`managedFields`), the first one first; not who writes its status."""
    entries = [entry for entry in item["metadata"].get("managedFields") or [] if not entry.get("subresource")]
    return [str(entry.get("manager")) for entry in sorted(entries, key=lambda entry: str(entry.get("time", "")))]


def made_by(item: Object) -> str:
    """Who made it, and when: «, made by kubeadm at 2026-11-01T10:00:00Z», "" where it doesn't say."""
    its, when = writers(item)[:1], item["metadata"].get("creationTimestamp")
    said = ([f"by {its[0]}"] if its else []) + ([f"at {when}"] if when else [])
    return f", made {' '.join(said)}" if said else ""


def written_by(item: Object) -> str:
    """Who wrote it last: « by kubectl-edit», "" where it doesn't say."""
    its = writers(item)
    return f" by {its[-1]}" if its else ""


def refusal(items: Iterable[Object | None]) -> Refusal | None:
    """Why kube-proxy, its DaemonSet or its ConfigMap, would come back when it is removed; None where it wouldn't."""
    for item in items:
        its = owner(item) if item else None
        if item is None or its is None or not its.reconciles:
            continue
        what = f"kube-proxy's {item.get('kind') or 'object'}"
        return Refusal(
            f"{what} belongs to {its}, which puts it back when it is removed. Nothing was changed. First "
            f"{_kube_proxys_way(its)}",
            "managed-by",
        )
    return None


def coming_back(daemonset: Object | None, returns: Sequence[str]) -> Refusal | None:
    """Why kube-proxy isn't removed once more: something without a mark has put it back twice, and now again.

    Args:
        returns: when those were made that have been removed again (`Record.returns`).
    """
    when = daemonset["metadata"].get("creationTimestamp") if daemonset else None
    if daemonset is None or when is None or when in returns or len(returns) < _ROUNDS:
        return None
    if datetime.fromisoformat(when) - datetime.fromisoformat(returns[-_ROUNDS]) > _ROUNDS_WITHIN:
        return None
    return Refusal(
        f"kube-proxy's DaemonSet is back for the third time within a day{made_by(daemonset)}; those made at "
        f"{' and '.join(returns[-_ROUNDS:])} were removed. Something puts it back: removing it again would be a fight. "
        "Nothing was changed. Find what makes it (its writers: kubectl -n kube-system get daemonset kube-proxy "
        "--show-managed-fields -o yaml), and switch that off.",
        "managed-by",
    )


def warning(item: Object) -> str | None:
    """Who puts it back when somebody runs him: Helm. None where there is nobody."""
    its = owner(item)
    if its is None or its.reconciles:
        return None
    return f"kube-proxy's DaemonSet belongs to {its}, whose next upgrade puts it back. Take it out there too."


def _kube_proxys_way(its: Owner) -> str:
    ways: dict[Kind, str] = {
        "operator": f"set {its.target} so that its operator runs no kube-proxy.",
        "flux-helm": f"`flux suspend helmrelease`, and take kube-proxy out of the chart's values of {its.target}.",
        "flux-kustomize": f"take it out of the Git folder of Kustomization {its.target}, which has to keep from "
        "pruning it (annotation kustomize.toolkit.fluxcd.io/prune: disabled), and wait until Flux has seen it.",
        "argo": f"take it out of the source of Application {its.target} without pruning it (annotation "
        "argocd.argoproj.io/sync-options: Prune=false), and wait until it is synced.",
        "aks": '`az aks update --kube-proxy-config FILE` with {"enabled": false}.',
        "addon-manager": "take kube-proxy's manifest out of the add-on manager's folder on the control plane nodes "
        "(/etc/kubernetes/addons).",
        "addon": "take kube-proxy's manifest out of the servers' manifests folder "
        "(/var/lib/rancher/…/server/manifests).",
        "kops": "set `kubeProxy.enabled: false` in the cluster's spec, then `kops update cluster`.",
        "talos": "set `cluster.proxy.disabled: true` in the machine configuration, then `talosctl upgrade-k8s`.",
        "gardener": "set `kubernetes.kubeProxy.enabled: false` in the Shoot.",
        "kapp": "take it out of the app that kapp deploys.",
        "helm": "",
    }
    return ways[its.kind] + (" Its mark stays on the object: take that off too." if its.kind in _STAYS else "")


_STAYS = ("flux-kustomize", "flux-helm", "argo", "addon-manager", "addon")
"""Owners who leave their mark on what they have let go."""


def _argo(item: Object, labels: dict[str, str], notes: dict[str, str]) -> Owner | None:
    """Argo CD itself goes by the annotation only where it names this very object: copies carry it too."""
    metadata = item["metadata"]
    application, _, rest = notes.get(_TRACKING, "").partition(":")
    if rest.endswith(f":{metadata.get('namespace')}/{metadata['name']}"):
        return Owner("argo", f"Argo CD's Application {application}", application, _note(notes, _TRACKING))
    for label in ("argocd.argoproj.io/instance", "app.kubernetes.io/instance"):
        # the second is everybody's label: it counts where Argo CD has written to the object
        if label in labels and (label.startswith("argocd") or "argocd-controller" in writers(item)):
            return Owner("argo", f"Argo CD's Application {labels[label]}", labels[label], _label(labels, label))
    return None


def _label(labels: dict[str, str], key: str) -> str:
    return f"label {key}={labels[key]}"


def _note(notes: dict[str, str], key: str) -> str:
    return f"annotation {key}={notes[key]}"


def _labels(item: Object) -> dict[str, str]:
    return dict(item["metadata"].get("labels") or {})


def _annotations(item: Object) -> dict[str, str]:
    return dict(item["metadata"].get("annotations") or {})
