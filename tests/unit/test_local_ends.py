"""Which of a clone's two clusters `down`, `down-real` and `clean` end, and what they leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from local import __main__ as local_main
from local import clone, lock, removal
from local.real import ending


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone's own folder, with the state of a stack and a folder of real nodes."""
    its = tmp_path / ".local"
    (its / "state").mkdir(parents=True)
    (its / "real" / "logs").mkdir(parents=True)
    for module, names in (
        (clone, ("FOLDER", "REAL", "RECORDS")),
        (removal, ("FOLDER", "REAL", "ROOT", "STACK_FILE")),
        (lock, ("FOLDER",)),
    ):
        places = {
            "FOLDER": its,
            "REAL": its / "real",
            "RECORDS": its / "cluster" / "run",
            "ROOT": tmp_path,
            "STACK_FILE": tmp_path / "stack.yaml",
        }
        for name in names:
            monkeypatch.setattr(module, name, places[name])
    return its


def test_down_leaves_the_real_nodes_alone(folder: Path) -> None:
    assert removal.run("down") == 0
    assert not (folder / "state").exists()
    assert (folder / "real" / "logs").exists()


def test_down_real_leaves_the_other_cluster_alone(folder: Path) -> None:
    ending.remove(folder / "real", lambda _: None)
    assert removal.run("down-real") == 0
    assert (folder / "state").exists()
    assert not (folder / "real").exists()


def test_nothing_is_left_when_both_are_gone(folder: Path) -> None:
    ending.remove(folder / "real", lambda _: None)
    removal.run("down")
    removal.run("down-real")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("command", "simulated", "real"), [("down", True, False), ("down-real", False, True), ("clean", True, True)]
)
def test_each_command_knows_what_it_ends(folder: Path, command: str, *, simulated: bool, real: bool) -> None:
    assert local_main._is_to_be_ended(command) is real
    (folder / "real" / "logs").rmdir()
    (folder / "real").rmdir()
    assert not local_main._is_to_be_ended(command)
    (folder / "cluster" / "run").mkdir(parents=True)
    (folder / "cluster" / "run" / "etcd").touch()
    assert local_main._is_to_be_ended(command) is simulated
