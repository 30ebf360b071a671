"""Debian packages that real nodes and their images are made of, in folders of our own.

They aren't installed: apt, with no memory of the machine's own packages, says what is needed from nothing on and
downloads it by the machine's sources and keys; each package is then unpacked, and none of its scripts is run. What
those would do, and is needed, is done here: links that packages leave to update-alternatives, the first users.

Sources: apt.conf(5), apt-get(8), dpkg-deb(1); Debian's base-passwd for the ids.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local.toolchain.errors import ToolchainError
from local.toolchain.processes import end_with_parent

NAME: Final = "debian"
HOW: Final = "downloading about 140 MB of packages by apt, and unpacking them, about half a minute"

_BASE: Final = (
    "bash", "coreutils", "sed", "grep", "findutils", "mawk", "util-linux", "mount", "iptables", "nftables", "iproute2",
    "conntrack", "ipset", "ethtool", "kmod", "procps", "bpftool", "python3",
)  # fmt: skip
_MORE: Final = (
    "containerd", "runc", "containernetworking-plugins", "ipvsadm", "tcpdump",
    "libclang-cpp19", "libclang-common-19-dev",
)  # fmt: skip
_ALONE: Final = ("clang-19",)
"""Without what they depend on: what compiles for eBPF needs no C library, linker or assembler."""

_LEFT_OUT: Final = ("doc", "man", "locale", "info", "lintian", "bash-completion", "bug", "perl", "gcc", "zsh")
_MERGED: Final = ("bin", "sbin", "lib", "lib64")
_LINKS: Final = {
    "usr/bin/sh": "bash",
    "usr/bin/awk": "mawk",
    "usr/bin/clang": "../lib/llvm-19/bin/clang",
    "var/run": "../run",
    **{
        f"usr/sbin/{family}tables{what}": "xtables-nft-multi"
        for family in ("ip", "ip6")
        for what in ("", "-save", "-restore")
    },
}
_FOLDERS: Final = {"dev": 0o755, "etc": 0o755, "opt": 0o755, "proc": 0o755, "root": 0o700, "run": 0o755, "sys": 0o755,
    "tmp": 0o1777, "usr/lib/modules": 0o755, "var/lib": 0o755, "var/log": 0o755, "var/tmp": 0o1777}  # fmt: skip
_TEXTS: Final = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}

# A machine's settings for apt may name commands that it runs after its work, some of which clean the machine's own
# cache. They are read before these: what is said last holds.
SETTINGS: Final = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Post-Invoke;
Dir::State "{work}/state";
Dir::State::lists "{work}/state/lists";
Dir::State::status "{work}/status";
Dir::State::extended_states "{work}/state/extended_states";
Dir::Cache "{work}/cache";
Dir::Cache::archives "{work}/cache/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Log "{work}";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
"""
_LINES_SHOWN: Final = 12
_AT_A_TIME: Final = 2
_LINKS_AT_MOST: Final = 20
_MACHINES_SETTINGS: Final = Path("/etc/apt")
_LOADER: Final = "/lib64/ld-linux-x86-64.so.2"
_LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"


@dataclass(frozen=True)
class Debian:
    """Packages, unpacked."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def base(self) -> Path:
        """A root with a shell, iptables, Python and so on: what images have in common."""
        return self.folder / "base"

    @property
    def more(self) -> Path:
        """What lies over it: containerd, CNI plugins, clang."""
        return self.folder / "more"

    @property
    def packages(self) -> str:
        """What it is made of: the packages' file names with their versions, and the hash of each."""
        return (self.folder / "packages").read_text()

    @property
    def extensions(self) -> Path:
        """What iptables' programs are told by XTABLES_LIBDIR."""
        return self.base / _LIBRARIES / "xtables"

    def path(self, name: str) -> Path:
        """Where the file is that has this absolute name in these roots; raises FileNotFoundError."""
        for _ in range(_LINKS_AT_MOST):
            here = next((root / name.lstrip("/") for root in self._roots if _is_there(root / name.lstrip("/"))), None)
            if here is None:
                break
            if not here.is_symlink():
                return here
            name = os.path.normpath(Path(name).parent / here.readlink())
        raise FileNotFoundError(f"{name} isn't in {self.folder}")

    def command(self, name: str) -> list[str]:
        """What runs a program on this very machine, with its own libraries rather than the machine's."""
        # Under its own name, which some programs go by.
        return [*self._loaded, "--argv0", Path(name).name, str(self.path(name))]

    def libraries(self, name: str) -> list[str]:
        """The libraries that a program loads, by their names in these roots."""
        said = subprocess.run(
            [*self._loaded, "--list", str(self.path(name))], capture_output=True, text=True, check=True
        ).stdout
        found = re.findall(r"(/\S+) \(0x", said)
        return [path.removeprefix(str(root)) for path in found for root in self._roots if path.startswith(f"{root}/")]

    @property
    def _roots(self) -> tuple[Path, Path]:
        return self.more, self.base

    @property
    def _loaded(self) -> list[str]:
        libraries = ":".join(str(root / _LIBRARIES) for root in self._roots)
        return [str(self.path(_LOADER)), "--library-path", libraries]


def folder(cache: Path) -> Path:
    """Where the packages are once they are unpacked."""
    made_of = (_BASE, _MORE, _ALONE, _LEFT_OUT, _LINKS, _FOLDERS, _TEXTS, _release(), platform.machine())
    return cache / f"{NAME}-{_release()}-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:12]}"


def bring(into: Path, log: Path) -> None:
    """Download and unpack all of it into a folder that ``build_once`` has made.

    Raises:
        ToolchainError: apt hasn't got a package, or there is no apt.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    work = into / ".work"
    apt = _Apt(work, log)
    base = apt.download(*_BASE)
    everything = apt.download(*_BASE, *_MORE, alone=_ALONE)
    (into / "packages").write_text("".join(f"{_sha256(file)} {file.name}\n" for file in everything))
    for root, files in ((into / "base", base), (into / "more", [file for file in everything if file not in base])):
        _unpack(files, root, log)
    for name, mode in _FOLDERS.items():
        (into / "base" / name).mkdir(parents=True, exist_ok=True)
        (into / "base" / name).chmod(mode)
    for name, goal in _LINKS.items():
        root = into / ("base" if _is_there(into / "base" / Path(name).parent / goal) else "more")
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir() and not place.is_symlink():
            place.rmdir()  # base-files has /var/run as a folder, which a machine's start replaces
        place.unlink(missing_ok=True)
        place.symlink_to(goal)
    for name, text in _TEXTS.items():
        (into / "base" / name).write_text(text)
    shutil.rmtree(work)


class _Apt:
    """apt with folders of its own: it reads the machine's sources, keys and settings, and writes nothing there."""

    def __init__(self, work: Path, log: Path) -> None:
        if missing := [name for name in ("apt-get", "dpkg-deb", "tar") if shutil.which(name) is None]:
            raise ToolchainError(f"{', '.join(missing)} isn't on the PATH: real nodes are made of Debian's packages")
        self._log = log
        self._archives = work / "cache" / "archives"
        for folder in (work / "state" / "lists" / "partial", self._archives / "partial", work / "settings"):
            folder.mkdir(parents=True)
        (work / "status").touch()
        parts = sorted(path for path in _MACHINES_SETTINGS.glob("apt.conf.d/*") if path.is_file())
        # Files are read by their names' order.
        for number, part in enumerate([*parts, _MACHINES_SETTINGS / "apt.conf"]):
            if part.is_file():
                (work / "settings" / f"{number:04d}-{part.name}").symlink_to(part)
        (work / "settings" / "9999-own").write_text(SETTINGS.format(work=work))
        (work / "first").write_text(f'Dir::Etc::main "/dev/null";\nDir::Etc::parts "{work}/settings";\n')
        self._environment = os.environ | {"APT_CONFIG": str(work / "first"), "DEBIAN_FRONTEND": "noninteractive"}
        # Of several sources one may be gone: what matters is whether the packages can be had from the others.
        self._apt("update")

    def download(self, *names: str, alone: Sequence[str] = ()) -> list[Path]:
        """The files of packages and of all that they depend on, and of some without that."""
        self._must("install", "--yes", "--download-only", "--no-install-recommends", *names)
        if alone:
            self._must("download", *alone)
        return sorted(self._archives.glob("*.deb"))

    def _must(self, *arguments: str) -> None:
        if self._apt(*arguments):
            last = "\n".join(f"  {line}" for line in self._log.read_text(errors="replace").splitlines()[-_LINES_SHOWN:])
            raise ToolchainError(
                f"Debian's packages can't be had, `apt-get {arguments[0]}` failed. The last lines of "
                f"its output:\n{last}\nThe whole of it: {self._log}"
            )

    def _apt(self, *arguments: str) -> int:
        with self._log.open("ab") as log:
            return subprocess.run(
                ["apt-get", "--quiet", *arguments],  # noqa: S607 - it is the machine's own
                cwd=self._archives,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
                preexec_fn=end_with_parent(),
            ).returncode


def _unpack(files: Sequence[Path], root: Path, log: Path) -> None:
    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        list(pool.map(lambda file: _unpack_one(file, root, log), files))


def _unpack_one(file: Path, root: Path, log: Path) -> None:
    tar = ["tar", "--extract", "--directory", str(root), "--keep-directory-symlink"]
    tar += [f"--exclude=./usr/share/{name}/*" for name in _LEFT_OUT]
    with log.open("ab") as output:
        source = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(file)], stdout=subprocess.PIPE, stderr=output)  # noqa: S607
        code = subprocess.run(tar, stdin=source.stdout, stdout=output, stderr=output, check=False).returncode
    if source.wait() or code:
        raise ToolchainError(f"{file.name} can't be unpacked; see {log}")


def _release() -> str:
    return re.sub(r"[^a-z0-9.]", "", platform.freedesktop_os_release().get("VERSION_CODENAME", "").lower())


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_there(path: Path) -> bool:
    return path.is_symlink() or path.exists()
