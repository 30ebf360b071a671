"""Where a cluster keeps what is its own: everything lies in one folder."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """The places in a cluster's folder."""

    folder: Path

    @property
    def settings(self) -> Path:
        """Ports and size, chosen at the first start and kept."""
        return self.folder / "cluster.json"

    @property
    def filled(self) -> Path:
        """There when the cluster holds what kubeadm leaves: from then on it is its user's."""
        return self.folder / "filled"

    @property
    def pki(self) -> Path:
        return self.folder / "pki"

    @property
    def etcd(self) -> Path:
        return self.folder / "etcd"

    @property
    def configurations(self) -> Path:
        """What the programs are started with, and their own kubeconfigs."""
        return self.folder / "conf"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def records(self) -> Path:
        """Which processes were started: one file for each."""
        return self.folder / "run"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.folder / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        return self.logs / "audit.log"

    def make(self) -> None:
        """Make the folders, for this user's eyes only: there are keys in them."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self.pki, self.etcd, self.configurations, self.logs, self.records):
            folder.mkdir(exist_ok=True, mode=0o700)
