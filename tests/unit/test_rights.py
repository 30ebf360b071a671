from __future__ import annotations

import re
from typing import Any

import pytest

from kube_proxy_replacement.cluster import rights
from kube_proxy_replacement.cluster.errors import ApiError, ProcedureError
from kube_proxy_replacement.cluster.rights import Right

from .fakes import FakeApi, forbidden, made

RBAC = "/apis/rbac.authorization.k8s.io/v1"
DRY = "?dryRun=All"
RULES = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]


class World(FakeApi):
    """A fake that keeps nothing of a dry run, as an API server does.

    Attributes:
        lacks: the rights that these credentials don't have, as `VERB RESOURCE`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lacks: set[str] = set()
        self.asked: list[Right] = []
        self.allowed = self._may

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if not path.endswith(DRY):
            return super().create(path, body)
        self._called("POST", path, body)
        return body

    def replace(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if not path.endswith(DRY):
            return super().replace(path, body)
        self._called("PUT", path, body)
        return body

    def _may(self, verb: str, resource: str, *, group: str, namespace: str, subresource: str) -> bool:
        resource += f"/{subresource}" if subresource else ""
        self.asked.append(Right(verb, group, resource, namespace))
        return f"{verb} {resource}" not in self.lacks


@pytest.fixture
def world() -> World:
    return World()


def role(kind: str = "ClusterRole", name: str = "cilium", rules: Any = RULES) -> dict[str, Any]:
    namespace = "kube-system" if kind == "Role" else ""
    body = made(kind, name, version="rbac.authorization.k8s.io/v1", namespace=namespace, rules=rules)
    body["metadata"] = {key: body["metadata"][key] for key in ("name", "namespace") if key in body["metadata"]}
    return body


def item(kind: str, version: str = "v1", namespace: str | None = None) -> dict[str, Any]:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": "x"} | ({"namespace": namespace} if namespace else {}),
    }


class TestLacking:
    def test_each_is_named_once_and_sorted(self, world: World) -> None:
        wanted = [Right("list", "", "nodes"), Right("create", "", "pods", "a"), Right("get", "apps", "daemonsets")]
        world.lacks = {"list nodes", "create pods"}
        assert rights.lacking(world, wanted * 2) == ["create pods in namespace a", "list nodes"]

    def test_where_all_are_there_none_is_named(self, world: World) -> None:
        assert rights.lacking(world, [Right("list", "", "nodes")]) == []

    def test_each_is_asked_for_as_it_is(self, world: World) -> None:
        wanted = [Right("create", "", "pods/exec", "a"), Right("list", "apps", "daemonsets"), Right("get", "", "nodes")]
        rights.lacking(world, wanted)
        assert sorted(world.asked) == sorted(wanted)

    def test_a_subresource_is_named_too(self, world: World) -> None:
        world.lacks = {"create pods/exec"}
        assert rights.lacking(world, [Right("create", "", "pods/exec", "a")]) == ["create pods/exec in namespace a"]

    @pytest.mark.parametrize("wanted", [rights.reading("network"), rights.changing("network")])
    def test_every_right_of_the_procedure_is_asked_for(self, world: World, wanted: list[Right]) -> None:
        rights.lacking(world, wanted)
        assert set(world.asked) == set(wanted)

    def test_who_may_do_all_is_asked_once(self, world: World) -> None:
        world.allowed = True
        assert rights.lacking(world, rights.changing("network")) == []
        assert world.calls == [("MAY", "* *")]


class TestWhich:
    def test_reading_needs_only_to_read(self) -> None:
        assert {right.verb for right in rights.reading("network")} == {"get", "list"}

    def test_helm_s_records_are_where_the_release_is(self) -> None:
        assert Right("list", "", "secrets", "network") in rights.reading("network")
        assert Right("update", "", "secrets", "network") in rights.changing("network")
        assert not [
            right for right in rights.changing("network") if right.resource == "secrets" and not right.namespace
        ]

    def test_kube_proxy_is_where_it_always_is(self) -> None:
        wanted = rights.changing("network")
        for right in (
            Right("delete", "apps", "daemonsets", "kube-system"),
            Right("create", "apps", "daemonsets", "kube-system"),
            Right("delete", "", "configmaps", "kube-system"),
            Right("create", "", "configmaps", "kube-system"),
        ):
            assert right in wanted


class TestInstalling:
    @pytest.mark.parametrize(
        ("its", "group", "resource", "namespace"),
        [
            (item("DaemonSet", "apps/v1", "network"), "apps", "daemonsets", "network"),
            (item("DaemonSet", "apps/v1"), "apps", "daemonsets", "release"),  # Helm puts it into the release's
            (item("ServiceAccount"), "", "serviceaccounts", "release"),
            (item("ConfigMap", "v1", "network"), "", "configmaps", "network"),
            (item("Role", "rbac.authorization.k8s.io/v1"), "rbac.authorization.k8s.io", "roles", "release"),
            (item("ClusterRole", "rbac.authorization.k8s.io/v1"), "rbac.authorization.k8s.io", "clusterroles", ""),
            (item("Namespace"), "", "namespaces", ""),
            (item("GatewayClass", "gateway.networking.k8s.io/v1"), "gateway.networking.k8s.io", "gatewayclasses", ""),
            (item("IngressClass", "networking.k8s.io/v1"), "networking.k8s.io", "ingressclasses", ""),
            (item("Ingress", "networking.k8s.io/v1"), "networking.k8s.io", "ingresses", "release"),
            (item("NetworkPolicy", "networking.k8s.io/v1"), "networking.k8s.io", "networkpolicies", "release"),
            (item("ServiceMonitor", "monitoring.coreos.com/v1"), "monitoring.coreos.com", "servicemonitors", "release"),
            (
                item("CustomResourceDefinition", "apiextensions.k8s.io/v1"),
                "apiextensions.k8s.io",
                "customresourcedefinitions",
                "",
            ),
        ],
    )
    def test_what_helm_does_with_an_object(
        self, its: dict[str, Any], group: str, resource: str, namespace: str
    ) -> None:
        wanted = {Right(verb, group, resource, namespace) for verb in ("get", "create", "patch", "delete")}
        assert set(rights.installing([its], "release")) == wanted

    def test_a_kind_is_asked_for_once_in_each_namespace(self) -> None:
        manifest = [item("ConfigMap"), item("ConfigMap"), item("ConfigMap", namespace="cilium-secrets")]
        found = rights.installing(manifest, "release")
        assert len(found) == len(set(found)) == 8
        assert {right.namespace for right in found} == {"release", "cilium-secrets"}

    def test_nothing_for_nothing(self) -> None:
        assert rights.installing([], "release") == []

    @pytest.mark.parametrize(
        ("its", "resource", "namespace"),
        [
            # the chart's own kinds: 1.16 to 1.18 with ingressController, and 1.20
            (item("Endpoints", "v1", "kube-system"), "endpoints", "kube-system"),
            (item("ValidatingAdmissionPolicy", "a.b/v1"), "validatingadmissionpolicies", ""),
        ],
    )
    def test_kinds_that_the_rules_miss(self, its: dict[str, Any], resource: str, namespace: str) -> None:
        found = rights.installing([its], "release")
        assert {(right.resource, right.namespace) for right in found} == {(resource, namespace)}


class TestUngrantable:
    def test_one_that_may_be_made_is_not_named_and_not_kept(self, world: World) -> None:
        assert rights.ungrantable(world, [role(), role("Role", "config")]) == []
        assert world.objects == {}
        assert {path for _, path in world.changes()} == {
            f"{RBAC}/clusterroles{DRY}",
            f"{RBAC}/namespaces/kube-system/roles{DRY}",
        }

    @pytest.mark.parametrize(
        ("kind", "where"), [("ClusterRole", "clusterroles"), ("Role", "namespaces/kube-system/roles")]
    )
    def test_one_that_would_grant_more_is_named(self, world: World, kind: str, where: str) -> None:
        path = f"{RBAC}/{where}{DRY}"
        world.errors["POST", path] = forbidden(path)
        (said,) = rights.ungrantable(world, [role(kind, "cilium-operator")])
        assert said.startswith(f"{kind} cilium-operator: ")
        assert world.objects == {}

    def test_every_one_is_named(self, world: World) -> None:
        path = f"{RBAC}/clusterroles{DRY}"
        world.errors["POST", path] = forbidden(path)
        found = rights.ungrantable(world, [role(name="a"), role(name="b")])
        assert [said.split(":")[0] for said in found] == ["ClusterRole a", "ClusterRole b"]

    def test_the_rules_are_asked_about_as_the_chart_has_them(self, world: World) -> None:
        rights.ungrantable(world, [role()])
        assert world.bodies == [("POST", f"{RBAC}/clusterroles{DRY}", role())]

    def test_other_objects_are_not_asked_about(self, world: World) -> None:
        rights.ungrantable(world, [item("ConfigMap"), item("ClusterRoleBinding"), item("DaemonSet", "apps/v1")])
        assert world.calls == []

    def test_one_that_is_there_already_is_asked_about_as_a_change(self, world: World) -> None:
        world.put(role(rules=[]))
        live = dict(world.objects)
        path = f"{RBAC}/clusterroles/cilium{DRY}"
        world.errors["PUT", path] = forbidden(path)
        (said,) = rights.ungrantable(world, [role()])
        assert "ClusterRole cilium" in said
        assert world.bodies[0][2]["rules"] == RULES
        assert world.objects == live

    def test_one_that_is_there_as_the_chart_has_it_is_no_change(self, world: World) -> None:
        world.put(role())
        assert rights.ungrantable(world, [role()]) == []
        assert world.changes() == []

    def test_one_in_a_namespace_that_helm_will_make_is_left_to_helm(self, world: World) -> None:
        path = f"{RBAC}/namespaces/kube-system/roles{DRY}"
        world.errors["POST", path] = ApiError("no such namespace", status=404, reason="NotFound")
        assert rights.ungrantable(world, [role("Role")]) == []

    def test_another_error_is_told(self, world: World) -> None:
        world.errors["POST", f"{RBAC}/clusterroles{DRY}"] = ApiError("500 no", status=500, reason="InternalError")
        with pytest.raises(ApiError, match="500 no"):
            rights.ungrantable(world, [role()])


class TestDemand:
    def test_with_all_of_them_it_says_nothing(self, world: World) -> None:
        rights.demand(world, rights.reading("a") + rights.changing("a"), [role()])

    def test_every_missing_one_is_named_and_that_nothing_was_changed(self, world: World) -> None:
        world.lacks = {"list nodes", "delete daemonsets"}
        path = f"{RBAC}/clusterroles{DRY}"
        world.errors["POST", path] = forbidden(path)
        with pytest.raises(ProcedureError) as caught:
            rights.demand(world, rights.reading("a") + rights.changing("a"), [role()])
        said = str(caught.value)
        for words in (
            "may not list nodes",
            "may not delete daemonsets in namespace kube-system",
            "ClusterRole cilium",
            world.server,
            "Nothing was changed",
        ):
            assert words in re.sub(r"\s+", " ", said)

    def test_a_role_that_can_not_be_granted_is_reason_enough(self, world: World) -> None:
        path = f"{RBAC}/clusterroles{DRY}"
        world.errors["POST", path] = forbidden(path)
        with pytest.raises(ProcedureError, match="ClusterRole cilium"):
            rights.demand(world, [], [role()])

    def test_asking_changes_nothing(self, world: World) -> None:
        rights.demand(world, rights.changing("a"))
        assert world.changes() == []
