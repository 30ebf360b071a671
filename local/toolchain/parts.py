"""What is built here, and from what."""

from typing import Final

from local.toolchain import versions
from local.toolchain.gobuild import Embedded, GoPart, Program, Taken

_KWOK = f"sigs.k8s.io/kwok@v{versions.KWOK}"
_CILIUM = "github.com/cilium/cilium"
_CILIUM_AT = f"{_CILIUM}@v{versions.CILIUM}"
_PULUMI_SDK = f"github.com/pulumi/pulumi/sdk/v3@v{versions.PULUMI}"
_OLDER_PULUMI_SDK = f"github.com/pulumi/pulumi/sdk/v3@v{versions.PULUMI_LANGUAGE_PYTHON}"
_PULUMI_VERSION = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version"
_PLUGIN = "github.com/pulumi/pulumi-kubernetes/provider/v4"
_KUBERNETES_VARIABLES = {
    f"k8s.io/{module}/version.gitVersion": f"v{versions.KUBERNETES}" for module in ("component-base", "client-go/pkg")
}
_PLUGIN_AT = f"{_PLUGIN}@{versions.KUBERNETES_PLUGIN_MODULE}"

CONTROL_PLANE: Final = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")

KUBERNETES: Final = GoPart(
    name="kubernetes",
    version=versions.KUBERNETES,
    how="building it with Go, about 5 minutes on 2 cores",
    programs=tuple(
        Program(
            module="kubernetes",
            package=f"k8s.io/kubernetes/cmd/{name}",
            output=name,
            variables=_KUBERNETES_VARIABLES,
        )
        for name in CONTROL_PLANE
    ),
)

KWOK: Final = GoPart(
    name="kwok",
    version=versions.KWOK,
    how="building it with Go, about 1 minute on 2 cores",
    programs=(Program("kwok", "sigs.k8s.io/kwok/cmd/kwok", "kwok"),),
    taken=(Taken("kwok", _KWOK, "kustomize/stage", "stages"),),
)

# The scripts lie beside the CLI, where it looks for them. The newer SDK has none for policy packs any more,
# as an engine that finds Python's language host doesn't need it.
PULUMI: Final = GoPart(
    name="pulumi",
    version=versions.PULUMI,
    how="building it with Go, about 3 minutes on 2 cores",
    programs=(
        Program(
            "pulumi",
            "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
            "pulumi",
            {_PULUMI_VERSION: f"v{versions.PULUMI}"},
        ),
        Program(
            "pulumi-language-python",
            "github.com/pulumi/pulumi/sdk/python/cmd/pulumi-language-python/v3",
            "pulumi-language-python",
            {_PULUMI_VERSION: f"v{versions.PULUMI_LANGUAGE_PYTHON}"},
        ),
    ),
    taken=tuple(
        Taken(module, sdk, f"python/{folder}/{name}", name, executable=True)
        for module, sdk, folder, name in (
            ("pulumi", _PULUMI_SDK, "cmd", "pulumi-language-python-exec"),
            ("pulumi", _PULUMI_SDK, "dist", "pulumi-resource-pulumi-python"),
            ("pulumi-language-python", _OLDER_PULUMI_SDK, "dist", "pulumi-analyzer-policy-python"),
        )
    ),
)

# The module's own main embeds two files that its authors generate and that the module lacks.
KUBERNETES_PLUGIN: Final = GoPart(
    name="pulumi-resource-kubernetes",
    version=versions.KUBERNETES_PLUGIN,
    how="building it with Go, about 8 minutes on 2 cores",
    programs=(
        Program(
            "pulumi-resource-kubernetes",
            ".",
            "pulumi-resource-kubernetes",
            {f"{_PLUGIN}/pkg/version.Version": versions.KUBERNETES_PLUGIN},
        ),
    ),
    embedded=(
        Embedded(
            "pulumi-resource-kubernetes",
            _PLUGIN_AT,
            "cmd/pulumi-resource-kubernetes/schema.json",
            "schema-embed.json",
            {"version": versions.KUBERNETES_PLUGIN},
        ),
        Embedded(
            "pulumi-resource-kubernetes",
            _PLUGIN_AT,
            "cmd/pulumi-resource-kubernetes/terraform-mapping.json",
            "terraform-mapping-embed.json",
        ),
    ),
)

COMMAND_STAND_IN: Final = GoPart(
    name="command-stand-in",
    version=versions.OWN,
    how="building our own stand-in for it with Go, about half a minute on 2 cores",
    programs=(Program("command-stand-in", ".", "pulumi-resource-command"),),
)

NODE_SIMULATOR: Final = GoPart(
    name="node-simulator",
    version=versions.OWN,
    how="building it with Go, about half a minute on 2 cores",
    programs=(Program("node-simulator", ".", "node-simulator"),),
)

CILIUM_CHART: Final = GoPart(
    name="cilium-chart",
    version=versions.CILIUM,
    how="taking it out of its Go module, about half a minute",
    taken=(Taken("cilium-chart", _CILIUM_AT, "install/kubernetes/cilium", "cilium"),),
)

# From here on what real nodes need.

KUBERNETES_NODE: Final = GoPart(
    name="kubernetes-node",
    version=versions.KUBERNETES,
    how="building kubelet and kube-proxy with Go, about 2 minutes on 2 cores",
    programs=tuple(
        Program("kubernetes-node", f"k8s.io/kubernetes/cmd/{name}", name, _KUBERNETES_VARIABLES)
        for name in ("kube-proxy", "kubelet")
    ),
)

CILIUM: Final = GoPart(
    name="cilium",
    version=versions.CILIUM,
    how="building it with Go, about 12 minutes on 2 cores",
    programs=tuple(
        Program(
            "cilium",
            f"{_CILIUM}/{package}",
            output,
            # Three words, or the agent calls itself «(v-)».
            {f"{_CILIUM}/pkg/version.ciliumVersion": f"{versions.CILIUM} 0000000 2026-01-01T00:00:00+00:00"},
            tags,
        )
        for package, output, tags in (
            ("cilium-dbg", "cilium-dbg", ()),
            ("daemon", "cilium-agent", ()),
            ("plugins/cilium-cni", "cilium-cni", ()),
            ("tools/mount", "cilium-mount", ()),
            ("tools/sysctlfix", "cilium-sysctlfix", ()),
            ("cilium-health", "cilium-health", ()),
            ("cilium-health/responder", "cilium-health-responder", ()),
            ("operator", "cilium-operator-generic", ("ipam_provider_operator",)),
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

TRAFFIC: Final = GoPart(
    name="traffic",
    version=versions.OWN,
    how="building it with Go, some seconds",
    programs=(Program("traffic", ".", "traffic"),),
)
"""What is sent through Services, and their servers; it runs in pods, from the cache's folder."""

ACTIONLINT: Final = GoPart(
    name="actionlint",
    version=versions.ACTIONLINT,
    how="building it with Go, some seconds",
    programs=(Program("actionlint", "github.com/rhysd/actionlint/cmd/actionlint", "actionlint"),),
)
"""What reads the workflows in ci/github."""

HELM: Final = GoPart(
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
"""What rolls a release back, and the way that Cilium's documentation describes."""
