from __future__ import annotations

import pytest

from kube_proxy_replacement.cluster.errors import ApiError, ProcedureError
from kube_proxy_replacement.cluster.identity import cluster_uid

from .fakes import FakeApi, forbidden, namespace

KUBE_SYSTEM = "/api/v1/namespaces/kube-system"


def test_the_uid_of_kube_system_names_the_cluster() -> None:
    api = FakeApi().put(namespace("default", "a"), namespace("kube-system", "b"))
    assert cluster_uid(api) == "b"


@pytest.mark.parametrize("objects", [{}, {KUBE_SYSTEM: {"metadata": {}}}])
def test_what_has_no_kube_system_is_no_cluster(objects: dict[str, dict[str, object]]) -> None:
    with pytest.raises(ProcedureError, match=r"https://10\.0\.0\.1:6443 has no namespace kube-system"):
        cluster_uid(FakeApi(objects))


def test_a_missing_right_is_not_taken_for_a_missing_namespace() -> None:
    api = FakeApi()
    api.errors["GET", KUBE_SYSTEM] = forbidden(KUBE_SYSTEM)
    with pytest.raises(ApiError) as caught:
        cluster_uid(api)
    assert caught.value.status == 403
