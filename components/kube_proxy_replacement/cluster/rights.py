"""What these credentials may do, asked before anything is removed: half a switch-over is worse than none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from .api import Api, Object
from .errors import ApiError, ProcedureError

_RBAC = "rbac.authorization.k8s.io"


class Right(NamedTuple):
    """One verb on one resource; namespace "" is cluster-wide, `resource` may be `pods/exec`."""

    verb: str
    group: str
    resource: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}" + (f" in namespace {self.namespace}" if self.namespace else "")


def reading(namespace: str) -> list[Right]:
    """What a preview reads. `namespace` is the release's, where Helm keeps its records."""
    everywhere = (
        ("", "nodes"), ("", "services"), ("", "pods"), ("apps", "daemonsets"), ("discovery.k8s.io", "endpointslices"),
    )  # fmt: skip
    return [
        Right("get", "", "namespaces", "kube-system"),
        *(Right("list", group, resource) for group, resource in everywhere),
        Right("get", "", "configmaps", "kube-system"),
        Right("get", "", "configmaps", "kube-public"),
        Right("get", "", "configmaps", namespace),
        Right("list", "", "secrets", namespace),
        Right("list", "apps", "controllerrevisions", namespace),
    ]


def changing(namespace: str) -> list[Right]:
    """What the steps change themselves, besides what Helm installs."""
    own = [
        Right(verb, group, resource, "kube-system")
        for group, resource, verbs in (
            ("apps", "daemonsets", ("create", "delete")),
            ("", "configmaps", ("create", "patch", "delete")),
            ("", "pods", ("create", "delete")),
            ("", "pods/exec", ("create",)),
            ("", "serviceaccounts", ("create", "delete")),
        )
        for verb in verbs
    ]
    return [
        *own,
        *(
            Right(verb, _RBAC, kind)
            for kind in ("clusterroles", "clusterrolebindings")
            for verb in ("create", "delete")
        ),
        Right("create", "", "pods/exec", namespace),
        Right("delete", "", "pods", namespace),
        *(Right(verb, "", "secrets", namespace) for verb in ("get", "create", "update", "delete")),
    ]


def installing(manifest: Iterable[Mapping[str, Any]], namespace: str) -> list[Right]:
    """What Helm does with each of the chart's objects: get, create, patch, delete."""
    kinds = set()
    for item in manifest:
        group = str(item.get("apiVersion") or "").rpartition("/")[0]
        where = (item.get("metadata") or {}).get("namespace") or ""
        kinds.add((group, _plural(str(item.get("kind"))), where or ("" if _cluster_wide(item) else namespace)))
    return [Right(verb, *kind) for kind in sorted(kinds) for verb in ("get", "create", "patch", "delete")]


def lacking(api: Api, rights: Iterable[Right]) -> list[str]:
    """Those of the rights that these credentials don't have, in words."""
    if api.may("*", "*", group="*"):  # cluster-admin, the usual: one question instead of a hundred
        return []

    def missing(right: Right) -> str | None:
        resource, _, subresource = right.resource.partition("/")
        may = api.may(right.verb, resource, group=right.group, namespace=right.namespace, subresource=subresource)
        return None if may else str(right)

    with ThreadPoolExecutor(8) as pool:
        return sorted({word for word in pool.map(missing, rights) if word})


def ungrantable(api: Api, manifest: Iterable[Mapping[str, Any]]) -> list[str]:
    """The chart's Roles that these credentials may not make, because they would grant more than they hold.

    Asked by a dry run: the API server checks it as for the real one and keeps nothing.
    """

    def refused(item: Mapping[str, Any]) -> str | None:
        metadata = item["metadata"]
        if item["kind"] == "Role" and not metadata.get("namespace"):
            return None  # Helm puts it into the release's; `installing` asks for that
        where = f"namespaces/{metadata['namespace']}/roles" if item["kind"] == "Role" else "clusterroles"
        try:
            _dry_run(api, f"/apis/{_RBAC}/v1/{where}", dict(item))
        except ApiError as error:
            if error.status == 403:
                return f"{item['kind']} {metadata['name']}: it grants rights that these credentials don't hold"
            if error.status != 404:  # a namespace that Helm makes in the same run
                raise
        return None

    roles = [item for item in manifest if item.get("kind") in ("ClusterRole", "Role")]
    with ThreadPoolExecutor(8) as pool:
        return [words for words in pool.map(refused, roles) if words]


def demand(api: Api, rights: Iterable[Right], roles: Iterable[Mapping[str, Any]] = ()) -> None:
    """Raises ProcedureError naming every right that is missing."""
    missing = [f"may not {right}" for right in lacking(api, rights)] + ungrantable(api, roles)
    if missing:
        raise ProcedureError(
            f"These credentials don't reach far enough on {api.server}:\n  " + "\n  ".join(missing) + "\nNothing was "
            "changed. Use others (kubeContext), or have these given them; the README lists the rights that an up needs."
        )


def _dry_run(api: Api, collection: str, body: Object) -> None:
    live = api.find(f"{collection}/{body['metadata']['name']}")
    if live is None:
        api.create(f"{collection}?dryRun=All", body)
    elif live.get("rules") != body.get("rules"):
        api.replace(f"{collection}/{body['metadata']['name']}?dryRun=All", live | {"rules": body.get("rules") or []})


def _plural(kind: str) -> str:
    name = kind.lower()
    if name == "endpoints":
        return name
    if name.endswith("y"):
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith(("s", "x", "ch")) else f"{name}s"


def _cluster_wide(item: Mapping[str, Any]) -> bool:
    return item.get("kind") in (
        "Namespace", "ClusterRole", "ClusterRoleBinding", "IngressClass", "GatewayClass", "PriorityClass",
        "CustomResourceDefinition", "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration",
        "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
    )  # fmt: skip
