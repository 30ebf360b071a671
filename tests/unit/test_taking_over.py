"""An adopted release: recorded first, upgraded with its owner's values under ours, given his alone again."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kube_proxy_replacement import upgrading
from kube_proxy_replacement.cluster import helm_chart, helm_release, order, owner, record, rollout, taking_over
from kube_proxy_replacement.cluster.api import Api
from kube_proxy_replacement.cluster.errors import LockError, ProcedureError
from kube_proxy_replacement.cluster.helm import Helm
from kube_proxy_replacement.cluster.owner import Owner
from kube_proxy_replacement.cluster.told import OURS, PUT_BACK, Order

from .fakes import FakeApi, kubeadm_objects, namespace, node
from .test_helm_release import secret

SECRET = "/api/v1/namespaces/kube-system/secrets/kube-proxy-replacement"
HIS: dict[str, Any] = {"bpf": {"none": None, "big": 2**60}, "list": [], "map": {}, "text": "é: # \u2028"}
SET: dict[str, Any] = {"kubeProxyReplacement": "true", "bpf": {"set": 1}}
BOTH: dict[str, Any] = {**HIS, "bpf": {"none": None, "big": 2**60, "set": 1}, "kubeProxyReplacement": "true"}
CHART = {
    "metadata": {"name": "cilium", "version": "1.18.6", "apiVersion": "v2"},
    "values": {"a": None, "n": 2**60},
    "schema": base64.b64encode(b"{}").decode(),
    "templates": [{"name": "templates/a.yaml", "data": base64.b64encode(b"x: {{ .Values.a }}").decode()}],
    "files": [{"name": "files/b/c.json", "data": base64.b64encode(b"[]").decode()}, {"name": "empty"}],
}
ORDER = Order(
    cluster="uid-a",
    mode="replace",
    namespace="kube-system",
    release="cilium",
    host="192.0.2.10",
    port=6443,
    image="x",
    timeout=5,
    adopted=True,
    values=SET,
)


class World(FakeApi):
    """An owner's release, and a `helm` that keeps what it is told in a new revision.

    Attributes:
        upgrades: of each, the values, the description, and the files of the chart.
    """

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.upgrades: list[tuple[dict[str, Any], str, dict[str, bytes]]] = []
        self.put(namespace("kube-system", "uid-a"), node("n1"), *kubeadm_objects().values())
        self.put(secret(1, values=HIS, chart=CHART))
        self.fails = False

    def upgrade(
        self, _: Helm, namespace: str, release: str, chart: Path, values: Path, *, description: str, timeout: float
    ) -> None:
        if self.fails:
            raise ProcedureError("`helm upgrade` failed: because")
        assert (values.stat().st_mode & 0o077, values.parent.stat().st_mode & 0o077) in ((0o044, 0), (0, 0))
        tree = json.loads(values.read_text())
        files = {str(p.relative_to(chart)): p.read_bytes() for p in chart.rglob("*") if p.is_file()}
        self.upgrades.append((tree, description, files))
        self.revision(tree, description)

    def revision(self, values: dict[str, Any], said: str = "Upgrade complete", status: str = "deployed") -> None:
        number = sum("sh.helm.release" in path for path in self.objects) + 1
        self.put(made_with(secret(number, status, values=values, chart=CHART), said))


def made_with(body: dict[str, Any], said: str) -> dict[str, Any]:
    content = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(body["data"]["release"]))))
    content["info"]["description"] = said
    packed = base64.b64encode(gzip.compress(json.dumps(content).encode()))
    body["data"]["release"] = base64.b64encode(packed).decode()
    return body


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    api = World()
    monkeypatch.setattr(Api, "connect", lambda *_, **__: api)
    monkeypatch.setattr(Helm, "find", lambda *_: Helm("helm", (3, 18)))
    monkeypatch.setattr(Helm, "upgrade", lambda *args, **more: api.upgrade(*args, **more))
    monkeypatch.setattr(rollout, "wait", lambda *_, **__: None)
    return api


def begin(world: World) -> None:
    taking_over.begin(world, ORDER, world.said.append)


class TestRecord:
    def test_his_values_are_written_and_read_back_before_the_record(self, world: World) -> None:
        begin(world)
        assert owner.read(world) == Owner("kube-system/cilium", "1.18.6", 1, HIS)
        kept = record.read(world)
        assert kept is not None
        assert (kept.adopted, kept.release) == (True, "kube-system/cilium")
        configmap = "/api/v1/namespaces/kube-system/configmaps"
        assert world.at("POST", SECRET.rpartition("/")[0]) < world.at("POST", configmap)

    def test_what_is_recorded_is_never_written_over(self, world: World) -> None:
        begin(world)
        world.revision(BOTH, OURS)
        world.calls.clear()
        begin(world)
        assert world.changes() == []
        assert owner.read(world) == Owner("kube-system/cilium", "1.18.6", 1, HIS)

    def test_what_reads_back_otherwise_stops_the_run(self, world: World) -> None:
        def altered(method: str, path: str) -> None:
            if method == "GET" and path == SECRET and SECRET in world.objects:
                world.objects[SECRET]["data"]["owner.json"] = base64.b64encode(b"{}").decode()

        world.on_call = altered
        with pytest.raises(ProcedureError, match="read back otherwise"):
            begin(world)
        assert record.read(world) is None

    def test_what_somebody_changed_is_not_believed(self, world: World) -> None:
        begin(world)
        world.objects[SECRET]["data"]["owner.json"] = base64.b64encode(b'{"values": {}}').decode()
        with pytest.raises(ProcedureError, match="checksum is wrong"):
            owner.read(world)

    def test_a_release_that_is_gone_is_not_adopted(self, world: World) -> None:
        del world.objects["/api/v1/namespaces/kube-system/secrets/sh.helm.release.v1.cilium.v1"]
        with pytest.raises(ProcedureError, match="is gone"):
            begin(world)
        assert world.changes() == []

    def test_one_of_our_own_has_no_owner(self, world: World) -> None:
        taking_over.begin(world, Order(**{**vars(ORDER), "adopted": False}), world.said.append)
        assert world.changes() == []

    def test_its_repr_says_no_value(self) -> None:
        assert "CANARY" not in repr(Owner("a/b", "1", 1, {"x": "CANARY"}))


class TestUpgrade:
    def test_his_values_under_ours_with_the_chart_that_runs(self, world: World) -> None:
        begin(world)
        upgrading.release(world, ORDER, world.said.append)
        ((values, said, files),) = world.upgrades
        assert (values, said) == (BOTH, OURS)
        assert files["templates/a.yaml"] == b"x: {{ .Values.a }}"
        assert json.loads(files["values.yaml"]) == {"a": None, "n": 2**60}
        assert {"Chart.yaml", "values.schema.json", "files/b/c.json", "empty"} <= files.keys()

    def test_what_is_done_is_not_done_again_but_a_repair_is(self, world: World) -> None:
        begin(world)
        for mark in ("", "", "abc", "abc"):
            upgrading.release(world, Order(**{**vars(ORDER), "mark": mark}), world.said.append)
        assert [said for _, said, _ in world.upgrades] == [OURS, f"{OURS}, repair abc"]

    def test_what_he_has_changed_is_recorded_before_it_is_given_back_to_him(self, world: World) -> None:
        begin(world)
        world.revision(BOTH, OURS)
        world.revision(BOTH | {"mtu": 9000, "kubeProxyReplacement": "false"})
        world.fails = True
        with pytest.raises(ProcedureError):
            upgrading.release(world, ORDER, world.said.append)
        assert owner.read(world) == Owner("kube-system/cilium", "1.18.6", 3, HIS | {"mtu": 9000})
        world.fails = False
        upgrading.release(world, ORDER, world.said.append)
        assert world.upgrades[-1][0] == BOTH | {"mtu": 9000}

    def test_helm_is_not_started_where_the_lock_is_lost(self, world: World) -> None:
        begin(world)

        def lost() -> None:
            raise LockError("lost")

        world.guard = lost
        with pytest.raises(LockError):
            upgrading.release(world, ORDER, world.said.append)
        assert world.upgrades == []

    def test_without_a_record_nothing_is_upgraded_but_what_helm_has_is_recorded_first(self, world: World) -> None:
        upgrading.release(world, ORDER, world.said.append)
        kept = owner.read(world)
        assert kept is not None
        assert kept.values == HIS
        assert world.upgrades[0][0] == BOTH


class TestPutBack:
    def back(self, world: World, step: Callable[..., None] = taking_over.put_back) -> None:
        step(world, ORDER, world.said.append)

    def test_his_values_alone_at_the_version_that_runs(self, world: World) -> None:
        begin(world)
        upgrading.release(world, ORDER, world.said.append)
        self.back(world)
        values, said, _ = world.upgrades[-1]
        assert (values, said) == (HIS, PUT_BACK)

    def test_once_is_enough(self, world: World) -> None:
        begin(world)
        upgrading.release(world, ORDER, world.said.append)
        for _ in range(3):
            self.back(world)
        assert len(world.upgrades) == 2

    def test_what_he_changed_on_top_stays(self, world: World) -> None:
        begin(world)
        world.revision(BOTH, OURS)
        world.revision(BOTH | {"mtu": 9000})
        self.back(world)
        assert world.upgrades[-1][0] == HIS | {"mtu": 9000}

    def test_a_release_that_he_has_uninstalled_is_left_so(self, world: World) -> None:
        begin(world)
        world.objects = {path: body for path, body in world.objects.items() if "sh.helm.release" not in path}
        self.back(world)
        assert world.upgrades == []

    def test_destroy_never_uninstalls_it_and_takes_the_records_away(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def never(*_: Any, **__: Any) -> None:
            raise AssertionError("an owner's Cilium was uninstalled")

        monkeypatch.setattr(Helm, "uninstall", never)
        monkeypatch.setattr(helm_release, "exists", lambda *_: True)
        monkeypatch.setattr(order, "_as_found", lambda *_: None)
        begin(world)
        upgrading.release(world, ORDER, world.said.append)
        for step in (order.way_back, order.restored, order.forgotten, order.forgotten):
            self.back(world, step)
        assert world.upgrades[-1][0] == HIS
        assert (owner.read(world), record.read(world)) == (None, None)

    def test_the_record_alone_keeps_it_from_being_uninstalled(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A Command that was recorded before the adoption, or a state that knows nothing of it."""
        calls: list[str] = []
        monkeypatch.setattr(Helm, "uninstall", lambda *_, **__: calls.append("uninstall"))
        monkeypatch.setattr(helm_release, "exists", lambda *_: True)
        monkeypatch.setattr(order, "_as_found", lambda *_: None)
        monkeypatch.setattr(order, "_let_go", lambda *_: None)
        begin(world)
        order.forgotten(world, Order(**{**vars(ORDER), "adopted": False, "values": {}}), world.said.append)
        assert calls == []

    def test_the_last_step_gives_them_back_where_no_other_has(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The upgrade had failed, so its way back was never in the state."""
        monkeypatch.setattr(order, "_as_found", lambda *_: None)
        begin(world)
        upgrading.release(world, ORDER, world.said.append)
        self.back(world, order.forgotten)
        assert world.upgrades[-1][0] == HIS


class TestChart:
    def test_subcharts_which_helm_does_not_keep_are_refused(self, tmp_path: Path) -> None:
        chart = {"metadata": {"name": "cilium", "version": "1.0.0", "dependencies": [{"name": "x"}]}}
        with pytest.raises(ProcedureError, match="subcharts"):
            helm_chart.unpack(chart, tmp_path)

    @pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x"])
    def test_a_file_outside_of_it_is_refused(self, tmp_path: Path, name: str) -> None:
        chart = {"metadata": {"name": "cilium", "version": "1.0.0"}, "files": [{"name": name, "data": ""}]}
        with pytest.raises(ProcedureError, match="outside"):
            helm_chart.unpack(chart, tmp_path)

    def test_a_path_is_relative_to_the_project(self, tmp_path: Path) -> None:
        assert upgrading.place("charts/c", "", CHART, tmp_path, Path("/srv/project")) == Path("/srv/project/charts/c")

    @pytest.mark.parametrize("version", ["", "1.18.6", "v1.18.6"])
    def test_the_version_that_runs_is_not_fetched(self, tmp_path: Path, version: str) -> None:
        assert (upgrading.place("", version, CHART, tmp_path) / "Chart.yaml").is_file()

    def test_another_version_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(upgrading.chart, "fetch", lambda chart, version: f"{chart} {version}".encode())
        assert upgrading.place("", "1.18.7", CHART, tmp_path).read_bytes() == b" 1.18.7"
        assert upgrading.place("oci://r/c", "", CHART, tmp_path).read_bytes() == b"oci://r/c 1.18.6"
