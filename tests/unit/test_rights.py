from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

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

    def _may(
        self, verb: str, resource: str, *, group: str, namespace: str, subresource: str = "", name: str = ""
    ) -> bool:
        resource += f"/{subresource}" if subresource else ""
        self.asked.append(Right(verb, group, resource, namespace, name))
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
        assert rights.lacking(world, wanted * 2) == [wanted[1], wanted[0]]

    def test_where_all_are_there_none_is_named(self, world: World) -> None:
        assert rights.lacking(world, [Right("list", "", "nodes")]) == []

    def test_each_is_asked_for_as_it_is(self, world: World) -> None:
        wanted = [Right("create", "", "pods/exec", "a"), Right("list", "apps", "daemonsets"), Right("get", "", "nodes")]
        wanted.append(Right("delete", "apps", "daemonsets", "a", "kube-proxy"))
        rights.lacking(world, wanted)
        assert sorted(world.asked) == sorted(wanted)

    @pytest.mark.parametrize("wanted", [rights.reading("network"), rights.changing("network")])
    def test_every_right_of_the_procedure_is_asked_for(self, world: World, wanted: list[Right]) -> None:
        rights.lacking(world, wanted)
        assert set(world.asked) == set(wanted)


class TestWords:
    @pytest.mark.parametrize(
        ("its", "said"),
        [
            ([Right("list", "", "nodes")], ["list nodes"]),
            ([Right("create", "", "pods/exec", "a")], ["create pods/exec in namespace a"]),
            ([Right("get", "", "namespaces", "a", "a")], ["get namespaces (a)"]),
            (
                [Right("delete", "", "configmaps", "a", "x"), Right("get", "", "configmaps", "a", "x")],
                ["delete, get configmaps (x) in namespace a"],
            ),
            (
                [Right("get", "", "configmaps", "a", "y"), Right("get", "", "configmaps", "a", "x")],
                ["get configmaps (x, y) in namespace a"],
            ),
            (
                [Right("create", "", "secrets", "a"), Right("get", "", "secrets", "b", "x")],
                ["create secrets in namespace a", "get secrets (x) in namespace b"],
            ),
        ],
    )
    def test_those_on_the_same_resource_stand_together(self, its: list[Right], said: list[str]) -> None:
        assert rights.words(its) == said
        assert rights.words(its * 2) == said


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
            Right("delete", "apps", "daemonsets", "kube-system", "kube-proxy"),
            Right("create", "apps", "daemonsets", "kube-system"),
            Right("delete", "", "configmaps", "kube-system", "kube-proxy"),
            Right("create", "", "configmaps", "kube-system"),
        ):
            assert right in wanted

    def test_who_looks_alone_execs_nowhere(self) -> None:
        """It is as good as root on a node."""
        assert not {right.resource for right in rights.reading("network")} & {"pods/exec", "pods/attach"}

    @pytest.mark.parametrize("its", [*rights.reading("network"), *rights.changing("network")])
    def test_what_can_be_named_is_named(self, its: Right) -> None:
        """A `create` and a `list` can't be held to a name; pods and Helm's records have none that is known before."""
        if its.resource == "secrets":
            assert its.name in ("", "kube-proxy-replacement")
        else:
            assert bool(its.name) is (its.verb not in ("create", "list") and its.resource not in ("pods", "pods/exec"))


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
        named = {Right(verb, group, resource, namespace, "x") for verb in ("get", "patch", "delete")}
        assert set(rights.installing([its], "release")) == named | {Right("create", group, resource, namespace)}

    def test_a_namespace_is_in_itself_but_for_its_creation(self) -> None:
        named = {Right(verb, "", "namespaces", "x", "x") for verb in ("get", "patch", "delete")}
        assert set(rights.installing([item("Namespace")], "release")) == named | {Right("create", "", "namespaces")}

    def test_each_is_asked_for_once(self) -> None:
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


class TestMissing:
    def test_who_may_do_all_is_asked_once(self, world: World) -> None:
        world.allowed = True
        assert rights.missing(world, rights.changing("network")) == []
        assert world.calls == [("MAY", "* *")]

    @pytest.mark.parametrize("verb", ["create", "get"])
    def test_a_role_that_may_not_be_made_at_all_is_not_tried(self, world: World, verb: str) -> None:
        """Nor looked for: a preview's credentials try nothing that they are refused."""
        world.lacks = {f"{verb} clusterroles"}
        manifest = [role(), role("Role", "config")]
        said = rights.missing(world, rights.installing(manifest, "a"), manifest)
        assert [words.split(" (")[0] for words in said] == [f"may not {verb} clusterroles"]
        assert {path for method, path in world.calls if method != "MAY" and "/clusterroles" in path} == set()

    @pytest.mark.parametrize(
        ("there", "lacks", "said"),
        [
            (True, "", []),
            (False, "", ["may not create namespaces"]),
            (True, "get namespaces", ["may not create namespaces", "may not get namespaces (x)"]),
        ],
    )
    def test_a_namespace_that_is_there_needs_not_be_made(
        self, world: World, there: bool, lacks: str, said: list[str]
    ) -> None:
        if there:
            world.put(item("Namespace"))
        world.lacks = {"create namespaces", lacks}
        manifest = [item("Namespace")]
        assert rights.missing(world, rights.installing(manifest, "a"), manifest) == said

    def test_who_makes_roles_by_escalate_needs_bind(self, world: World) -> None:
        world.lacks = {"bind clusterroles"}
        assert rights.missing(world, [], [role()]) == ["may not bind clusterroles (cilium)"]

    def test_who_holds_what_a_role_grants_needs_no_bind(self, world: World) -> None:
        world.lacks = {"bind clusterroles", "escalate clusterroles"}
        assert rights.missing(world, [], [role()]) == []

    def test_the_first_right_that_a_role_would_grant_is_named(self, world: World) -> None:
        path = f"{RBAC}/clusterroles{DRY}"
        words = 'attempting to grant:\n{APIGroups:["a"], Verbs:["get"]}\n{APIGroups:["b"], Verbs:["list"]}'
        world.errors["POST", path] = ApiError(words, status=403, reason="Forbidden")
        (said,) = rights.missing(world, [], [role()])
        assert said.endswith('2 in all, first {APIGroups:["a"], Verbs:["get"]}')


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
            "may not delete daemonsets (kube-proxy) in namespace kube-system",
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


def test_the_rights_of_node_by_node_are_those_of_its_file() -> None:
    """Each one asked for is granted there, and each one granted is asked for."""
    file = Path(__file__).parents[2] / "rbac" / "node-by-node.yaml"
    granted = set()
    for item in yaml.safe_load_all(file.read_text()):
        for rule in item.get("rules") or []:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    for name in rule.get("resourceNames") or [""]:
                        where = item["metadata"].get("namespace", "")
                        granted.add(Right(verb, rule["apiGroups"][0], resource, where, name))
    assert set(rights.handing_over("kube-system", drain=True)) == granted
    assert set(rights.handing_over("kube-system", drain=False)) < granted
