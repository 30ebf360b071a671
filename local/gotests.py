"""``python -m local.gotests``: the tests of the programs in Go that are this project's own.

The stand-in for the command plugin is tested against the written description of the real one, the node simulator
against what real nodes answered.
"""

import sys
from typing import Final

from local import clone
from local.toolchain.gobuild import Go

_MODULES: Final = ("command-stand-in", "node-simulator", "traffic")


def main() -> int:
    """Test each module; the first that fails ends it."""
    go = Go()
    return next((code for name in _MODULES if (code := go.test(clone.ROOT / "local" / "go" / name))), 0)


if __name__ == "__main__":
    sys.exit(main())
