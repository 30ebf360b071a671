from __future__ import annotations

from typing import Any

import pytest

from kube_proxy_replacement import ownership
from kube_proxy_replacement.cluster import record
from kube_proxy_replacement.cluster.api import Api
from kube_proxy_replacement.cluster.errors import ApiError
from kube_proxy_replacement.cluster.record import Record
from kube_proxy_replacement.settings import Settings

from .fakes import FakeApi, forbidden
from .test_helm_release import secret


class World(FakeApi):
    """A fake that answers a collection to `get` too, as a list of at most `limit` items."""

    def get(self, path: str, **query: str) -> dict[str, Any]:
        if path.endswith("/secrets"):
            return {"kind": "SecretList", "items": self.list(path, **query)[: int(query.get("limit", "500"))]}
        return super().get(path, **query)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A cluster whose record says that the release kube-system/cilium is ours, and where Helm has it."""
    api = World()
    api.put(secret(1, "superseded"), secret(2))
    record.write(api, Record(cluster="uid-a", release="kube-system/cilium"))
    monkeypatch.setattr(Api, "connect", lambda *_: api)
    return api


def release_id(**settings: Any) -> str | None:
    return ownership.release_id(Settings(mode="replace", **settings))


def test_ours(world: World) -> None:
    assert release_id() == "kube-system/cilium"


def test_ours_that_was_cut_off_is_ours_too(world: World) -> None:
    world.put(secret(3, "pending-upgrade"))
    assert release_id() == "kube-system/cilium"


def test_without_a_record_it_may_be_anybody_s(world: World) -> None:
    record.remove(world)
    assert release_id() is None


@pytest.mark.parametrize("settings", [{"release_name": "mesh"}, {"namespace": "network"}])
def test_one_that_the_record_does_not_name_is_not_ours(world: World, settings: dict[str, str]) -> None:
    name, namespace = settings.get("release_name", "cilium"), settings.get("namespace", "kube-system")
    world.put(secret(1, name=name, namespace=namespace))
    assert release_id(**settings) is None


def test_one_that_helm_does_not_have(world: World) -> None:
    for number in (1, 2):
        del world.objects[f"/api/v1/namespaces/kube-system/secrets/sh.helm.release.v1.cilium.v{number}"]
    assert release_id() is None


def test_one_that_was_uninstalled_and_whose_history_was_kept(world: World) -> None:
    world.put(secret(1, "uninstalled"), secret(2, "uninstalled"))
    assert release_id() is None


def test_it_is_asked_of_the_cluster_that_the_settings_mean(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def connect(*where: Any) -> World:
        asked.append(where)
        return world

    monkeypatch.setattr(Api, "connect", connect)
    release_id(kubeconfig="content", kube_context="there")
    assert asked == [("content", "there")]


def test_a_missing_right_is_not_taken_for_no_release(world: World) -> None:
    path = "/api/v1/namespaces/kube-system/secrets"
    world.errors["LIST", path] = forbidden(path)
    with pytest.raises(ApiError, match="403"):
        release_id()


def test_looking_changes_nothing(world: World) -> None:
    world.calls.clear()
    release_id()
    assert world.changes() == []
