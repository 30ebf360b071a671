"""Container images made from Debian's packages and our builds, imported once into a containerd.

Each node starts with a copy of that containerd's folder, made of hard links: layers and snapshots are only ever read.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from local.cluster import network
from local.cluster.errors import ClusterError
from local.toolchain import Toolchain, versions
from local.toolchain.cache import Report, build_once, cache_folder
from local.toolchain.debian import Debian
from local.toolchain.processes import end_with_parent

PAUSE: Final = "registry.k8s.io/pause:3.10"
KUBE_PROXY: Final = f"registry.k8s.io/kube-proxy:{network.VERSION}"
AGENT: Final = f"quay.io/cilium/cilium:v{versions.CILIUM}"
OPERATOR: Final = f"quay.io/cilium/operator-generic:v{versions.CILIUM}"
TOOLS: Final = "local/tools:1"
"""Debian with a shell, iptables and Python."""

_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SECONDS: Final = 120.0
_TYPE: Final = "application/vnd.oci.image"


@dataclass
class Layer:
    """A layer in the making: what it holds, by its path in the image."""

    files: dict[str, Path] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)

    def tree(self, source: Path, target: str) -> None:
        """Add a folder with all that is in it."""
        for path in source.rglob("*"):
            name = f"{target}/{path.relative_to(source)}"
            if path.is_symlink():
                self.links[name] = str(path.readlink())
            elif path.is_dir():
                self.folders[name] = path.stat().st_mode & 0o7777
            else:
                self.files[name] = path

    def write(self, file: Path) -> None:
        """As an uncompressed tar, whose bytes depend on nothing but the contents."""
        with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, mode in sorted(self.folders.items()):
                tar.addfile(_entry(name, tarfile.DIRTYPE, mode))
            for name, goal in sorted(self.links.items()):
                entry = _entry(name, tarfile.SYMTYPE, 0o777)
                entry.linkname = goal
                tar.addfile(entry)
            for name, path in sorted(self.files.items()):
                entry = _entry(name, tarfile.REGTYPE, path.stat().st_mode & 0o777)
                entry.size = path.stat().st_size
                with path.open("rb") as stream:
                    tar.addfile(entry, stream)


def golden(toolchain: Toolchain, report: Report) -> Path:
    """The folder of a containerd that holds every image."""
    key = hashlib.sha256(Path(__file__).read_bytes())
    for said in (toolchain.kube_proxy.parent.name, toolchain.cilium.name, toolchain.debian.packages):
        key.update(said.encode())
    target = cache_folder() / f"real-images-{versions.CILIUM}-{key.hexdigest()[:12]}"
    if not target.is_dir():
        report("Container images: made from Debian's packages and our builds, about a minute")
    build_once(target, "real-images", lambda into: _make(into, toolchain), report)
    return target


def copy(source: Path, target: Path) -> None:
    """A containerd's folder of its own with the images in it. Only the databases are real copies, where both are on one
    file system: hard links don't lead to another."""
    linked = source.stat().st_dev == target.parent.stat().st_dev
    subprocess.run(["/usr/bin/cp", "-al" if linked else "-a", str(source), str(target)], check=True)
    for database in target.rglob("*.db"):
        content = database.read_bytes()
        database.unlink()
        database.write_bytes(content)


def _make(into: Path, toolchain: Toolchain) -> None:
    blobs = into / ".layout" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    base = _store(blobs, _base(toolchain.debian))
    clang = _store(blobs, _clang(toolchain.debian))
    agent = _store(blobs, _agent(toolchain))
    proxy = _store(blobs, Layer({"/usr/local/bin/kube-proxy": toolchain.kube_proxy}))
    name = "cilium-operator-generic"
    operator = _store(blobs, Layer({f"/usr/bin/{name}": toolchain.cilium / name}))
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
    _import(toolchain.debian, into, archive)
    archive.unlink()


def _base(debian: Debian) -> Layer:
    layer = Layer()
    layer.tree(debian.base, "")
    return layer


def _clang(debian: Debian) -> Layer:
    """Under its bare name, by which the agent calls it, and of its libraries those that the base hasn't got."""
    layer = Layer()
    program = "/usr/lib/llvm-19/bin/clang"
    for name in (program, *debian.libraries(program)):
        if (path := debian.path(name)).is_relative_to(debian.more):
            layer.files[name] = path
    layer.links["/usr/bin/clang"] = f"../..{program}"
    headers = "/usr/lib/llvm-19/lib/clang/19/include"
    layer.tree(debian.path(headers), headers)
    return layer


def _agent(toolchain: Toolchain) -> Layer:
    cilium = toolchain.cilium
    names = ("agent", "dbg", "mount", "sysctlfix", "health", "health-responder")
    layer = Layer({f"/usr/bin/cilium-{name}": cilium / f"cilium-{name}" for name in names})
    layer.links["/usr/bin/cilium"] = "cilium-dbg"
    layer.files["/opt/cni/bin/cilium-cni"] = cilium / "cilium-cni"
    layer.files["/cni/loopback"] = toolchain.debian.path("/usr/lib/cni/loopback")
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


def _import(debian: Debian, root: Path, archive: Path) -> None:
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
                *debian.command("/usr/bin/containerd"),
                "--config",
                str(settings),
            ],
            stdout=log,
            stderr=log,
            preexec_fn=end_with_parent(signal.SIGKILL),
        )
        try:
            deadline = time.monotonic() + _SECONDS
            while not (state / "s").exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise ClusterError(f"containerd didn't start: {(state / 'log').read_text()[-2000:]}")
                time.sleep(0.1)
            subprocess.run(
                [
                    *debian.command("/usr/bin/ctr"),
                    "--address",
                    socket,
                    "-n",
                    "k8s.io",
                    "images",
                    "import",
                    str(archive),
                ],
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


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name.lstrip("/"))
    entry.type, entry.mode, entry.mtime = kind, mode, 0
    return entry
