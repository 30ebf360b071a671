from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from kube_proxy_replacement.cluster import record
from kube_proxy_replacement.cluster.errors import ApiError, ProcedureError
from kube_proxy_replacement.cluster.record import Failed, Record, bare

from .fakes import FakeApi, config_map, daemon_set, forbidden, kubeadm_objects

COLLECTION = "/api/v1/namespaces/kube-system/configmaps"
PATH = f"{COLLECTION}/kube-proxy-replacement"
REAL = kubeadm_objects()
FULL = Record(
    cluster="uid-a",
    release="kube-system/cilium",
    daemonset=bare(REAL["daemonset"]),
    configmap=bare(REAL["configmap"]),
    kubeadm={"before": REAL["kubeadm-config"]["data"]["ClusterConfiguration"], "after": "x: «é»\n"},
    uncleaned=frozenset({"uid-of-n1", "uid-of-n2"}),
)


def odd(item: dict[str, Any]) -> dict[str, Any]:
    """The object with text that a JSON or YAML round trip could change."""
    body = copy.deepcopy(item)
    body["metadata"]["annotations"] = {"a": 'é « » \\ " \u2028 \t', "number-like": "007", "yes": "no", "empty": ""}
    return body


class TestRoundTrip:
    @pytest.mark.parametrize(
        "given",
        [
            FULL,
            Record(cluster="uid-a", release="kube-system/cilium"),
            replace(FULL, daemonset=None),
            replace(FULL, configmap=None),
            replace(FULL, failed=Failed("2026-11-23T14:00:00Z", "replace", "n1: «no»", True)),
            replace(FULL, returns=("2026-11-23T14:00:00Z", "2026-11-23T15:00:00Z")),
            replace(FULL, kubeadm=None, uncleaned=frozenset()),
            replace(FULL, daemonset=bare(odd(REAL["daemonset"])), configmap=bare(odd(REAL["configmap"]))),
            replace(FULL, configmap=bare(config_map("kube-proxy", **{"config.conf": "a: 1\r\n\tb"}))),
        ],
    )
    def test_what_is_written_is_read(self, given: Record) -> None:
        api = FakeApi()
        assert record.write(api, given) == given
        assert record.read(api) == given

    def test_a_second_writing_replaces_the_first(self) -> None:
        api = FakeApi()
        record.write(api, FULL)
        later = replace(FULL, kubeadm=None, uncleaned=frozenset())
        assert record.write(api, later) == later
        assert record.read(api) == later

    @pytest.mark.parametrize("kind", ["daemonset", "configmap"])
    def test_kubeadm_s_objects_come_back_as_they_were(self, kind: str) -> None:
        """bare, written, read, created again by an API server that adds its own: bare again, it is the same."""
        api = FakeApi()
        record.write(api, replace(FULL, **{kind: bare(REAL[kind])}))
        kept = record.read(api)
        assert kept is not None
        body = getattr(kept, kind)
        made = api.create("/somewhere", body)
        made["metadata"] |= {"generation": 1, "creationTimestamp": "2026-11-23T07:35:45Z", "managedFields": [{}]}
        if kind == "daemonset":
            made["metadata"]["annotations"] = {"deprecated.daemonset.template.generation": "1"}
            made["status"] = {"desiredNumberScheduled": 3}
        assert bare(made) == bare(REAL[kind])

    def test_where_there_is_none_there_is_none(self) -> None:
        assert record.read(FakeApi()) is None

    def test_a_missing_right_is_not_taken_for_no_record(self) -> None:
        api = FakeApi()
        api.errors["GET", PATH] = forbidden(PATH)
        with pytest.raises(ApiError, match="403"):
            record.read(api)

    def test_it_is_removed(self) -> None:
        api = FakeApi()
        record.write(api, FULL)
        record.remove(api)
        assert api.objects == {}

    @pytest.mark.parametrize(
        ("given", "had"),
        [
            (FULL, True),
            (replace(FULL, configmap=None), True),
            (replace(FULL, daemonset=None), False),  # a ConfigMap that was left over routes nothing
            (replace(FULL, daemonset=None, configmap=None), False),
        ],
    )
    def test_whether_the_cluster_had_a_kube_proxy(self, given: Record, had: bool) -> None:
        assert given.had_kube_proxy is had


class TestBare:
    def test_of_a_real_daemon_set_what_the_api_server_adds_is_gone(self) -> None:
        assert bare(REAL["daemonset"])["metadata"] == {
            "name": "kube-proxy",
            "namespace": "kube-system",
            "labels": {"k8s-app": "kube-proxy"},
        }
        assert "status" not in bare(REAL["daemonset"])

    @pytest.mark.parametrize("kind", ["daemonset", "configmap"])
    def test_what_makes_the_object_is_all_there(self, kind: str) -> None:
        added = {"metadata", "status"}
        assert {k: v for k, v in bare(REAL[kind]).items() if k not in added} == {
            k: v for k, v in REAL[kind].items() if k not in added
        }

    @pytest.mark.parametrize(
        "key",
        [
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "managedFields",
            "selfLink",
            "ownerReferences",
        ],
    )
    def test_what_an_api_server_refuses_or_what_would_make_it_vanish_is_gone(self, key: str) -> None:
        item = daemon_set("kube-proxy")
        item["metadata"][key] = "something"
        assert key not in bare(item)["metadata"]

    def test_an_owner_s_annotations_stay_the_controller_s_goes(self) -> None:
        item = daemon_set("kube-proxy", annotations={"mine": "1", "deprecated.daemonset.template.generation": "4"})
        assert bare(item)["metadata"]["annotations"] == {"mine": "1"}

    def test_the_object_itself_is_not_changed(self) -> None:
        before = copy.deepcopy(REAL["daemonset"])
        bare(REAL["daemonset"])
        assert REAL["daemonset"] == before

    @pytest.mark.parametrize("kind", ["daemonset", "configmap"])
    def test_twice_is_once(self, kind: str) -> None:
        assert bare(bare(REAL[kind])) == bare(REAL[kind])


class TestTampering:
    @pytest.mark.parametrize("key", ["record.json", "daemonset.json", "configmap.json", "kubeadm.json", "sha256"])
    @pytest.mark.parametrize("text", ["null", "", '{"a": 1}'])
    def test_a_backup_that_someone_has_changed_is_refused(self, key: str, text: str) -> None:
        api = FakeApi()
        record.write(api, FULL)
        api.objects[PATH]["data"][key] = text
        with pytest.raises(ProcedureError, match=r"kube-system/kube-proxy-replacement.*checksum.*Nothing"):
            record.read(api)

    @pytest.mark.parametrize("key", ["record.json", "daemonset.json", "configmap.json", "kubeadm.json", "sha256"])
    def test_a_backup_that_lacks_a_part_is_refused(self, key: str) -> None:
        api = FakeApi()
        record.write(api, FULL)
        del api.objects[PATH]["data"][key]
        with pytest.raises(ProcedureError, match="checksum"):
            record.read(api)

    def test_two_parts_that_were_exchanged_are_refused(self) -> None:
        api = FakeApi()
        record.write(api, FULL)
        data = api.objects[PATH]["data"]
        data["daemonset.json"], data["configmap.json"] = data["configmap.json"], data["daemonset.json"]
        with pytest.raises(ProcedureError, match="checksum"):
            record.read(api)

    @pytest.mark.parametrize("data", [None, {}])
    def test_an_empty_config_map_of_that_name_is_refused(self, data: Any) -> None:
        body = config_map("kube-proxy-replacement") | {"data": data}
        with pytest.raises(ProcedureError, match="checksum"):
            record.read(FakeApi().put(body))


class TestWriting:
    def test_what_reads_back_otherwise_is_refused(self) -> None:
        api = FakeApi()

        def meddle(method: str, path: str) -> None:
            if (method, path) == ("GET", PATH):
                api.objects[PATH]["data"]["daemonset.json"] = "null"

        api.on_call = meddle
        with pytest.raises(ProcedureError, match=r"reads back otherwise.*Nothing was removed"):
            record.write(api, FULL)

    def test_it_is_read_back_after_it_was_written(self) -> None:
        api = FakeApi()
        record.write(api, FULL)
        assert api.at("POST", COLLECTION) < api.at("GET", PATH)

    @pytest.mark.parametrize("key", ["uncleaned.json", "sha256", "record.json"])
    def test_a_key_that_is_lost_on_the_way_is_noticed(self, key: str) -> None:
        api = FakeApi()

        def lose(method: str, path: str) -> None:
            if (method, path) == ("GET", PATH):
                api.objects[PATH]["data"].pop(key)

        api.on_call = lose
        with pytest.raises(ProcedureError, match="reads back otherwise"):
            record.write(api, FULL)

    def test_a_key_of_someone_else_in_it_does_no_harm(self) -> None:
        api = FakeApi()
        record.write(api, FULL)
        api.objects[PATH]["data"]["note"] = "mine"
        assert record.write(api, replace(FULL, uncleaned=frozenset())) == replace(FULL, uncleaned=frozenset())

    def test_a_refused_writing_is_not_taken_for_one_that_was_there(self) -> None:
        api = FakeApi()
        api.errors["POST", COLLECTION] = forbidden(COLLECTION)
        with pytest.raises(ApiError, match="403"):
            record.write(api, FULL)

    def test_every_value_is_text_as_a_config_map_takes_it(self) -> None:
        api = FakeApi()
        record.write(api, FULL)
        assert all(isinstance(value, str) for value in api.objects[PATH]["data"].values())

    def test_its_names_are_those_in_people_s_clusters(self) -> None:
        api = FakeApi()
        record.write(api, FULL)
        assert list(api.objects) == [PATH]
        assert set(api.objects[PATH]["data"]) == {
            "record.json",
            "daemonset.json",
            "configmap.json",
            "kubeadm.json",
            "sha256",
            "uncleaned.json",
        }


def test_a_list_of_nodes_that_someone_has_changed_is_refused_in_words() -> None:
    api = FakeApi()
    record.write(api, FULL)
    api.objects[PATH]["data"]["uncleaned.json"] = "oops"
    with pytest.raises(ProcedureError, match="kube-system/kube-proxy-replacement"):
        record.read(api)
