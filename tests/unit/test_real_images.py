from __future__ import annotations

import tempfile
from pathlib import Path

from local.real import images


def made(folder: Path) -> Path:
    (folder / "io").mkdir(parents=True)
    (folder / "layer").write_text("read only")
    (folder / "io" / "meta.db").write_text("written")
    return folder


def test_a_nodes_images_are_links_but_for_the_databases(tmp_path: Path) -> None:
    source, target = made(tmp_path / "golden"), tmp_path / "node"
    images.copy(source, target)
    assert (target / "layer").samefile(source / "layer")
    assert (target / "io" / "meta.db").read_text() == "written"
    assert not (target / "io" / "meta.db").samefile(source / "io" / "meta.db")


def test_on_another_file_system_they_are_copies(tmp_path: Path) -> None:
    source = made(tmp_path / "golden")
    # whichever of the two TMPDIR isn't on
    there = next(its for its in ("/dev/shm", "/var/tmp") if Path(its).stat().st_dev != tmp_path.stat().st_dev)
    with tempfile.TemporaryDirectory(dir=there) as other:
        images.copy(source, Path(other, "node"))
        assert Path(other, "node", "layer").read_text() == "read only"
