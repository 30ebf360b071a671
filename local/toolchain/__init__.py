"""The toolchain of the clusters here: engine, plugins, a Kubernetes control plane, simulated nodes and real ones.

Only Python's own library is used here, as this runs before anything is installed.
"""

from local.toolchain.errors import ToolchainError
from local.toolchain.toolchain import NAMES, REAL, Toolchain, ensure, overview

__all__ = ["NAMES", "REAL", "Toolchain", "ToolchainError", "ensure", "overview"]
