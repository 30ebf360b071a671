from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kube_proxy_replacement.cluster.agent_reading import AgentReading, parse
from kube_proxy_replacement.cluster.errors import ProcedureError

SAMPLES = Path(__file__).parent / "samples"  # of a real node, Cilium 1.20.2


def sample(tag: str) -> AgentReading:
    status, endpoints = (
        (SAMPLES / f"cilium-1.20.2-{what}-{tag}.json").read_text() for what in ("status", "endpoint-list")
    )
    return parse(status, endpoints)


def status(mode: str = "True", **parts: Any) -> str:
    replacement = {"mode": mode, "devices": ["eth0"], "features": {}} | parts.pop("replacement", {})
    cilium = {"state": "Ok", "msg": "1.20.2 (v1.20.2-0000000)"}
    return json.dumps({"cilium": cilium, "kube-proxy-replacement": replacement} | parts)


def an_endpoint(*labels: str, state: str = "ready", number: int = 1, pod: str = "") -> dict[str, Any]:
    names = {"pod-name": pod} if pod else {}
    return {
        "id": number,
        "status": {"state": state, "identity": {"labels": list(labels)}, "external-identifiers": names},
    }


HOST = an_endpoint("reserved:host", number=7)
READY = json.dumps([HOST])


def test_a_switched_agent() -> None:
    assert sample("replace") == AgentReading(
        kube_proxy_replacement="True",
        version="1.20.2",
        devices=("eth0",),
        ok=True,
        features={
            "externalIPs": True,
            "hostNamespaceOnly": False,
            "hostPort": True,
            "nodePort": True,
            "nodePortAcceleration": "Disabled",
            "nodePortAlgorithm": "Random",
            "nodePortMode": "SNAT",
            "sessionAffinity": True,
            "socketLB": True,
        },
        not_ready_endpoints=(),
    )
    assert sample("replace").switched


def test_an_agent_whose_flag_is_ahead_of_its_kernel_isnt_switched() -> None:
    reading = sample("ready-not-switched")
    assert (reading.replacing, reading.ok, reading.switched) == (True, True, False)
    assert reading.not_ready_endpoints == (
        "endpoint 1061: restoring",
        "endpoint 3684: waiting-to-regenerate",
        "reserved:health: waiting-to-regenerate",
        "reserved:host: waiting-to-regenerate",
    )


def test_an_agent_beside_kube_proxy() -> None:
    reading = sample("kube-proxy")
    assert (reading.kube_proxy_replacement, reading.replacing, reading.switched) == ("False", False, False)
    assert reading.not_ready_endpoints == ()
    assert reading.features["nodePort"] is False
    assert "nodePortMode" not in reading.features
    assert reading.features["sessionAffinity"] is True


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("True", "True"),
        ("true", "True"),
        ("Strict", "True"),
        ("False", "False"),
        ("Disabled", "False"),
        ("Partial", "Partial"),
        ("Probe", "Partial"),
    ],
)
def test_the_modes_of_all_versions(mode: str, said: str) -> None:
    reading = parse(status(mode), READY)
    assert (reading.kube_proxy_replacement, reading.switched) == (said, said == "True")


@pytest.mark.parametrize(
    ("endpoints", "named"),
    [
        ([], ("reserved:host: missing",)),
        (None, ("reserved:host: missing",)),
        ([an_endpoint("k8s:app=web")], ("reserved:host: missing",)),
        ([HOST, an_endpoint("reserved:health", state="regenerating")], ("reserved:health: regenerating",)),
        (
            [an_endpoint("k8s:node-role=cp", "reserved:host", state="not-ready")],
            ("reserved:host: not-ready",),
        ),
        ([HOST, an_endpoint("k8s:app=web", state="creating", pod="shop/web-0")], ("shop/web-0: creating",)),
        ([HOST, {"id": 3, "status": {}}], ("endpoint 3: unknown",)),
    ],
)
def test_switched_needs_every_endpoint_and_the_nodes_own(endpoints: Any, named: tuple[str, ...]) -> None:
    reading = parse(status(), json.dumps(endpoints))
    assert (reading.not_ready_endpoints, reading.switched) == (named, False)


def test_a_reading_doesnt_change_with_the_order_or_what_is_volatile() -> None:
    one = parse(status(replacement={"devices": ["eth1", "eth0", ""]}, controllers=[{"n": 1}]), READY)
    two = parse(
        status(replacement={"devices": ["eth0 10.0.0.4", "eth1"]}, controllers=[{"n": 2}]),
        json.dumps([an_endpoint("k8s:app=web", number=9), HOST]),
    )
    assert one == two
    assert one.devices == ("eth0", "eth1")


@pytest.mark.parametrize(
    ("parts", "ok"),
    [
        ({}, True),
        ({"kubernetes": {"state": "Ok"}}, True),
        ({"kubernetes": {"state": "Disabled"}}, True),
        ({"kubernetes": {"state": "Failure"}}, False),
        ({"cilium": {"state": "Warning", "msg": "1.20.2 (v1.20.2-0000000)    Stale status data"}}, False),
    ],
)
def test_an_agent_that_complains_isnt_ok(parts: dict[str, Any], ok: bool) -> None:
    reading = parse(status(**parts), READY)
    assert (reading.ok, reading.version) == (ok, "1.20.2")


def test_an_agent_before_its_first_probes_has_no_version() -> None:
    warning = {"state": "Warning", "msg": "Not all probes executed at least once"}
    assert parse(status(cilium=warning), READY).version == ""


def test_host_namespace_only() -> None:
    reading = parse(status(replacement={"features": {"bpfSocketLBHostnsOnly": True}}), READY)
    assert reading.features["hostNamespaceOnly"] is True


@pytest.mark.parametrize(
    ("said", "endpoints", "message"),
    [
        ("", READY, "cilium-dbg status -o json printed no JSON, but: nothing"),
        ("Error: agent\nnot running", READY, "status -o json printed no JSON, but: Error: agent not running"),
        ("[]", READY, "status -o json is missing or no object"),
        ("{}", READY, "kube-proxy-replacement in the agent's status is missing"),
        (status(mode=""), READY, "unknown kube-proxy-replacement.mode: ''"),
        (status(mode="Maybe"), READY, "unknown kube-proxy-replacement.mode: 'Maybe'"),
        (status(cilium=None), READY, "cilium in the agent's status is missing"),
        (status(replacement={"devices": "eth0"}), READY, "devices in the agent's status is no list"),
        (status(), "", "endpoint list -o json printed no JSON"),
        (status(), "{}", "endpoint list -o json printed no list"),
        (status(), "[3]", "status of the agent's endpoint 0 is missing"),
        (status(), '[{"id": 3}]', "status of the agent's endpoint 0 is missing"),
    ],
)
def test_what_cant_be_understood_says_what(said: str, endpoints: str, message: str) -> None:
    with pytest.raises(ProcedureError) as caught:
        parse(said, endpoints)
    assert message in str(caught.value)
