"""The least rights: the whole way with exactly rbac/up.yaml, previews with exactly rbac/preview.yaml.

That they are enough, the runs show. That none is too many, the API server's own log shows: taking one verb on one
resource out leaves a request, or a role that was made, without its right. And the program names it before it begins.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from kube_proxy_replacement.cluster import helm_release, rights
from kube_proxy_replacement.cluster.api import Api
from kube_proxy_replacement.cluster.rights import Right
from local.cluster import kubeconfig
from local.cluster.certificates import Pki
from local.toolchain import Toolchain
from tests.engine.acts import Act, act
from tests.engine.conftest import NewStack
from tests.engine.harness import (
    REPOSITORY,
    STATUS,
    STEPS,
    Cluster,
    Entry,
    Object,
    Stack,
    compared,
    picked,
    wait_until,
)
from tests.engine.test_drift import helm, proxy_rules, restarted_agent, rolled_out, told_to_bring_kube_proxy_back

RBAC = "rbac.authorization.k8s.io"
ENGINEER, REVIEWER = "jane", "joe"
_MAPS = "/api/v1/namespaces/kube-system/configmaps"
_DAEMONSETS = "/apis/apps/v1/namespaces/kube-system/daemonsets"
_REVIEWS = ("selfsubjectaccessreviews",)
"""Whoever is signed in may ask what he may (the built-in role system:basic-user)."""


class Grant(NamedTuple):
    """One verb on one resource, as a rule of a role has it.

    Attributes:
        role: its place in the file; namespace: where it holds, "" everywhere; name: "" for any object.
    """

    role: int
    namespace: str
    group: str
    resource: str
    verb: str
    name: str

    def gives(self, wanted: Right) -> bool:
        """As RBAC decides: https://kubernetes.io/docs/reference/access-authn-authz/rbac/."""
        return (
            (self.verb, self.group, self.resource) == (wanted.verb, wanted.group, wanted.resource)
            and self.namespace in ("", wanted.namespace)
            and self.name in ("", wanted.name)
        )


class Roles:
    """The objects of one file of rbac/, and what its roles give."""

    def __init__(self, file: str) -> None:
        content = (REPOSITORY / "rbac" / file).read_text()
        self.objects: list[Object] = list(yaml.safe_load_all(content))
        self.grants = [
            Grant(place, item["metadata"].get("namespace", ""), group, resource, verb, name)
            for place, item in enumerate(self.objects)
            for rule in item.get("rules") or []
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
            for name in rule.get("resourceNames") or [""]
        ]

    def without(self, grant: Grant) -> list[Grant]:
        return [each for each in self.grants if each is not grant]

    def role(self, place: int, grants: Iterable[Grant]) -> Object:
        """A role of the file with these grants alone, a rule each."""
        rules = [
            {"apiGroups": [its.group], "resources": [its.resource], "verbs": [its.verb]}
            | ({"resourceNames": [its.name]} if its.name else {})
            for its in grants
            if its.role == place
        ]
        return self.objects[place] | {"rules": rules}


def path_of(item: Object) -> str:
    version, kind = item["apiVersion"], item["kind"].lower() + "s"
    namespace = item["metadata"].get("namespace")
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{root}/namespaces/{namespace}/{kind}" if namespace else f"{root}/{kind}"


def applied(cluster: Cluster, roles: Roles) -> None:
    for item in roles.objects:
        if cluster.find(f"{path_of(item)}/{item['metadata']['name']}") is None:
            cluster.create(path_of(item), item)


def signed_in(cluster: Cluster, folder: Path, name: str, group: str) -> Path:
    """A person's kubeconfig: a client certificate of a group."""
    pki = Pki(cluster.kubeconfig.parent / "pki")
    file = folder / f"{name}.yaml"
    kubeconfig.write(file, f"https://{cluster.host}:{cluster.port}", name, pki, pki.client(name, name, group))
    return file


def asked(audit: Iterable[Entry], who: str) -> set[Right]:
    """The rights that somebody's requests took."""
    wanted = set()
    for entry in audit:
        if entry.user != who or not entry.resource or entry.resource in _REVIEWS or entry.code == 403:
            continue
        name = "" if entry.verb in ("create", "list") else entry.name
        wanted.add(Right(entry.verb, entry.group, entry.resource, entry.namespace, name))
        if entry.resource == "pods/exec":
            # a WebSocket is opened by a GET; since 1.35 the API server asks for `create` behind it, and doesn't log it
            wanted.add(Right("create", "", "pods/exec", entry.namespace))
    return wanted


def granted(objects: Mapping[str, Object], *names: str) -> set[Right]:
    """What roles on the cluster grant: whoever makes them must hold it."""
    return {
        Right(verb, group, resource, item["metadata"].get("namespace", ""), name)
        for key, item in objects.items()
        if key.startswith(("ClusterRole.", "Role.")) and item["metadata"]["name"] in names
        for rule in item["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames") or [""]
    }


# The way


@dataclass(frozen=True)
class Way:
    """What was done, in this order.

    Attributes:
        looks: the reviewer's previews: of a fresh stack, unchanged, with drift, of another mode, of what an owner has
            changed of his adopted Cilium.
        ups: the engineer's: straight to replace, a repair, back to coexist, a switch-over that is rolled back, destroy;
            an owner's Cilium taken over, with what he has changed since, and left to him.
        manifest: what the chart rendered.
    """

    looks: dict[str, Act]
    ups: dict[str, Act]
    manifest: list[Object]


@pytest.fixture(scope="module")
def up() -> Roles:
    return Roles("up.yaml")


@pytest.fixture(scope="module")
def look() -> Roles:
    return Roles("preview.yaml")


@pytest.fixture(scope="module")
def engineer(cluster: Cluster, up: Roles, look: Roles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    applied(cluster, up)
    applied(cluster, look)
    return signed_in(cluster, tmp_path_factory.mktemp("engineer"), ENGINEER, "platform-engineers")


@pytest.fixture(scope="module")
def way(
    cluster: Cluster,
    toolchain: Toolchain,
    up: Roles,
    engineer: Path,
    new_stack: NewStack,
    tmp_path_factory: pytest.TempPathFactory,
) -> Way:
    stack = new_stack(cluster, mode="replace", timeoutSeconds=60)
    stack.kubeconfig = engineer
    folder = tmp_path_factory.mktemp("reviewer")
    reviewer = stack.second(folder / "person", signed_in(cluster, folder, REVIEWER, "reviewers"))
    looks, ups = {"fresh": act(cluster, reviewer, "preview")}, {"replace": act(cluster, stack, "up")}
    manifest = rendered(cluster)
    looks["unchanged"] = act(cluster, reviewer, "preview")
    make_drift(cluster, manifest)
    looks["drift"] = act(cluster, reviewer, "preview")
    ups["repair"] = act(cluster, stack, "up")
    for each in (stack, reviewer):
        each.config("mode", "coexist")
    looks["mode"] = act(cluster, reviewer, "preview")
    ups["coexist"] = act(cluster, stack, "up")
    ups["rolled back"] = failing(cluster, stack)
    ups["destroy"] = act(cluster, stack, "destroy")
    cluster.wait_until_uninstalled()
    owners_cilium(cluster, toolchain, "install", "MTU=1400")
    applied(cluster, up)  # `destroy` took cilium-secrets away, and with it the role in there
    ups["adopt"] = act(cluster, stack, "up")
    owners_cilium(cluster, toolchain, "upgrade", "MTU=1450")
    looks["adopted"] = act(cluster, reviewer, "preview")
    ups["adopt again"] = act(cluster, stack, "up")
    ups["leave"] = act(cluster, stack, "destroy")
    return Way(looks, ups, manifest)


def failing(cluster: Cluster, stack: Stack) -> Act:
    """A switch-over in which an agent doesn't come up."""
    stack.config("mode", "replace")
    stack.config("timeoutSeconds", 10)
    cluster.annotate("node-3", "agent-crashes-replacing", "no")
    its = act(cluster, stack, "up", fails=True)
    cluster.annotate("node-3", "agent-crashes-replacing", None)
    stack.config("timeoutSeconds", 60)
    stack.config("mode", "coexist")
    return its


def owners_cilium(cluster: Cluster, toolchain: Toolchain, verb: str, value: str) -> None:
    chart, sets = str(toolchain.cilium_chart), ["--set", f"ipam.mode=kubernetes,{value}"]
    helm(cluster, toolchain, verb, "cilium", chart, "--namespace", "kube-system", *sets)
    wait_until("the owner's agents are ready", lambda: rolled_out(cluster), 60)


def rendered(cluster: Cluster) -> list[Object]:
    """The chart's objects, as Helm keeps them."""
    secrets = cluster.items("/api/v1/namespaces/kube-system/secrets?labelSelector=owner%3Dhelm")
    (content,) = [helm_release._decoded(secret) for secret in secrets]
    items: list[Object] = [item for item in yaml.safe_load_all(content["manifest"]) if item]
    for item in items:
        if item["kind"] not in ("Namespace", "ClusterRole", "ClusterRoleBinding"):
            item["metadata"].setdefault("namespace", "kube-system")
    return items


def make_drift(cluster: Cluster, manifest: list[Object]) -> None:
    """kube-proxy is back, an agent runs with an edited text, the record is gone, and of each of the chart's objects
    somebody took Helm's label: Helm has to patch every one."""
    backup = cluster.get(f"{_MAPS}/kube-proxy-replacement")["data"]
    for item in manifest:
        path = f"{path_of(item)}/{item['metadata']['name']}"
        cluster.merge(path, {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}})
    cluster.merge(f"{_MAPS}/cilium-config", {"data": {"kube-proxy-replacement": "false"}})
    restarted_agent(cluster, "node-2")
    told_to_bring_kube_proxy_back(cluster)
    cluster.create(_MAPS, json.loads(backup["configmap.json"]))
    cluster.create(_DAEMONSETS, json.loads(backup["daemonset.json"]))
    wait_until("kube-proxy's rules are on every node again", lambda: list(proxy_rules(cluster).values()) == [True] * 3)
    cluster.delete(f"{_MAPS}/kube-proxy-replacement")


# The engineer


def test_the_whole_way_is_gone_with_these_rights(way: Way) -> None:
    """Each run has come to its end, one of them back where it began; nothing was refused on the way but an agent's last
    words, which the page of rights names as what is lacking.
    """
    refused = {
        (what, entry.verb, entry.resource)
        for what, its in way.ups.items()
        for entry in its.audit
        if entry.user == ENGINEER and entry.code == 403
    }
    assert refused <= {("rolled back", "get", "pods/log")}
    assert way.ups["replace"].outputs["kubeProxyReplacement"] == "True"
    assert way.ups["repair"].outputs["agents"]["switched"] == 3
    assert way.ups["coexist"].outputs["kubeProxyReplacement"] == "False"
    rolled_back = way.ups["rolled back"]
    assert picked(rolled_back.audit, "delete", "daemonsets", "kube-proxy"), "it had begun"
    assert "DaemonSet.apps kube-system/kube-proxy" in rolled_back.after
    config = "ConfigMap kube-system/cilium-config"
    assert rolled_back.after[config]["data"] == rolled_back.before[config]["data"]
    assert "DaemonSet.apps kube-system/cilium" not in way.ups["destroy"].after
    assert "DaemonSet.apps kube-system/kube-proxy" in way.ups["destroy"].after
    assert "Secret kube-system/kube-proxy-replacement" in way.ups["adopt again"].after
    assert "DaemonSet.apps kube-system/cilium" in way.ups["leave"].after


def needs(way: Way) -> set[Right]:
    """What the whole way took: requests, and what the roles grant that it made."""
    names = [item["metadata"]["name"] for item in way.manifest if item["kind"] in ("Role", "ClusterRole")]
    audit = [entry for its in way.ups.values() for entry in its.audit]
    return asked(audit, ENGINEER) | granted(way.ups["replace"].after, *names)


def test_no_right_is_too_many(way: Way, up: Roles) -> None:
    wanted = needs(way)
    assert [right for right in wanted if not any(grant.gives(right) for grant in up.grants)] == []
    spare = [
        grant
        for grant in up.grants
        if all(any(other.gives(right) for other in up.without(grant)) for right in wanted if grant.gives(right))
    ]
    assert spare == []


@pytest.fixture(scope="module")
def afterwards(cluster: Cluster, toolchain: Toolchain, way: Way, up: Roles, engineer: Path) -> Api:
    """The rights on a cluster without Cilium: its owner has uninstalled it, and cilium-secrets with it."""
    helm(cluster, toolchain, "uninstall", "cilium", "--namespace", "kube-system")
    cluster.wait_until_uninstalled()
    applied(cluster, up)
    return Api.connect(engineer.read_text())


def test_each_right_that_is_taken_out_is_named_before_anything_is_changed(
    cluster: Cluster, way: Way, up: Roles, afterwards: Api
) -> None:
    """By the API server's own word, with one right less, asked as an `up` asks on a cluster without Cilium.

    A right that is only held to be granted makes the role that would grant it impossible.
    """
    api, manifest = afterwards, way.manifest
    wanted = list(
        dict.fromkeys(
            rights.reading("kube-system") + rights.changing("kube-system") + rights.installing(manifest, "kube-system")
        )
    )
    wait_until("the rights are there", lambda: rights.missing(api, wanted, manifest) == [])
    for place, item in enumerate(up.objects):
        for grant in [its for its in up.grants if its.role == place]:
            left = up.without(grant)
            put(cluster, up.role(place, left))
            lost = [right for right in wanted if not any(each.gives(right) for each in left)]
            lost = [right for right in lost if right != Right("create", "", "namespaces")]  # cilium-secrets is there

            def named(lost: list[Right] = lost) -> bool:
                return rights.lacking(api, lost) == sorted(lost) if lost else rights.ungrantable(api, manifest) != []

            wait_until(f"it is named that this is missing: {grant}", named, pause=0.01)
        if "rules" in item:
            put(cluster, item)


def put(cluster: Cluster, role: Object) -> None:
    cluster.merge(f"{path_of(role)}/{role['metadata']['name']}", {"rules": role["rules"]})


# The reviewer


def said_once(its: Act, words: str) -> str:
    """The one line with these words."""
    (text,) = [each.text for each in its.run.said if words in each.text]
    assert "\n" not in text
    return text


REFUSED = "refused before it changes anything"
UNREAD = "the agents were not read"


def test_previews_only_get_and_list(way: Way) -> None:
    """They try nothing else, and nothing that is refused. (To ask which rights one has is a `create` too.)"""
    for name, its in way.looks.items():
        audit = [entry for entry in its.audit if entry.user == REVIEWER and entry.resource not in _REVIEWS]
        assert audit, name
        assert {entry.verb for entry in audit} <= {"get", "list"}, name
        assert "pods/exec" not in {entry.resource for entry in audit}, name
        assert [str(entry) for entry in audit if entry.code == 403] == [], name
        assert compared(its.before, its.after) == {}, name


def test_no_right_of_a_preview_is_too_many(way: Way, look: Roles) -> None:
    wanted = asked([entry for its in way.looks.values() for entry in its.audit], REVIEWER)
    spare = [
        grant
        for grant in look.grants
        if all(any(other.gives(right) for other in look.without(grant)) for right in wanted if grant.gives(right))
    ]
    assert spare == []
    assert {verb for _, _, _, _, verb, _ in look.grants} == {"get", "list"}


def test_a_preview_of_a_fresh_stack_shows_all_and_names_what_an_up_would_lack(way: Way) -> None:
    its = way.looks["fresh"]
    assert set(its.run.changes.values()) == {"create"}
    assert set(STEPS) <= its.run.changes.keys()
    line = said_once(its, REFUSED)
    for words in (
        "delete daemonsets (kube-proxy) in namespace kube-system",
        "create clusterroles",
        "create, get pods/exec",
    ):
        assert words in line


def test_a_preview_of_what_is_as_wanted_is_unchanged_and_says_that_agents_were_not_read(way: Way) -> None:
    its = way.looks["unchanged"]
    assert its.run.changes == {}
    assert "pods/exec in namespace kube-system" in said_once(its, UNREAD)
    assert REFUSED not in its.run.notes()


def test_drift_that_the_api_server_shows_is_shown(way: Way) -> None:
    its = way.looks["drift"]
    notes = its.run.notes()
    for words in (
        "kube-proxy's DaemonSet is back",
        "kube-proxy's ConfigMap is back",
        "kubeadm-config no longer says proxy.disabled",
        "the record in ConfigMap kube-system/kube-proxy-replacement was deleted",
        "cilium-config was edited (kube-proxy-replacement: 'false' instead of 'true')",
        "node-2: its agent started after cilium-config was edited",
    ):
        assert f"not as wanted: {words}" in notes, words
    assert "node-1: its agent" not in notes
    assert set(its.run.changes.values()) == {"update"}
    assert set(STEPS) <= its.run.changes.keys()
    said_once(its, UNREAD)
    said_once(its, REFUSED)


def test_a_change_of_mode_is_shown(way: Way) -> None:
    its = way.looks["mode"]
    assert set(its.run.changes.values()) == {"update"}
    assert "update configmaps" not in said_once(its, REFUSED)


def test_the_last_readings_stay(way: Way) -> None:
    """What isn't read isn't unreadable: unchanged they are the last up's, with drift they aren't said to be lost."""
    assert way.ups["replace"].outputs["agents"]["unreadable"] == 0
    assert way.looks["unchanged"].run.ops[STATUS] == "same"
    (diff,) = [
        event["resourcePreEvent"]["metadata"]
        for event in way.looks["drift"].run.events
        if event.get("resourcePreEvent", {}).get("metadata", {}).get("urn", "").endswith(f"::{STATUS}")
    ]
    assert diff["op"] == "update"
    assert diff["new"]["inputs"]["unreadable"] == diff["old"]["inputs"]["unreadable"] == []
