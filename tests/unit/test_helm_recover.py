"""What is done to a Helm release that a killed run left pending."""

from __future__ import annotations

import base64
import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kube_proxy_replacement.cluster import helm_release
from kube_proxy_replacement.cluster.errors import ApiError, ProcedureError

from .fakes import FakeApi
from .test_helm_release import secret

SECRETS = "/api/v1/namespaces/kube-system/secrets"
FIRST, SECOND = (f"{SECRETS}/sh.helm.release.v1.cilium.v{number}" for number in (1, 2))


def payload(body: dict[str, Any]) -> dict[str, Any]:
    """What Helm reads out of its Secret."""
    unpacked: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(body["data"]["release"]))))
    return unpacked


def recover(api: FakeApi, namespace: str = "kube-system", name: str = "cilium") -> list[str]:
    said: list[str] = []
    helm_release.recover(api, namespace, name, said.append)
    return said


@pytest.mark.parametrize("status", ["pending-install", "pending-upgrade", "pending-rollback", "uninstalling"])
def test_a_pending_revision_is_marked_failed_in_label_and_payload(status: str) -> None:
    api = FakeApi().put(secret(1, "deployed"), secret(2, status))
    recover(api)
    marked = api.objects[SECOND]
    assert marked["metadata"]["labels"]["status"] == "failed"
    assert payload(marked)["info"]["status"] == "failed"
    assert status in payload(marked)["info"]["description"]


def test_the_rest_stays_as_helm_wrote_it() -> None:
    before = secret(2, "pending-upgrade")
    api = FakeApi().put(secret(1), secret(2, "pending-upgrade"))
    recover(api)
    after = api.objects[SECOND]
    assert after["type"] == "helm.sh/release.v1"
    assert after["metadata"]["labels"] == before["metadata"]["labels"] | {"status": "failed"}
    was, its = payload(before), payload(after)
    assert {**its, "info": None} == {**was, "info": None}


def test_what_else_helm_wrote_into_info_stays() -> None:
    body = secret(1, "pending-install")
    content = payload(body)
    content["info"] |= {"first_deployed": "2026-11-01T10:00:00Z", "notes": "é"}
    packed = base64.b64encode(gzip.compress(json.dumps(content).encode()))
    body["data"]["release"] = base64.b64encode(packed).decode()
    api = FakeApi().put(body)
    recover(api)
    info = payload(api.objects[FIRST])["info"]
    assert (info["first_deployed"], info["notes"]) == ("2026-11-01T10:00:00Z", "é")


def test_it_is_then_found_as_failed() -> None:
    api = FakeApi().put(secret(1, "pending-install"))
    recover(api)
    found = helm_release.find(api, "kube-system", "cilium")
    assert found is not None
    assert (found.revision, found.status) == (1, "failed")


def test_it_is_sent_with_the_resource_version_that_was_read() -> None:
    api = FakeApi().put(secret(1, "pending-install"))
    api.objects[FIRST]["metadata"]["resourceVersion"] = "4711"
    recover(api)
    ((method, path, body),) = api.bodies
    assert (method, path, body["metadata"]["resourceVersion"]) == ("PUT", FIRST, "4711")


def test_where_helm_is_at_work_after_all_nothing_is_overwritten() -> None:
    api = FakeApi().put(secret(1, "pending-install"))

    def helm_goes_on(method: str, path: str) -> None:
        if method == "PUT":
            api.objects[FIRST] = secret(1, "deployed")
            api.objects[FIRST]["metadata"]["resourceVersion"] = "2"

    api.on_call = helm_goes_on
    with pytest.raises(ApiError, match="409"):
        recover(api)
    assert api.objects[FIRST]["metadata"]["labels"]["status"] == "deployed"


def test_it_says_its_kind_though_a_list_s_items_do_not() -> None:
    api = FakeApi()
    body = secret(1, "pending-install")
    api.objects[FIRST] = body
    api.collections[SECRETS] = [{key: its for key, its in body.items() if key not in ("kind", "apiVersion")}]
    recover(api)
    assert (api.bodies[0][2]["apiVersion"], api.bodies[0][2]["kind"]) == ("v1", "Secret")


@pytest.mark.parametrize("status", ["deployed", "failed", "superseded", "uninstalled"])
def test_any_other_is_left_alone(status: str) -> None:
    api = FakeApi().put(secret(1, status))
    assert recover(api) == []
    assert api.changes() == []


def test_an_older_revision_that_is_pending_is_left_alone() -> None:
    api = FakeApi().put(secret(9, "pending-upgrade"), secret(10, "deployed"))
    assert recover(api) == []
    assert api.changes() == []


def test_another_release_is_left_alone() -> None:
    api = FakeApi().put(secret(1, "pending-install", name="mesh"), secret(1, "pending-install", namespace="network"))
    assert recover(api) == []
    assert api.changes() == []


def test_without_a_release_there_is_nothing_to_do() -> None:
    api = FakeApi()
    assert recover(api) == []
    assert api.changes() == []


def test_it_is_told() -> None:
    (said,) = recover(FakeApi().put(secret(1, "pending-install")))
    assert "kube-system/cilium" in said
    assert "pending-install" in said
    assert "marked failed" in said


class TestSomebodyElses:
    """Helm's own program on a release of ours, or on an adopted one with other values than we give it."""

    @staticmethod
    def begun(status: str, minutes: float, *, by: str = "Helm", values: dict[str, Any] | None = None) -> FakeApi:
        body = secret(2, status, values=values)
        then = (datetime.now(UTC) - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
        body["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z" if status == "uninstalling" else then
        body["metadata"]["managedFields"] = [{"manager": by, "time": then}]
        # Helm hands these on from the first revision, as seen in its own Secrets
        body["metadata"]["labels"] |= {"createdAt": "1795443866", "modifiedAt": "1795443866"}
        return FakeApi().put(secret(1), body)

    @pytest.mark.parametrize("status", ["pending-install", "pending-upgrade", "uninstalling"])
    def test_it_is_left_to_whoever_is_at_work_on_it(self, status: str) -> None:
        api = self.begun(status, 9)
        with pytest.raises(
            ProcedureError, match=rf"{status} \(revision 2\) since 2\d+-.* by Helm.*Nothing was changed"
        ):
            recover(api)
        assert api.changes() == []

    @pytest.mark.parametrize("status", ["pending-install", "pending-upgrade", "uninstalling"])
    def test_one_that_was_begun_long_ago_is_recovered(self, status: str) -> None:
        api = self.begun(status, 11)
        assert recover(api)
        assert api.objects[SECOND]["metadata"]["labels"]["status"] == "failed"

    def test_what_pulumis_plugin_has_begun_is_a_dead_run_of_ours(self) -> None:
        assert recover(self.begun("pending-upgrade", 0, by="pulumi-kubernetes"))

    def test_a_rollback_of_a_release_of_ours_is_ours(self) -> None:
        assert recover(self.begun("pending-rollback", 0))

    def test_an_adopted_one_is_ours_where_it_is_given_what_we_give_it(self) -> None:
        ours = {"kubeProxyReplacement": "true", "operator": {"affinity": None}}
        for values, is_ours in ((ours, True), ({"operator": {"affinity": None}}, False)):
            api, said = self.begun("pending-upgrade", 0, values=values), list[str]()
            try:
                helm_release.recover(api, "kube-system", "cilium", said.append, adopted=True, wanted=[ours])
            except ProcedureError:
                assert not is_ours
            assert bool(said) is is_ours

    def test_a_rollback_of_an_adopted_one_may_be_its_owners(self) -> None:
        api = self.begun("pending-rollback", 0, by="pulumi-kubernetes")
        with pytest.raises(ProcedureError, match="somebody else"):
            helm_release.recover(api, "kube-system", "cilium", lambda _: None, adopted=True)
