from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest
import yaml

from kube_proxy_replacement.cluster import helm_release
from kube_proxy_replacement.cluster.errors import ApiError
from kube_proxy_replacement.cluster.helm_release import HelmRelease

from .fakes import FakeApi, forbidden, made

CONFIG = {"kube-proxy-replacement": "true", "cluster-id": "0", "enable-ipv6": "false", "long": "a b\nc: d\n---\ne"}


def manifest(config: dict[str, str] | None) -> str:
    """What Helm rendered: cilium-config among other objects, each after a line with its template's name."""
    objects: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "cilium"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hubble-relay-config"}, "data": {"a": "b"}},
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "cilium"},
            "spec": {"volumes": [{"configMap": {"name": "cilium-config"}}]},
        },
    ]
    if config is not None:
        configmap = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cilium-config"}, "data": config}
        objects.append(configmap)
    return "".join(f"---\n# Source: cilium/templates/x.yaml\n{yaml.safe_dump(body)}" for body in objects)


def secret(
    revision: int,
    status: str = "deployed",
    *,
    name: str = "cilium",
    namespace: str = "kube-system",
    version: str = "1.18.6",
    config: dict[str, str] | None = CONFIG,
    values: dict[str, Any] | None = None,
    chart: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A revision as Helm keeps it: base64 of gzip of JSON, in a Secret's own base64."""
    content = {
        "name": name,
        "version": revision,
        "info": {"status": status},
        "chart": chart or {"metadata": {"name": "cilium", "version": version}},
        "manifest": manifest(config),
        "config": values or {},
    }
    packed = base64.b64encode(gzip.compress(json.dumps(content).encode()))
    return made(
        "Secret",
        f"sh.helm.release.v1.{name}.v{revision}",
        namespace=namespace,
        metadata={"labels": {"owner": "helm", "name": name, "status": status, "version": str(revision)}},
        type="helm.sh/release.v1",
        data={"release": base64.b64encode(packed).decode()},
    )


def find(*secrets: dict[str, Any]) -> HelmRelease | None:
    return helm_release.find(FakeApi().put(*secrets), "kube-system", "cilium")


class TestFind:
    def test_a_release_as_helm_keeps_it(self) -> None:
        assert find(secret(1)) == HelmRelease(
            namespace="kube-system", name="cilium", version="1.18.6", revision=1, status="deployed", config=CONFIG
        )

    def test_the_newest_revision_counts_by_number(self) -> None:
        old = [secret(number, "superseded", version="1.17.0") for number in (1, 2, 9)]
        found = find(*old, secret(10, version="1.18.6", config={"a": "new"}))
        assert found is not None
        assert (found.revision, found.version, found.config) == (10, "1.18.6", {"a": "new"})

    @pytest.mark.parametrize("status", ["failed", "pending-install", "pending-upgrade", "uninstalling"])
    def test_a_newest_revision_that_is_not_deployed_is_told_as_it_is(self, status: str) -> None:
        found = find(secret(1), secret(2, status))
        assert found is not None
        assert (found.revision, found.status) == (2, status)

    def test_an_uninstalled_release_whose_history_was_kept_is_none(self) -> None:
        assert find(secret(1, "superseded"), secret(2, "uninstalled")) is None

    def test_without_one_there_is_none(self) -> None:
        assert find() is None

    @pytest.mark.parametrize("other", [{"name": "cilium-2"}, {"namespace": "network"}])
    def test_another_name_or_namespace_is_another_release(self, other: dict[str, str]) -> None:
        assert find(secret(1, **other)) is None  # type: ignore[arg-type]

    def test_a_secret_that_is_not_helm_s_is_none(self) -> None:
        body = secret(1)
        body["metadata"]["labels"]["owner"] = "me"
        assert find(body) is None

    def test_a_chart_without_cilium_config_has_none(self) -> None:
        found = find(secret(1, config=None))
        assert found is not None
        assert found.config == {}

    def test_values_are_text_whatever_yaml_makes_of_them(self) -> None:
        found = find(secret(1, config={"a": "true", "b": "8472", "c": "", "d": "1.10", "e": "null"}))
        assert found is not None
        assert found.config == {"a": "true", "b": "8472", "c": "", "d": "1.10", "e": "null"}

    def test_a_missing_right_is_not_taken_for_no_release(self) -> None:
        path = "/api/v1/namespaces/kube-system/secrets"
        api = FakeApi()
        api.errors["LIST", path] = forbidden(path)
        with pytest.raises(ApiError, match="403"):
            helm_release.find(api, "kube-system", "cilium")
