"""The toolchain of the embedded default: engine, plugins, a Kubernetes control plane and simulated nodes.

Only Python's own library is used here, as this runs before anything is installed.
"""

from local.toolchain.errors import ToolchainError
from local.toolchain.toolchain import NAMES, Toolchain, ensure, overview

__all__ = ["NAMES", "Toolchain", "ToolchainError", "ensure", "overview"]
