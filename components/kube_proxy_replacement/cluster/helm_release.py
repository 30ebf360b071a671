"""The Helm release as Helm keeps it in the cluster: Secrets `sh.helm.release.v1.NAME.vREVISION`."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from typing import Any

import yaml

from .api import Api

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class HelmRelease:
    """The newest revision of a release.

    Attributes:
        namespace, name, version (of the chart), revision (int), status («deployed», «failed», «pending-…»).
        config: the cilium-config that this revision rendered, key to value; {} where it renders none.
    """

    namespace: str
    name: str
    version: str
    revision: int
    status: str
    config: dict[str, str]


def find(api: Api, namespace: str, name: str) -> HelmRelease | None:
    items = api.list(f"/api/v1/namespaces/{namespace}/secrets", labelSelector=f"owner=helm,name={name}")
    newest = max(items, key=lambda item: int(item["metadata"]["labels"]["version"]), default=None)
    if newest is None or newest["metadata"]["labels"].get("status") == "uninstalled":
        return None
    labels = newest["metadata"]["labels"]
    # Helm's own encoding inside the Secret's: base64 of gzip of JSON (pkg/storage/driver/util.go)
    content = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(newest["data"]["release"]))))
    return HelmRelease(
        namespace=namespace,
        name=name,
        version=content["chart"]["metadata"]["version"],
        revision=int(labels["version"]),
        status=labels["status"],
        config=_config(content.get("manifest") or ""),
    )


def exists(api: Api, namespace: str, name: str) -> bool:
    """Whether Helm has a release of this name that isn't uninstalled."""
    labels = f"owner=helm,name={name},status!=uninstalled"
    return bool(api.get(f"/api/v1/namespaces/{namespace}/secrets", labelSelector=labels, limit="1").get("items"))


def ciliums(api: Api) -> list[str]:
    """Every release of the chart cilium on the cluster, as `NAMESPACE/NAME`, by its agents' DaemonSet."""
    found = set()
    for item in api.list("/apis/apps/v1/daemonsets", labelSelector="k8s-app=cilium"):
        notes = item["metadata"].get("annotations") or {}
        owner = notes.get("meta.helm.sh/release-namespace"), notes.get("meta.helm.sh/release-name")
        found.add("/".join(owner) if all(owner) else f"{item['metadata']['namespace']}/")  # type: ignore[arg-type]
    return sorted(found)


def _config(manifest: str) -> dict[str, str]:
    for part in manifest.split("\n---"):
        if "name: cilium-config" in part and "kind: ConfigMap" in part:
            parsed = yaml.load(part, Loader=_Loader)  # noqa: S506 - CSafeLoader is a safe loader
            return {key: str(value) for key, value in (parsed.get("data") or {}).items()}
    return {}
