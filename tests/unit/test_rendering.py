from __future__ import annotations

import asyncio
import json
from typing import Any

import pulumi
import pytest

from kube_proxy_replacement import rendering
from kube_proxy_replacement.cluster import rights
from kube_proxy_replacement.cluster.api import Api
from kube_proxy_replacement.cluster.errors import ProcedureError
from kube_proxy_replacement.settings import Mode, Settings

from .fakes import FakeApi

HOST, PORT = "192.0.2.10", 6443


def config(said: str | None = "true", name: str = "cilium-config") -> dict[str, Any]:
    data = {} if said is None else {"kube-proxy-replacement": said}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def agents(
    host: str | None = HOST,
    port: str | int | None = str(PORT),
    *,
    name: str = "cilium",
    container: str = "cilium-agent",
) -> dict[str, Any]:
    env: list[dict[str, Any]] = [{"name": "K8S_NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]
    if host is not None:
        env.append({"name": "KUBERNETES_SERVICE_HOST", "value": host})
    if port is not None:
        env.append({"name": "KUBERNETES_SERVICE_PORT", "value": port})
    containers = [{"name": "sidecar"}, {"name": container, "env": env}]
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name},
        "spec": {"template": {"spec": {"containers": containers}}},
    }


def otherwise(*rendered: dict[str, Any], mode: Mode = "replace") -> str | None:
    return rendering.otherwise(rendered, Settings(mode=mode), HOST, PORT)


class TestOtherwise:
    @pytest.mark.parametrize(("mode", "said"), [("replace", "true"), ("coexist", "false")])
    def test_what_is_relied_on_is_relied_on(self, mode: Mode, said: str) -> None:
        assert otherwise(agents(), config(said), config("x", name="other"), mode=mode) is None

    def test_a_port_may_be_a_number(self) -> None:
        assert otherwise(agents(port=PORT), config()) is None

    @pytest.mark.parametrize(
        ("mode", "said"),
        [("replace", "false"), ("coexist", "true"), ("replace", "strict"), ("replace", "True"), ("replace", None)],
    )
    def test_another_replacement_is_told(self, mode: Mode, said: str | None) -> None:
        reason = otherwise(agents(), config(said), mode=mode)
        assert reason is not None
        assert f"kube-proxy-replacement: {said!r}" in reason
        assert f"mode {mode} needs" in reason
        assert "Nothing was changed" in reason

    def test_no_configuration_is_told(self) -> None:
        assert "kube-proxy-replacement: None" in str(otherwise(agents()))

    def test_a_configuration_without_data_is_told(self) -> None:
        assert "kube-proxy-replacement: None" in str(otherwise(agents(), config() | {"data": None}))

    def test_another_object_of_the_configuration_s_name_is_none(self) -> None:
        assert "kube-proxy-replacement: None" in str(otherwise(agents(), config() | {"kind": "Secret"}))

    @pytest.mark.parametrize(
        ("its", "given"),
        [
            (agents(host="10.96.0.1"), "10.96.0.1:6443"),
            (agents(port="443"), f"{HOST}:443"),
            (agents(host=None, port=None), "None:None"),
        ],
    )
    def test_another_api_server_is_told(self, its: dict[str, Any], given: str) -> None:
        reason = otherwise(its, config())
        assert reason is not None
        assert given in reason
        assert f"not {HOST}:{PORT}" in reason
        assert "apiServerHost" in reason
        assert "Nothing was changed" in reason

    @pytest.mark.parametrize(
        "its",
        [
            (),
            (agents(name="cilium-envoy"),),
            (agents(container="agent"),),
            (agents() | {"kind": "Deployment"},),
            (agents() | {"spec": None},),
        ],
    )
    def test_no_agents_are_told(self, its: tuple[dict[str, Any], ...]) -> None:
        reason = otherwise(*its, config())
        assert reason is not None
        assert "no agents" in reason
        assert "Nothing was changed" in reason


@pytest.fixture
def helm(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The Kubernetes plugin: gives the list's first item, or raises it, and notes there what it was asked."""
    said: list[Any] = []

    async def invoke(token: str, arguments: dict[str, Any], opts: Any) -> Any:
        answer = said.pop(0)
        said.append((token, json.loads(arguments["jsonOpts"])))
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(pulumi.runtime, "invoke_async", invoke)
    return said


def demand(**settings: Any) -> None:
    asyncio.run(
        rendering.demand(Settings(mode="replace", **settings), {"a": {"b": 1}}, HOST, PORT, pulumi.InvokeOptions())
    )


@pytest.fixture
def rights_of(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    api = FakeApi()
    monkeypatch.setattr(Api, "connect", lambda *_: api)
    return api


class TestDemand:
    def test_what_can_be_relied_on_passes(self, helm: list[Any], rights_of: FakeApi) -> None:
        rights_of.allowed = lambda verb, resource, **_: True
        helm.append({"result": [config(), agents()]})
        demand()
        assert ("MAY", "create daemonsets") in rights_of.calls

    def test_what_can_not_be_relied_on_is_an_error_of_the_run(self, helm: list[Any], rights_of: FakeApi) -> None:
        helm.append({"result": [config("false"), agents()]})
        with pytest.raises(pulumi.RunError, match="kube-proxy-replacement: 'false'"):
            demand()
        assert rights_of.calls == []

    def test_a_right_that_is_missing_for_it_is_one_too(self, helm: list[Any], rights_of: FakeApi) -> None:
        rights_of.allowed = lambda verb, resource, **_: (verb, resource) != ("create", "daemonsets")
        helm.append({"result": [config(), agents()]})
        with pytest.raises(pulumi.RunError, match="may not create daemonsets in namespace kube-system"):
            demand()

    def test_what_is_in_its_way_is_one_too(self, helm: list[Any], rights_of: FakeApi) -> None:
        rights_of.put({**config(), "metadata": {"name": "cilium-config", "namespace": "kube-system"}})
        helm.append({"result": [config(), agents()]})
        with pytest.raises(pulumi.RunError, match="configmaps kube-system/cilium-config"):
            demand()

    def test_a_chart_that_can_not_be_rendered_is_told_in_helm_s_words_alone(
        self, helm: list[Any], rights_of: FakeApi
    ) -> None:
        helm.append(Exception("invoke of kubernetes:helm:template returned an error: template: x.yaml:3: nil pointer"))
        with pytest.raises(
            pulumi.RunError, match=r"nothing was changed\. Helm says: template: x\.yaml:3: nil pointer$"
        ):
            demand()

    def test_a_program_s_own_mocks_render_nothing(self, helm: list[Any], rights_of: FakeApi) -> None:
        helm.append({})
        demand()
        assert rights_of.calls == []

    @pytest.mark.parametrize(
        ("chart", "where"),
        [
            ("", {"chart": "cilium", "fetch_opts": {"repo": "https://helm.cilium.io"}}),
            ("https://charts.example/x", {"chart": "cilium", "fetch_opts": {"repo": "https://charts.example/x"}}),
            ("oci://quay.io/cilium/charts/cilium", {"chart": "oci://quay.io/cilium/charts/cilium"}),
            ("./charts/mine", {"path": "charts", "chart": "mine"}),
            ("/srv/cilium-1.18.6.tgz", {"path": "/srv", "chart": "cilium-1.18.6.tgz"}),
            ("mine", {"path": ".", "chart": "mine"}),
        ],
    )
    def test_what_is_rendered_is_what_will_be_installed(
        self, helm: list[Any], rights_of: FakeApi, chart: str, where: dict[str, Any]
    ) -> None:
        helm.append({"result": [config(), agents()]})
        demand(chart=chart, cilium_version="1.18.6", namespace="network", release_name="mesh")
        token, told = helm[0]
        assert token == "kubernetes:helm:template"
        assert told == {
            **where,
            "version": "1.18.6",
            "namespace": "network",
            "release_name": "mesh",
            "values": {"a": {"b": 1}},
        }


def test_every_missing_right_is_named(rights_of: FakeApi) -> None:
    rights_of.allowed = lambda verb, resource, **_: resource not in ("daemonsets", "configmaps")
    with pytest.raises(ProcedureError) as caught:
        rendering.demand_way([config(), agents()], Settings(mode="replace", namespace="network"), preview=False)
    for words in rights.words(rights.installing([config(), agents()], "network")):
        assert f"may not {words}" in str(caught.value)


def test_a_preview_names_what_an_up_would_lack(rights_of: FakeApi) -> None:
    """The steps' own rights too: nobody else asks for them in a preview."""
    rights_of.allowed = lambda verb, resource, **_: verb in ("get", "list")
    said = rendering.demand_way([config(), agents()], Settings(mode="replace", namespace="network"), preview=True)
    assert "may not create, patch, delete configmaps" not in said  # a `create` can't be held to a name
    for words in ("may not create configmaps in namespace kube-system", "may not delete daemonsets (kube-proxy)"):
        assert any(its.startswith(words) for its in said), words
    assert any("cilium-config" in its and its.endswith("in namespace network") for its in said)
    assert rights_of.changes() == []


def test_who_may_not_look_leaves_what_is_in_the_way_to_the_up(rights_of: FakeApi) -> None:
    rights_of.allowed = lambda verb, resource, **_: verb == "list"
    assert rendering.demand_way([config(), agents()], Settings(mode="replace"), preview=True)
    assert [call for call in rights_of.calls if call[0] == "GET"] == []


@pytest.mark.parametrize("preview", [True, False])
def test_who_may_look_is_told_what_is_in_the_way(rights_of: FakeApi, preview: bool) -> None:
    rights_of.put({**config(), "metadata": {"name": "cilium-config", "namespace": "kube-system"}})
    with pytest.raises(ProcedureError, match="configmaps kube-system/cilium-config"):
        rendering.demand_way([config(), agents()], Settings(mode="replace"), preview=preview)


def test_what_is_in_the_way_never_keeps_kube_proxy_from_being_restored(rights_of: FakeApi) -> None:
    rights_of.put({**config(), "metadata": {"name": "cilium-config", "namespace": "kube-system"}})
    assert rendering.demand_way([config(), agents()], Settings(mode="coexist"), preview=False) == []
