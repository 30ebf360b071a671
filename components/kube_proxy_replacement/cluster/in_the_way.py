"""Objects that Helm would refuse to overwrite, found before kube-proxy is removed: of the chart's names, and not the
release's.

Helm itself looks as it begins (helm.sh/helm/v3 pkg/action/validate.go, existingResourceConflict): at every object that
the revision before doesn't have. A ConfigMap that an old Cilium has left is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import yaml

from . import helm_release
from .api import Api, Object
from .errors import ProcedureError
from .manifest import namespace_of, path, plural

_BY = "app.kubernetes.io/managed-by"
_NAME = "meta.helm.sh/release-name"
_NAMESPACE = "meta.helm.sh/release-namespace"
_HOOK = "helm.sh/hook"
_SOME = 10


def demand_none(api: Api, manifest: Iterable[Mapping[str, Any]], namespace: str, name: str) -> None:
    """Raises ProcedureError naming each object that is in the way of the Helm release NAMESPACE/NAME.

    Args:
        manifest: what the chart renders.
    """
    items = [item for item in manifest if _HOOK not in _metadata(item).get("annotations", {})]  # Helm makes those anew
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda item: api.find(path(item, namespace)), items)
        live = dict(zip((_key(item, namespace) for item in items), found, strict=True))
    strangers = {key: its for key, its in live.items() if its is not None and not _is_of(its, namespace, name)}
    if not strangers:
        return
    had = _had(api, namespace, name)
    if names := [f"{key}{_whose(its)}" for key, its in sorted(strangers.items()) if key not in had]:
        raise ProcedureError(
            f"Helm would refuse to install {namespace}/{name} over what has the names of {len(names)} of its objects "
            f"and isn't this release's: {'; '.join(names[:_SOME])}{'; …' if len(names) > _SOME else ''}. Nothing was "
            "changed. Delete what nobody needs any more. What is to become the release's gets its marks: "
            f"`kubectl label KIND NAME {_BY}=Helm` and `kubectl annotate KIND NAME {_NAME}={name} "
            f"{_NAMESPACE}={namespace}`, both with --overwrite (and -n NAMESPACE)."
        )


def _had(api: Api, namespace: str, name: str) -> set[str]:
    """The objects of the revision that Helm upgrades from: it overwrites those, whatever their marks say."""
    revisions = [*helm_release.newest_first(api, namespace, name)]
    deployed = (its for its in revisions if its.status == "deployed")
    before = next(deployed, revisions[0] if revisions else None)
    if before is None or before.status == "uninstalled":
        return set()
    return {_key(item, namespace) for item in yaml.safe_load_all(before.manifest) if item}


def _is_of(live: Object, namespace: str, name: str) -> bool:
    metadata = _metadata(live)
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    return (labels.get(_BY), annotations.get(_NAMESPACE), annotations.get(_NAME)) == ("Helm", namespace, name)


def _whose(live: Object) -> str:
    annotations = _metadata(live).get("annotations") or {}
    if _NAME not in annotations:
        return ""
    return f" (of release {annotations.get(_NAMESPACE)}/{annotations[_NAME]})"


def _key(item: Mapping[str, Any], namespace: str) -> str:
    """As kubectl takes it: `configmaps kube-system/cilium-config`, with the group where it isn't the core's."""
    group = str(item.get("apiVersion") or "").rpartition("/")[0]
    where = namespace_of(item, namespace)
    kind = plural(str(item["kind"])) + (f".{group}" if group else "")
    return f"{kind} {where}/{_metadata(item)['name']}" if where else f"{kind} {_metadata(item)['name']}"


def _metadata(item: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata: Mapping[str, Any] = item.get("metadata") or {}
    return metadata
