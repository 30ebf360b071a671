"""The manual way, command by command as Cilium's documentation gives it.

There: cilium/cilium v1.18.6, Documentation/network/kubernetes/kubeproxy-free.rst, «Quick-Start»::

    For existing installations with kube-proxy running as a DaemonSet, remove it by using the following commands below.
    Warning: Be aware that removing kube-proxy will break existing service connections. It will also stop service
    related traffic until the Cilium replacement has been installed.

    $ kubectl -n kube-system delete ds kube-proxy
    $ # Delete the configmap as well to avoid kube-proxy being reinstalled during a Kubeadm upgrade
    $ kubectl -n kube-system delete cm kube-proxy
    $ # Run on each node with root permissions:
    $ iptables-save | grep -v KUBE | iptables-restore

then `helm install … --set kubeProxyReplacement=true --set k8sServiceHost=${API_SERVER_IP} --set
k8sServicePort=${API_SERVER_PORT}`. Where Cilium is there already it's `helm upgrade … --reuse-values` with the same
three (the same page, «NodePort XDP on AWS»), and as «any changes that you perform in the Cilium ConfigMap … will
require you to restart any existing Cilium pods» (configuration.rst) the two `rollout restart` that the documentation
has after each such upgrade (network/servicemesh/installation.rst and others). Last the commands of «Validate the
Setup».

Back: the documentation has no way. Taken is the kinder of the plain ones: kube-proxy first, from a copy that was saved
before (a step that the documentation lacks, too), then Cilium.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from local.real import control_plane
from local.real.cluster import RealCluster
from local.real.engine import VALUES
from local.real.way import Step, Way, logged
from local.toolchain import Toolchain


@dataclass(frozen=True)
class Command:
    """A line as a person types it."""

    line: str
    on_nodes: bool = False
    """On each node as root, one after the other, instead of where kubectl and helm are."""
    expected: int = 0
    """The exit code. `grep` that finds nothing ends with 1."""


_RESTART: Final = (
    Command("kubectl -n kube-system rollout restart deployment/cilium-operator"),
    Command("kubectl -n kube-system rollout restart ds/cilium"),
    Command("kubectl -n kube-system rollout status ds/cilium --timeout=300s"),
)
_SAVED: Final = "kube-proxy.yaml"

INSTALL: Final = (
    Command("helm install cilium ${CHART} --namespace kube-system --values values.yaml"),
    Command("kubectl -n kube-system rollout status ds/cilium --timeout=300s"),
)
"""Cilium beside kube-proxy: the ground that the way begins on."""

SAVE: Final = (Command(f"kubectl -n kube-system get cm/kube-proxy ds/kube-proxy -o yaml > {_SAVED}"),)

THERE: Final = (
    Command("kubectl -n kube-system delete ds kube-proxy"),
    Command("kubectl -n kube-system delete cm kube-proxy"),
    Command("iptables-save | grep -v KUBE | iptables-restore", on_nodes=True),
    Command(
        "helm upgrade cilium ${CHART} --namespace kube-system --reuse-values --set kubeProxyReplacement=true "
        "--set k8sServiceHost=${API_SERVER_IP} --set k8sServicePort=${API_SERVER_PORT}"
    ),
    *_RESTART,
    Command("kubectl -n kube-system get pods -l k8s-app=cilium"),
    Command("kubectl -n kube-system exec ds/cilium -- cilium-dbg status | grep KubeProxyReplacement"),
    Command("kubectl -n kube-system exec ds/cilium -- cilium-dbg status --verbose"),
    Command("kubectl -n kube-system exec ds/cilium -- cilium-dbg service list"),
    Command("iptables-save | grep KUBE-SVC", on_nodes=True, expected=1),
)

BACK: Final = (
    Command(f"kubectl apply -f {_SAVED}"),
    Command("kubectl -n kube-system rollout status ds/kube-proxy --timeout=300s"),
    Command(
        "helm upgrade cilium ${CHART} --namespace kube-system --reuse-values --set kubeProxyReplacement=false",
    ),
    *_RESTART,
    Command("kubectl -n kube-system exec ds/cilium -- cilium-dbg status | grep KubeProxyReplacement"),
)


class Manual:
    """The commands as steps of a way."""

    def __init__(self, way: Way, cluster: RealCluster, toolchain: Toolchain, helm: Path) -> None:
        """
        Args:
            helm: Helm's program, which the documentation's commands need beside kubectl.
        """
        self._way, self._cluster = way, cluster
        self._folder = way.folder / "manual"
        tools = self._folder / "bin"
        tools.mkdir(parents=True, exist_ok=True)
        for name, program in (("kubectl", toolchain.kubectl), ("helm", helm)):
            (tools / name).unlink(missing_ok=True)
            (tools / name).symlink_to(program)
        # The ground's values, as the program's own stack has them, and the pod addresses that nodes have already.
        values = VALUES | {"ipam": {"mode": "kubernetes"}, "hubble": {"enabled": False}}
        (self._folder / "values.yaml").write_text(yaml.safe_dump(values))
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("HELM_")} | {
            "PATH": os.pathsep.join([str(tools), os.environ.get("PATH", os.defpath)]),
            "KUBECONFIG": str(cluster.kubeconfig),
            "KUBECACHEDIR": str(self._folder / "kube-cache"),
            "HELM_CACHE_HOME": str(self._folder / "helm"),
            "HELM_CONFIG_HOME": str(self._folder / "helm"),
            "HELM_DATA_HOME": str(self._folder / "helm"),
            "CHART": str(toolchain.cilium_chart),
            "API_SERVER_IP": control_plane.ADDRESS,
            "API_SERVER_PORT": str(control_plane.PORTS.api_server),
        }

    def run(self, commands: Sequence[Command]) -> bool:
        """One after the other until one fails; whether none did."""
        return all(not self._run(command).code for command in commands)

    def _run(self, command: Command) -> Step:
        return self._way.step(command.line, lambda log: self._act(command, log), command.expected)

    def _act(self, command: Command, log: Path) -> int:
        if not command.on_nodes:
            words = self._cluster.in_fabric(["bash", "-c", command.line])
            return logged(words, log, self._folder, self._environment)
        codes = []
        for node in self._cluster.nodes:
            done = node.run(["bash", "-c", command.line])
            with log.open("a") as file:
                file.write(f"{node.name}: exit {done.returncode}\n{done.stdout}{done.stderr}")
            codes.append(done.returncode)
        return next((code for code in codes if code != command.expected), command.expected)
