"""The Helm release as Helm keeps it in the cluster: Secrets `sh.helm.release.v1.NAME.vREVISION`."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml

from . import trees
from .api import Api, Object
from .errors import ProcedureError
from .told import OURS

_AT_WORK = timedelta(minutes=10)
"""For so long somebody else's Helm is taken to be at work: twice the limit that Helm sets itself by default."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class HelmRelease:
    """The newest revision of a release.

    Attributes:
        namespace, name, version (of the chart), revision (int), status («deployed», «failed», «pending-…»).
        config: the cilium-config that this revision rendered, key to value; {} where it renders none.
        values: the Helm values that it was given, without the chart's defaults.
        description: what is said of it in `helm history`.
        chart: the chart as Helm keeps it (helm.sh/helm/v3 pkg/chart/chart.go, its JSON); see `helm_chart`.
        manifest: the objects that it rendered, YAML.
    """

    namespace: str
    name: str
    version: str
    revision: int
    status: str
    config: dict[str, str]
    values: dict[str, Any] = field(default_factory=dict)
    description: str = ""
    chart: Object = field(default_factory=dict, repr=False, compare=False)
    manifest: str = field(default="", repr=False, compare=False)

    @property
    def ours(self) -> bool:
        """Whether this program has made the revision."""
        return self.description.startswith(OURS)

    @property
    def unfinished(self) -> bool:
        """Whether Helm has begun something with it, and not ended; see `unfinished`."""
        return _is_unfinished(self.status)

    @property
    def replaces(self) -> bool:
        """Whether agents that run with it replace kube-proxy."""
        return self.config.get("kube-proxy-replacement") not in (None, "false", "disabled")


def find(api: Api, namespace: str, name: str) -> HelmRelease | None:
    """The newest revision, or None where there is none or it is uninstalled."""
    newest = _newest(api, namespace, name)
    if newest is None or newest["metadata"]["labels"].get("status") == "uninstalled":
        return None
    return _parsed(newest)


def newest_first(api: Api, namespace: str, name: str) -> Iterator[HelmRelease]:
    """Every revision that Helm still has; each is unpacked when its turn comes."""
    return map(_parsed, _revisions(api, namespace, name))


def newest_and_beside(api: Api, namespace: str, name: str) -> tuple[HelmRelease | None, HelmRelease | None]:
    """The newest revision, and the newest one that ran beside kube-proxy; None each where there is none."""
    secrets = _revisions(api, namespace, name)
    if not secrets or secrets[0]["metadata"]["labels"].get("status") == "uninstalled":
        return None, None
    ran = (item for item in secrets if item["metadata"]["labels"].get("status") in ("deployed", "superseded"))
    beside = next((its for its in map(_parsed, ran) if not its.replaces), None)
    return _parsed(secrets[0]), beside


@dataclass(frozen=True)
class Unfinished:
    """A revision that Helm has begun to install, to upgrade to, to roll back to or to uninstall, and not ended.

    Attributes:
        release: `NAMESPACE/NAME`; revision (int); status («pending-…» or «uninstalling»).
        since: when Helm last wrote it, by the API server's clock.
        by: the program that wrote it, "" where nobody has noted that.
        values: the Helm values that it is given.
    """

    release: str
    revision: int
    status: str
    since: datetime
    by: str
    values: Mapping[str, Any]

    def __str__(self) -> str:
        return (
            f"Helm release {self.release} is {self.status} (revision {self.revision}) since {_shown(self.since)}"
            f"{f', by {self.by}' if self.by else ''}"
        )


def unfinished(api: Api, namespace: str, name: str) -> Unfinished | None:
    """What Helm is at work on, or was when it was killed: that can't be told apart."""
    newest = _newest(api, namespace, name)
    return _unfinished(newest) if newest is not None and _is_unfinished(_status(newest)) else None


def begun_by_us(its: Unfinished, adopted: bool, wanted: Iterable[Mapping[str, Any]]) -> bool:
    """Whether it is a run of this program that has begun it, and no longer goes on: this one holds the lock.

    Args:
        adopted: the release is its owner's. One of our own is upgraded by Pulumi's plugin, by Helm's own program only
            rolled back; an adopted one by Helm's, and then its values are one of
        wanted: those that this program gives it.
    """
    if adopted:
        return any(trees.same(its.values, values) for values in wanted)
    return its.status == "pending-rollback" or its.by.lower() != "helm"


def demand_idle(its: Unfinished) -> None:
    """Raises ProcedureError while somebody else's Helm may still be at work on the release."""
    over = its.since + _AT_WORK
    if datetime.now(UTC) < over:
        raise ProcedureError(
            f"{its}: somebody else is at work on it. Nothing was changed. Wait until that is done. Where that Helm was "
            f"killed, it is recovered from {_shown(over)} on ({_AT_WORK.seconds // 60} minutes; Helm's own default "
            "limit is 5): run again then."
        )


def recover(
    api: Api,
    namespace: str,
    name: str,
    say: Callable[[str], None],
    *,
    adopted: bool = False,
    wanted: Iterable[Mapping[str, Any]] = (),
) -> None:
    """Marks a revision failed that a killed run left unfinished: Helm refuses any other work on the release until then.

    The next upgrade starts from the last deployed revision, or, where there is none (a first install, or an uninstall,
    was cut off), from the failed one itself, and makes what is missing (helm.sh/helm/v3 pkg/action/upgrade.go,
    prepareUpgrade). A rollback would be wrong in the middle of a switch-over: it takes the agents back while kube-proxy
    is gone. Called in a run that holds the lock on the cluster; see `begun_by_us` for the arguments. Raises
    ProcedureError where somebody else's Helm may be at work.
    """
    newest = _newest(api, namespace, name)
    if newest is None or not _is_unfinished(_status(newest)):
        return
    its = _unfinished(newest)
    if not begun_by_us(its, adopted, wanted):
        demand_idle(its)
    content = _decoded(newest)
    content["info"] |= {
        "status": "failed",
        "description": f"{its.status} was cut off; marked by kube-proxy-replacement",
    }
    newest["metadata"]["labels"]["status"] = "failed"
    newest["data"]["release"] = _encoded(content)
    # replaced with its resourceVersion: where Helm is at work after all, the API server says so
    body = {"apiVersion": "v1", "kind": "Secret", **newest}
    api.replace(f"/api/v1/namespaces/{namespace}/secrets/{newest['metadata']['name']}", body)
    say(
        f"Helm release {namespace}/{name}: a run that was cut off left it {its.status}; that revision is marked "
        "failed, and the next upgrade goes on from there"
    )


def _is_unfinished(status: str) -> bool:
    return status.startswith("pending-") or status == "uninstalling"


def _status(secret: Object) -> str:
    return str(secret["metadata"]["labels"].get("status", ""))


def _unfinished(secret: Object) -> Unfinished:
    metadata = secret["metadata"]
    labels: dict[str, str] = metadata["labels"]
    writers: list[Object] = metadata.get("managedFields") or []
    # Helm's own labels (createdAt, modifiedAt) are handed on from revision to revision, and say nothing
    times = [str(metadata.get("creationTimestamp") or ""), *(str(entry.get("time") or "") for entry in writers)]
    since = datetime.fromisoformat(max(times) or "1970-01-01T00:00:00Z")
    return Unfinished(
        release=f"{metadata['namespace']}/{labels['name']}",
        revision=int(labels["version"]),
        status=labels["status"],
        since=since,
        by=str(max(writers, key=lambda entry: str(entry.get("time", "")))["manager"]) if writers else "",
        values=_decoded(secret).get("config") or {},
    )


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def exists(api: Api, namespace: str, name: str) -> bool:
    """Whether Helm has a release of this name that isn't uninstalled."""
    labels = f"owner=helm,name={name},status!=uninstalled"
    found = api.find(f"/api/v1/namespaces/{namespace}/secrets", labelSelector=labels, limit="1")
    return bool((found or {}).get("items"))


def _newest(api: Api, namespace: str, name: str) -> Object | None:
    return next(iter(_revisions(api, namespace, name)), None)


def _revisions(api: Api, namespace: str, name: str) -> list[Object]:
    """Newest first."""
    items = api.list(f"/api/v1/namespaces/{namespace}/secrets", labelSelector=f"owner=helm,name={name}")
    return sorted(items, key=lambda item: int(item["metadata"]["labels"]["version"]), reverse=True)


def _parsed(secret: Object) -> HelmRelease:
    metadata, content = secret["metadata"], _decoded(secret)
    manifest = content.get("manifest") or ""
    return HelmRelease(
        namespace=metadata["namespace"],
        name=metadata["labels"]["name"],
        version=content["chart"]["metadata"]["version"],
        revision=int(metadata["labels"]["version"]),
        status=metadata["labels"]["status"],
        config=config_of(manifest),
        values=dict(content.get("config") or {}),
        description=str((content.get("info") or {}).get("description") or ""),
        chart=content["chart"],
        manifest=manifest,
    )


def _decoded(secret: Object) -> Any:
    """Helm's own encoding inside the Secret's: base64 of gzip of JSON (pkg/storage/driver/util.go)."""
    return json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))


def _encoded(content: Any) -> str:
    return base64.b64encode(base64.b64encode(gzip.compress(json.dumps(content).encode()))).decode()


def config_of(manifest: str) -> dict[str, str]:
    """The data of cilium-config among the objects of a release, YAML; {} where there is none."""
    for part in manifest.split("\n---"):
        if "name: cilium-config" in part and "kind: ConfigMap" in part:
            parsed = yaml.load(part, Loader=_Loader)  # noqa: S506 - CSafeLoader is a safe loader
            return {key: str(value) for key, value in (parsed.get("data") or {}).items()}
    return {}
