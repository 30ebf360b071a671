"""What these credentials may do, asked before anything is removed: half a switch-over is worse than none."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from . import agents, kube_proxy, lease, node_config, reach, record
from .api import Api, Object
from .errors import ApiError, ProcedureError
from .manifest import namespace_of, plural

_RBAC = "rbac.authorization.k8s.io"
_COORDINATION = "coordination.k8s.io"
_OWN = kube_proxy.NAMESPACE


class Right(NamedTuple):
    """One verb on one resource; namespace "" is cluster-wide, `resource` may be `pods/exec`.

    Attributes:
        name: of the object, "" where any is meant, or where it can't be told beforehand. A `create` never has one: the
            API server doesn't know it yet when it asks who may.
    """

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        return words([self])[0]


_NEW_NAMESPACE = Right("create", "", "namespaces")


def reading(namespace: str) -> list[Right]:
    """What a preview reads; rbac/preview.yaml grants it. `namespace` is the release's, where Helm keeps its records."""
    everywhere = (
        ("", "nodes"), ("", "services"), ("", "pods"), ("apps", "daemonsets"), ("discovery.k8s.io", "endpointslices"),
    )  # fmt: skip
    return [
        # the API server takes a namespace for an object in itself
        *(Right("get", "", "namespaces", name, name) for name in sorted({_OWN, namespace})),
        *(Right("list", group, resource) for group, resource in everywhere),
        Right("get", "apps", "daemonsets", _OWN, kube_proxy.NAME),
        *(Right("get", "", "configmaps", _OWN, name) for name in (kube_proxy.NAME, "kubeadm-config", record.NAME)),
        Right("get", _COORDINATION, "leases", _OWN, lease.NAME),
        Right("get", "", "secrets", _OWN, record.NAME),  # an adopted release's owner's values
        Right("get", "apps", "daemonsets", namespace, agents.DAEMONSET),
        Right("get", "", "configmaps", namespace, "cilium-config"),
        Right("list", "", "secrets", namespace),
    ]


def in_agents(namespace: str) -> list[Right]:
    """What reading an agent takes; an older API server asks for `get` alone, a newer one for both."""
    return [Right(verb, "", "pods/exec", namespace) for verb in ("get", "create")]


def changing(namespace: str) -> list[Right]:
    """What the steps change themselves, besides what Helm installs; with `installing`, rbac/up.yaml grants it."""
    created = (
        ("apps", "daemonsets"), ("", "configmaps"), ("", "secrets"), ("", "pods"), ("", "serviceaccounts"),
        (_RBAC, "roles"), (_RBAC, "rolebindings"), (_COORDINATION, "leases"),
    )  # fmt: skip
    named = (
        ("update", _COORDINATION, "leases", lease.NAME),
        ("delete", _COORDINATION, "leases", lease.NAME),
        ("delete", "apps", "daemonsets", kube_proxy.NAME),
        ("delete", "", "configmaps", kube_proxy.NAME),
        ("patch", "", "configmaps", "kubeadm-config"),
        ("patch", "", "configmaps", record.NAME),
        ("update", "", "secrets", record.NAME),
        ("delete", "", "secrets", record.NAME),
        ("delete", "", "configmaps", record.NAME),
        ("delete", "", "serviceaccounts", reach.ACCOUNT),
        ("delete", _RBAC, "roles", reach.ACCOUNT),
        ("delete", _RBAC, "rolebindings", reach.ACCOUNT),
        ("get", "", "configmaps", "kube-root-ca.crt"),  # what the account of the pods that ask is given to read
    )
    return [
        *(Right("create", group, resource, _OWN) for group, resource in created),
        *(Right(verb, group, resource, _OWN, name) for verb, group, resource, name in named),
        *(right for where in sorted({_OWN, namespace}) for right in in_agents(where)),
        *(Right("delete", "", "pods", where) for where in sorted({_OWN, namespace})),
        Right("patch", "", "configmaps", namespace, "cilium-config"),
        Right("list", "apps", "controllerrevisions", namespace),
        *(Right(verb, "", "secrets", namespace) for verb in ("get", "create", "update", "delete")),
    ]


def handing_over(namespace: str, *, drain: bool) -> list[Right]:
    """What strategy node-by-node takes besides; rbac/node-by-node.yaml grants it.

    Args:
        namespace: the release's; drain: whether nodes are drained first.
    """
    configs = [Right(verb, "cilium.io", "ciliumnodeconfigs", namespace) for verb in ("list", "create")]
    configs += [
        Right(verb, "cilium.io", "ciliumnodeconfigs", namespace, name)
        for verb in ("get", "update", "delete")
        for name in node_config.NAMES
    ]
    return [
        Right("patch", "", "nodes"),
        *(Right(verb, "apps", "daemonsets", _OWN, kube_proxy.NAME) for verb in ("patch", "update")),
        Right("patch", "apps", "daemonsets", namespace, agents.DAEMONSET),
        *configs,
        *([Right("get", "", "nodes"), Right("create", "", "pods/eviction")] if drain else []),
    ]


def adopting() -> list[Right]:
    """What an adopted release takes besides: the Secret with its owner's values."""
    named = (Right(verb, "", "secrets", _OWN, record.NAME) for verb in ("get", "update", "delete"))
    return [Right("create", "", "secrets", _OWN), *named]


def installing(manifest: Iterable[Mapping[str, Any]], namespace: str) -> list[Right]:
    """What Helm does with each of the chart's objects: get, create, patch, delete."""
    found = set()
    for item in manifest:
        group, kind = str(item.get("apiVersion") or "").rpartition("/")[0], plural(str(item.get("kind")))
        name = str((item.get("metadata") or {}).get("name") or "")
        where = namespace_of(item, namespace)
        found.add(Right("create", group, kind, where))
        at = name if kind == "namespaces" else where
        found |= {Right(verb, group, kind, at, name) for verb in ("get", "patch", "delete")}
    return sorted(found)


def lacking(api: Api, rights: Iterable[Right]) -> list[Right]:
    """Those of the rights that these credentials don't have, sorted."""

    def missing(right: Right) -> Right | None:
        resource, _, subresource = right.resource.partition("/")
        may = api.may(
            right.verb,
            resource,
            group=right.group,
            namespace=right.namespace,
            subresource=subresource,
            name=right.name,
        )
        return None if may else right

    with ThreadPoolExecutor(8) as pool:
        return sorted({right for right in pool.map(missing, rights) if right})


def words(rights: Iterable[Right]) -> list[str]:
    """Rights in words, those on the same resource together: `get, patch configmaps (a, b) in namespace c`."""
    verbs: dict[tuple[str, str, str], list[str]] = {}
    for right in rights:
        its = verbs.setdefault((right.namespace, right.resource, right.name), [])
        its += [right.verb] if right.verb not in its else []
    names: dict[tuple[str, str, str], list[str]] = {}
    for (namespace, resource, name), its in sorted(verbs.items()):
        names.setdefault((namespace, resource, ", ".join(its)), []).append(name)
    return [
        f"{its} {resource}"
        + (f" ({', '.join(filter(None, on))})" if any(on) else "")
        + (f" in namespace {namespace}" if namespace and resource != "namespaces" else "")
        for (namespace, resource, its), on in names.items()
    ]


def ungrantable(api: Api, manifest: Iterable[Mapping[str, Any]]) -> list[str]:
    """The chart's Roles that these credentials may not make, because they would grant more than they hold.

    Asked by a dry run: the API server checks it as for the real one and keeps nothing.
    """

    def refused(item: Mapping[str, Any]) -> str | None:
        metadata, kind = item["metadata"], plural(item["kind"])
        namespace = metadata.get("namespace") or ""
        if item["kind"] == "Role" and not namespace:
            return None  # Helm puts it into the release's; `installing` asks for that
        try:
            _dry_run(api, f"/apis/{_RBAC}/v1/{f'namespaces/{namespace}/' if namespace else ''}{kind}", dict(item))
        except ApiError as error:
            if error.status == 403:
                return (
                    f"{item['kind']} {metadata['name']}: it grants rights that these credentials don't hold"
                    + _which(str(error))
                )
            if error.status != 404:  # a namespace that Helm makes in the same run
                raise
        return None

    with ThreadPoolExecutor(8) as pool:
        return [words for words in pool.map(refused, _roles(manifest)) if words]


def unbindable(api: Api, manifest: Iterable[Mapping[str, Any]]) -> list[Right]:
    """The rights to bind that are missing to who may make the chart's Roles by *escalate*, not because he holds them.

    No dry run can tell: a binding is refused where its Role isn't there yet.
    """
    found = []
    for item in _roles(manifest):
        kind, metadata = plural(item["kind"]), item["metadata"]
        where = str(metadata.get("namespace") or "")
        if api.may("escalate", kind, group=_RBAC, namespace=where):
            found.append(Right("bind", _RBAC, kind, where, metadata["name"]))
    return lacking(api, found)


def missing(api: Api, rights: Iterable[Right], roles: Iterable[Mapping[str, Any]] = ()) -> list[str]:
    """What these credentials may not do, a phrase each; [] where all. Nothing is changed.

    Args:
        roles: a chart's objects; those of its Roles that may be made at all are tried by a dry run, and namespaces that
            are there needn't be made.
    """
    if api.may("*", "*", group="*"):  # cluster-admin, the usual: one question instead of a hundred
        return []
    lacks, roles = lacking(api, rights), list(roles)
    if _NEW_NAMESPACE in lacks and _namespaces_are_there(api, lacks, roles):
        lacks.remove(_NEW_NAMESPACE)
    unmade = {(right.resource, right.namespace) for right in lacks if right.verb in ("get", "create")}
    tried = [
        item
        for item in roles
        if (plural(str(item.get("kind"))), (item.get("metadata") or {}).get("namespace") or "") not in unmade
    ]
    lacks += unbindable(api, tried)
    return [f"may not {its}" for its in words(lacks)] + ungrantable(api, tried)


def demand(api: Api, rights: Iterable[Right], roles: Iterable[Mapping[str, Any]] = ()) -> None:
    """Raises ProcedureError naming every right that is missing."""
    lacks = missing(api, rights, roles)
    if lacks:
        raise ProcedureError(
            f"These credentials don't reach far enough on {api.server}:\n  "
            + "\n  ".join(lacks)
            + "\nNothing was changed. Use others (kubeContext), or have these given them: rbac/up.yaml has the "
            "rights that an up needs."
        )


def _namespaces_are_there(api: Api, lacks: Collection[Right], manifest: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the chart's own namespaces are; one that these credentials may not look for counts as not there."""
    names = [str(item["metadata"]["name"]) for item in manifest if item.get("kind") == "Namespace"]
    return bool(names) and all(
        Right("get", "", "namespaces", name, name) not in lacks and api.find(f"/api/v1/namespaces/{name}") is not None
        for name in names
    )


def _roles(manifest: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [item for item in manifest if item.get("kind") in ("ClusterRole", "Role")]


def _which(refusal: str) -> str:
    """The first of the rights that the API server names in its refusal, in its own words."""
    named = [line.strip() for line in refusal.splitlines() if line.strip().startswith("{")]
    return f", {len(named)} in all, first {named[0]}" if named else ""


def _dry_run(api: Api, collection: str, body: Object) -> None:
    live = api.find(f"{collection}/{body['metadata']['name']}")
    if live is None:
        api.create(f"{collection}?dryRun=All", body)
    elif live.get("rules") != body.get("rules"):
        api.replace(f"{collection}/{body['metadata']['name']}?dryRun=All", live | {"rules": body.get("rules") or []})
