"""Which Services there are, and who asks them."""

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from local.real import carried, moving, objects, streams
from local.real.carried import SERVICES, service

NODES = [1, 2]
PROGRAM = Path("/cache/traffic")


def test_no_two_services_share_an_address_or_a_port() -> None:
    addresses = [its.cluster_ip for its in SERVICES]
    ports = [port for its in SERVICES for port in its.node_ports]
    outside = [its.address(node) for its in SERVICES if its.is_routed for node in NODES]
    for found in (addresses, ports, outside, [its.name for its in SERVICES]):
        assert [value for value, count in Counter(found).items() if count > 1] == []


def test_ports_and_addresses_are_of_the_part_that_is_for_chosen_ones() -> None:
    # The API server takes its own from above these: 86 of 2768 ports, 256 of 2^20 addresses.
    assert all(30000 <= port < 30086 for its in SERVICES for port in its.node_ports)
    assert all(its.cluster_ip.startswith("10.96.0.") and int(its.cluster_ip.split(".")[3]) < 256 for its in SERVICES)


def test_each_kind_has_what_sets_it_apart() -> None:
    specs = {its.name: its.service(NODES)["spec"] for its in SERVICES}
    assert specs["local-host"]["externalTrafficPolicy"] == "Local"
    assert specs["internal-pod"]["internalTrafficPolicy"] == "Local"
    assert specs["external-host"]["externalIPs"] == [service("external").address(node) for node in NODES]
    assert specs["sticky-pod"]["sessionAffinity"] == "ClientIP"
    assert [port["protocol"] for port in specs["dns-host"]["ports"]] == ["UDP"]
    assert [port["targetPort"] for port in specs["ports-pod"]["ports"]] == [carried.PORT, carried.SECOND_PORT]
    assert "selector" not in specs["moving"]
    assert specs["empty"]["selector"] not in ({"app": "server-host"}, {"app": "server-pod"})
    balancer = service("balancer", "pod")
    assert specs[balancer.name]["type"] == "LoadBalancer"
    assert [its["ip"] for its in balancer.service(NODES)["status"]["loadBalancer"]["ingress"]] == [
        balancer.address(node) for node in NODES
    ]


def test_clients_outside_ask_every_node_by_every_kind_that_is_reached_from_there() -> None:
    asked = streams.outside(NODES, "host")
    new = {stream.name for stream in asked if stream.kind != "long"}
    for node in ("node-1", "node-2"):
        kinds = {name.partition("@")[0] for name in new if name.endswith(node)}
        wanted = {"cluster", "local", "external", "balancer", "sticky", "dns", "ports"}
        assert kinds == {f"{kind}-host" for kind in wanted} | {"ports-host/2", "moving"}


def test_an_address_leads_to_the_node_that_its_stream_names() -> None:
    found = {stream.name: stream.address for stream in streams.outside(NODES, "pod")}
    assert found["cluster-pod@node-2"] == f"10.10.0.12:{service('cluster', 'pod').node_ports[0]}"
    assert found["ports-pod/2@node-1"] == f"10.10.0.11:{service('ports', 'pod').node_ports[1]}"
    assert found["balancer-pod@node-2"] == f"{service('balancer', 'pod').address(2)}:80"


def test_no_two_services_are_asked_by_one_client() -> None:
    clients: dict[str, set[str]] = {}
    for stream in [*streams.outside(NODES, "host"), *streams.outside(NODES, "pod")]:
        clients.setdefault(stream.client, set()).add(stream.name.partition("@")[0])
    assert {client: names for client, names in clients.items() if len(names) > 1} == {}
    assert "" not in clients
    # Above the nodes', below the client's that asks for what is no Service.
    assert all(130 <= int(client.split(".")[3]) < 200 for client in clients)


def test_what_is_kept_goes_where_new_connections_go() -> None:
    found = {stream.name: stream for stream in streams.outside(NODES, "host")}
    kept = {name: stream for name, stream in found.items() if stream.kind == "long"}
    assert len(kept) == 10
    for name, stream in kept.items():
        assert stream.address == found[name.replace("/long", "")].address


def test_two_nodes_get_two_hundred_new_connections_a_second() -> None:
    inside = [stream for its in ("host", "pod") for sender in streams.senders(its) for stream in sender.streams]
    outside = [stream for its in ("host", "pod") for stream in streams.outside(NODES, its)]
    # Each node has a sender of each kind.
    rate = sum(stream.rate for stream in outside if stream.kind == "tcp")
    rate += len(NODES) * sum(stream.rate for stream in inside if stream.kind == "tcp")
    assert rate >= 200


def test_ordinary_pods_send_only_once_they_may_be_behind_services_too() -> None:
    assert {sender.host_network for sender in streams.senders("host")} == {True}
    assert {sender.host_network for sender in streams.senders("pod")} == {True, False}


def test_health_is_asked_of_every_node_twice_a_second() -> None:
    health = [stream for stream in streams.watched(NODES) if stream.kind == "http"]
    assert [(its.name, its.address, its.rate) for its in health] == [
        ("health@node-1", "10.10.0.11:10256/healthz", 2),
        ("health@node-2", "10.10.0.12:10256/healthz", 2),
    ]


def test_the_control_goes_past_every_service() -> None:
    [*control] = [stream for stream in streams.watched(NODES) if stream.name.startswith(streams.CONTROL)]
    targets = {port for its in SERVICES for port in its.targets}
    assert len(control) == len(NODES)
    for stream in control:
        assert int(stream.address.partition(":")[2]) not in targets


@pytest.mark.parametrize("sender", [*streams.senders("host"), *streams.senders("pod")], ids=lambda its: its.name)
def test_a_sender_has_its_spec_and_its_folder(sender: streams.Sender) -> None:
    config, daemon = sender.objects(PROGRAM, Path("/results-here"), 1234.5, 60)
    spec = json.loads(config["data"]["spec.json"])
    assert spec["until"] == 1234.5
    assert [stream["name"] for stream in spec["streams"]] == [stream.name for stream in sender.streams]
    assert all(stream["timeout"] == 3.0 for stream in spec["streams"])
    assert [stream["count"] for stream in spec["streams"]] == [60 * stream.rate for stream in sender.streams]
    pod = daemon["spec"]["template"]["spec"]
    [container] = pod["containers"]
    mounts = {its["mountPath"]: its["name"] for its in container["volumeMounts"]}
    volumes = {its["name"]: its for its in pod["volumes"]}
    assert volumes[mounts["/results"]]["hostPath"]["path"] == "/results-here"
    assert volumes[mounts["/spec"]]["configMap"]["name"] == config["metadata"]["name"]
    assert volumes[mounts["/opt/traffic"]]["hostPath"]["path"] == str(PROGRAM)
    assert container["command"][-2:] == [f"/results/{sender.file}", "/spec/spec.json"]
    assert pod["hostNetwork"] is sender.host_network
    # Longer than the wait for an answer: those that are asked when the pod is deleted are still written.
    assert pod["terminationGracePeriodSeconds"] > streams.TIMEOUT


def test_no_two_senders_write_to_one_file() -> None:
    files = [sender.file for its in ("host", "pod") for sender in streams.senders(its)]
    assert len(set(files)) == len(files)
    assert all("$(NODE)" in file for file in files)


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_kube_proxy_takes_a_change_up_before_it_counts_as_missed(mode: str, tmp_path: Path) -> None:
    ca = tmp_path / "ca.crt"
    ca.write_text("")
    [config] = [
        its
        for its in objects.kubeadm(ca, mode)
        if (its["kind"], its["metadata"]["name"]) == ("ConfigMap", "kube-proxy")
    ]
    period = yaml.safe_load(config["data"]["config.conf"])[mode]["minSyncPeriod"]
    assert period.endswith("ms")
    assert 0 < int(period.removesuffix("ms")) / 1000 < moving.GRACE / 2


def test_every_service_but_the_empty_one_has_servers() -> None:
    things = carried.all_objects(NODES, PROGRAM)
    apps = {its["metadata"]["name"] for its in things if its["kind"] == "DaemonSet"}
    selected = {
        its["metadata"]["name"]: its["spec"]["selector"]["app"]
        for its in things
        if its["kind"] == "Service" and "selector" in its["spec"]
    }
    assert {name for name, app in selected.items() if app not in apps} == {"empty"}
    [moved] = [its for its in things if its["kind"] == "EndpointSlice"]
    assert moved["metadata"]["labels"]["kubernetes.io/service-name"] == "moving"
    assert moved["endpoints"][0]["addresses"] == ["10.10.0.11"]


def test_ordinary_pods_can_be_told_by_their_label() -> None:
    key, _, value = carried.ORDINARY.partition("=")
    for daemon in (its for its in carried.all_objects(NODES, PROGRAM) if its["kind"] == "DaemonSet"):
        template = daemon["spec"]["template"]
        assert (template["metadata"]["labels"].get(key) == value) is not template["spec"]["hostNetwork"]
