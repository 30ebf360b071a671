"""What is read as kube-proxy's in a real node's kernel, from texts that real nodes have written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from local.real import kernel
from local.real.kernel import Kernel, kube_proxys, translated

SAMPLES = Path(__file__).parent / "samples"
STALE = "cilium-1.20.2-iptables-save-stale.txt"
NFT = "kube-proxy-1.36.3-nftables-mode-nft-table-ip.txt"
FOREIGN = ("iptables-1.8.9-nft-save-foreign-switched.txt", "iptables-1.8.9-legacy-save-foreign-switched.txt")

# Written from the kernel's format (net/netfilter/ipvs/ip_vs_ctl.c): this one has no IPVS.
IP_VS = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600001:01BB rr persistent 10800 FFFFFFFF
  -> 0A0A0001:192B      Masq    1      0          0         
UDP  [fd00:0000:0000:0000:0000:0000:0000:000a]:0035 rr 
FWM  00000011 wlc 
  -> 0A0A0005:0050      Route   1      0          0         
"""  # noqa: W291


def saved(*lines: str, program: str = "iptables-nft-save", table: str = "nat") -> Kernel:
    return Kernel("node-1", saves={program: "\n".join([f"*{table}", *lines, "COMMIT"])})


class TestKubeProxys:
    def test_all_of_its_lines_and_none_of_the_kubelets(self) -> None:
        text = (SAMPLES / STALE).read_text()
        found = kube_proxys(Kernel("node-1", saves={"iptables-nft-save": text}))
        assert len(found) == sum("KUBE-" in line for line in text.splitlines()) - 8  # the kubelet's

    @pytest.mark.parametrize("program", kernel.SAVES)
    def test_in_each_backend_and_family_with_its_place(self, program: str) -> None:
        its = saved(":KUBE-SERVICES - [0:0]", program=program)
        assert kube_proxys(its) == [f"{program} nat: :KUBE-SERVICES - [0:0]"]

    @pytest.mark.parametrize("name", FOREIGN)
    def test_nothing_of_what_others_wrote_on_a_cleaned_node(self, name: str) -> None:
        text = (SAMPLES / name).read_text()
        assert text.count("KUBE-") > 20
        assert kube_proxys(Kernel("node-1", saves={"iptables-nft-save": text})) == []

    @pytest.mark.parametrize(
        "line",
        [
            ":KUBE-FW-NPX46M4PTMTKRN6Y - [0:0]",
            ":KUBE-PROXY-CANARY - [0:0]",
            ":KUBE-NODE-PORT - [0:0]",
            "[0:0] -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
            '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
            "-A MINE -g KUBE-SEP-UA5ZY2R4FQ3PJKUC",
        ],
    )
    def test_a_chain_a_rule_in_it_a_jump_to_it(self, line: str) -> None:
        assert kube_proxys(saved(line)) == [f"iptables-nft-save nat: {line.removeprefix('[0:0] ')}"]

    @pytest.mark.parametrize(
        "line",
        [
            ":KUBE-FIREWALL - [0:0]",
            ":KUBE-KUBELET-CANARY - [0:0]",
            ":KUBE-IPTABLES-HINT - [0:0]",
            ":KUBE-SVC-SHORT - [0:0]",
            ":KUBE-SVC-NPX46M4PTMTKRN6Y7 - [0:0]",
            '-A INPUT -m comment --comment "-j KUBE-SERVICES" -j MINE',
            "-A INPUT -m comment --comment KUBE-SERVICES -j ACCEPT",
        ],
    )
    def test_not_what_only_looks_like_it(self, line: str) -> None:
        assert kube_proxys(saved(line)) == []

    def test_tables_sets_device_and_virtual_servers(self) -> None:
        its = Kernel(
            "node-1",
            tables={"ip6 kube-proxy": "table ip6 kube-proxy {\n}"},
            sets=("KUBE-CLUSTER-IP", "KUBE-6-NODE-PORT-TCP", "KUBE-CLUSTER-IPS", "CLUSTER-IP"),
            devices=("eth0", "kube-ipvs0", "kube-ipvs00"),
            virtual_servers=("TCP 0A600001:01BB",),
        )
        assert kube_proxys(its) == [
            "nft: table ip6 kube-proxy",
            "ipset: KUBE-CLUSTER-IP",
            "ipset: KUBE-6-NODE-PORT-TCP",
            "device: kube-ipvs0",
            "IPVS: TCP 0A600001:01BB",
        ]


class TestTranslated:
    def test_the_counters_of_the_dnat_rules_by_endpoint(self) -> None:
        its = saved(
            "[7:420] -A KUBE-SEP-UA5ZY2R4FQ3PJKUC -s 10.244.2.189/32 -j KUBE-MARK-MASQ",
            "[12:720] -A KUBE-SEP-UA5ZY2R4FQ3PJKUC -p tcp -m tcp -j DNAT --to-destination 10.244.2.189:8080",
            "[3:180] -A KUBE-SEP-GNQX4XRGAKHZG3PD -p tcp -m tcp -j DNAT --to-destination 10.244.2.189:8080",
            "[9:540] -A CNI-HOSTPORT-DNAT -p tcp -j DNAT --to-destination 10.244.1.9:80",
        )
        assert translated(its) == {"10.244.2.189:8080": 15}

    def test_nftables_mode_has_no_counters_to_read(self) -> None:
        text = (SAMPLES / NFT).read_text()
        assert "counter" not in text
        assert translated(Kernel("node-1", tables={"ip kube-proxy": text})) == {}


class TestRead:
    def test_the_hooks_of_a_switched_node(self) -> None:
        found = kernel.hooks(json.loads((SAMPLES / "bpftool-7.1-cgroup-tree-switched.json").read_text()))
        assert found["cgroup_inet4_connect"] == 1
        assert Kernel("node-1", hooks=found | {"cgroup_device": 3}).socket_programs == 11

    def test_programs_by_device(self) -> None:
        folder = "/sys/fs/bpf/cilium/devices"
        pins = f"{folder}/eth0/links/cil_to_netdev\n{folder}/eth0/links/cil_from_netdev\n{folder}/eth1.5/links/x\n"
        assert kernel.programs(pins) == {"eth0": ("cil_from_netdev", "cil_to_netdev"), "eth1.5": ("x",)}

    def test_virtual_servers_without_what_is_behind_them(self) -> None:
        assert kernel.virtual_servers(IP_VS) == (
            "TCP 0A600001:01BB",
            "UDP [fd00:0000:0000:0000:0000:0000:0000:000a]:0035",
            "FWM 00000011",
        )
