from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pulumi
import pytest

from kube_proxy_replacement.config import arguments, options
from kube_proxy_replacement.settings import NAMES

PROJECT = "kube-proxy-replacement"


@pytest.fixture(autouse=True)
def no_config_of_others(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("PULUMI_CONFIG", raising=False)
    yield
    pulumi.runtime.set_all_config({}, [])


def read(secrets: tuple[str, ...] = (), **given: str) -> dict[str, Any]:
    """The arguments from a stack's configuration; every value is text there, as the engine hands it over."""
    pulumi.runtime.set_all_config(
        {f"{PROJECT}:{name}": value for name, value in given.items()}, [f"{PROJECT}:{name}" for name in secrets]
    )
    return dict(arguments(pulumi.Config(PROJECT)))


def test_every_setting_arrives_under_its_argument_s_name_and_as_its_type() -> None:
    given = read(
        secrets=("kubeconfig",),
        mode="replace",
        apiServerHost="api.example",
        apiServerPort="7443",
        ciliumVersion="1.18.6",
        chart="oci://registry.example/cilium",
        namespace="network",
        releaseName="mesh",
        kubeconfig="content",
        kubeContext="prod",
        values=json.dumps({"bpf": {"masquerade": True}}),
        strategy="node-by-node",
        nodeByNode=json.dumps({"batchSize": "10%", "continue": True, "settleSeconds": 5}),
        loadBalancer=json.dumps({"mode": "dsr", "sessionAffinity": True}),
        hubble="false",
        keepConnections="false",
        timeoutSeconds="30",
        onFailure="keep",
        skipChecks=json.dumps(["managed-by"]),
        verify="status",
    )
    assert given == {
        "mode": "replace",
        "api_server_host": "api.example",
        "api_server_port": 7443,
        "cilium_version": "1.18.6",
        "chart": "oci://registry.example/cilium",
        "namespace": "network",
        "release_name": "mesh",
        "kubeconfig": "content",
        "kube_context": "prod",
        "values": {"bpf": {"masquerade": True}},
        "strategy": "node-by-node",
        "node_by_node": {"batch_size": "10%", "continue_": True, "settle_seconds": 5},
        "load_balancer": {"mode": "dsr", "session_affinity": True},
        "hubble": False,
        "keep_connections": False,
        "timeout_seconds": 30,
        "on_failure": "keep",
        "skip_checks": ["managed-by"],
        "verify": "status",
    }
    assert len(given) == len(NAMES)


@pytest.mark.parametrize(("written", "protected"), [("true", True), ("false", None), ("", None), (None, None)])
def test_protect_is_an_option_of_the_component_and_no_argument(written: str | None, protected: bool | None) -> None:
    assert read(mode="replace", **({} if written is None else {"protect": written})) == {"mode": "replace"}
    assert options(pulumi.Config(PROJECT)).protect is protected


def test_protect_that_is_neither_true_nor_false_is_refused() -> None:
    pulumi.runtime.set_all_config({f"{PROJECT}:protect": "yes"}, [])
    with pytest.raises(pulumi.RunError, match=r"^protect: "):
        options(pulumi.Config(PROJECT))


def test_what_is_empty_is_not_set() -> None:
    assert read(mode="replace", chart="", kubeconfig="", apiServerHost="", keepConnections="") == {"mode": "replace"}


def test_a_helm_value_s_name_stays_as_it_is() -> None:
    values = {"k8sServiceHost": {"camelCase": [{"aB": 1}]}}
    assert read(mode="replace", values=json.dumps(values))["values"] == values


def test_settings_of_other_projects_are_none_of_ours() -> None:
    pulumi.runtime.set_all_config({f"{PROJECT}:mode": "coexist", "kubernetes:namespace": "x", "other:mode": "blue"}, [])
    assert arguments(pulumi.Config(PROJECT)) == {"mode": "coexist"}


def test_a_setting_that_does_not_exist_is_named_with_the_nearest() -> None:
    with pytest.raises(pulumi.RunError, match="'apiServerHosts': there is no such setting; did you mean apiServerHost"):
        read(mode="replace", apiServerHosts="192.0.2.10")


def test_the_programs_own_setting_is_among_the_nearest() -> None:
    with pytest.raises(pulumi.RunError, match="'protected': there is no such setting; did you mean protect"):
        read(mode="replace", protected="true")


def test_a_setting_that_does_not_exist_is_found_also_where_the_engine_passes_it_by_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps({f"{PROJECT}:mode": "replace", f"{PROJECT}:hubbel": "true"}))
    with pytest.raises(pulumi.RunError, match="did you mean hubble"):
        read()


class TestKeysOfOtherNamespaces:
    @pytest.mark.parametrize(
        ("key", "meant"),
        [
            ("kubernetes:context", "kube-proxy-replacement:kubeContext"),
            ("kubernetes:kubeconfig", "kube-proxy-replacement:kubeconfig"),
            ("kube-proxy-replacment:hubble", "kube-proxy-replacement:hubble"),
            ("cilium:ciliumVersion", "kube-proxy-replacement:ciliumVersion"),
            ("cilium:protect", "kube-proxy-replacement:protect"),
        ],
    )
    def test_one_that_was_meant_for_this_program_is_told_with_what_to_write(self, key: str, meant: str) -> None:
        pulumi.runtime.set_all_config({f"{PROJECT}:mode": "replace", key: "hunter2"}, [])
        with pytest.raises(pulumi.RunError, match=f"{key}: .*write {meant}") as caught:
            arguments(pulumi.Config(PROJECT))
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("key", ["aws:region", "kubernetes:namespace", "other:mode", "cilium:colour"])
    def test_any_other_is_none_of_ours(self, key: str) -> None:
        pulumi.runtime.set_all_config({f"{PROJECT}:mode": "replace", key: "x"}, [])
        assert arguments(pulumi.Config(PROJECT)) == {"mode": "replace"}


def test_what_settings_refuse_is_refused_at_once_with_every_reason() -> None:
    with pytest.raises(pulumi.RunError, match=r"(?s)mode: .*apiServerPort: "):
        read(mode="replaced", apiServerPort="70000")


class TestKubeconfig:
    def test_plain_text_is_refused_and_not_quoted(self) -> None:
        with pytest.raises(pulumi.RunError, match=r"kubeconfig: it is plain text.*--secret") as caught:
            read(mode="replace", kubeconfig="hunter2")
        assert "hunter2" not in str(caught.value)

    def test_a_secret_of_another_name_does_not_make_it_one(self) -> None:
        with pytest.raises(pulumi.RunError, match="plain text"):
            read(secrets=("kubeContext",), mode="replace", kubeconfig="hunter2")

    def test_an_encrypted_one_is_taken(self) -> None:
        assert read(secrets=("kubeconfig",), mode="replace", kubeconfig="hunter2")["kubeconfig"] == "hunter2"


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    its = asyncio.new_event_loop()
    asyncio.set_event_loop(its)
    yield its
    its.close()
    asyncio.set_event_loop(None)


def test_what_its_owner_has_encrypted_stays_a_secret(loop: asyncio.AbstractEventLoop) -> None:
    """One value in an object makes the object one."""
    given = read(secrets=("values",), mode="replace", values=json.dumps({"podAnnotations": {"a": "hunter2"}}))

    async def look() -> tuple[Any, bool]:
        return await given["values"].future(), await given["values"].is_secret()

    assert loop.run_until_complete(look()) == ({"podAnnotations": {"a": "hunter2"}}, True)


@pytest.mark.parametrize("setting", ["apiServerHost", "values"])
def test_what_its_owner_has_encrypted_is_not_quoted(setting: str) -> None:
    wrong = {"apiServerHost": "7", "values": json.dumps({"a": "hunter2"})}[setting]
    with pytest.raises(pulumi.RunError) as caught:
        read(secrets=(setting, "chart"), mode="replace", chart="hunter2", ciliumVersion="1", **{setting: wrong})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("apiServerPort", "https"),
        ("timeoutSeconds", "10m"),
        ("hubble", "yes"),
        ("keepConnections", "yes"),
        ("values", "bpf.masquerade=true"),
        ("loadBalancer", "dsr"),
        ("loadBalancer", '"dsr"'),
        ("loadBalancer", "[1]"),
        ("nodeByNode", "3"),
        ("nodeByNode", "[1]"),
        ("nodeByNode", '{"batchSize": 0}'),
        ("skipChecks", "managed-by"),
        ("skipChecks", '{"managed-by": true}'),
        ("skipChecks", '["managed"]'),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_its_setting_s_name(name: str, value: str) -> None:
    with pytest.raises(pulumi.RunError, match=rf"^{name}: "):
        read(mode="replace", **{name: value})


@pytest.mark.parametrize("value", ['"dsr"', "[1]", "5"])
def test_a_load_balancer_that_is_no_object_is_told_what_it_must_be(value: str) -> None:
    with pytest.raises(pulumi.RunError, match=r"loadBalancer: .*mode.*algorithm"):
        read(mode="replace", loadBalancer=value)
