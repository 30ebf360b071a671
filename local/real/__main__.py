"""``python -m local.real start|way|stop|remove``: a cluster of real nodes, and the whole way on it.

``start`` brings it up, ``way`` runs coexist, replace, coexist and destroy on it with traffic, ``stop`` ends it,
``remove`` takes its folder away too. NODES=2 by default.
"""

import os
import sys
import time
from typing import Final

from local.clone import FOLDER
from local.cluster import ClusterError
from local.real import way
from local.real.cluster import PARTS, RealCluster
from local.real.engine import RealEngine
from local.toolchain import ToolchainError, ensure

_FOLDER: Final = FOLDER / "real"


def main(arguments: list[str]) -> int:
    """Do what the command line says."""
    verb = arguments[0] if arguments else ""
    if verb not in ("start", "way", "stop", "remove"):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    try:
        toolchain = ensure(PARTS, _say)
        cluster = RealCluster(_FOLDER, toolchain, int(os.environ.get("NODES") or "2"))
        if verb == "way":
            cluster.start(_say)
            folder = _FOLDER / "ways" / time.strftime("%H%M%S")
            folder.mkdir(parents=True)
            return way.run(cluster, RealEngine(cluster, toolchain, folder), folder, _say)
        {"start": cluster.start, "stop": cluster.stop, "remove": cluster.remove}[verb](_say)
    except (ClusterError, ToolchainError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
