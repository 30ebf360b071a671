"""What is asked of the cluster between two measurements."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from local.bench.errors import BenchError

_SECONDS = 120.0
_POLL_SECONDS = 0.5


class Cluster:
    """A cluster, by its kubeconfig."""

    def __init__(self, kubectl: Path, kubeconfig: Path) -> None:
        self.kubectl = [str(kubectl), f"--kubeconfig={kubeconfig}"]

    def agents(self) -> list[str]:
        """The names of the agents' pods."""
        return [pod["metadata"]["name"] for pod in self._pods() if _label(pod) == "cilium"]

    def wait_until_fresh(self, nodes: int) -> None:
        """Wait until it is as it was before anything was installed: kube-proxy on every node, nothing of Cilium's."""
        deadline = time.monotonic() + _SECONDS
        while True:
            pods, namespaces = self._pods(), self._items("namespaces")
            proxies = sum(1 for pod in pods if _label(pod) == "kube-proxy" and _is_ready(pod))
            left = sorted(
                its["metadata"]["name"] for its in (*pods, *namespaces) if "cilium" in its["metadata"]["name"]
            )
            ending = [pod for pod in pods if pod["metadata"].get("deletionTimestamp")]
            if proxies == nodes and not left and not ending:
                return
            if time.monotonic() > deadline:
                raise BenchError(
                    f"After {_SECONDS:.0f} s the cluster isn't as it was: kube-proxy is ready on {proxies} of {nodes} "
                    f"nodes, still there: {', '.join(left) or 'nothing of Cilium'}."
                )
            time.sleep(_POLL_SECONDS)

    def _pods(self) -> list[dict[str, Any]]:
        return self._items("pods")

    def _items(self, kind: str) -> list[dict[str, Any]]:
        command = [*self.kubectl, "get", kind, "--namespace=kube-system", "--output=json"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise BenchError(f"kubectl can't read the {kind}: {done.stderr.strip()}")
        items: list[dict[str, Any]] = json.loads(done.stdout)["items"]
        return items


def _label(pod: dict[str, Any]) -> str:
    return str((pod["metadata"].get("labels") or {}).get("k8s-app") or "")


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(of["type"] == "Ready" and of["status"] == "True" for of in conditions)
