"""What each policy says no to, and what it lets stand; that the engine runs them is shown in tests/engine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pulumi_policy import (
    PolicyCustomTimeouts,
    PolicyResource,
    PolicyResourceOptions,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
)
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, UnknownValueError, unknown_checking_proxy

import held
from held import address, declared, order, protection, triggers, version
from kube_proxy_replacement import command, run

COMPONENT = "kube-proxy-replacement:index:KubeProxyReplacement"
COMMAND = "command:local:Command"
RELEASE = "kubernetes:helm.sh/v3:Release"
DYNAMIC = "pulumi-python:dynamic:Resource"
REPLACE = {"kubeProxyReplacement": "true", "k8sServiceHost": "192.0.2.10"}


def urn(its_type: str, name: str = "one", *, stack: str = "dev", within: str = f"{COMPONENT}$") -> str:
    return f"urn:pulumi:{stack}::clusters::{within}{its_type}::{name}"


def options(*, protect: bool = False) -> PolicyResourceOptions:
    return PolicyResourceOptions(protect, [], None, [], PolicyCustomTimeouts(0, 0, 0), [])


def step(name: str, **props: Any) -> dict[str, Any]:
    return {"update": command.line(name, "update"), **props}


def says(
    policy: ResourceValidationPolicy,
    its_type: str,
    props: Mapping[str, Any],
    *,
    where: str = "",
    protect: bool = False,
    **config: Any,
) -> list[str]:
    """What a policy reports of one resource; its own defaults hold where `config` says nothing."""
    schema = policy.config_schema.properties if policy.config_schema else {}
    configured = {key: its["default"] for key, its in schema.items()} | config
    reported: list[str] = []
    seen = unknown_checking_proxy(dict(props))
    args = ResourceValidationArgs(
        its_type, seen, where or urn(its_type), "one", options(protect=protect), None, configured
    )
    policy.validate(args, lambda message, _urn=None: reported.append(message))
    return reported


# What is declared


def test_every_command_that_the_program_writes_is_known_by_its_step() -> None:
    for name, verb in run.STEPS:
        resource = PolicyResource(COMMAND, {verb: command.line(name, verb)}, "", "", options(), None, None, [], {})
        assert declared.step(resource) == name


def test_somebody_elses_resources_are_left_alone() -> None:
    foreign = {"create": "date", "triggers": ["now"], "values": REPLACE | {"k8sServiceHost": "10.96.0.1"}}
    for policy in held.POLICIES:
        if isinstance(policy, ResourceValidationPolicy):
            for its_type in (COMMAND, RELEASE, DYNAMIC):
                assert not says(policy, its_type, foreign, where=urn(its_type, stack="prod", within="")), policy.name


# The version


@pytest.mark.parametrize("said", ["1.18.6", "v1.18.6", "1.19.0-rc.1"])
def test_an_exact_version_stands(said: str) -> None:
    assert not says(version.POLICY, DYNAMIC, {"mode": "replace", "ciliumVersion": said})


@pytest.mark.parametrize("said", [None, "", "1.18", "1.18.x", ">=1.18.6", "^1.18.6", "latest", "1.18.6 || 1.19.0"])
def test_a_version_that_something_else_decides_is_named(said: str | None) -> None:
    (reported,) = says(version.POLICY, DYNAMIC, {"mode": "coexist", "ciliumVersion": said})
    assert "ciliumVersion" in reported
    assert (said or "not set") in reported


def test_the_agents_readings_have_no_version_to_pin() -> None:
    assert not says(version.POLICY, DYNAMIC, {"namespace": "kube-system", "order": "{}"})


# Triggers


@pytest.mark.parametrize("name", sorted({name for name, _ in run.STEPS}))
def test_triggers_on_any_of_the_commands_are_named(name: str) -> None:
    for given in ([1], [UNKNOWN_STRING_VALUE], UNKNOWN_STRING_VALUE):
        (reported,) = says(triggers.POLICY, COMMAND, step(name, triggers=given))
        assert name in reported


def test_a_command_without_triggers_stands() -> None:
    assert not says(triggers.POLICY, COMMAND, step("agents"))
    assert not says(triggers.POLICY, COMMAND, step("agents", triggers=[]))


# The API server's address


def adopted(values: Mapping[str, Any]) -> dict[str, Any]:
    return step("release", environment={"KUBE_PROXY_REPLACEMENT_VALUES": json.dumps(values)})


@pytest.mark.parametrize(
    "host", ["192.0.2.10", "api.example.com", "kubernetes.example.com", "2001:db8::10", "10.112.0.1"]
)
def test_the_control_planes_own_address_stands(host: str) -> None:
    values = REPLACE | {"k8sServiceHost": host}
    assert not says(address.POLICY, RELEASE, {"values": values})
    assert not says(address.POLICY, COMMAND, adopted(values))


@pytest.mark.parametrize(
    "host",
    [
        "10.96.0.1",
        "10.111.255.254",
        "::ffff:10.96.0.1",
        "kubernetes",
        "kubernetes.default",
        "Kubernetes.Default.svc.",
        "kubernetes.default.svc.corp.example",
        "api.control-plane.svc.cluster.local",
        "auto",
        "",
        None,
    ],
)
def test_a_services_address_or_name_is_refused_in_replace(host: str | None) -> None:
    values = REPLACE | {"k8sServiceHost": host}
    (reported,) = says(address.POLICY, RELEASE, {"values": values})
    assert (host or "isn't set") in reported
    assert says(address.POLICY, COMMAND, adopted(values)) == [reported]


def test_in_coexist_any_address_stands() -> None:
    assert not says(
        address.POLICY, RELEASE, {"values": {"kubeProxyReplacement": "false", "k8sServiceHost": "10.96.0.1"}}
    )
    assert not says(address.POLICY, RELEASE, {})


def test_the_services_addresses_are_the_clusters_own() -> None:
    its = {"values": REPLACE | {"k8sServiceHost": "172.20.0.1"}}
    assert not says(address.POLICY, RELEASE, its)
    assert says(address.POLICY, RELEASE, its, serviceCidrs=["10.96.0.0/12", "172.20.0.0/16"])
    other = {"values": REPLACE | {"k8sServiceHost": "10.96.0.1"}}
    assert not says(address.POLICY, RELEASE, other, serviceCidrs=["172.20.0.0/16"])


def test_an_address_that_is_not_known_yet_is_judged_by_up() -> None:
    with pytest.raises(UnknownValueError):
        says(address.POLICY, RELEASE, {"values": REPLACE | {"k8sServiceHost": UNKNOWN_STRING_VALUE}})


# Protection


@pytest.mark.parametrize(("its_type", "props"), [(RELEASE, {}), (COMMAND, step("release")), (COMMAND, step("agents"))])
@pytest.mark.parametrize("stack", ["prod", "prod-eu", "eu-prod", "production"])
def test_in_production_all_is_protected(its_type: str, props: dict[str, Any], stack: str) -> None:
    where = urn(its_type, stack=stack)
    assert not says(protection.POLICY, its_type, props, where=where, protect=True)
    (reported,) = says(protection.POLICY, its_type, props, where=where)
    assert stack in reported


def test_elsewhere_it_need_not_be() -> None:
    for stack in ("dev", "staging", "products", "preprod"):
        assert not says(protection.POLICY, RELEASE, {}, where=urn(RELEASE, stack=stack))


def test_which_stacks_are_production_is_the_owners_to_say() -> None:
    assert says(protection.POLICY, RELEASE, {}, where=urn(RELEASE, stack="live-eu"), stacks=["live-*"])
    assert not says(protection.POLICY, RELEASE, {}, where=urn(RELEASE, stack="prod"), stacks=["live-*"])


# The order


class Tree:
    """Resources of one stack, as a stack policy sees them."""

    def __init__(self) -> None:
        self.resources: list[PolicyResource] = []

    def component(self, name: str) -> PolicyResource:
        return self._add(COMPONENT, name, {}, None, ())

    def command(self, under: PolicyResource, name: str, *before: PolicyResource) -> PolicyResource:
        return self._add(COMMAND, f"{under.name}-{name}", step(name), under, before)

    def release(self, under: PolicyResource, *before: PolicyResource) -> PolicyResource:
        return self._add(RELEASE, f"{under.name}-cilium", {}, under, before)

    def _add(
        self,
        its_type: str,
        name: str,
        props: dict[str, Any],
        under: PolicyResource | None,
        before: Iterable[PolicyResource],
    ) -> PolicyResource:
        where = urn(its_type, name, within=f"{COMPONENT}$" if under else "")
        made = PolicyResource(its_type, props, where, name, options(), None, under, list(before), {})
        self.resources.append(made)
        return made

    def says(self) -> list[tuple[str, str]]:
        """What the policy reports: the resource's name, and the message."""
        reported: list[tuple[str, str]] = []
        order.POLICY.validate(
            StackValidationArgs(self.resources),
            lambda message, where=None: reported.append((str(where).rpartition("::")[2], message)),
        )
        return reported


@pytest.mark.parametrize("is_adopted", [False, True])
def test_cilium_after_both_removals_stands(is_adopted: bool) -> None:
    tree = Tree()
    one = tree.component("one")
    daemonset = tree.command(one, "kube-proxy-daemonset")
    configmap = tree.command(one, "kube-proxy-configmap", daemonset)
    # one after the other is an order too, whichever the release names
    if is_adopted:
        tree.command(one, "release", configmap)
    else:
        tree.release(one, configmap)
    assert not tree.says()


@pytest.mark.parametrize("is_adopted", [False, True])
@pytest.mark.parametrize("missing", ["kube-proxy-daemonset", "kube-proxy-configmap"])
def test_a_removal_that_cilium_does_not_wait_for_is_named(missing: str, is_adopted: bool) -> None:
    tree = Tree()
    one = tree.component("one")
    removals = [tree.command(one, "kube-proxy-daemonset"), tree.command(one, "kube-proxy-configmap")]
    before = [each for each in removals if not each.name.endswith(missing)]
    release = tree.command(one, "release", *before) if is_adopted else tree.release(one, *before)
    ((where, message),) = tree.says()
    assert where == release.name
    assert missing in message


def test_another_clusters_removals_do_not_count() -> None:
    tree = Tree()
    one, two = tree.component("one"), tree.component("two")
    others = [tree.command(two, "kube-proxy-daemonset"), tree.command(two, "kube-proxy-configmap")]
    tree.release(two, *others)
    tree.command(one, "kube-proxy-daemonset")
    tree.command(one, "kube-proxy-configmap")
    tree.release(one, *others)
    assert [where for where, _ in tree.says()] == ["one-cilium", "one-cilium"]


def test_a_component_whose_release_is_not_seen_is_named() -> None:
    tree = Tree()
    one = tree.component("one")
    tree.command(one, "kube-proxy-daemonset")
    ((where, _),) = tree.says()
    assert where == "one"


# The page


def test_the_page_tells_of_every_policy_and_of_what_can_be_configured() -> None:
    page = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
    for policy in held.POLICIES:
        assert f"`{policy.name}`" in page
        for name, its in (policy.config_schema.properties if policy.config_schema else {}).items():
            assert f"`{name}`" in page
            assert all(f"`{each}`" in page for each in its["default"])
