"""How long Python takes to import what the program's processes import."""

import subprocess
import sys
import time

from local.bench.figures import Series

_PROCESSES = {
    "Python itself": "pass",
    "pulumi (each program)": "import pulumi",
    "pulumi_kubernetes' Release (each of the two)": "import pulumi_kubernetes.helm.v3",
    "the component (this program)": "import kube_proxy_replacement.component",
    "the dynamic provider (this program)": "import pulumi.dynamic, kube_proxy_replacement.finding",
    "a Command's step (this program, three processes)": "import kube_proxy_replacement.run",
}


def measure(rounds: int) -> list[Series]:
    """One process at a time, in turn."""
    found = [Series(f"import: {title}") for title in _PROCESSES]
    for _ in range(rounds):
        for series, code in zip(found, _PROCESSES.values(), strict=True):
            began = time.monotonic()
            subprocess.run([sys.executable, "-c", code], check=True)
            series.seconds.append(time.monotonic() - began)
    return found
