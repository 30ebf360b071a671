from __future__ import annotations

from typing import Any

import pytest

from kube_proxy_replacement.cluster import in_the_way
from kube_proxy_replacement.cluster.errors import ProcedureError

from .fakes import FakeApi
from .test_helm_release import secret

LABELS = {"app.kubernetes.io/managed-by": "Helm"}


def marks(name: str = "cilium", namespace: str = "kube-system") -> dict[str, str]:
    return {"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": namespace}


def thing(kind: str, name: str, *, group: str = "", namespace: str = "kube-system", **metadata: Any) -> dict[str, Any]:
    where = {"namespace": namespace} if namespace else {}
    version = f"{group}/v1" if group else "v1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **where, **metadata}}


CONFIG = thing("ConfigMap", "cilium-config", namespace="")  # the chart names no namespace: Helm takes the release's
ROLE = thing("ClusterRole", "cilium", group="rbac.authorization.k8s.io", namespace="")
SECRETS = thing("Namespace", "cilium-secrets", namespace="")
MANIFEST = [CONFIG, ROLE, SECRETS]


def demand(api: FakeApi, *manifest: dict[str, Any]) -> None:
    in_the_way.demand_none(api, manifest or MANIFEST, "kube-system", "cilium")


def refusal(api: FakeApi, *manifest: dict[str, Any]) -> str:
    with pytest.raises(ProcedureError) as caught:
        demand(api, *manifest)
    return str(caught.value)


def test_where_there_is_nothing_nothing_is_in_the_way() -> None:
    demand(FakeApi())


@pytest.mark.parametrize("old", [thing("ConfigMap", "cilium-config"), ROLE, SECRETS])
def test_what_is_nobody_s_is_named(old: dict[str, Any]) -> None:
    said = refusal(FakeApi().put(old))
    name = {"ConfigMap": "configmaps kube-system/cilium-config", "Namespace": "namespaces cilium-secrets"}
    assert name.get(old["kind"], "clusterroles.rbac.authorization.k8s.io cilium") in said
    assert "names of 1 of its objects" in said
    assert "Nothing was changed" in said


def test_what_is_the_release_s_own_is_not() -> None:
    demand(FakeApi().put(thing("ConfigMap", "cilium-config", labels=LABELS, annotations=marks())))


@pytest.mark.parametrize(
    ("labels", "annotations"),
    [
        ({}, marks()),
        ({"app.kubernetes.io/managed-by": "kustomize"}, marks()),
        (LABELS, {}),
        (LABELS, marks(name="mesh")),
        (LABELS, marks(namespace="network")),
        (None, None),
    ],
)
def test_helm_wants_all_three_marks(labels: Any, annotations: Any) -> None:
    api = FakeApi().put(thing("ConfigMap", "cilium-config", labels=labels, annotations=annotations))
    assert "configmaps kube-system/cilium-config" in refusal(api)


def test_another_release_s_is_told_with_that() -> None:
    old = thing("ConfigMap", "cilium-config", labels=LABELS, annotations=marks("mesh", "network"))
    assert "configmaps kube-system/cilium-config (of release network/mesh)" in refusal(FakeApi().put(old))


def test_what_is_said_to_be_done_makes_it_the_release_s() -> None:
    said = refusal(FakeApi().put(SECRETS))
    for mark in (*(f"{key}={value}" for key, value in {**LABELS, **marks()}.items()), "--overwrite"):
        assert mark in said


def test_many_are_counted_and_some_named() -> None:
    things = [thing("ServiceAccount", f"its-{number:02}") for number in range(12)]
    said = refusal(FakeApi().put(*things), *things)
    assert "names of 12 of its objects" in said
    assert "its-09; …" in said
    assert "its-10" not in said


def test_a_hook_is_made_anew_by_helm_itself() -> None:
    demand(
        FakeApi().put(SECRETS), SECRETS | {"metadata": {**SECRETS["metadata"], "annotations": {"helm.sh/hook": "x"}}}
    )


class TestWithARelease:
    """It renders ServiceAccount and DaemonSet cilium, and cilium-config: see `manifest` in test_helm_release."""

    def test_helm_overwrites_what_the_revision_before_had_whatever_its_marks_say(self) -> None:
        demand(FakeApi().put(thing("ConfigMap", "cilium-config"), secret(1)))

    def test_what_is_new_in_the_chart_is_looked_at(self) -> None:
        assert "namespaces cilium-secrets" in refusal(FakeApi().put(SECRETS, secret(1)))

    def test_one_that_failed_counts_where_none_was_deployed(self) -> None:
        demand(FakeApi().put(thing("ConfigMap", "cilium-config"), secret(1, "failed")))

    def test_one_that_failed_does_not_where_one_was(self) -> None:
        api = FakeApi().put(thing("ConfigMap", "cilium-config"), secret(1, config=None), secret(2, "failed"))
        assert "configmaps kube-system/cilium-config" in refusal(api)

    def test_one_that_is_uninstalled_does_not(self) -> None:
        api = FakeApi().put(thing("ConfigMap", "cilium-config"), secret(1, "uninstalled"))
        assert "configmaps kube-system/cilium-config" in refusal(api)
