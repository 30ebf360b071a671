"""What the cluster's programs are started with: kubeadm's flags, on loopback and with free ports."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from local.cluster import kubeconfig, network, stages
from local.cluster.certificates import SERVICE_ADDRESS, Pki
from local.cluster.layout import Layout
from local.cluster.ports import LOOPBACK, Ports


class Programs(Protocol):
    """Where the programs are; the toolchain is one of these."""

    @property
    def etcd(self) -> Path: ...
    @property
    def kube_apiserver(self) -> Path: ...
    @property
    def kube_controller_manager(self) -> Path: ...
    @property
    def kube_scheduler(self) -> Path: ...
    @property
    def kwok(self) -> Path: ...
    @property
    def kwok_stages(self) -> Path: ...
    @property
    def node_simulator(self) -> Path: ...


# Reads by the control plane and by the simulation are most of what an API server is asked.
_AUDIT_POLICY: Final = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  verbs: [get, list, watch]
  userGroups: ["system:masters", "system:nodes", "system:serviceaccounts:kube-system"]
- level: None
  verbs: [get, list, watch]
  users: ["system:kube-controller-manager", "system:kube-scheduler", "system:apiserver"]
- level: Metadata
  resources:
  - {group: coordination.k8s.io, resources: [leases]}
  namespaces: [kube-system]
- level: None
  resources:
  - {group: coordination.k8s.io, resources: [leases]}
  - {group: "", resources: [events]}
  - {group: events.k8s.io, resources: [events]}
- level: Metadata
"""

_SCHEDULER: Final = """\
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {{leaderElect: false}}
clientConnection: {{kubeconfig: "{kubeconfig}", qps: 500, burst: 1000}}
"""


@dataclass(frozen=True)
class Commands:
    """The command lines of one cluster, and the files that they name."""

    programs: Programs
    layout: Layout
    ports: Ports
    pki: Pki
    nodes: int

    @property
    def server(self) -> str:
        """The API server's address, as nodes and everybody else reach it."""
        return f"{LOOPBACK}:{self.ports.api_server}"

    def etcd(self) -> list[str]:
        """Durability isn't wanted of a cluster to try things on: nothing is synced to the disk."""
        pair = self.pki.server("etcd", ["etcd"])
        client = f"https://{LOOPBACK}:{self.ports.etcd_client}"
        peer = f"https://{LOOPBACK}:{self.ports.etcd_peer}"
        return [
            str(self.programs.etcd),
            "--name=local",
            f"--data-dir={self.layout.etcd}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=local={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
            *(
                f"--{kind}{flag}"
                for kind in ("", "peer-")
                for flag in (
                    f"cert-file={pair.certificate}",
                    f"key-file={pair.key}",
                    f"trusted-ca-file={self.pki.ca.certificate}",
                    "client-cert-auth",
                )
            ),
        ]

    def kube_apiserver(self) -> list[str]:
        """As kubeadm sets it up. It listens on loopback, and says that it is on the first node."""
        first = network.node_address(1)
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        hosts = [*names, "kubernetes.default.svc.cluster.local", SERVICE_ADDRESS, first]
        serving = self.pki.server("apiserver", hosts)
        etcd = self.pki.client("apiserver-etcd-client", "kube-apiserver-etcd-client")
        kubelet = self.pki.client("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "kubeadm:cluster-admins")
        policy = self.layout.configurations / "audit-policy.yaml"
        policy.write_text(_AUDIT_POLICY)
        return [
            str(self.programs.kube_apiserver),
            f"--bind-address={LOOPBACK}",
            f"--secure-port={self.ports.api_server}",
            # An endpoint of a Service can't be a loopback address.
            f"--advertise-address={first}",
            f"--etcd-servers=https://{LOOPBACK}:{self.ports.etcd_client}",
            f"--etcd-cafile={self.pki.ca.certificate}",
            f"--etcd-certfile={etcd.certificate}",
            f"--etcd-keyfile={etcd.key}",
            f"--client-ca-file={self.pki.ca.certificate}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--kubelet-client-certificate={kubelet.certificate}",
            f"--kubelet-client-key={kubelet.key}",
            f"--kubelet-certificate-authority={self.pki.ca.certificate}",
            "--kubelet-preferred-address-types=InternalDNS,InternalIP",
            f"--service-account-key-file={self.pki.service_accounts.certificate}",
            f"--service-account-signing-key-file={self.pki.service_accounts.key}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-cluster-ip-range={network.SERVICES}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--enable-bootstrap-token-auth=true",
            "--allow-privileged=true",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.layout.audit_log}",
            # In the log before the answer is sent: whoever has the answer can read it there.
            "--audit-log-mode=blocking",
            "--profiling=false",
            # Refused at once rather than after a while: see processes.py.
            "--feature-gates=WatchList=false",
        ]

    def kube_controller_manager(self) -> list[str]:
        """Every controller that kubeadm has."""
        config = self._kubeconfig("controller-manager", "system:kube-controller-manager")
        return [
            str(self.programs.kube_controller_manager),
            "--secure-port=0",
            "--leader-elect=false",
            f"--kubeconfig={config}",
            "--use-service-account-credentials=true",
            "--controllers=*,bootstrapsigner,tokencleaner",
            f"--root-ca-file={self.pki.ca.certificate}",
            f"--service-account-private-key-file={self.pki.service_accounts.key}",
            f"--cluster-signing-cert-file={self.pki.ca.certificate}",
            f"--cluster-signing-key-file={self.pki.ca.key}",
            "--cluster-name=kubernetes",
            "--allocate-node-cidrs=true",
            f"--cluster-cidr={network.PODS}",
            f"--node-cidr-mask-size={network.pod_mask(self.nodes)}",
            f"--service-cluster-ip-range={network.SERVICES}",
            # Leases are renewed seldom, so that hundreds of nodes are cheap: see kwok.
            "--node-monitor-grace-period=30m",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            "--profiling=false",
        ]

    def kube_scheduler(self) -> list[str]:
        """With more calls in a second than kubeadm's, for hundreds of nodes."""
        config = self._kubeconfig("scheduler", "system:kube-scheduler")
        settings = self.layout.configurations / "scheduler.yaml"
        settings.write_text(_SCHEDULER.format(kubeconfig=config))
        return [str(self.programs.kube_scheduler), "--secure-port=0", f"--config={settings}"]

    def kwok(self) -> list[str]:
        """Nodes' conditions and leases, and the pods that the simulator leaves to it."""
        config = self._kubeconfig("kwok", "kwok", "system:masters")
        file = self.layout.configurations / "kwok.yaml"
        stages.write(file, self.programs.kwok_stages)
        return [
            str(self.programs.kwok),
            f"--kubeconfig={config}",
            f"--config={file}",
            "--manage-all-nodes=true",
            "--node-lease-duration-seconds=1200",
        ]

    def node_simulator(self, agent_ready: float) -> list[str]:
        """The rest of what nodes do, with Cilium agents that are Ready so many seconds after their start."""
        config = self._kubeconfig("node-simulator", "node-simulator", "system:masters")
        serving = self.pki.server("kubelet", [])
        return [
            str(self.programs.node_simulator),
            f"--kubeconfig={config}",
            f"--listen={LOOPBACK}:{self.ports.simulator}",
            f"--api-server={self.server}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={self.pki.ca.certificate}",
            f"--agent-ready={agent_ready}s",
        ]

    def _kubeconfig(self, name: str, user: str, group: str | None = None) -> Path:
        file = self.layout.configurations / f"{name}.kubeconfig"
        kubeconfig.write(file, f"https://{self.server}", user, self.pki, self.pki.client(name, user, group))
        return file
