"""Somebody else's Cilium beside kube-proxy: installed by Helm, with values that aren't this program's."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from local.chaos.errors import ChaosError
from local.cluster.api import Api, Object
from local.toolchain import Toolchain

_NAME: Final = "cilium"
_NAMESPACE: Final = "kube-system"
_PODS: Final = f"/api/v1/namespaces/{_NAMESPACE}/pods?labelSelector=k8s-app%3Dcilium"
_SECRETS: Final = f"/api/v1/namespaces/{_NAMESPACE}/secrets?labelSelector=owner%3Dhelm%2Cname%3D{_NAME}"
_ITS_NAMESPACE: Final = "/api/v1/namespaces/cilium-secrets"
"""Which the chart makes."""
_HELM_SECONDS: Final = 120.0
_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.3

VALUES: Final[dict[str, Any]] = {
    "ipam": {"mode": "kubernetes"},
    "operator": {"replicas": 1, "affinity": None},
    "bpf": {"mapDynamicSizeRatio": 0.003, "lbMapMax": 131072},
    "extraArgs": [],
    "podAnnotations": {"owner/number": "9007199254740993"},
    "extraConfig": {"bpf-events-drop-enabled": "true"},
}
"""With a null, an empty list and a number that no float holds; none of them is one that the program sets."""


class Owner:
    """Who ran Cilium before us, with Helm's own program."""

    def __init__(self, api: Api, toolchain: Toolchain, kubeconfig: Path, nodes: int) -> None:
        self._api = api
        self._toolchain = toolchain
        self._kubeconfig = kubeconfig
        self._nodes = nodes

    def install(self) -> None:
        """And wait until an agent is ready on every node; nothing of a Cilium before is left when it begins."""
        self._wait(0)
        chart, values = str(self._toolchain.cilium_chart), json.dumps(VALUES)
        self._helm(["install", _NAME, chart, "--values=-"], values)
        self._wait(self._nodes)

    def uninstall(self) -> None:
        self._helm(["uninstall", _NAME], "")
        self._wait(0)

    def problems(self, *, put_back: bool) -> Iterator[str]:
        """What of his values is lost; with `put_back`, what there is beside them too."""
        newest = max(self._api.get(_SECRETS)["items"], key=_revision, default=None)
        if newest is None:
            yield "the owner's release is gone"
            return
        if (status := newest["metadata"]["labels"]["status"]) != "deployed":
            yield f"the owner's release is {status}"
        values = _decoded(newest).get("config") or {}
        if put_back:
            if values != VALUES:
                yield f"the owner's values aren't as they were: {json.dumps(values, sort_keys=True)}"
            return
        for path in _lost(VALUES, values):
            yield f"the owner's value {path} isn't as it was"

    def _helm(self, arguments: list[str], told: str) -> None:
        done = subprocess.run(
            [str(self._toolchain.helm), *arguments, f"--namespace={_NAMESPACE}", f"--kubeconfig={self._kubeconfig}"],
            input=told,
            env=os.environ
            | {
                "HELM_CACHE_HOME": str(self._kubeconfig.parent / "helm"),
                "KUBECACHEDIR": str(self._kubeconfig.parent / "kubectl"),
            },
            capture_output=True,
            text=True,
            timeout=_HELM_SECONDS,
            check=False,
        )
        if done.returncode:
            raise ChaosError(f"`helm {arguments[0]}` as the owner has failed: {done.stderr.strip()[-2000:]}")

    def _wait(self, agents: int) -> None:
        deadline = time.monotonic() + _SECONDS
        while True:
            pods = self._api.get(_PODS)["items"]
            # a namespace ends some time after all else, and what is there then is taken for others'
            whole = bool(self._api.find(_ITS_NAMESPACE)) is bool(agents)
            if whole and len(pods) == agents == sum(1 for pod in pods if _is_ready(pod)):
                return
            if time.monotonic() > deadline:
                raise ChaosError(f"not {agents} ready agents of the owner's within {_SECONDS:.0f} s")
            time.sleep(_POLL_SECONDS)


def _lost(wanted: Mapping[str, Any], found: Any, at: str = "") -> Iterator[str]:
    for key, value in wanted.items():
        path = f"{at}.{key}" if at else key
        if not isinstance(found, Mapping) or key not in found:
            yield path
        elif isinstance(value, Mapping):
            yield from _lost(value, found[key], path)
        elif found[key] != value:
            yield path


def _revision(secret: Object) -> int:
    return int(secret["metadata"]["labels"]["version"])


def _decoded(secret: Object) -> Object:
    """Helm's own encoding inside the Secret's: base64 of gzip of JSON."""
    content: Object = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))
    return content


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(its["type"] == "Ready" and its["status"] == "True" for its in conditions)
