"""What the embedded cluster promises of its simulated nodes: the other engine tests build on it."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from local.cluster import EmbeddedCluster
from local.toolchain import Toolchain

SYSTEM = "kube-system"
TASK = "kube-proxy-replacement/task"
IMAGE = "example.org/cilium/cilium:v1.18.6"
ROUTING = "kube-proxy-replacement/routing"
HEALTH = r'exec 3<>/dev/tcp/127.0.0.1/10256 && printf %b "GET /healthz HTTP/1.0\r\n\r\n" >&3 && head -n1 <&3'


class Cluster:
    """A cluster, and kubectl for it."""

    def __init__(self, embedded: EmbeddedCluster, kubectl: Path) -> None:
        self.embedded = embedded
        self._kubectl = kubectl

    def run(self, *arguments: str, given: str | None = None) -> "subprocess.CompletedProcess[str]":
        command = [str(self._kubectl), f"--kubeconfig={self.embedded.kubeconfig}", *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60)

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        done = self.run(*arguments, given=given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *things: Any) -> None:
        self.kubectl("apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": things}))

    def pod(self, app: str, node: str) -> Any:
        """The pod of a DaemonSet on a node, or None."""
        found = self.get("pod", "-n", SYSTEM, "-l", f"k8s-app={app}", f"--field-selector=spec.nodeName={node}")
        return next((pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]), None)

    def exec(self, app: str, node: str, *command: str) -> "subprocess.CompletedProcess[str]":
        pod = self.pod(app, node)
        container = "cilium-agent" if app == "cilium" else app
        return self.run("exec", "-n", SYSTEM, pod["metadata"]["name"], "-c", container, "--", *command)

    def rules(self, node: str, app: str = "kube-proxy") -> str:
        """What iptables-save says on a node, without its remarks."""
        saved = self.exec(app, node, "iptables-save").stdout
        return "\n".join(line for line in saved.splitlines() if not line.startswith("#"))

    def routes(self, node: str, app: str = "kube-proxy") -> bool:
        return "KUBE-SVC-" in self.rules(node, app)

    @contextmanager
    def fault(self, node: str, name: str, value: str = "true") -> Iterator[None]:
        self.kubectl("annotate", "node", node, f"simulator/{name}={value}")
        try:
            yield
        finally:
            self.kubectl("annotate", "node", node, f"simulator/{name}-")

    def task(self, name: str, task: str, node: str, **container: Any) -> Any:
        """Run a task's pod to its end, and return it."""
        its = {"name": "main", "image": "example.org/kube-proxy:v1.36.3", **container}
        spec = {"nodeName": node, "hostNetwork": True, "restartPolicy": "Never", "containers": [its]}
        metadata = {"name": name, "namespace": SYSTEM, "labels": {TASK: task}}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        try:
            until(lambda: self.get("pod", "-n", SYSTEM, name)["status"]["phase"] in ("Succeeded", "Failed"))
            return self.get("pod", "-n", SYSTEM, name)
        finally:
            self.kubectl("delete", "pod", "-n", SYSTEM, name)


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


def is_ready(pod: Any) -> bool:
    return pod is not None and any(
        of["type"] == "Ready" and of["status"] == "True" for of in pod["status"].get("conditions", [])
    )


@pytest.fixture(scope="module")
def cluster(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    embedded = EmbeddedCluster(tmp_path_factory.mktemp("cluster"), toolchain, nodes=3)
    try:
        embedded.start()
        of = Cluster(embedded, toolchain.kubectl)
        for number in (1, 2, 3):
            until(lambda: of.routes(f"node-{number}"))  # noqa: B023
        yield of
    finally:
        embedded.remove()


@pytest.fixture
def kube_proxy(cluster: Cluster) -> Iterator[tuple[Any, Any]]:
    """kube-proxy's two objects, which are back afterwards, as they were."""
    both = [cluster.get(kind, "-n", SYSTEM, "kube-proxy") for kind in ("configmap", "daemonset")]
    for thing in both:
        thing.pop("status", None)
        for key in ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"):
            thing["metadata"].pop(key, None)
    yield both[0], both[1]
    cluster.kubectl("delete", "-n", SYSTEM, "--ignore-not-found", "daemonset/kube-proxy", "configmap/kube-proxy")
    until(lambda: not cluster.get("pod", "-n", SYSTEM, "-l", "k8s-app=kube-proxy")["items"])
    cluster.apply(*both)
    for number in (1, 2, 3):
        until(lambda: is_ready(cluster.pod("kube-proxy", f"node-{number}")))  # noqa: B023
        until(lambda: cluster.routes(f"node-{number}"))  # noqa: B023


def remove_kube_proxy(cluster: Cluster) -> None:
    cluster.kubectl("delete", "-n", SYSTEM, "daemonset/kube-proxy", "configmap/kube-proxy")
    until(lambda: not cluster.get("pod", "-n", SYSTEM, "-l", "k8s-app=kube-proxy")["items"])


@pytest.fixture
def agents(cluster: Cluster) -> Iterator[Callable[[str], None]]:
    """Cilium's agents, started with what the function was last given; gone afterwards."""
    host, port = cluster.embedded.server.split(":")

    def configure(replacement: str) -> None:
        metadata = {"name": "cilium-config", "namespace": SYSTEM}
        data = {"kube-proxy-replacement": replacement}
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})

    configure("false")
    cluster.apply(agent_daemonset(host, port))
    for number in (1, 2, 3):
        until(lambda: is_ready(cluster.pod("cilium", f"node-{number}")))  # noqa: B023
    yield configure
    cluster.kubectl("delete", "-n", SYSTEM, "daemonset/cilium", "configmap/cilium-config")
    until(lambda: not cluster.get("pod", "-n", SYSTEM, "-l", "k8s-app=cilium")["items"])


def agent_daemonset(host: str, port: str) -> Any:
    env = [{"name": "KUBERNETES_SERVICE_HOST", "value": host}, {"name": "KUBERNETES_SERVICE_PORT", "value": port}]
    labels = {"k8s-app": "cilium"}
    spec = {
        "hostNetwork": True,
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 1,
        "initContainers": [{"name": "config", "image": IMAGE, "env": env}],
        "containers": [{"name": "cilium-agent", "image": IMAGE, "env": env}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "cilium", "namespace": SYSTEM, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "updateStrategy": {"type": "OnDelete"},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def says(cluster: Cluster, node: str) -> str:
    done = cluster.exec("cilium", node, "cilium-dbg", "status", "-o", "json")
    return str(json.loads(done.stdout)["kube-proxy-replacement"]["mode"]) if done.returncode == 0 else ""


def endpoint_states(cluster: Cluster, node: str) -> set[str]:
    done = cluster.exec("cilium", node, "cilium-dbg", "endpoint", "list", "-o", "json")
    endpoints = json.loads(done.stdout)
    assert any("reserved:host" in of["status"]["identity"]["labels"] for of in endpoints)
    return {of["status"]["state"] for of in endpoints}


def restart(cluster: Cluster, node: str) -> None:
    before = cluster.pod("cilium", node)["metadata"]
    cluster.kubectl("delete", "pod", "-n", SYSTEM, before["name"])
    until(lambda: (pod := cluster.pod("cilium", node)) and pod["metadata"]["uid"] != before["uid"])


def test_it_looks_as_kubeadm_leaves_a_cluster(cluster: Cluster) -> None:
    server = cluster.embedded.server
    config = cluster.get("configmap", "-n", SYSTEM, "kube-proxy")["data"]
    assert f"server: https://{server}\n" in config["kubeconfig.conf"]
    assert 'mode: ""' in config["config.conf"] and "clusterCIDR: 10.244.0.0/16" in config["config.conf"]
    kubeadm = cluster.get("configmap", "-n", SYSTEM, "kubeadm-config")["data"]["ClusterConfiguration"]
    assert f"controlPlaneEndpoint: {server}\n" in kubeadm and "kubeadm.k8s.io/v1beta4" in kubeadm
    assert server in cluster.get("configmap", "-n", "kube-public", "cluster-info")["data"]["kubeconfig"]
    nodes = cluster.get("nodes")["items"]
    assert [node["metadata"]["name"] for node in nodes] == ["node-1", "node-2", "node-3"]
    assert all(node["spec"]["podCIDR"].startswith("10.244.") for node in nodes)
    assert "node-role.kubernetes.io/control-plane" in nodes[0]["metadata"]["labels"]
    assert cluster.get("service", "-n", SYSTEM, "kube-dns")["spec"]["clusterIP"] == "10.96.0.10"
    assert cluster.get("service", "-n", "shop", "web-public")["status"]["loadBalancer"]["ingress"]


def test_without_its_configmap_kube_proxy_is_not_created(cluster: Cluster, kube_proxy: tuple[Any, Any]) -> None:
    cluster.kubectl("delete", "-n", SYSTEM, "configmap/kube-proxy")
    cluster.kubectl("delete", "pod", "-n", SYSTEM, cluster.pod("kube-proxy", "node-2")["metadata"]["name"])
    until(lambda: (cluster.pod("kube-proxy", "node-2") or {}).get("status", {}).get("containerStatuses"))
    time.sleep(1.5)
    pod = cluster.pod("kube-proxy", "node-2")
    assert pod["status"]["phase"] == "Pending"
    assert pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating"
    events = cluster.get("events", "-n", SYSTEM, f"--field-selector=involvedObject.name={pod['metadata']['name']}")
    assert 'configmap "kube-proxy" not found' in json.dumps(events).replace('\\"', '"')
    cluster.apply(kube_proxy[0])
    until(lambda: is_ready(cluster.pod("kube-proxy", "node-2")))


def test_rules_follow_the_services_and_freeze_with_the_pod(
    cluster: Cluster, kube_proxy: tuple[Any, Any], agents: Callable[[str], None]
) -> None:
    cluster.kubectl("create", "service", "clusterip", "late", "--tcp=80", "-n", "shop")
    try:
        until(lambda: "shop/late:80 has no endpoints" in cluster.rules("node-1", "cilium"))
        until(lambda: cluster.routes("node-2", "cilium"))
        remove_kube_proxy(cluster)
        frozen = cluster.rules("node-1", "cilium")
        assert "KUBE-SVC-" in frozen
    finally:
        cluster.kubectl("delete", "service", "late", "-n", "shop")
    assert cluster.rules("node-1", "cilium") == frozen
    ended = cluster.task("sweep", "clean", "node-1", command=["/usr/local/bin/kube-proxy", "--cleanup"])
    assert ended["status"]["phase"] == "Succeeded"
    left = cluster.rules("node-1", "cilium")
    assert len([line for line in left.splitlines() if "KUBE-" in line]) == 8, left
    assert "site: ssh from the office" in left
    assert cluster.routes("node-2", "cilium"), "another node was cleaned"


def test_in_nftables_mode_the_rules_are_a_table(cluster: Cluster, kube_proxy: tuple[Any, Any]) -> None:
    remove_kube_proxy(cluster)
    changed = json.loads(json.dumps(kube_proxy[0]))
    changed["data"]["config.conf"] = changed["data"]["config.conf"].replace('mode: ""', "mode: nftables")
    cluster.apply(changed, kube_proxy[1])
    until(lambda: is_ready(cluster.pod("kube-proxy", "node-1")))
    listed = ("nft", "list", "table", "ip", "kube-proxy")
    until(lambda: "service-ips" in cluster.exec("kube-proxy", "node-1", *listed).stdout)
    assert not cluster.routes("node-1")
    assert "table ip6 kube-proxy" in cluster.exec("kube-proxy", "node-1", "nft", "list", "tables").stdout


def test_an_agent_that_was_not_restarted_says_what_it_said(cluster: Cluster, agents: Callable[[str], None]) -> None:
    assert says(cluster, "node-1") == "False"
    agents("true")
    time.sleep(1)
    assert says(cluster, "node-1") == "False"
    restart(cluster, "node-1")
    until(lambda: says(cluster, "node-1") == "True")
    assert says(cluster, "node-2") == "False"


def healthy(cluster: Cluster, node: str) -> bool:
    """Whether port 10256 of a node answers."""
    done = cluster.exec("cilium", node, "timeout", "5", "bash", "-c", HEALTH)
    assert done.returncode == 0 or "Connection refused" in done.stderr, done.stderr
    return done.stdout.startswith("HTTP/1.0 200 OK")


def node_ports(cluster: Cluster, node: str) -> bool:
    """Whether the service tables of a node's kernel have node ports."""
    listed = cluster.exec("cilium", node, "cilium-dbg", "bpf", "lb", "list").stdout
    assert "[ClusterIP, non-routable]" in listed
    return "[NodePort]" in listed


@pytest.fixture
def parked_by_label(cluster: Cluster, kube_proxy: tuple[Any, Any], agents: Callable[[str], None]) -> Iterator[None]:
    """kube-proxy leaves a node with the label's value `cilium`, whose agents replace it with that or with `both`."""
    term = {"matchExpressions": [{"key": ROUTING, "operator": "NotIn", "values": ["cilium"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    strategy = {"type": "OnDelete", "rollingUpdate": None}
    change = {"updateStrategy": strategy, "template": {"spec": {"affinity": {"nodeAffinity": required}}}}
    cluster.kubectl("patch", "daemonset", "kube-proxy", "-n", SYSTEM, "-p", json.dumps({"spec": change}))
    selector = {"matchExpressions": [{"key": ROUTING, "operator": "In", "values": ["cilium", "both"]}]}
    health = {"kube-proxy-replacement-healthz-bind-address": "0.0.0.0:10256"}
    config = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNodeConfig",
        "metadata": {"name": "on", "namespace": SYSTEM},
        "spec": {"nodeSelector": selector, "defaults": {"kube-proxy-replacement": "true", **health}},
    }
    cluster.apply(config)
    yield
    cluster.kubectl("label", "nodes", "--all", f"{ROUTING}-")
    cluster.kubectl("delete", "ciliumnodeconfig", "-n", SYSTEM, "on")


def test_one_node_is_handed_over_and_back(cluster: Cluster, parked_by_label: None) -> None:
    others = ("node-2", "node-3")
    proxies = {node: cluster.pod("kube-proxy", node)["metadata"]["uid"] for node in others}
    assert healthy(cluster, "node-1") and not node_ports(cluster, "node-1")
    cluster.kubectl("label", "node", "node-1", f"{ROUTING}=cilium")
    until(lambda: cluster.pod("kube-proxy", "node-1") is None)
    until(lambda: not healthy(cluster, "node-1"))
    assert says(cluster, "node-1") == "False", "an agent that wasn't restarted took the configuration"

    restart(cluster, "node-1")
    until(lambda: says(cluster, "node-1") == "True")
    assert healthy(cluster, "node-1")
    until(lambda: node_ports(cluster, "node-1"))
    with cluster.fault("node-1", "agent-health-silent"), cluster.fault("node-1", "no-node-ports"):
        until(lambda: not healthy(cluster, "node-1") and not node_ports(cluster, "node-1"))
    assert cluster.task("sweep", "clean", "node-1", args=["--cleanup"])["status"]["phase"] == "Succeeded"
    assert not cluster.routes("node-1", "cilium")
    assert [says(cluster, node) for node in others] == ["False", "False"]

    cluster.kubectl("label", "--overwrite", "node", "node-1", f"{ROUTING}=both")
    until(lambda: is_ready(cluster.pod("kube-proxy", "node-1")))
    until(lambda: cluster.routes("node-1", "cilium"))
    cluster.kubectl("label", "node", "node-1", f"{ROUTING}-")
    assert says(cluster, "node-1") == "True" and healthy(cluster, "node-1")
    restart(cluster, "node-1")
    until(lambda: says(cluster, "node-1") == "False")
    assert healthy(cluster, "node-1"), "kube-proxy didn't take the port that the agent has left"
    until(lambda: "ready" in endpoint_states(cluster, "node-1"))
    assert not node_ports(cluster, "node-1")
    assert {node: cluster.pod("kube-proxy", node)["metadata"]["uid"] for node in others} == proxies


def test_it_says_true_before_its_endpoints_are_ready(cluster: Cluster, agents: Callable[[str], None]) -> None:
    agents("true")
    with cluster.fault("node-1", "endpoint-delay", "4"):
        restart(cluster, "node-1")
        until(lambda: is_ready(cluster.pod("cilium", "node-1")))
        assert says(cluster, "node-1") == "True"
        assert "ready" not in endpoint_states(cluster, "node-1")
        until(lambda: endpoint_states(cluster, "node-1") == {"ready"})


def test_an_agent_with_a_wrong_address_never_starts(cluster: Cluster, agents: Callable[[str], None]) -> None:
    cluster.apply(agent_daemonset("10.99.99.99", "6443"))
    restart(cluster, "node-3")

    def crashed() -> bool:
        return "CrashLoopBackOff" in json.dumps(cluster.pod("cilium", "node-3")["status"].get("initContainerStatuses"))

    until(crashed)
    pod = cluster.pod("cilium", "node-3")
    config = pod["status"]["initContainerStatuses"][0]
    assert config["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert "dial tcp 10.99.99.99:6443: i/o timeout" in config["lastState"]["terminated"]["message"]
    assert not is_ready(pod) and pod["status"]["phase"] == "Pending"


def test_agents_fail_as_a_nodes_annotations_say(cluster: Cluster, agents: Callable[[str], None]) -> None:
    agents("true")
    with cluster.fault("node-1", "agent-keeps-config"), cluster.fault("node-2", "endpoints-stuck"):
        for node in ("node-1", "node-2"):
            restart(cluster, node)
        until(lambda: is_ready(cluster.pod("cilium", "node-1")) and is_ready(cluster.pod("cilium", "node-2")))
        assert says(cluster, "node-1") == "False"
        assert says(cluster, "node-2") == "True"
        with cluster.fault("node-3", "agent-stuck"):
            restart(cluster, "node-3")
            time.sleep(4)
            assert not is_ready(cluster.pod("cilium", "node-3"))
        assert endpoint_states(cluster, "node-2") == {"waiting-to-regenerate"}


def test_exec_fails_as_a_real_runtime_does(cluster: Cluster) -> None:
    missing = cluster.exec("kube-proxy", "node-1", "sh", "-c", "true")
    assert 'exec: "sh": executable file not found in $PATH' in missing.stderr
    wrong = cluster.exec("kube-proxy", "node-1", "iptables-save", "-t", "nowhere")
    assert wrong.returncode == 1 and "does not exist" in wrong.stderr
    assert cluster.exec("kube-proxy", "node-1", "iptables-legacy-save").stdout == ""
    with cluster.fault("node-1", "exec-fails"):
        assert cluster.exec("kube-proxy", "node-1", "iptables-save").returncode != 0
    with cluster.fault("node-1", "exec-slow", "2"):
        began = time.monotonic()
        assert cluster.exec("kube-proxy", "node-1", "iptables-save").returncode == 0
        assert time.monotonic() - began >= 2


def test_tasks_run_and_end(cluster: Cluster) -> None:
    address = f"https://{cluster.embedded.server}/livez"
    assert cluster.task("right", "reach", "node-1", args=[address])["status"]["phase"] == "Succeeded"
    env = [{"name": "KUBERNETES_SERVICE_HOST", "value": "10.99.99.99"}]
    wrong = cluster.task("wrong", "reach", "node-1", env=env)["status"]
    assert wrong["phase"] == "Failed"
    ended = wrong["containerStatuses"][0]["state"]["terminated"]
    assert ended["exitCode"] == 1 and "dial tcp 10.99.99.99:443: i/o timeout" in ended["message"]
    with cluster.fault("node-1", "api-server-unreachable"):
        assert cluster.task("far", "reach", "node-1", args=[address])["status"]["phase"] == "Failed"
    with cluster.fault("node-1", "clean-fails"):
        failed = cluster.task("dirty", "clean", "node-1", args=["--cleanup"])["status"]
        assert failed["phase"] == "Failed" and "tearing down rules" in json.dumps(failed)


def test_a_node_that_is_not_ready_does_nothing(cluster: Cluster, kube_proxy: tuple[Any, Any]) -> None:
    label = "node-not-ready.stage.kwok.x-k8s.io"
    cluster.kubectl("label", "node", "node-3", f"{label}=true")
    try:
        until(lambda: not is_ready(cluster.get("node", "node-3")))
        assert "connection refused" in cluster.exec("kube-proxy", "node-3", "iptables-save").stderr
        name = cluster.pod("kube-proxy", "node-3")["metadata"]["name"]
        cluster.kubectl("delete", "pod", "-n", SYSTEM, name, "--wait=false")
        time.sleep(1.5)
        assert "deletionTimestamp" in cluster.get("pod", "-n", SYSTEM, name)["metadata"]
    finally:
        cluster.kubectl("label", "node", "node-3", f"{label}-")
    until(lambda: is_ready(cluster.get("node", "node-3")))
    until(lambda: cluster.run("get", "pod", "-n", SYSTEM, name).returncode != 0)


def test_kube_proxy_that_writes_no_rules(cluster: Cluster, kube_proxy: tuple[Any, Any]) -> None:
    remove_kube_proxy(cluster)
    assert cluster.task("sweep", "clean", "node-2", args=["--cleanup"])["status"]["phase"] == "Succeeded"
    with cluster.fault("node-2", "kube-proxy-writes-no-rules"):
        cluster.apply(*kube_proxy)
        until(lambda: is_ready(cluster.pod("kube-proxy", "node-2")))
        time.sleep(2)
        assert cluster.routes("node-1") and not cluster.routes("node-2")
    cluster.kubectl("delete", "pod", "-n", SYSTEM, cluster.pod("kube-proxy", "node-2")["metadata"]["name"])


def test_the_rules_are_those_that_a_real_kube_proxy_wrote() -> None:
    """The simulator's own tests, built as the simulator is, so that nothing is compiled twice."""
    module = Path(__file__).resolve().parents[2] / "local" / "go" / "node-simulator"
    done = subprocess.run(
        ["go", "test", "-trimpath", "-buildvcs=false", "./..."],
        cwd=module,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def processes_of(folder: Path) -> list[str]:
    """The command lines of everything that has to do with a folder."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(folder) in command:
                found.append(command)
    return found


def test_it_ends_what_it_started_and_nothing_else(toolchain: Toolchain, cluster: Cluster, tmp_path: Path) -> None:
    second = EmbeddedCluster(tmp_path / "second", toolchain, nodes=1, agent_ready=2.5)
    try:
        second.start()
        assert any("--agent-ready=2.5s" in command for command in processes_of(tmp_path))
        assert second.is_running() and second.server != cluster.embedded.server
        before = second.server
        second.stop()
        assert not processes_of(tmp_path)
        assert cluster.embedded.is_running()

        second.start()  # goes on where it was, at the same address
        assert second.is_running() and second.server == before
    finally:
        second.remove()
    assert not (tmp_path / "second").exists() and not processes_of(tmp_path)


def test_an_interrupted_start_leaves_nothing_that_cannot_be_ended(toolchain: Toolchain, tmp_path: Path) -> None:
    interrupted = EmbeddedCluster(tmp_path / "third", toolchain, nodes=1)

    def interrupt(line: str) -> None:
        if line.startswith("Starting the controllers"):
            raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted.start(interrupt)
        assert processes_of(tmp_path)
    finally:
        EmbeddedCluster(tmp_path / "third", toolchain).remove()
    assert not processes_of(tmp_path)


def test_a_process_that_came_later_under_the_same_id_is_left_alone(toolchain: Toolchain, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            (tmp_path / "run").mkdir()
            (tmp_path / "run" / "etcd").write_text(f"{other.pid} 1\n")
            EmbeddedCluster(tmp_path, toolchain).stop()
            assert other.poll() is None
        finally:
            other.kill()
