"""The control plane as on a machine of its own, which the fabric's namespace is to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from local.cluster.api import Api
from local.cluster.certificates import SERVICE_ADDRESS, KeyPair, Pki
from local.cluster.commands import Commands
from local.cluster.ports import Ports
from local.real import namespaces

ADDRESS: Final = "10.10.0.1"
OTHER_ADDRESS: Final = "10.10.0.2"
"""The API server's too: one that a node may be cut off from while its kubelet goes on by the first."""
PORTS: Final = Ports(api_server=6443, etcd_client=2379, etcd_peer=2380, simulator=0)
SERVER: Final = f"{ADDRESS}:{PORTS.api_server}"

_APISERVER: Final = {
    "--bind-address": "0.0.0.0",  # noqa: S104 - of a namespace that holds nothing else
    "--advertise-address": ADDRESS,
    "--kubelet-preferred-address-types": "InternalIP",
}
# Real kubelets renew their leases every ten seconds.
_CONTROLLERS: Final = {"--node-monitor-grace-period": "40s"}


@dataclass(frozen=True)
class FabricCommands(Commands):
    """The same command lines, with an address that nodes reach."""

    @property
    def server(self) -> str:
        """The API server's address."""
        return SERVER

    def kube_apiserver(self) -> list[str]:
        """As on a machine of its own."""
        # A pair that is there already stays: this one holds for the fabric's address too.
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
        self.pki.server("apiserver", [*names, SERVICE_ADDRESS, ADDRESS, OTHER_ADDRESS])
        return _changed(super().kube_apiserver(), _APISERVER)

    def kube_controller_manager(self) -> list[str]:
        """With the usual patience for nodes."""
        return _changed(super().kube_controller_manager(), _CONTROLLERS)


class FabricApi(Api):
    """The client, whose connections are made in the fabric's namespace."""

    def __init__(self, pki: Pki, client: KeyPair, fabric: Callable[[], int]) -> None:
        super().__init__(PORTS.api_server, pki, client)
        self._fabric = fabric

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        with namespaces.inside(self._fabric()):
            return super()._call(method, path, body)


def _changed(command: list[str], changes: dict[str, str]) -> list[str]:
    """A command line with other values for some of its flags."""
    flags = [word.partition("=")[0] for word in command]
    return [f"{flag}={changes[flag]}" if flag in changes else word for flag, word in zip(flags, command, strict=True)]
