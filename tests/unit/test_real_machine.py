"""What is noted of a machine before a cluster of real nodes, and put back after the last one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from local.real import machine


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The kernel's settings of a machine that only pretends."""
    its = dict.fromkeys(machine.SETTINGS, "1") | {"fs/inotify/max_user_instances": "128"}
    monkeypatch.setattr(machine, "setting", its.__getitem__)
    monkeypatch.setattr(machine, "_set", its.__setitem__)
    monkeypatch.setattr(machine, "_RUN", tmp_path)
    monkeypatch.setattr(machine, "_NOTE", tmp_path / "note.json")
    return its


@pytest.fixture
def clusters(tmp_path: Path) -> tuple[Path, Path]:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    return first, second


def test_settings_are_put_back_and_nothing_is_left(
    settings: dict[str, str], clusters: tuple[Path, Path], tmp_path: Path
) -> None:
    before = dict(settings)
    machine.hold_settings(clusters[0])
    assert settings["fs/inotify/max_user_instances"] == "1024"
    settings["kernel/panic"] = "10"
    machine.release_settings(clusters[0])
    assert settings == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_two_clusters_at_once_leave_what_was_before_the_first(
    settings: dict[str, str], clusters: tuple[Path, Path]
) -> None:
    before = dict(settings)
    machine.hold_settings(clusters[0])
    settings["kernel/panic"] = "10"
    machine.hold_settings(clusters[1])
    machine.release_settings(clusters[0])
    assert settings["kernel/panic"] == "10"
    assert settings["fs/inotify/max_user_instances"] == "1024"
    machine.release_settings(clusters[1])
    assert settings == before


def test_a_start_again_after_a_killed_one_keeps_the_first_note(
    settings: dict[str, str], clusters: tuple[Path, Path]
) -> None:
    before = dict(settings)
    machine.hold_settings(clusters[0])
    settings["vm/overcommit_memory"] = "0"
    machine.hold_settings(clusters[0])
    machine.release_settings(clusters[0])
    assert settings == before


def test_a_clone_that_was_removed_by_hand_holds_nothing(settings: dict[str, str], clusters: tuple[Path, Path]) -> None:
    before = dict(settings)
    machine.hold_settings(clusters[0])
    machine.hold_settings(clusters[1])
    clusters[0].rmdir()
    machine.release_settings(clusters[1])
    assert settings == before


def test_a_cluster_that_holds_nothing_puts_nothing_back(
    settings: dict[str, str], clusters: tuple[Path, Path], tmp_path: Path
) -> None:
    settings["kernel/panic"] = "10"
    machine.release_settings(clusters[0])
    assert settings["kernel/panic"] == "10"
    machine.hold_settings(clusters[1])
    machine.release_settings(clusters[0])
    assert json.loads((tmp_path / "note.json").read_text())["holders"] == [str(clusters[1])]


class TestMissing:
    def test_another_architecture(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platform.machine", lambda: "aarch64")
        assert machine.missing() == "real nodes are built for Linux on x86_64, this is Linux on aarch64"

    def test_no_root(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "_capabilities", lambda: 0)
        assert machine.missing() == "real nodes need root with CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_BPF"

    def test_no_apt(self, monkeypatch: pytest.MonkeyPatch, rights: None) -> None:
        monkeypatch.setattr("shutil.which", lambda name: None if name == "apt-get" else f"/usr/bin/{name}")
        assert machine.missing().endswith("not on the PATH: apt-get")

    def test_cgroup2_alone(self, monkeypatch: pytest.MonkeyPatch, rights: None, tmp_path: Path) -> None:
        (tmp_path / "cgroup.controllers").touch()
        monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
        monkeypatch.setattr(machine, "CGROUPS", tmp_path)
        said = machine.missing()
        assert "this machine has cgroup2 alone (boot with systemd.unified_cgroup_hierarchy=0)" in said
        assert "\n" not in said

    def test_no_ebpf(self, monkeypatch: pytest.MonkeyPatch, rights: None, tmp_path: Path) -> None:
        (tmp_path / "unified").mkdir()
        (tmp_path / "unified" / "cgroup.procs").touch()
        monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
        monkeypatch.setattr(machine, "CGROUPS", tmp_path)
        monkeypatch.setattr(machine, "_bpf", lambda: "Operation not permitted")
        assert machine.missing().endswith("the kernel answers the bpf call with «Operation not permitted»")

    @pytest.fixture
    def rights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        monkeypatch.setattr("os.geteuid", lambda: 0)
        monkeypatch.setattr(machine, "_capabilities", lambda: (1 << 41) - 1)
