"""What real nodes need beyond the control plane, and how it's built."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local.toolchain import versions
from local.toolchain.cache import Report, build_once, cache_folder
from local.toolchain.gobuild import Go, GoPart, Program, Taken

_CILIUM: Final = "github.com/cilium/cilium"
_CILIUM_AT: Final = f"{_CILIUM}@v{versions.CILIUM}"
# Three words, or the agent calls itself «(v-)». The quotes are for the linker's flags, which part at spaces.
_CILIUM_VERSION: Final = {
    f"'{_CILIUM}/pkg/version.ciliumVersion": f"{versions.CILIUM} 0000000 2026-01-01T00:00:00+00:00'"
}
_OPERATOR_TAG: Final = "ipam_provider_operator"


@dataclass(frozen=True)
class TaggedPart(GoPart):
    """A part that is built with Go's build tags."""

    tags: str = ""


class _TaggedGo(Go):
    def __init__(self, tags: str) -> None:
        super().__init__()
        if tags:
            self._environment = self._environment | {"GOFLAGS": f"-mod=readonly -tags={tags}"}


NODE: Final = TaggedPart(
    name="kubernetes-node",
    version=versions.KUBERNETES,
    how="building kubelet and kube-proxy with Go, about 2 minutes on 2 cores",
    programs=tuple(
        Program(
            module="kubernetes-node",
            package=f"k8s.io/kubernetes/cmd/{name}",
            output=name,
            variables={
                "k8s.io/component-base/version.gitVersion": f"v{versions.KUBERNETES}",
                "k8s.io/client-go/pkg/version.gitVersion": f"v{versions.KUBERNETES}",
            },
        )
        for name in ("kube-proxy", "kubelet")
    ),
)

CILIUM: Final = TaggedPart(
    name="cilium",
    version=versions.CILIUM,
    how="building Cilium with Go, about 12 minutes on 2 cores",
    tags=_OPERATOR_TAG,
    programs=tuple(
        Program("cilium", f"{_CILIUM}/{package}", output, _CILIUM_VERSION)
        for package, output in (
            ("cilium-dbg", "cilium-dbg"),
            ("daemon", "cilium-agent"),
            ("plugins/cilium-cni", "cilium-cni"),
            ("tools/mount", "cilium-mount"),
            ("tools/sysctlfix", "cilium-sysctlfix"),
            ("cilium-health", "cilium-health"),
            ("cilium-health/responder", "cilium-health-responder"),
            ("operator", "cilium-operator-generic"),
        )
    ),
    taken=(
        Taken("cilium", _CILIUM_AT, "bpf", "bpf"),
        # Go modules carry no execute bit.
        Taken("cilium", _CILIUM_AT, "images/cilium/init-container.sh", "init-container.sh", executable=True),
        Taken("cilium", _CILIUM_AT, "plugins/cilium-cni/install-plugin.sh", "install-plugin.sh", executable=True),
        Taken("cilium", _CILIUM_AT, "plugins/cilium-cni/cni-uninstall.sh", "cni-uninstall.sh", executable=True),
    ),
)


TRAFFIC: Final = TaggedPart(
    name="traffic",
    version=versions.OWN,
    how="building it with Go, some seconds",
    programs=(Program("traffic", ".", "traffic"),),
)
"""What is sent through Services, and their servers; it runs in pods, from the cache's folder."""


HELM: Final = TaggedPart(
    name="helm",
    version=versions.HELM,
    how="building it with Go, about 2 minutes on 2 cores",
    programs=(
        Program(
            "helm",
            "helm.sh/helm/v3/cmd/helm",
            "helm",
            {
                "helm.sh/helm/v3/internal/version.version": f"v{versions.HELM}",
                # Without these `helm template` takes the cluster for one of 1.20.
                "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor": "1",
                "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor": versions.KUBERNETES.split(".")[1],
            },
        ),
    ),
)
"""For the way that Cilium's documentation describes."""


def bring(part: TaggedPart, report: Report) -> Path:
    """The part's folder in the cache, built if it isn't there."""
    cache = cache_folder()
    target = part.folder(cache)
    log = cache / "logs" / f"{part.name}-{part.version}.log"
    if not target.is_dir():
        report(f"{part.title}: {part.how}")
    build_once(target, part.name, lambda into: _TaggedGo(part.tags).build(part, into, target, log, report), report)
    return target
