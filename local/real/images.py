"""Container images made from this machine's own Debian packages and our builds, imported once into a containerd.

Each node starts with a copy of that containerd's folder, made of hard links: layers and snapshots are only ever read.
"""

import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from local.cluster import network
from local.real import parts
from local.toolchain import versions
from local.toolchain.cache import Report, build_once, cache_folder

PAUSE: Final = "registry.k8s.io/pause:3.10"
KUBE_PROXY: Final = f"registry.k8s.io/kube-proxy:{network.VERSION}"
AGENT: Final = f"quay.io/cilium/cilium:v{versions.CILIUM}"
OPERATOR: Final = f"quay.io/cilium/operator-generic:v{versions.CILIUM}"
TOOLS: Final = "local/tools:1"
"""Debian with a shell, iptables and Python."""

_BASE: Final = (
    "bash", "coreutils", "sed", "grep", "findutils", "mawk", "util-linux", "mount", "iptables", "nftables", "iproute2",
    "conntrack", "ipset", "ethtool", "kmod", "procps", "python3",
)  # fmt: skip
_LEFT_OUT: Final = re.compile(r"/usr/share/(doc|man|locale|info|lintian|bash-completion|bug)/|/usr/share/(perl|gcc)")
_IPTABLES: Final = tuple(
    f"{family}{what}" for family in ("iptables", "ip6tables") for what in ("", "-save", "-restore")
)
_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SECONDS: Final = 120.0
_TYPE: Final = "application/vnd.oci.image"


@dataclass
class Layer:
    """A layer in the making: what it holds, by its path in the image."""

    files: dict[str, Path] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)

    def tree(self, source: Path, target: str) -> None:
        """Add a folder with all that is in it."""
        for path in source.rglob("*"):
            if path.is_file():
                self.files[f"{target}/{path.relative_to(source)}"] = path

    def program(self, path: Path, target: str) -> None:
        """Add a program of Debian's and the libraries that it loads, each under its own name."""
        self.files[target] = path.resolve()
        said = subprocess.run(["/usr/bin/ldd", str(path)], capture_output=True, text=True, check=True).stdout
        for found in re.findall(r"(/\S+) \(0x", said):
            self.files[_merged(found)] = Path(found).resolve()

    def write(self, file: Path) -> None:
        """As an uncompressed tar, whose bytes depend on nothing but the contents."""
        with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, mode in sorted(self.folders.items()):
                entry = _entry(name, tarfile.DIRTYPE, mode)
                tar.addfile(entry)
            for name, goal in sorted(self.links.items()):
                entry = _entry(name, tarfile.SYMTYPE, 0o777)
                entry.linkname = goal
                tar.addfile(entry)
            for name, text in sorted(self.texts.items()):
                entry = _entry(name, tarfile.REGTYPE, 0o644)
                entry.size = len(text.encode())
                tar.addfile(entry, io.BytesIO(text.encode()))
            for name, path in sorted(self.files.items()):
                entry = _entry(name, tarfile.REGTYPE, path.stat().st_mode & 0o777)
                entry.size = path.stat().st_size
                with path.open("rb") as stream:
                    tar.addfile(entry, stream)


def golden(report: Report) -> Path:
    """The folder of a containerd that holds every image."""
    node, cilium = parts.bring(parts.NODE, report), parts.bring(parts.CILIUM, report)
    key = hashlib.sha256(Path(__file__).read_bytes())
    for said in (node.name, cilium.name, *_versions(_closure([*_BASE, "clang-19", "bpftool"]))):
        key.update(said.encode())
    target = cache_folder() / f"real-images-{versions.CILIUM}-{key.hexdigest()[:12]}"
    if not target.is_dir():
        report("Container images: made from Debian's packages and our builds, about a minute")
    build_once(target, "real-images", lambda into: _make(into, node, cilium), report)
    return target


def copy(source: Path, target: Path) -> None:
    """A containerd's folder of its own with the images in it. Only the databases are real copies."""
    subprocess.run(["/usr/bin/cp", "-al", str(source), str(target)], check=True)
    for database in target.rglob("*.db"):
        content = database.read_bytes()
        database.unlink()
        database.write_bytes(content)


def _make(into: Path, node: Path, cilium: Path) -> None:
    blobs = into / ".layout" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    base = _store(blobs, _base())
    clang = _store(blobs, _clang())
    agent = _store(blobs, _agent(cilium))
    proxy = _store(blobs, Layer({"/usr/local/bin/kube-proxy": node / "kube-proxy"}))
    operator = _store(blobs, Layer({"/usr/bin/cilium-operator-generic": cilium / "cilium-operator-generic"}))
    manifests = [
        _image(blobs, PAUSE, [base], ["sleep", "infinity"]),
        _image(blobs, TOOLS, [base], ["bash"]),
        _image(blobs, KUBE_PROXY, [base, proxy], ["/usr/local/bin/kube-proxy"]),
        _image(blobs, AGENT, [base, clang, agent], ["/usr/bin/cilium-dbg"]),
        _image(blobs, OPERATOR, [base, operator], ["/usr/bin/cilium-operator-generic"]),
    ]
    layout = blobs.parent.parent
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))
    archive = into / ".images.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("oci-layout", "index.json", "blobs"):
            tar.add(layout / name, name)
    shutil.rmtree(layout)
    _import(into, archive)
    archive.unlink()


def _base() -> Layer:
    layer = _packages(_closure(_BASE))
    for name in ("bin", "sbin", "lib", "lib64"):
        layer.links[f"/{name}"] = f"usr/{name}"
    # What packages leave to update-alternatives, or to one another.
    layer.links |= {"/usr/bin/sh": "bash", "/usr/bin/awk": "mawk", "/var/run": "/run"}
    layer.links |= {f"/usr/sbin/{name}": "xtables-nft-multi" for name in _IPTABLES}
    layer.folders |= {"/tmp": 0o1777, "/root": 0o700, "/run": 0o755, "/proc": 0o755, "/sys": 0o755, "/dev": 0o755}  # noqa: S108 - in an image
    layer.folders |= {"/var/tmp": 0o1777, "/var/lib": 0o755, "/etc": 0o755}  # noqa: S108
    layer.texts |= {
        "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
        "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    }
    return layer


def _clang() -> Layer:
    layer = Layer()
    home = Path("/usr/lib/llvm-19")
    # Under its bare name, by which the agent calls it.
    layer.program(home / "bin" / "clang", f"{home}/bin/clang")
    layer.links["/usr/bin/clang"] = "../lib/llvm-19/bin/clang"
    layer.tree((home / "lib" / "clang" / "19" / "include").resolve(), f"{home}/lib/clang/19/include")
    layer.program(Path("/usr/sbin/bpftool"), "/usr/sbin/bpftool")
    return layer


def _agent(cilium: Path) -> Layer:
    names = ("agent", "dbg", "mount", "sysctlfix", "health", "health-responder")
    layer = Layer({f"/usr/bin/cilium-{name}": cilium / f"cilium-{name}" for name in names})
    layer.links["/usr/bin/cilium"] = "cilium-dbg"
    layer.files["/opt/cni/bin/cilium-cni"] = cilium / "cilium-cni"
    layer.files["/cni/loopback"] = Path("/usr/lib/cni/loopback")
    layer.tree(cilium / "bpf", "/var/lib/cilium/bpf")
    for script in ("init-container.sh", "install-plugin.sh", "cni-uninstall.sh"):
        layer.files[f"/{script}"] = cilium / script
    return layer


def _store(blobs: Path, layer: Layer) -> dict[str, object]:
    draft = blobs / "draft"
    layer.write(draft)
    with draft.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    size = draft.stat().st_size
    draft.rename(blobs / digest)
    return {"mediaType": f"{_TYPE}.layer.v1.tar", "digest": f"sha256:{digest}", "size": size}


def _image(blobs: Path, name: str, layers: Sequence[dict[str, object]], command: Sequence[str]) -> dict[str, object]:
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": [_PATH], "Cmd": list(command)},
        # Uncompressed, a layer's digest is also that of what is in it.
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
    }
    described = _json(blobs, config, f"{_TYPE}.config.v1+json")
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_TYPE}.manifest.v1+json",
        "config": described,
        "layers": list(layers),
    }
    return _json(blobs, manifest, f"{_TYPE}.manifest.v1+json") | {
        "annotations": {"io.containerd.image.name": name if "." in name.split("/")[0] else f"docker.io/{name}"}
    }


def _json(blobs: Path, content: object, kind: str) -> dict[str, object]:
    text = json.dumps(content).encode()
    digest = hashlib.sha256(text).hexdigest()
    (blobs / digest).write_bytes(text)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(text)}


def _import(root: Path, archive: Path) -> None:
    """By a containerd that has nothing but this folder, in namespaces that end with it."""
    state = root / ".state"
    state.mkdir()
    settings = state / "config.toml"
    # The socket's path may be no longer than 107 bytes; a link in /proc is always short.
    descriptor = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    socket = f"/proc/{os.getpid()}/fd/{descriptor}/s"
    settings.write_text(
        f'version = 2\nroot = "{root}"\nstate = "{state}/run"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", '
        '"io.containerd.snapshotter.v1.btrfs"]\n'
        f'[grpc]\naddress = "{state}/s"\n'
    )
    with (state / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "/usr/bin/unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "/usr/bin/containerd",
                "--config",
                str(settings),
            ],
            stdout=log,
            stderr=log,
        )
        try:
            deadline = time.monotonic() + _SECONDS
            while not (state / "s").exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"containerd didn't start: {(state / 'log').read_text()[-2000:]}")
                time.sleep(0.1)
            subprocess.run(
                ["/usr/bin/ctr", "--address", socket, "-n", "k8s.io", "images", "import", str(archive)],
                check=True,
                stdout=log,
                stderr=log,
            )
        finally:
            os.close(descriptor)
            child = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            # In order, so that its databases are whole.
            for pid in child.read_text().split() if child.exists() else []:
                os.kill(int(pid), signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    shutil.rmtree(state)


def _packages(names: Iterable[str]) -> Layer:
    layer = Layer()
    said = subprocess.run(["/usr/bin/dpkg", "-L", *names], capture_output=True, text=True, check=True).stdout
    for line in said.splitlines():
        if not line.startswith(("/usr/", "/bin/", "/sbin/", "/lib/", "/lib64/", "/etc/")) or _LEFT_OUT.search(line):
            continue
        path = Path(line)
        name = _merged(line)
        if path.is_symlink():
            layer.links[name] = str(path.readlink())
        elif path.is_file():
            layer.files[name] = path
    return layer


def _merged(name: str) -> str:
    return f"/usr{name}" if name.startswith(("/bin/", "/sbin/", "/lib/", "/lib64/")) else name


def _closure(names: Iterable[str]) -> list[str]:
    """Packages, and all that they depend on."""
    said = subprocess.run(
        ["/usr/bin/dpkg-query", "-W", "-f", "${Package}\t${Depends}, ${Pre-Depends}\t${Provides}\n"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    depends: dict[str, list[str]] = {}
    provides: dict[str, str] = {}
    for line in said.splitlines():
        package, wanted, gives = line.split("\t")
        depends[package] = re.findall(r"(?:^|, ?)\s*([a-z0-9][a-z0-9+.-]*)", wanted)
        provides |= dict.fromkeys(re.findall(r"[a-z0-9][a-z0-9+.-]*", gives), package)
    found: set[str] = set()
    queue = list(names)
    while queue:
        name = queue.pop()
        name = name if name in depends else provides.get(name, "")
        if name and name not in found:
            found.add(name)
            queue += depends[name]
    return sorted(found)


def _versions(names: Iterable[str]) -> list[str]:
    said = subprocess.run(["/usr/bin/dpkg-query", "-W", *names], capture_output=True, text=True, check=True).stdout
    return said.splitlines()


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name.lstrip("/"))
    entry.type, entry.mode, entry.mtime = kind, mode, 0
    return entry
