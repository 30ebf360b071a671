"""Debian's packages, unpacked: with an apt and a dpkg-deb that only pretend."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from local.toolchain import ToolchainError, debian
from local.toolchain.debian import Debian

APT = """\
#!/bin/sh
echo "$@" >> {calls}
cat "$APT_CONFIG" >> {calls}
case "$*" in
*update*) exit {update} ;;
*download\\ *) cp {packages}/alone.deb . ;;
*containerd*) cp {packages}/more.deb . ;;
*install*) cp {packages}/base.deb . || {{ echo "E: Unable to locate package bash" >&2; exit 100; }} ;;
esac
"""


def package(folder: Path, name: str, files: dict[str, str]) -> None:
    """What a package unpacks to, these files, and folders where a name ends in a slash; dpkg-deb only pretends."""
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / f"{name}.deb", "w") as tar:
        for path in sorted({str(parent) for file in files for parent in Path(file).parents} - {"."}):
            entry = tarfile.TarInfo(f"./{path}")
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for file, text in files.items():
            entry = tarfile.TarInfo(f"./{file}")
            entry.type, entry.mode = (tarfile.DIRTYPE, 0o755) if file.endswith("/") else (tarfile.REGTYPE, 0o644)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    package(folder, "base", {"bin/bash": "bash", "usr/share/doc/bash/README": "long", "var/run/": ""})
    package(folder, "more", {"usr/bin/containerd": "containerd", "lib/one": "1"})
    package(folder, "alone", {"usr/lib/llvm-19/bin/clang": "clang"})
    return folder


@pytest.fixture
def apt(tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What apt was called with, and its first settings each time."""
    return put_apt(tmp_path, packages, monkeypatch)


def put_apt(tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch, update: int = 0) -> Path:
    calls, programs = tmp_path / "calls", tmp_path / "programs"
    programs.mkdir()
    for name, text in (
        ("apt-get", APT.format(calls=calls, packages=packages, update=update)),
        ("dpkg-deb", '#!/bin/sh\n[ "$1" = --fsys-tarfile ] && exec cat "$2"\n'),
    ):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}/usr/bin:/bin")
    return calls


def brought(tmp_path: Path) -> Debian:
    into = tmp_path / "into"
    into.mkdir()
    debian.bring(into, tmp_path / "log")
    return Debian(into)


def test_what_is_needed_from_nothing_on_is_apart_from_what_lies_over_it(tmp_path: Path, apt: Path) -> None:
    its = brought(tmp_path)
    assert (its.base / "usr" / "bin" / "bash").read_text() == "bash"
    assert not (its.more / "usr" / "bin" / "bash").exists()
    assert its.path("/usr/bin/containerd") == its.more / "usr" / "bin" / "containerd"
    assert sorted(line.split()[1] for line in its.packages.splitlines()) == ["alone.deb", "base.deb", "more.deb"]


def test_folders_that_debian_has_merged_are_links(tmp_path: Path, apt: Path) -> None:
    its = brought(tmp_path)
    for root in (its.base, its.more):
        assert [str((root / name).readlink()) for name in ("bin", "lib")] == ["usr/bin", "usr/lib"]
    assert (its.more / "usr" / "lib" / "one").read_text() == "1"


def test_what_nobody_reads_on_a_node_is_left_out(tmp_path: Path, apt: Path) -> None:
    assert not (brought(tmp_path).base / "usr" / "share" / "doc" / "bash").exists()


def test_links_that_packages_leave_to_others_are_made(tmp_path: Path, apt: Path) -> None:
    its = brought(tmp_path)
    assert its.path("/usr/bin/sh") == its.base / "usr" / "bin" / "bash"
    assert its.path("/usr/bin/clang") == its.more / "usr" / "lib" / "llvm-19" / "bin" / "clang"
    assert (its.base / "var" / "run").readlink() == Path("../run")


def test_a_link_is_followed_in_these_roots_and_not_on_the_machine(tmp_path: Path) -> None:
    its = Debian(tmp_path)
    (its.base / "etc").mkdir(parents=True)
    (its.base / "etc" / "passwd").symlink_to("/etc/group")
    with pytest.raises(FileNotFoundError, match="/etc/group"):
        its.path("/etc/passwd")


def test_nothing_of_apts_is_left_and_nothing_of_the_machines_is_written(tmp_path: Path, apt: Path) -> None:
    its = brought(tmp_path)
    assert sorted(path.name for path in its.folder.iterdir()) == ["base", "more", "packages"]
    first = apt.read_text()
    assert 'Dir::Etc::main "/dev/null";' in first
    assert f'Dir::Etc::parts "{its.folder}/.work/settings";' in first


@pytest.mark.skipif(shutil.which("apt-config") is None, reason="there is no apt here, and so there are no real nodes")
def test_settings_that_run_commands_on_the_machine_are_undone_last(tmp_path: Path) -> None:
    """As the real apt reads them."""
    settings = tmp_path / "settings"
    settings.mkdir()
    (settings / "0001-machines").write_text('APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb"; };\n')
    (settings / "9999-own").write_text(debian.SETTINGS.format(work=tmp_path))
    (tmp_path / "first").write_text(f'Dir::Etc::main "/dev/null";\nDir::Etc::parts "{settings}";\n')
    said = subprocess.run(
        ["apt-config", "dump"],
        env=os.environ | {"APT_CONFIG": str(tmp_path / "first")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "archives/*.deb" not in said
    assert f'Dir::State::status "{tmp_path}/status";' in said


def test_a_source_that_is_gone_is_no_failure(tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_apt(tmp_path, packages, monkeypatch, update=100)
    assert brought(tmp_path).path("/bin/bash")


def test_a_package_that_cant_be_had_is_shown_with_the_log(tmp_path: Path, packages: Path, apt: Path) -> None:
    (packages / "base.deb").unlink()
    with pytest.raises(
        ToolchainError, match=r"`apt-get install` failed(?s:.*)Unable to locate package bash(?s:.*)/log"
    ):
        brought(tmp_path)


def test_without_apt_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match="apt-get, dpkg-deb, tar isn't on the PATH"):
        brought(tmp_path)
