"""The version of everything that the toolchain brings, and what serves where the PATH already has it.

The go.mod files beside the Go programs repeat the versions of Go modules, as they must; a unit test holds
the two together. To lift one: change it here and in its go.mod, and let Go write the sums anew there::

    GONOSUMDB='github.com/pulumi/*' go build -mod=mod -o /dev/null PACKAGE

The public checksum database doesn't know some of Pulumi's modules, hence GONOSUMDB. Only this step needs it:
with a full go.sum a build asks no database.
"""

from typing import Final

Version = tuple[int, ...]

GO: Final[Version] = (1, 26)
"""The oldest Go that builds all of it."""

KUBERNETES: Final = "1.36.3"
KWOK: Final = "0.8.0"
CILIUM: Final = "1.18.6"
HELM: Final = "3.18.6"
ACTIONLINT: Final = "1.7.12"
PULUMI: Final = "3.246.0"

PULUMI_LANGUAGE_PYTHON: Final = "3.187.0"
"""Python's language host doesn't compile against a newer engine library; it works with a newer engine."""
PULUMI_LANGUAGE_PYTHON_MODULE: Final = "v3.0.0-20250806165243-bee5e4fa4815"

KUBERNETES_PLUGIN: Final = "4.25.0"
KUBERNETES_PLUGIN_MODULE: Final = "v4.0.0-20260115033456-f47bc2d6f199"
"""The commit of that release, whose Go module has no tag."""

COMMAND_PLUGIN: Final = "1.2.1"

OWN: Final = "own"
"""What is written in this repository: the hash of its sources tells one from another."""

Range = tuple[Version, Version]
"""From the first version, to below the second."""

SERVES: Final[dict[str, Range]] = {
    "pulumi": ((3, 246), (4,)),
    "kubectl": ((1, 30), (2,)),
    "helm": ((3, 14), (4,)),
    "etcd": ((3, 5), (4,)),
    "kube-apiserver": ((1, 36), (1, 37)),
    "kube-controller-manager": ((1, 36), (1, 37)),
    "kube-scheduler": ((1, 36), (1, 37)),
}
"""Which versions of a program on the PATH are used instead of bringing our own."""


def text(version: Version) -> str:
    """``(1, 36)`` as ``1.36``."""
    return ".".join(str(number) for number in version)
