"""What the component declares, seen by Pulumi's mocks: a mock shows what is declared, never that it works."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pulumi
import pytest
from pulumi.runtime import mocks, rpc_manager, set_mocks
from pulumi.runtime.settings import SETTINGS

from kube_proxy_replacement import command, ownership, rendering, run

# What a refused program left behind is told of by asyncio as it is collected, after the run's last lines.
logging.getLogger("asyncio").setLevel(logging.CRITICAL)

FOUND = {
    "cluster": "uid-of-kube-system",
    "server": "https://192.0.2.10:6443",
    "apiServer": {"host": "192.0.2.10", "port": 6443, "source": "ConfigMap kube-system/kube-proxy"},
    "podAddresses": {"ipam": {"mode": "kubernetes"}},
    "image": "quay.io/cilium/cilium:v1.18.6",
    "mark": "",
    "findings": [],
    "restart": [],
    "notes": [],
}
ADOPTED = {
    "adopted": True,
    "owner": "0123456789abcdef",
    "own": {"kubeProxyReplacement": "true", "k8sServiceHost": "192.0.2.10", "k8sServicePort": "6443"},
}
OWNERS = {"cluster": {"id": 9007199254740993, "name": None}, "tolerations": []}
RELEASE = {"name": "cilium", "namespace": "kube-system", "version": "1.18.6", "revision": 1, "status": "deployed"}
STATUS = {
    "kubeProxyReplacement": "True",
    "agents": {},
    "nodes": {},
    "handOver": {},
    "kubeProxy": {},
    "release": RELEASE,
}


COMMANDS = ("kpr-hand-over", "kpr-daemonset", "kpr-configmap", "kpr-way-back", "kpr-agents")


class Cluster(mocks.Mocks):
    """Answers as the engine would.

    `uid` is what the Release's provider reads; `says` what the chart renders instead of the value that it was given.
    """

    def __init__(self, uid: str, says: str = "", *, adopted: bool = False) -> None:
        self.uid = uid
        self.adopted = adopted
        self.says = says
        self.rendered: list[dict[str, Any]] = []
        self.inputs: dict[str, dict[str, Any]] = {}

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.inputs[args.name] = args.inputs
        more: dict[str, Any] = {}
        if args.name.endswith("-found"):
            more = FOUND | (ADOPTED if self.adopted else {})
        elif args.name.endswith("-cilium") and not self.adopted:
            more = {"status": RELEASE}
        elif args.name.endswith("-status"):
            more = STATUS
        elif args.typ == "command:local:Command":
            more = {"stdout": "done"}
        elif args.name.endswith("-cluster"):
            more = {"metadata": {"uid": self.uid}}
        return f"{args.name}-id", {**args.inputs, **more}

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:
        """The plugin's `helm:template`: as the chart renders the values that matter."""
        told = json.loads(args.args["jsonOpts"])
        self.rendered.append(told)
        values = told["values"]
        env = {"KUBERNETES_SERVICE_HOST": values["k8sServiceHost"], "KUBERNETES_SERVICE_PORT": values["k8sServicePort"]}
        agent = {"name": "cilium-agent", "env": [{"name": key, "value": value} for key, value in env.items()]}
        config = {"kube-proxy-replacement": self.says or values["kubeProxyReplacement"]}
        return {
            "result": [
                {"kind": "ConfigMap", "metadata": {"name": "cilium-config"}, "data": config},
                {
                    "kind": "DaemonSet",
                    "metadata": {"name": "cilium"},
                    "spec": {"template": {"spec": {"containers": [agent]}}},
                },
            ]
        }


class Monitor(mocks.MockMonitor):
    """Keeps each registration as it came, with its dependencies."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.requests: dict[str, Any] = {}

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - gRPC's name
        self.requests[request.name] = request
        return super().RegisterResource(request)


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Monitor, Cluster]]]:
    # it asks the API server itself; its own test does that
    monkeypatch.setattr(rendering, "demand_way", lambda manifest, settings, preview: [])

    monkeypatch.setattr(ownership, "adopted", lambda parsed, on_top, folder: (folder / "chart", OWNERS))

    def run(
        args: dict[str, Any], uid: str = str(FOUND["cluster"]), says: str = "", *, adopted: bool = False
    ) -> tuple[Monitor, Cluster]:
        from kube_proxy_replacement import KubeProxyReplacement

        cluster = Cluster(uid, says, adopted=adopted)
        monitor = Monitor(cluster)
        set_mocks(cluster, project="kube-proxy-replacement", stack="test", preview=False, monitor=monitor)

        @pulumi.runtime.test
        def program_() -> Any:
            replacement = KubeProxyReplacement("kpr", args)  # type: ignore[arg-type]
            return pulumi.Output.all(**replacement.outputs())

        try:
            program_()
        finally:
            _end_what_is_left()
        return monitor, cluster

    yield run
    SETTINGS.rpc_manager = rpc_manager.RPCManager()
    asyncio.set_event_loop(None)


def _end_what_is_left() -> None:
    """A program that is refused leaves tasks behind; asyncio would complain of them after the run's last lines."""
    loop = asyncio.get_event_loop()
    while tasks := [task for task in asyncio.all_tasks(loop) if not task.done()]:
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


def dependencies(monitor: Monitor, name: str) -> set[str]:
    return {urn.split("::")[-1] for urn in monitor.requests[name].dependencies}


def test_the_release_depends_on_both_removals(declare: Any) -> None:
    monitor, _ = declare({"mode": "replace"})

    assert {"kpr-daemonset", "kpr-configmap"} <= dependencies(monitor, "kpr-cilium")


def test_the_daemonset_goes_before_the_configmap_and_neither_before_the_look(declare: Any) -> None:
    monitor, _ = declare({"mode": "replace"})

    assert "kpr-found" in dependencies(monitor, "kpr-daemonset")
    assert "kpr-daemonset" in dependencies(monitor, "kpr-configmap")


def test_cleaning_waits_for_the_release_and_the_status_for_all(declare: Any) -> None:
    monitor, _ = declare({"mode": "replace"})

    assert "kpr-cilium" in dependencies(monitor, "kpr-agents")
    assert {"kpr-daemonset", "kpr-configmap", "kpr-cilium", "kpr-agents"} <= dependencies(monitor, "kpr-status")


def test_both_modes_declare_the_same_resources(declare: Any) -> None:
    replace, _ = declare({"mode": "replace"})
    coexist, _ = declare({"mode": "coexist"})

    assert {(r.type, r.name) for r in replace.requests.values()} == {
        (r.type, r.name) for r in coexist.requests.values()
    }


def test_a_change_of_mode_changes_no_line_and_no_trigger_of_a_command(declare: Any) -> None:
    _, replace = declare({"mode": "replace"})
    _, coexist = declare({"mode": "coexist"})

    for name in COMMANDS:
        for key in ("create", "update", "delete", "triggers", "dir", "interpreter"):
            assert replace.inputs[name].get(key) == coexist.inputs[name].get(key)
        assert "triggers" not in replace.inputs[name]
        assert replace.inputs[name]["environment"] != coexist.inputs[name]["environment"]


def test_every_line_is_a_step_that_run_knows_and_every_step_is_a_line(declare: Any) -> None:
    """A verb without a line starts nothing: not even Python, in the way back's create or the agents' delete."""
    _, cluster = declare({"mode": "replace"}, adopted=True)

    names = (*COMMANDS, "kpr-cilium")
    lines = [cluster.inputs[name][verb] for name in names for verb in command.VERBS if verb in cluster.inputs[name]]
    assert sorted(tuple(line.split()[-2:]) for line in lines) == sorted(run.STEPS)


def test_no_setting_is_in_a_line_that_a_shell_runs(declare: Any) -> None:
    hostile = "x'; touch /tmp/owned; $(reboot) `id` é\n"
    _, cluster = declare({"mode": "replace", "kube_context": hostile, "chart": hostile})

    for name in COMMANDS:
        inputs = cluster.inputs[name]
        assert not any("touch" in inputs.get(key, "") for key in ("create", "update", "delete"))
        assert inputs["environment"]["KUBE_PROXY_REPLACEMENT_CONTEXT"] == hostile


def test_a_key_that_python_cannot_have_arrives_under_its_settings_name(declare: Any) -> None:
    _, cluster = declare({"mode": "replace", "node_by_node": {"batch_size": "10%", "continue_": True}})
    assert cluster.inputs["kpr-found"]["nodeByNode"] == {"batchSize": "10%", "continue": True}


def test_the_release_never_waits_and_is_never_atomic(declare: Any) -> None:
    _, cluster = declare({"mode": "replace"})
    release = cluster.inputs["kpr-cilium"]

    assert release["skipAwait"] is True
    assert release["atomic"] is False
    values = release["values"]
    assert values["kubeProxyReplacement"] == "true"
    assert (values["k8sServiceHost"], values["k8sServicePort"]) == ("192.0.2.10", "6443")
    assert values["rollOutCiliumPods"] and values["operator"]["rollOutPods"] and values["envoy"]["rollOutPods"]
    assert values["kubeProxyReplacementHealthzBindAddr"] == "0.0.0.0:10256"
    assert values["ipam"] == {"mode": "kubernetes"}


def test_coexist_gives_the_agents_the_address_but_not_the_port_of_kube_proxy(declare: Any) -> None:
    _, cluster = declare({"mode": "coexist"})
    values = cluster.inputs["kpr-cilium"]["values"]

    assert values["kubeProxyReplacement"] == "false"
    assert values["k8sServiceHost"] == "192.0.2.10"
    assert "kubeProxyReplacementHealthzBindAddr" not in values


def test_every_command_carries_the_cluster_and_the_mark(declare: Any) -> None:
    _, cluster = declare({"mode": "replace"})

    for name in COMMANDS:
        environment = cluster.inputs[name]["environment"]
        assert json.loads(environment["KUBE_PROXY_REPLACEMENT_ORDER"])["cluster"] == FOUND["cluster"]
        assert environment["KUBE_PROXY_REPLACEMENT_MARK"] == FOUND["mark"]


def test_every_command_carries_the_run_that_found(declare: Any) -> None:
    _, cluster = declare({"mode": "replace"})

    run = cluster.inputs["kpr-found"]["run"]
    assert run.startswith("kube-proxy-replacement/test/")
    for name in COMMANDS:
        assert cluster.inputs[name]["environment"]["KUBE_PROXY_REPLACEMENT_RUN"] == run


def test_a_chart_that_renders_otherwise_is_refused_before_any_command(declare: Any) -> None:
    with pytest.raises(pulumi.RunError, match=r"renders kube-proxy-replacement: 'false'.*Nothing was changed"):
        declare({"mode": "replace"}, says="false")


@pytest.mark.parametrize(
    ("chart", "where"),
    [
        ("", {"chart": "cilium", "fetch_opts": {"repo": "https://helm.cilium.io"}}),
        ("https://charts.example/x", {"chart": "cilium", "fetch_opts": {"repo": "https://charts.example/x"}}),
        ("oci://registry.example/cilium", {"chart": "oci://registry.example/cilium"}),
        ("./charts/cilium-1.18.6.tgz", {"path": "charts", "chart": "cilium-1.18.6.tgz"}),
        ("/srv/cilium", {"path": "/srv", "chart": "cilium"}),
    ],
)
def test_the_chart_that_is_rendered_is_the_releases_own(declare: Any, chart: str, where: dict[str, Any]) -> None:
    _, cluster = declare({"mode": "replace", "chart": chart, "cilium_version": "1.18.6"})

    told = cluster.rendered[0]
    assert {key: told[key] for key in ("chart", "path", "fetch_opts") if key in told} == where
    assert told["values"] == cluster.inputs["kpr-cilium"]["values"]


def test_two_clusters_are_refused_before_any_command(declare: Any) -> None:
    cluster = "uid-of-another-cluster"
    with pytest.raises(pulumi.RunError, match=f"(?s){FOUND['cluster']}.*{cluster}"):
        declare({"mode": "replace"}, uid=cluster)


def test_an_unknown_argument_is_named_with_the_nearest(declare: Any) -> None:
    with pytest.raises(pulumi.RunError, match="'apiServerHosts': there is no such setting; did you mean apiServerHost"):
        declare({"mode": "replace", "api_server_hosts": "192.0.2.10"})


def test_an_adopted_release_is_no_release_of_pulumis(declare: Any) -> None:
    monitor, cluster = declare({"mode": "replace"}, adopted=True)

    assert {request.type for request in monitor.requests.values()} & {"kubernetes:helm.sh/v3:Release"} == set()
    assert "delete" not in cluster.inputs["kpr-cilium"], "it is never uninstalled"
    assert {"kpr-daemonset", "kpr-configmap"} <= dependencies(monitor, "kpr-cilium")
    for later in ("kpr-agents", "kpr-way-back", "kpr-status"):
        assert "kpr-cilium" in dependencies(monitor, later)


def test_what_an_adopted_release_is_given_is_ours_alone_and_rendered_with_its_owners(declare: Any) -> None:
    _, cluster = declare({"mode": "replace", "values": {"bpf": {"lbMapMax": 131072.0}}}, adopted=True)

    ours = {**ADOPTED["own"], "bpf": {"lbMapMax": 131072}}  # type: ignore[dict-item]
    for name in ("kpr-cilium", "kpr-way-back", "kpr-daemonset"):
        assert json.loads(cluster.inputs[name]["environment"]["KUBE_PROXY_REPLACEMENT_VALUES"]) == ours
    (rendered,) = cluster.rendered
    assert rendered["values"] == OWNERS | ours
    assert rendered["chart"] == "chart"
    assert "9007199254740993" not in json.dumps(cluster.inputs), "the owner's values never go through Pulumi"


def test_what_changes_an_adopted_release_makes_the_agents_be_awaited(declare: Any) -> None:
    _, one = declare({"mode": "replace"}, adopted=True)
    _, other = declare({"mode": "replace", "values": {"debug": {"enabled": True}}}, adopted=True)

    assert one.inputs["kpr-agents"]["environment"] != other.inputs["kpr-agents"]["environment"]
    assert one.inputs["kpr-status"]["revision"] != other.inputs["kpr-status"]["revision"]
