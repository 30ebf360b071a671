from __future__ import annotations

import re
from pathlib import Path

import pytest

from kube_proxy_replacement.cluster.rules import leftover, missing_routes_iptables, missing_routes_nft
from kube_proxy_replacement.cluster.services import Frontend

SAMPLES = Path(__file__).parent / "samples"  # of real nodes, kube-proxy 1.36.3
IPTABLES = "cilium-1.20.2-iptables-save-stale.txt"
NFT = "kube-proxy-1.36.3-nftables-mode-nft-table-ip.txt"


def sample(name: str) -> list[str]:
    return (SAMPLES / name).read_text().splitlines()


def of(**routes: list[str]) -> dict[Frontend, frozenset[str]]:
    """`of(t10_96_0_1__443=[...])`: protocol's letter, address and port as a keyword."""
    result = {}
    for key, ways in routes.items():
        ip, _, port = key[1:].partition("__")
        result[Frontend(ip.replace("_", "."), {"t": "TCP", "u": "UDP"}[key[0]], int(port))] = frozenset(ways)
    return result


IPTABLES_ROUTES = of(
    t10_96_0_1__443=["10.10.0.1:6443"],
    u10_96_133_139__53=["10.244.1.88:8080", "10.244.2.189:8080"],
    t10_96_133_139__80=["10.244.1.88:8080", "10.244.2.189:8080"],
    u10_96_41_182__53=["10.244.1.88:8080", "10.244.2.189:8080"],
    t10_96_41_182__80=["10.244.1.88:8080", "10.244.2.189:8080"],
)
NFT_ROUTES = of(
    t10_96_0_1__443=["10.10.0.1:6443"],
    t10_96_5_141__80=["10.244.1.190:8080", "10.244.2.212:8080"],
    u10_96_202_183__53=["10.244.1.190:8080", "10.244.2.212:8080"],
)


class TestLeftover:
    @pytest.mark.parametrize(
        ("name", "count"),
        [
            (IPTABLES, 93),  # of 101 lines with KUBE-: the other 8 are the kubelet's
            ("cilium-1.20.2-iptables-save-cleaned.txt", 0),
            ("cilium-1.20.2-ip6tables-save-kube-proxy.txt", 32),  # of 39
        ],
    )
    def test_real_nodes(self, name: str, count: int) -> None:
        assert leftover(sample(name)) == count

    def test_a_table_of_nft_counts_line_by_line_and_ends_where_it_ends(self) -> None:
        lines = sample(NFT)
        assert leftover(lines) == sum(bool(line.strip()) for line in lines)
        assert leftover([*lines, "table ip other {", "\tchain kube-proxy {", "\t}", "}"]) == leftover(lines)

    def test_the_list_of_tables(self) -> None:
        lines = ["table ip nat", "table ip kube-proxy", "table ip6 kube-proxy"]
        assert leftover(lines) == 2
        assert leftover(["table ip kube-proxy-of-mine {", "\tchain x {", "\t}", "}"]) == 0
        assert leftover(["table inet kube-proxy {", "}"]) == 0  # kube-proxy has one for each family

    @pytest.mark.parametrize("backend", ["nft", "legacy"])
    def test_a_cleaned_node_with_rules_of_others_of_nearly_the_same_names(self, backend: str) -> None:
        assert leftover(sample(f"iptables-1.8.9-{backend}-save-foreign-switched.txt")) == 0

    @pytest.mark.parametrize(
        "line",
        [
            ":KUBE-SERVICES - [0:0]",
            ":KUBE-PROXY-CANARY - [0:0]",
            ":KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]",
            ":KUBE-SVL-NPX46M4PTMTKRN6Y - [0:0]",
            ":KUBE-XLB-NPX46M4PTMTKRN6Y - [0:0]",
            ":KUBE-FW-NPX46M4PTMTKRN6Y - [0:0]",
            ":KUBE-SOURCE-RANGES-FIREWALL - [0:0]",
            ":KUBE-LOAD-BALANCER - [0:0]",
            ":KUBE-NODE-PORT - [0:0]",
            ":KUBE-IPVS-FILTER - [0:0]",
            "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
            "-A KUBE-SEP-UA5ZY2R4FQ3PJKUC -s 10.244.2.189/32 -j ACCEPT",
            "[12:3456] -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT",
            '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
            "-A FORWARD -g KUBE-FORWARD",
        ],
    )
    def test_kube_proxys_lines(self, line: str) -> None:
        assert leftover([line]) == 1

    @pytest.mark.parametrize(
        "line",
        [
            ":KUBE-FIREWALL - [0:0]",
            ":KUBE-KUBELET-CANARY - [0:0]",
            ":KUBE-IPTABLES-HINT - [0:0]",
            "-A INPUT -j KUBE-FIREWALL",
            "-A KUBE-FIREWALL -m comment --comment KUBE-SERVICES -j DROP",
            ":MY-KUBE-SERVICES - [0:0]",
            ":KUBE-SERVICES-OF-MINE - [0:0]",
            "-A MY-KUBE-SERVICES -j ACCEPT",
            "-A KUBE-SERVICES-OF-MINE -j ACCEPT",
            "-A INPUT -j KUBE-SERVICES-OF-MINE",
            ":KUBE-SVC-OFMINE - [0:0]",
            ":KUBE-SVCX-NPX46M4PTMTKRN6Y - [0:0]",
            "-A KUBE-FW-NPX46M4PTMTKRN6Y2 -j ACCEPT",
            ":KUBE-ROUTER-SERVICES - [0:0]",
            ":KUBE-NWPLCY-DEFAULT - [0:0]",
            ":KUBE-POD-FW-ABCDEFGHIJKLMNOP - [0:0]",
            '-A INPUT -m comment --comment "we once had -j KUBE-SERVICES here" -j ACCEPT',
            '-A INPUT -m comment --comment "a \\" quote -j KUBE-SERVICES" -j ACCEPT',
            "-A INPUT -m comment --comment KUBE-SERVICES -j ACCEPT",
            "# KUBE-SERVICES",
            "*nat",
            "COMMIT",
            "",
        ],
    )
    def test_the_lines_of_others(self, line: str) -> None:
        assert leftover([line]) == 0


class TestIptables:
    def test_a_node_that_routes(self) -> None:
        assert missing_routes_iptables(sample(IPTABLES), IPTABLES_ROUTES) == []

    def test_rules_with_counters_and_without_comments_say_the_same(self) -> None:
        """`iptables-save -c`; and kube-proxy drops its comments from 1000 endpoints on."""
        bare = [re.sub(r' -m comment --comment "[^"]*"', "", line) for line in sample(IPTABLES)]
        counted = [f"[0:0] {line}" if line.startswith("-A") else line for line in bare]
        assert missing_routes_iptables(counted, IPTABLES_ROUTES) == []

    def test_a_cleaned_node_routes_nothing(self) -> None:
        lines = sample("cilium-1.20.2-iptables-save-cleaned.txt")
        assert len(missing_routes_iptables(lines, IPTABLES_ROUTES)) == len(IPTABLES_ROUTES)

    def test_a_service_that_was_made_since(self) -> None:
        routes = of(t10_96_0_2__443=["10.10.0.1:6443"], t10_96_0_1__444=["10.10.0.1:6443"])
        assert missing_routes_iptables(sample(IPTABLES), IPTABLES_ROUTES | routes) == [
            "10.96.0.1:444/TCP: no rule",
            "10.96.0.2:443/TCP: no rule",
        ]

    def test_the_protocol_belongs_to_the_frontend(self) -> None:
        routes = of(u10_96_0_1__443=["10.10.0.1:6443"])
        assert missing_routes_iptables(sample(IPTABLES), routes) == ["10.96.0.1:443/UDP: no rule"]

    def test_an_endpoint_that_came_since(self) -> None:
        routes = of(t10_96_0_1__443=["10.10.0.1:6443", "10.10.0.2:6443"])
        assert missing_routes_iptables(sample(IPTABLES), routes) == ["10.96.0.1:443/TCP: no way to 10.10.0.2:6443"]

    def test_an_endpoint_that_went_since(self) -> None:
        routes = of(t10_96_133_139__80=["10.244.1.88:8080"])
        assert missing_routes_iptables(sample(IPTABLES), routes) == [
            "10.96.133.139:80/TCP: still leads to 10.244.2.189:8080"
        ]

    def test_a_chain_that_is_jumped_to_but_empty(self) -> None:
        lines = [line for line in sample(IPTABLES) if not line.startswith("-A KUBE-SEP-UA5ZY2R4FQ3PJKUC")]
        assert missing_routes_iptables(lines, IPTABLES_ROUTES) == ["10.96.41.182:53/UDP: no way to 10.244.2.189:8080"]

    def test_a_frontend_without_endpoints_needs_no_rule_but_may_lead_nowhere(self) -> None:
        reject = (
            '-A KUBE-SERVICES -d 10.96.9.9/32 -p tcp -m comment --comment "a/b has no endpoints" -m tcp '
            "--dport 80 -j REJECT --reject-with icmp-port-unreachable"
        )
        routes = of(t10_96_9_9__80=[])
        assert missing_routes_iptables([reject], routes) == []
        assert missing_routes_iptables([], routes) == []
        assert missing_routes_iptables(sample(IPTABLES), of(t10_96_0_1__443=[])) == [
            "10.96.0.1:443/TCP: still leads to 10.10.0.1:6443"
        ]
        assert missing_routes_iptables([reject], of(t10_96_9_9__80=["10.244.1.1:80"])) == ["10.96.9.9:80/TCP: no rule"]

    def test_both_families_one_after_the_other(self) -> None:
        """A Service's chains have the same name in both."""
        lines = [
            "-A KUBE-SERVICES -d 10.96.1.1/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-AAAAAAAAAAAAAAAA",
            "-A KUBE-SVC-AAAAAAAAAAAAAAAA -m recent --name KUBE-SEP-4 --rcheck --seconds 9 -j KUBE-SEP-4",
            "-A KUBE-SEP-4 -p tcp -m recent --set --name KUBE-SEP-4 -j DNAT --to-destination 10.244.1.2:8080",
            "-A KUBE-SERVICES -d fd00::5/128 -p tcp -m tcp --dport 80 -j KUBE-SVC-AAAAAAAAAAAAAAAA",
            "-A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-6",
            "-A KUBE-SEP-6 -p tcp -m tcp -j DNAT --to-destination [fd01::2]:8080",
        ]
        six = {Frontend("fd00::5", "TCP", 80): frozenset({"[fd01::2]:8080"})}
        assert missing_routes_iptables(lines, of(t10_96_1_1__80=["10.244.1.2:8080"]) | six) == []
        assert missing_routes_iptables(lines[:3], six) == ["[fd00::5]:80/TCP: no rule"]

    def test_rules_of_others_dont_route(self) -> None:
        lines = [
            "-A KUBE-SERVICES -d 10.96.1.1/32 -p tcp -m tcp --dport 80 -j MY-KUBE-SVC-A",
            "-A MY-KUBE-SVC-A -j DNAT --to-destination 10.244.1.2:8080",
        ]
        routes = of(t10_96_1_1__80=["10.244.1.2:8080"])
        assert missing_routes_iptables(lines, routes) == ["10.96.1.1:80/TCP: no rule"]


class TestNft:
    def test_a_node_that_routes(self) -> None:
        assert missing_routes_nft(sample(NFT), NFT_ROUTES) == []

    def test_a_node_without_the_table(self) -> None:
        assert len(missing_routes_nft([], NFT_ROUTES)) == len(NFT_ROUTES)

    def test_only_kube_proxys_own_table_counts(self) -> None:
        lines = [line.replace("table ip kube-proxy {", "table ip mine {") for line in sample(NFT)]
        assert len(missing_routes_nft(lines, NFT_ROUTES)) == len(NFT_ROUTES)

    def test_services_and_endpoints_that_came_and_went(self) -> None:
        routes = of(
            t10_96_0_2__443=["10.10.0.1:6443"],
            t10_96_0_1__443=["10.10.0.1:6443", "10.10.0.2:6443"],
            t10_96_5_141__80=["10.244.1.190:8080"],
        )
        assert missing_routes_nft(sample(NFT), routes) == [
            "10.96.0.1:443/TCP: no way to 10.10.0.2:6443",
            "10.96.0.2:443/TCP: no rule",
            "10.96.5.141:80/TCP: still leads to 10.244.2.212:8080",
        ]

    def test_an_element_elsewhere_than_in_service_ips_is_no_route(self) -> None:
        lines = [line.replace("map service-ips", "map firewall-ips") for line in sample(NFT)]
        assert len(missing_routes_nft(lines, NFT_ROUTES)) == len(NFT_ROUTES)

    def test_no_endpoints(self) -> None:
        lines = """
table ip kube-proxy {
	map no-endpoint-services {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { 10.96.9.9 . tcp . 80 comment "a/b" : goto reject-chain }
	}
}""".splitlines()
        assert missing_routes_nft(lines, of(t10_96_9_9__80=[])) == []
        assert missing_routes_nft(lines, of(t10_96_9_9__80=["10.244.1.1:80"])) == ["10.96.9.9:80/TCP: no rule"]
        assert missing_routes_nft(sample(NFT), of(t10_96_0_1__443=[])) == [
            "10.96.0.1:443/TCP: still leads to 10.10.0.1:6443"
        ]

    def test_session_affinity_goes_through_a_chain_for_each_endpoint(self) -> None:
        """Shape: pkg/proxy/nftables/proxier.go, writeServiceToEndpointJumps."""
        lines = """
table ip6 kube-proxy {
	map service-ips {
		type ipv6_addr . inet_proto . inet_service : verdict
		elements = { fd00:10:96::9 . tcp . 80 : goto service-AAAAAAAA-a/b/tcp/ }
	}

	chain service-AAAAAAAA-a/b/tcp/ {
		ip6 saddr @affinity-BBBBBBBB-a/b/tcp/__fd01..2/80 goto endpoint-BBBBBBBB-a/b/tcp/__fd01..2/80
		numgen random mod 2 vmap { 0 : goto endpoint-BBBBBBBB-a/b/tcp/__fd01..2/80, 1 : goto endpoint-C }
	}

	chain endpoint-BBBBBBBB-a/b/tcp/__fd01..2/80 {
		update @affinity-BBBBBBBB-a/b/tcp/__fd01..2/80 { ip6 saddr }
		meta l4proto tcp dnat to [fd01::2]:8080
	}

	chain endpoint-C {
		meta l4proto tcp dnat ip6 to [fd01::3]:8080
	}
}""".splitlines()
        frontend = Frontend("fd00:10:96::9", "TCP", 80)
        both = frozenset({"[fd01::2]:8080", "[fd01::3]:8080"})
        assert missing_routes_nft(lines, {frontend: both}) == []
        assert missing_routes_nft(lines, {frontend: both | {"[fd01::4]:8080"}}) == [
            "[fd00:10:96::9]:80/TCP: no way to [fd01::4]:8080"
        ]

    def test_the_ipv6_form_without_affinity(self) -> None:
        lines = """
table ip6 kube-proxy {
	map service-ips {
		elements = { fd00::9 . udp . 53 : goto service-A }
	}
	chain service-A {
		meta l4proto udp dnat ip6 to numgen random mod 2 map { 0 : fd01::2 . 53, 1 : fd01::3 . 53 }
	}
}""".splitlines()
        both = frozenset({"[fd01::2]:53", "[fd01::3]:53"})
        assert missing_routes_nft(lines, {Frontend("fd00::9", "UDP", 53): both}) == []
