from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kube_proxy_replacement.cluster.told import NodeByNode
from kube_proxy_replacement.config import PROGRAM
from kube_proxy_replacement.settings import NAMES, Settings, SettingsError, parse, unknown

ROOT = Path(__file__).parents[2]


def refused(**given: Any) -> list[str]:
    """The reasons why these settings, beside a good mode, can't be used."""
    with pytest.raises(SettingsError) as caught:
        parse({"mode": "replace", **given})
    return caught.value.reasons


class TestDefaults:
    def test_only_the_mode_is_required(self) -> None:
        assert parse({"mode": "coexist"}) == Settings(
            mode="coexist",
            api_server_host="",
            api_server_port=0,
            cilium_version="",
            chart="",
            namespace="kube-system",
            release_name="cilium",
            kubeconfig=None,
            kube_context=None,
            values={},
            strategy="",
            node_by_node=NodeByNode(
                "1", order=(), settle_seconds=0, canaries="", go_on=False, pause_after="", drain=False
            ),
            load_balancer={},
            hubble=None,
            keep_connections=None,
            timeout_seconds=600,
            on_failure="rollback",
            skip_checks=(),
        )

    @pytest.mark.parametrize("nothing", [None, "", 0, 0.0, {}, []])
    def test_what_is_empty_is_not_set(self, nothing: Any) -> None:
        assert parse(dict.fromkeys(NAMES, nothing) | {"mode": "replace"}) == parse({"mode": "replace"})

    @pytest.mark.parametrize("nothing", [{}, {"mode": None}, {"mode": ""}])
    def test_a_mode_that_is_not_set_is_named_with_both_words(self, nothing: dict[str, Any]) -> None:
        with pytest.raises(SettingsError, match=r"mode: not set.*coexist.*replace"):
            parse(nothing)

    def test_false_is_a_value(self) -> None:
        parsed = parse({"mode": "replace", "hubble": False, "keepConnections": False})
        assert (parsed.hubble, parsed.keep_connections) == (False, False)


class TestValues:
    def test_everything_that_is_set_arrives(self) -> None:
        given = {
            "mode": "replace",
            "apiServerHost": "api.example",
            "apiServerPort": 7443,
            "ciliumVersion": "1.18.6",
            "chart": "oci://registry.example/cilium",
            "namespace": "network",
            "releaseName": "mesh",
            "kubeconfig": "content",
            "kubeContext": "prod",
            "values": {"bpf": {"masquerade": True}},
            "loadBalancer": {"mode": "dsr", "sessionAffinity": False},
            "hubble": False,
            "keepConnections": True,
            "timeoutSeconds": 30,
            "onFailure": "keep",
            "skipChecks": ["managed-by", "distribution"],
            "strategy": "node-by-node",
            "nodeByNode": {
                "batchSize": "10%",
                "order": ["zone=a", "zone in (b, c)"],
                "settleSeconds": 5,
                "canaries": "canary",
                "continue": True,
                "pauseAfter": 7,
                "drain": True,
            },
            "verify": "status",
        }
        assert parse(given) == Settings(
            mode="replace",
            api_server_host="api.example",
            api_server_port=7443,
            cilium_version="1.18.6",
            chart="oci://registry.example/cilium",
            namespace="network",
            release_name="mesh",
            kubeconfig="content",
            kube_context="prod",
            values={"bpf": {"masquerade": True}},
            strategy="node-by-node",
            node_by_node=NodeByNode("10%", ("zone=a", "zone in (b, c)"), 5, "canary", True, "7", True),
            load_balancer={"mode": "dsr", "sessionAffinity": False},
            hubble=False,
            keep_connections=True,
            timeout_seconds=30,
            on_failure="keep",
            skip_checks=("managed-by", "distribution"),
        )

    def test_numbers_may_come_as_floats_as_pulumi_sends_them(self) -> None:
        parsed = parse({"mode": "replace", "apiServerPort": 6443.0, "timeoutSeconds": 20.0})
        assert (parsed.api_server_port, parsed.timeout_seconds) == (6443, 20)
        assert isinstance(parsed.api_server_port, int)
        assert isinstance(parsed.timeout_seconds, int)

    @pytest.mark.parametrize("port", [1, 443, 65_535])
    def test_ports(self, port: int) -> None:
        assert parse({"mode": "replace", "apiServerPort": port}).api_server_port == port

    @pytest.mark.parametrize("version", ["1.18.6", "v1.18.6", "1.19.0-rc.1", "1.18.6+build.5"])
    def test_versions(self, version: str) -> None:
        assert parse({"mode": "replace", "ciliumVersion": version}).cilium_version == version

    @pytest.mark.parametrize(
        "balancer",
        [{"mode": m} for m in ("snat", "dsr", "hybrid")]
        + [{"algorithm": a} for a in ("random", "maglev")]
        + [{"acceleration": a} for a in ("disabled", "native", "best-effort")]
        + [{"sessionAffinity": True}, {"sessionAffinity": False}],
    )
    def test_load_balancers(self, balancer: dict[str, Any]) -> None:
        assert parse({"mode": "replace", "loadBalancer": balancer}).load_balancer == balancer

    @pytest.mark.parametrize("strategy", ["", "all-at-once", "node-by-node"])
    def test_strategies(self, strategy: str) -> None:
        assert parse({"mode": "replace", "strategy": strategy}).strategy == strategy

    @pytest.mark.parametrize(
        ("given", "read"), [(3, "3"), (3.0, "3"), ("3", "3"), ("1%", "1%"), ("100%", "100%"), (None, "1"), ("", "1")]
    )
    def test_nodes_at_a_time_are_a_number_or_a_share(self, given: Any, read: str) -> None:
        assert parse({"mode": "replace", "nodeByNode": {"batchSize": given}}).node_by_node.batch_size == read

    def test_what_is_empty_in_node_by_node_is_not_set(self) -> None:
        nothing = {"order": [], "canaries": "", "pauseAfter": "", "settleSeconds": 0.0, "drain": False}
        assert parse({"mode": "replace", "nodeByNode": nothing}) == parse({"mode": "replace"})

    @pytest.mark.parametrize("strategy", ["", "node-by-node"])
    def test_node_by_node_may_be_said_where_the_strategy_is_left_to_the_cluster(self, strategy: str) -> None:
        assert parse({"mode": "replace", "strategy": strategy, "nodeByNode": {"drain": True}}).node_by_node.drain

    @pytest.mark.parametrize("hostile", ["$(reboot)", "'; rm -rf /", "a\nb", "«é»", "`id`"])
    def test_text_stays_as_it_is(self, hostile: str) -> None:
        parsed = parse({"mode": "replace", "kubeContext": hostile, "chart": hostile, "apiServerHost": hostile})
        assert (parsed.kube_context, parsed.chart, parsed.api_server_host) == (hostile, hostile, hostile)


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "value", "remedy"),
        [
            ("mode", "replaced", "or replace"),
            ("mode", "Replace", "or replace"),
            ("apiServerPort", 65_536, "1 to 65535"),
            ("apiServerPort", -1, "1 to 65535"),
            ("apiServerPort", 6443.5, "1 to 65535"),
            ("apiServerPort", "6443", "1 to 65535"),
            ("apiServerPort", True, "1 to 65535"),
            ("timeoutSeconds", -5, "1 to 86400"),
            ("timeoutSeconds", 86_401, "1 to 86400"),
            ("timeoutSeconds", 1.5, "1 to 86400"),
            ("onFailure", "undo", "rollback (a switch-over that fails is undone) or keep"),
            ("ciliumVersion", "1.18", "1.18.6"),
            ("ciliumVersion", "latest", "1.18.6"),
            ("ciliumVersion", "1.18.6 ; reboot", "1.18.6"),
            ("ciliumVersion", 1.18, "1.18.6"),
            ("apiServerHost", 5, "text"),
            ("chart", ["x"], "text"),
            ("kubeContext", {"a": 1}, "text"),
            ("namespace", "Kube_System", "kube-system"),
            ("namespace", "a" * 64, "kube-system"),
            ("namespace", "-a", "kube-system"),
            ("releaseName", "a" * 54, "cilium"),
            ("releaseName", "Cilium!", "cilium"),
            ("values", "bpf.masquerade=true", "object of Helm values"),
            ("values", [1], "object of Helm values"),
            ("hubble", "true", "true or false"),
            ("keepConnections", "no", "true or false"),
            ("strategy", "at-once", "node-by-node"),
            ("strategy", True, "all-at-once"),
            ("nodeByNode", "3", "batchSize, order, settleSeconds, canaries, continue, pauseAfter, drain"),
            ("nodeByNode", ["batchSize"], "batchSize, order, settleSeconds, canaries, continue, pauseAfter, drain"),
            *(
                ("nodeByNode", {name: value}, "whole number")
                for name in ("batchSize", "pauseAfter")
                for value in (0, -1, 1.5, True, "0%", "101%", "1.5%", "ten", " 1", "1\n", ["1"])
            ),
            ("nodeByNode", {"settleSeconds": -1}, "0 to 3600"),
            ("nodeByNode", {"settleSeconds": 3601}, "0 to 3600"),
            ("nodeByNode", {"settleSeconds": "5"}, "0 to 3600"),
            ("nodeByNode", {"order": "zone=a"}, "list of label selectors"),
            ("nodeByNode", {"order": ["zone=a", " "]}, "label selector, such as"),
            ("nodeByNode", {"order": [5]}, "label selector, such as"),
            ("nodeByNode", {"canaries": ["zone=a"]}, "label selector, such as"),
            ("nodeByNode", {"continue": "yes"}, "true or false"),
            ("nodeByNode", {"drain": 1}, "true or false"),
            ("verify", "services", "status"),
            ("verify", "connectivity", "status"),
            ("verify", "all", "status"),
            ("loadBalancer", "dsr", "mode, algorithm, acceleration, sessionAffinity"),
            ("loadBalancer", {"mode": "DSR"}, "snat, dsr, hybrid"),
            ("loadBalancer", {"algorithm": "round-robin"}, "random, maglev"),
            ("loadBalancer", {"acceleration": True}, "disabled, native, best-effort"),
            ("loadBalancer", {"sessionAffinity": "yes"}, "true, false"),
        ],
    )
    def test_what_is_wrong_is_named_with_what_to_write(self, name: str, value: Any, remedy: str) -> None:
        (reason,) = refused(**{name: value})
        assert reason.startswith(f"{name}: ")
        assert remedy in reason

    def test_the_longest_names_that_helm_and_kubernetes_take_are_taken(self) -> None:
        parsed = parse({"mode": "replace", "namespace": "a" * 63, "releaseName": "a" * 53})
        assert (len(parsed.namespace), len(parsed.release_name)) == (63, 53)

    @pytest.mark.parametrize(("name", "near"), [("algoritm", "algorithm"), ("session", "sessionAffinity")])
    def test_a_key_that_loadBalancer_does_not_have_is_named_with_the_nearest(self, name: str, near: str) -> None:  # noqa: N802
        (reason,) = refused(loadBalancer={name: "x"})
        assert f"loadBalancer.{name}" in reason
        assert f"did you mean {near}" in reason

    @pytest.mark.parametrize(("name", "near"), [("batch", "batchSize"), ("canary", "canaries"), ("goOn", "continue")])
    def test_a_key_that_nodeByNode_does_not_have_is_named_with_the_nearest(self, name: str, near: str) -> None:  # noqa: N802
        (reason,) = refused(nodeByNode={name: "x"})
        assert f"nodeByNode.{name}" in reason
        assert f"did you mean {near}" in reason

    def test_how_it_goes_node_by_node_and_all_at_once_contradict_each_other(self) -> None:
        (reason,) = refused(strategy="all-at-once", nodeByNode={"batchSize": 2})
        assert reason.startswith("nodeByNode: ")
        assert "write strategy: node-by-node, or leave nodeByNode out" in reason

    def test_every_reason_is_said_at_once(self) -> None:
        reasons = refused(apiServerPort=70_000, ciliumVersion="1", hubble="no")
        assert [reason.partition(":")[0] for reason in reasons] == ["apiServerPort", "ciliumVersion", "hubble"]

    def test_the_error_itself_reads_as_all_its_reasons(self) -> None:
        with pytest.raises(SettingsError) as caught:
            parse({"mode": "x", "namespace": "Y"})
        assert str(caught.value).splitlines() == caught.value.reasons

    @pytest.mark.parametrize("secret", [{"users": "hunter2"}, ["hunter2"], 4711])
    def test_a_kubeconfig_is_never_quoted(self, secret: Any) -> None:
        (reason,) = refused(kubeconfig=secret)
        assert reason.startswith("kubeconfig: ")
        assert "hunter2" not in reason
        assert "4711" not in reason

    def test_a_kubeconfig_is_not_in_the_settings_repr(self) -> None:
        assert "hunter2" not in repr(parse({"mode": "replace", "kubeconfig": "hunter2"}))


class TestUnknown:
    @pytest.mark.parametrize(
        ("name", "near"),
        [
            ("apiServerHosts", "apiServerHost"),
            ("ciliumversion", "ciliumVersion"),
            ("kubeconfg", "kubeconfig"),
            ("timeout", "timeoutSeconds"),
        ],
    )
    def test_the_nearest_name_is_offered(self, name: str, near: str) -> None:
        (reason,) = unknown(["mode", name])
        assert repr(name) in reason
        assert f"did you mean {near}?" in reason

    def test_where_no_name_is_near_all_are_listed(self) -> None:
        (reason,) = unknown(["zzzzzz"])
        assert all(name in reason for name in NAMES)

    def test_known_names_are_no_reason(self) -> None:
        assert unknown(list(NAMES)) == []


def test_pulumi_yaml_declares_every_setting_and_no_other() -> None:
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    assert set(declared) == {*NAMES, *PROGRAM}


def test_pulumi_yaml_has_the_defaults_that_the_program_has() -> None:
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    defaults = {name: its["default"] for name, its in declared.items() if "default" in its}
    assert set(declared) - set(defaults) == {"mode"}
    assert defaults.pop("protect") is False
    assert parse({"mode": "replace", **defaults}) == parse({"mode": "replace"})


class TestSkippedChecks:
    def test_a_check_that_does_not_exist_is_refused_with_the_nearest(self) -> None:
        (reason,) = refused(skipChecks=["managed-by", "other-networks"])
        assert "skipChecks: there is no check 'other-networks'" in reason
        assert "did you mean other-network?" in reason

    @pytest.mark.parametrize("name", ["ipvs", "everything", ""])
    def test_one_that_nothing_skips_is_refused_with_those_that_can_be(self, name: str) -> None:
        (reason,) = refused(skipChecks=[name])
        for each in ("managed-by", "distribution", "other-network"):
            assert each in reason

    @pytest.mark.parametrize("value", ["managed-by", [1], {"managed-by": True}])
    def test_what_is_no_list_of_names_is_refused(self, value: Any) -> None:
        (reason,) = refused(skipChecks=value)
        assert "isn't a list of names" in reason
