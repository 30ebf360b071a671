from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pulumi.output import UNKNOWN

from kube_proxy_replacement import finding, looking
from kube_proxy_replacement.chart import ChartError
from kube_proxy_replacement.cluster import helm_release, kube_proxy, kubeadm, lease, record
from kube_proxy_replacement.cluster.errors import ApiError, KubeconfigError, LockError, ProcedureError
from kube_proxy_replacement.settings import SettingsError

from .fakes import Clock, FakeApi, kubeadm_objects, namespace, node

SECRET = "hunter2hunter2"
SEEN = looking.Found(
    cluster="uid-a",
    server="https://192.0.2.10:6443",
    api_server={"host": "192.0.2.10", "port": 6443, "source": "ConfigMap kube-system/kube-proxy"},
    pod_addresses={"ipam": {"mode": "kubernetes"}},
    image="quay.io/cilium/cilium:v1.18.6",
    mark="",
    findings=[],
    unreadable=[],
    restart=[],
    backed_up=True,
    notes=["agents reach the API server at 192.0.2.10:6443"],
)
RUN, NEXT = "project/dev/1", "project/dev/2"
RECORD = "/api/v1/namespaces/kube-system/configmaps/kube-proxy-replacement"


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A look that finds SEEN, or raises what is put into the list; it notes there what it was asked."""
    asked: list[Any] = []

    def answer(settings: dict[str, Any], before: dict[str, Any], folder: Path, *, preview: bool) -> looking.Found:
        if asked and isinstance(asked[-1], Exception):
            raise asked[-1]
        asked.append((settings, before, folder, preview))
        return SEEN

    monkeypatch.setattr(looking, "look", answer)
    return asked


def recorded(**changes: Any) -> dict[str, Any]:
    """What a run has recorded, and what the next check gives, but for the changes."""
    return {"mode": "replace", **SEEN.as_inputs(), "run": RUN, "__provider": "name", **changes}


class TestCheck:
    def test_what_was_found_stands_beside_the_settings(self, look: list[Any]) -> None:
        given = {"mode": "replace", "kubeconfig": SECRET, "chart": None, "cluster": None, "run": "7"}
        result = finding.check({}, given)
        assert result.failures == []
        assert result.inputs == {"mode": "replace", "kubeconfig": SECRET, "run": "7", **SEEN.as_inputs()}

    def test_the_look_is_told_the_settings_the_last_run_and_the_program_s_folder(
        self, look: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        before = recorded()
        finding.check(before, {"mode": "replace", "cluster": None, "mark": None, "__provider": "name"})
        assert look == [({"mode": "replace"}, before, tmp_path, False)]

    @pytest.mark.parametrize(
        "error", [SettingsError([f"values.a: {SECRET!r} isn't true"]), ProcedureError(f"values.a: {SECRET}")]
    )
    def test_what_its_owner_has_encrypted_is_not_quoted(self, look: list[Any], error: Exception) -> None:
        look.append(error)
        inputs = {"mode": "replace", "values": {"a": SECRET}}
        for veiled in (True, False):
            reasons = [failure.reason for failure in finding.check({}, {**inputs, "veiled": veiled}).failures]
            assert (SECRET in str(reasons)) is not veiled

    def test_what_its_owner_has_encrypted_is_not_told(self, look: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        told = replace(SEEN, notes=[f"note {SECRET}"], findings=[f"cilium-config was edited (a: {SECRET!r})"])
        monkeypatch.setattr(looking, "look", lambda *_, **__: told)
        result = finding.check({}, {"mode": "replace", "values": {"a": SECRET}, "veiled": True})
        assert result.inputs["findings"] == ["cilium-config was edited (a: '[secret]')"]
        assert result.inputs["notes"] == ["note [secret]"]
        assert "veiled" not in result.inputs

    def test_notes_on_what_is_unchanged_are_told_all_the_same(
        self, look: list[Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The engine shows a plugin's lines. An unchanged resource keeps its outputs: the program can't tell them."""
        before = recorded(run="7")
        for preview, changed in ((True, {}), (False, {}), (True, {"mode": "coexist"})):
            finding.check(before, {"mode": "replace", "run": "8", "preview": preview, **changed})
            assert (SEEN.notes[0] in capsys.readouterr().out) is (preview and not changed)

    def test_a_preview_is_told_from_a_run_and_leaves_no_trace_of_it(self, look: list[Any]) -> None:
        results = [finding.check({}, {"mode": "replace", "preview": preview}) for preview in (True, False)]
        assert [asked[-1] for asked in look] == [True, False]
        assert results[0].inputs == results[1].inputs
        assert "preview" not in results[0].inputs

    @pytest.mark.parametrize(
        "unknown",
        [
            {"kubeconfig": UNKNOWN},
            {"kubeContext": UNKNOWN},
            {"values": {"a": {"b": [1, UNKNOWN]}}},
            {"loadBalancer": {"mode": UNKNOWN}},
        ],
    )
    def test_a_setting_that_is_not_known_yet_is_left_to_the_run_and_nothing_is_looked_at(
        self, look: list[Any], unknown: dict[str, Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        inputs = {"mode": "replace", "cluster": None, **unknown}
        for preview in (True, False):
            result = finding.check({}, {**inputs, "preview": preview})
            assert (result.inputs, result.failures, look) == (inputs, [], [])
            assert (f"was not looked at: {next(iter(unknown))} isn't known" in capsys.readouterr().out) is preview

    def test_where_nothing_changes_the_run_that_changed_something_last_stays(self, look: list[Any]) -> None:
        assert finding.check(recorded(), {"mode": "replace", "run": NEXT}).inputs["run"] == RUN

    @pytest.mark.parametrize(
        "before", [recorded(mark="abc"), recorded(mode="coexist"), recorded(kubeContext="prod"), recorded(run=None), {}]
    )
    def test_where_something_changes_it_is_a_run_of_its_own(self, look: list[Any], before: dict[str, Any]) -> None:
        assert finding.check(before, {"mode": "replace", "run": NEXT}).inputs["run"] == NEXT

    def test_readings_are_renewed_under_the_run_that_was(self, look: list[Any]) -> None:
        before = recorded(unreadable=["node-1"])
        now = finding.check(before, {"mode": "replace", "run": NEXT}).inputs
        assert now["run"] == RUN
        assert finding.diff(before, now).changes is True

    def test_after_another_run_on_the_cluster_everything_is_gone_through_again(
        self, look: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        superseded = replace(SEEN, superseded=True)
        monkeypatch.setattr(looking, "look", lambda *_, **__: superseded)
        now = finding.check(recorded(), {"mode": "replace", "run": NEXT}).inputs
        assert now["run"] == NEXT
        assert finding.diff(recorded(), now).changes is True

    def test_every_reason_is_a_failure_of_its_own(self, look: list[Any]) -> None:
        look.append(SettingsError(["mode: no", "chart: no"]))
        result = finding.check({}, {"mode": "x"})
        assert [failure.reason for failure in result.failures] == ["mode: no", "chart: no"]

    @pytest.mark.parametrize(
        "error",
        [
            ProcedureError("no nodes"),
            ApiError("GET /: 403 no", status=403, reason="Forbidden"),
            KubeconfigError("no context"),
            ChartError("chart", "can't be found", "Write another"),
        ],
    )
    def test_whatever_says_no_says_it_in_its_own_words(self, look: list[Any], error: Exception) -> None:
        look.append(error)
        result = finding.check({}, {"mode": "replace"})
        assert [failure.reason for failure in result.failures] == [str(error)]

    def test_no_failure_names_a_property_whose_value_pulumi_would_show(self, look: list[Any]) -> None:
        for error in (SettingsError(["a", "b"]), ProcedureError("c"), ChartError("chart", "d", "e")):
            look.append(error)
            assert {failure.property for failure in finding.check({}, {"kubeconfig": SECRET}).failures} == {""}


@pytest.fixture
def chart(tmp_path: Path) -> str:
    """The smallest chart."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: cilium\nversion: 1.18.6\n")
    (tmp_path / "values.yaml").write_text('kubeProxyReplacement: "false"\nimage: {repository: a, tag: b}\n')
    return str(tmp_path)


def content(**changes: Any) -> str:
    """A kubeconfig, with a secret in each place where one can be."""
    parts: dict[str, Any] = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": SECRET}}],
        "current-context": "x",
    }
    return json.dumps(parts | changes)


OIDC = {"auth-provider": {"name": "oidc", "config": {"client-secret": SECRET, "refresh-token": SECRET}}}


@pytest.mark.parametrize(
    "kubeconfig",
    [
        SECRET,
        f"password: *{SECRET}",
        f"password: !{SECRET} x",
        f"- {SECRET}",
        f"a: [{SECRET}",
        {"users": SECRET},
        content(contexts=SECRET),
        content(contexts=[SECRET]),
        content(contexts=[{"name": "x", "context": SECRET}]),
        content(clusters=[{"name": "c", "cluster": SECRET}]),
        content(users=SECRET),
        content(users=[{"name": "u", "user": SECRET}]),
        content(users=[{"name": "u", "token": SECRET}]),
        content(users=[{"name": "u", "user": OIDC}]),
        content(users=[{"name": "u", "user": {"token": f"{SECRET}\n{SECRET}"}}]),
        content(users=[{"name": "u", "user": {"token": f"{SECRET}–"}}]),
        content(users=[{"name": "u", "user": {"client-certificate-data": SECRET, "client-key-data": SECRET}}]),
        content(**{"current-context": ""}),
        content(**{"current-context": "y"}),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_refused_and_never_quoted(
    chart: str, kubeconfig: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(looking, "_PATIENCE", 0)
    result = finding.check({}, {"mode": "replace", "chart": chart, "kubeconfig": kubeconfig})
    assert result.failures
    assert SECRET not in "".join(failure.reason for failure in result.failures)
    printed = capfd.readouterr()
    assert SECRET not in printed.out + printed.err


class TestDiff:
    def test_a_release_that_is_gone_is_refused_until_a_refresh_has_seen_that(self) -> None:
        now = recorded(uninstalled="Helm release kube-system/cilium is gone.")
        with pytest.raises(ProcedureError, match="cilium is gone"):
            finding.diff(recorded(), now)
        assert finding.diff(recorded(refreshedWithoutRelease=True), now).changes is False

    def test_what_a_refresh_saw_is_forgotten_by_the_next_change(
        self, monkeypatch: pytest.MonkeyPatch, look: list[Any]
    ) -> None:
        monkeypatch.setattr(finding, "_locked", lambda *_: "{}")
        now = finding.check(recorded(), {"mode": "coexist", "run": NEXT}).inputs
        assert "refreshedWithoutRelease" not in finding.update(recorded(refreshedWithoutRelease=True), now).outs

    def test_the_same_is_no_change(self) -> None:
        assert finding.diff(recorded(), recorded()).changes is False

    def test_numbers_come_back_from_the_state_as_floats_and_are_no_change(self) -> None:
        state = json.loads(json.dumps(recorded(timeoutSeconds=600)), parse_int=float)
        assert finding.diff(state, recorded(timeoutSeconds=600)).changes is False

    @pytest.mark.parametrize(
        "told",
        [
            {"notes": ["else"]},
            {"findings": ["kube-proxy's DaemonSet is back"]},
            {"plan": {"what": "switch-over"}},
            {"restart": ["uid"]},
            {"server": "https://127.0.0.1:7443"},
            {"__provider": "another name"},
        ],
    )
    def test_what_is_only_told_is_no_change(self, told: dict[str, Any]) -> None:
        assert finding.diff(recorded(), recorded(**told)).changes is False

    def test_what_a_run_adds_to_the_state_is_no_change(self) -> None:
        assert finding.diff(recorded(backup="{}"), recorded()).changes is False

    @pytest.mark.parametrize(
        "changed",
        [
            {"mark": "abc"},
            {"run": NEXT},
            {"mode": "coexist"},
            {"cluster": "uid-b"},
            {"image": "other"},
            {"apiServer": {"host": "192.0.2.11", "port": 6443, "source": "ConfigMap kube-system/kube-proxy"}},
            {"podAddresses": {}},
            {"hubble": False},
            {"values": {"a": 1}},
            {"kubeconfig": "new"},
            {"kubeconfig": UNKNOWN},
        ],
    )
    def test_a_new_mark_a_setting_or_a_finding_that_is_used_is_a_change(self, changed: dict[str, Any]) -> None:
        assert finding.diff(recorded(), recorded(**changed)).changes is True

    @pytest.mark.parametrize("setting", ["values", "kubeContext", "hubble"])
    def test_a_setting_that_is_gone_is_a_change(self, setting: str) -> None:
        assert finding.diff(recorded(**{setting: "x"}), recorded()).changes is True

    def test_a_setting_that_was_none_and_is_gone_is_no_change(self) -> None:
        assert finding.diff(recorded(values=None), recorded()).changes is False

    def test_a_first_run_is_a_change(self) -> None:
        assert finding.diff({}, recorded()).changes is True


class TestRefresh:
    @pytest.fixture
    def api(self, monkeypatch: pytest.MonkeyPatch) -> FakeApi:
        api = FakeApi().put(namespace("kube-system", "uid-a"))
        self.asked: list[Any] = []

        class Connect:
            @classmethod
            def connect(cls, *given: Any) -> FakeApi:
                self.asked.append(given)
                return api

        self.exists = True
        monkeypatch.setattr(finding, "Api", Connect)
        monkeypatch.setattr(helm_release, "exists", lambda *_: self.exists)
        return api

    def test_the_state_stays_as_it_is(self, api: FakeApi) -> None:
        state = recorded(kubeconfig=SECRET, kubeContext="prod", backup="{}")
        result = finding.read("found-1", dict(state))
        assert (result.id, result.outs) == ("found-1", state)
        assert self.asked == [(SECRET, "prod")]
        assert api.changes() == []

    def test_that_helm_has_no_release_is_remembered_until_it_has_one(self, api: FakeApi) -> None:
        self.exists = False
        without = finding.read("found-1", recorded()).outs
        assert without == recorded(refreshedWithoutRelease=True)
        self.exists = True
        assert finding.read("found-1", without).outs == recorded()

    def test_another_cluster_is_refused_before_the_release_is_taken_for_gone(self, api: FakeApi) -> None:
        with pytest.raises(ProcedureError, match=r"UID uid-b \(then at https://192\.0\.2\.10:6443\).*uid-a"):
            finding.read("found-1", recorded(cluster="uid-b"))


class TestRecording:
    @pytest.fixture
    def api(self, monkeypatch: pytest.MonkeyPatch) -> FakeApi:
        """A kubeadm cluster with kube-proxy on one node."""
        objects = kubeadm_objects()
        api = FakeApi().put(namespace("kube-system", "uid-a"), node("n1"), *objects.values())

        class Connect:
            asked: tuple[Any, ...] = ()

            @classmethod
            def connect(cls, *given: Any, **_: Any) -> FakeApi:
                cls.asked = given
                return api

        monkeypatch.setattr(finding, "Api", Connect)
        self.connect = Connect
        return api

    def bare(self) -> dict[str, Any]:
        objects = kubeadm_objects()
        return {
            "daemonset": record.bare(objects["daemonset"]),
            "configmap": record.bare(objects["configmap"]),
            "kubeadm": None,
        }

    def test_the_state_has_its_own_copy_of_kube_proxy_before_anything_is_removed(self, api: FakeApi) -> None:
        outs = finding.create(recorded()).outs
        copy = json.loads(outs["backup"])
        assert {"daemonset": copy["daemonset"], "configmap": copy["configmap"]} == {
            key: self.bare()[key] for key in ("daemonset", "configmap")
        }
        assert {path for _, path in api.changes()} <= {lease.COLLECTION, lease.PATH}

    def test_the_copy_knows_what_kubeadm_will_be_told_in_this_run(self, api: FakeApi) -> None:
        """The record is written after it; without this a record that comes back from the state couldn't undo it."""
        change = json.loads(finding.create(recorded(mode="replace")).outs["backup"])["kubeadm"]
        assert not kubeadm.disabled(change["before"])
        assert kubeadm.disabled(change["after"])
        assert json.loads(finding.create(recorded(mode="coexist")).outs["backup"])["kubeadm"] is None

    def test_it_is_read_with_the_credentials_that_the_settings_give(self, api: FakeApi) -> None:
        finding.create(recorded(kubeconfig=SECRET, kubeContext="prod"))
        assert self.connect.asked == (SECRET, "prod")

    def test_what_is_recorded_is_what_was_found_with_the_notes_taken_as_told(self, api: FakeApi) -> None:
        outs = finding.create(recorded(findings=["wrong"], restart=["uid"])).outs
        assert {key: outs[key] for key in recorded()} == recorded(findings=[], notes=[], restart=["uid"])

    def test_two_creations_have_two_ids(self, api: FakeApi) -> None:
        assert finding.create(recorded()).id != finding.create(recorded()).id

    def test_after_the_removal_the_copy_is_the_record_s(self, api: FakeApi) -> None:
        kept = self.bare() | {"kubeadm": {"before": "a", "after": "b"}}
        record.write(api, record.Record(cluster="uid-a", release="kube-system/cilium", **kept))
        del api.objects[kube_proxy.DAEMONSET], api.objects[kube_proxy.CONFIGMAP]
        outs = finding.update(recorded(backup=json.dumps(self.bare())), recorded(run=NEXT)).outs
        assert json.loads(outs["backup"]) == kept

    def test_a_kube_proxy_that_was_changed_since_is_copied_as_it_is_now(self, api: FakeApi) -> None:
        before = json.dumps(self.bare())
        api.objects[kube_proxy.DAEMONSET]["spec"]["template"]["spec"]["containers"][0]["image"] = "newer"
        outs = finding.update(recorded(backup=before), recorded(run=NEXT)).outs
        copy = json.loads(outs["backup"])["daemonset"]
        assert copy["spec"]["template"]["spec"]["containers"][0]["image"] == "newer"

    def test_a_record_that_was_deleted_comes_back_from_the_state_s_copy(self, api: FakeApi) -> None:
        del api.objects[kube_proxy.DAEMONSET], api.objects[kube_proxy.CONFIGMAP]
        outs = finding.update(recorded(backup=json.dumps(self.bare())), recorded(namespace="net", run=NEXT)).outs
        kept = record.read(api)
        assert kept is not None
        assert (kept.daemonset, kept.configmap) == (self.bare()["daemonset"], self.bare()["configmap"])
        assert (kept.cluster, kept.release) == ("uid-a", "net/cilium")
        assert kept.uncleaned == {"uid-of-n1"}
        assert json.loads(outs["backup"]) == self.bare()

    def test_a_record_that_is_there_is_never_overwritten_by_the_state_s_copy(self, api: FakeApi) -> None:
        record.write(api, record.Record(cluster="uid-a", release="kube-system/cilium", uncleaned=frozenset({"x"})))
        before = api.objects[RECORD]["data"]
        finding.update(recorded(backup=json.dumps(self.bare())), recorded(run=NEXT))
        assert api.objects[RECORD]["data"] == before

    def test_a_record_that_was_changed_by_someone_is_refused(self, api: FakeApi) -> None:
        record.write(api, record.Record(cluster="uid-a", release="kube-system/cilium"))
        api.objects[RECORD]["data"]["daemonset.json"] = "{}"
        with pytest.raises(ProcedureError, match="checksum"):
            finding.update(recorded(backup=json.dumps(self.bare())), recorded(run=NEXT))

    def test_the_lock_is_taken_before_anything_is_written_and_left_to_the_program(self, api: FakeApi) -> None:
        del api.objects[kube_proxy.DAEMONSET], api.objects[kube_proxy.CONFIGMAP]
        finding.update(recorded(backup=json.dumps(self.bare())), recorded(run=NEXT))
        assert api.at("POST", lease.COLLECTION) < api.at("POST", RECORD.rpartition("/")[0])
        held = lease.read(api)
        assert held is not None
        assert lease.is_program_of(held.holder, NEXT)

    def test_while_another_run_renews_it_nothing_is_written(
        self, api: FakeApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lease, "time", clock := Clock())
        del api.objects[kube_proxy.DAEMONSET], api.objects[kube_proxy.CONFIGMAP]
        theirs = lease.take(api, "ada@laptop, run other/prod/7")
        told: list[lease.Lease] = []
        clock.on_sleep = lambda _: told.append(lease.renew(api, theirs))
        with pytest.raises(
            LockError, match=r"(?s)ada@laptop, run other/prod/7, since 1970-01-01 00:16:40 UTC.*Nothing"
        ):
            finding.update(recorded(backup=json.dumps(self.bare())), recorded(run=NEXT))
        assert RECORD not in api.objects

    def test_where_what_is_to_be_written_is_refused_the_lock_is_given_up(self, api: FakeApi) -> None:
        record.write(api, record.Record(cluster="uid-a", release="kube-system/cilium"))
        api.objects[RECORD]["data"]["daemonset.json"] = "{}"
        with pytest.raises(ProcedureError, match="checksum"):
            finding.update(recorded(), recorded(run=NEXT))
        left = lease.read(api)
        assert left is not None
        assert (left.holder, left.run) == ("", NEXT)

    def test_readings_that_are_renewed_need_no_lock(self, api: FakeApi) -> None:
        outs = finding.update(recorded(backup="{}"), recorded(unreadable=["node-1"])).outs
        assert outs["backup"] == "{}"
        assert api.calls == []

    def test_where_nothing_was_done_a_destroy_takes_away_what_the_run_has_left_of_the_lock(self, api: FakeApi) -> None:
        """It was killed before its first change."""
        lease.take(api, lease.identity(RUN))
        finding.delete(recorded(backup=json.dumps(self.bare())))
        assert lease.read(api) is None
        assert {path for _, path in api.changes()} <= {lease.COLLECTION, lease.PATH}
