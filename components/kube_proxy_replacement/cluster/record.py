"""The record of this program in the cluster: which cluster it is, and the backup of kube-proxy.

One ConfigMap, `kube-system/kube-proxy-replacement`. Its name and its keys are in people's clusters and
never change. It is written, and read back, before anything is removed; `pulumi destroy` removes it last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import read_back
from .api import Api, Object
from .errors import ProcedureError

NAMESPACE, NAME, LOCATION = read_back.NAMESPACE, read_back.NAME, read_back.LOCATION
_COLLECTION = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
_PATH = f"{_COLLECTION}/{NAME}"

_KEYS = ("record.json", "daemonset.json", "configmap.json", "kubeadm.json", "uncleaned.json")

DESTROYED = "destroy"
"""`Record.done` once Cilium has let go for good: from then on it is Pulumi's to uninstall."""

# What the API server sets itself, or what names an object that won't be there any more.
_VOLATILE_METADATA = (
    "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "managedFields", "selfLink",
    "ownerReferences", "deletionGracePeriodSeconds", "finalizers",
)  # fmt: skip
_VOLATILE_ANNOTATIONS = ("deprecated.daemonset.template.generation",)


@dataclass(frozen=True)
class Failed:
    """The last run that failed on this cluster.

    Attributes:
        at: when, RFC 3339 in UTC.
        mode: where it went.
        reason: its error's first words.
        rolled_back: whether kube-proxy and Cilium are again as they were before it.
    """

    at: str
    mode: str
    reason: str
    rolled_back: bool


@dataclass(frozen=True)
class Record:
    """What is remembered in the cluster.

    Attributes:
        cluster: UID of the cluster that it was written for.
        daemonset, configmap: kube-proxy's objects without what the API server adds; None where the
            cluster had none.
        kubeadm: `{"before": TEXT, "after": TEXT}` of kubeadm-config's ClusterConfiguration, or None.
        uncleaned: UIDs of the nodes that kube-proxy ran on, less those whose leftover rules are gone. A node that
            joined later never had any.
        release: `NAMESPACE/NAME` of the Helm release that is this stack's.
        done: the mode in which the last run came to its end, "" where one is under way or was stopped, `DESTROYED`
            once Cilium has let go for good.
        adopted: that release was its owner's before; his values lie in the Secret of this name (see `owner`).
        failed: what the last run failed on, None where it didn't.
        returns: when the DaemonSets were made that had come back and were removed again, RFC 3339, the last two.
    """

    cluster: str
    release: str
    done: str = ""
    daemonset: Object | None = None
    configmap: Object | None = None
    kubeadm: dict[str, str] | None = None
    uncleaned: frozenset[str] = field(default_factory=frozenset)
    failed: Failed | None = None
    returns: tuple[str, ...] = ()
    adopted: bool = False

    @property
    def had_kube_proxy(self) -> bool:
        """Whether kube-proxy ran here; its ConfigMap alone, left over, routes nothing."""
        return self.daemonset is not None


def read(api: Api) -> Record | None:
    """Raises ProcedureError where the backup isn't what was written."""
    item = api.find(_PATH)
    return None if item is None else _parse(item.get("data") or {})


def write(api: Api, record: Record) -> Record:
    """Writes the record and returns it as read back. Raises ProcedureError where the two differ."""
    data = _data(record)
    written = read_back.write(
        api,
        _COLLECTION,
        {"apiVersion": "v1", "kind": "ConfigMap"},
        data,
        overwrite=lambda _: api.merge(_PATH, {"data": data}),
        otherwise=f"The backup in ConfigMap {LOCATION} reads back otherwise than it was written: something else "
        "changes it. Nothing was removed.",
    )
    return _parse(written)


def remove(api: Api) -> None:
    api.delete(_PATH)


def bare(item: Object) -> Object:
    """An object as it can be created again: without what the API server adds."""
    metadata = {key: value for key, value in item["metadata"].items() if key not in _VOLATILE_METADATA}
    annotations = {
        key: value for key, value in (metadata.get("annotations") or {}).items() if key not in _VOLATILE_ANNOTATIONS
    }
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    rest = {key: value for key, value in item.items() if key not in ("metadata", "status")}
    return {**rest, "metadata": metadata}


def _data(record: Record) -> dict[str, str]:
    data = {
        "record.json": _json(_head(record)),
        "daemonset.json": _json(record.daemonset),
        "configmap.json": _json(record.configmap),
        "kubeadm.json": _json(record.kubeadm),
        "uncleaned.json": _json(sorted(record.uncleaned)),
    }
    return {**data, "sha256": _digest(data)}


def _head(record: Record) -> dict[str, Any]:
    head: dict[str, Any] = {"cluster": record.cluster, "release": record.release, "done": record.done}
    if record.adopted:
        head["adopted"] = True
    if record.failed:
        its = record.failed
        head["failed"] = {"at": its.at, "mode": its.mode, "reason": its.reason, "rolledBack": its.rolled_back}
    if record.returns:
        head["returns"] = list(record.returns)
    return head


def _failed(head: Mapping[str, Any]) -> Failed | None:
    its = head.get("failed")
    return Failed(its["at"], its["mode"], its["reason"], its["rolledBack"]) if its else None


def _parse(data: Mapping[str, str]) -> Record:
    kept = {key: data.get(key, "") for key in _KEYS}
    if data.get("sha256") != _digest(kept):
        raise ProcedureError(
            f"The backup of kube-proxy in ConfigMap {LOCATION} was changed by someone: its checksum is wrong. "
            "Nothing was "
            "removed or restored. Put back its data, or delete that ConfigMap: the next `pulumi up` makes it "
            "anew, from "
            "kube-proxy where it runs, else from the stack's state."
        )
    head = json.loads(kept["record.json"])
    return Record(
        cluster=head["cluster"],
        release=head["release"],
        done=head.get("done", ""),
        daemonset=json.loads(kept["daemonset.json"]),
        configmap=json.loads(kept["configmap.json"]),
        kubeadm=json.loads(kept["kubeadm.json"]),
        uncleaned=frozenset(json.loads(kept["uncleaned.json"])),
        failed=_failed(head),
        returns=tuple(head.get("returns") or ()),
        adopted=bool(head.get("adopted")),
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)


def _digest(data: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(data), sort_keys=True).encode()).hexdigest()
