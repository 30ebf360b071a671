"""What is built here, and from what."""

from typing import Final

from local.toolchain import versions
from local.toolchain.gobuild import Embedded, GoPart, Program, Taken

_KWOK = f"sigs.k8s.io/kwok@v{versions.KWOK}"
_CILIUM = f"github.com/cilium/cilium@v{versions.CILIUM}"
_PULUMI_SDK = f"github.com/pulumi/pulumi/sdk/v3@v{versions.PULUMI}"
_OLDER_PULUMI_SDK = f"github.com/pulumi/pulumi/sdk/v3@v{versions.PULUMI_LANGUAGE_PYTHON}"
_PULUMI_VERSION = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version"
_PLUGIN = "github.com/pulumi/pulumi-kubernetes/provider/v4"
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
            variables={
                "k8s.io/component-base/version.gitVersion": f"v{versions.KUBERNETES}",
                "k8s.io/client-go/pkg/version.gitVersion": f"v{versions.KUBERNETES}",
            },
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
    taken=(Taken("cilium-chart", _CILIUM, "install/kubernetes/cilium", "cilium"),),
)
