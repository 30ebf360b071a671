package kernel

import "strings"

// Save is the output of iptables-save, or of ip6tables-save, of one table or of all; found is false
// when there is no table of that name.
func (s *State) Save(ipv6 bool, only string, counters bool) (text string, found bool) {
	program := "iptables-save"
	if ipv6 {
		program = "ip6tables-save"
	}
	var out strings.Builder
	for _, t := range s.tables(ipv6) {
		if only == "" || only == t.name {
			t.save(&out, program, counters)
			found = true
		}
	}
	return out.String(), found
}

func (s *State) tables(ipv6 bool) []*table {
	mangle := newTable("mangle", "PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
	raw := newTable("raw", "PREROUTING", "OUTPUT")
	filter := newTable("filter", "INPUT", "FORWARD", "OUTPUT")
	nat := newTable("nat", "PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")

	if s.Cilium && !ipv6 {
		addCilium(mangle, raw, filter, nat, s)
	}
	if s.Mode == IPTables {
		addKubeProxy(mangle, filter, nat, s, ipv6)
	}
	addKubelet(mangle, filter, nat, ipv6)
	if !ipv6 {
		addForeign(filter)
	}
	if len(raw.chains) == 0 {
		return []*table{mangle, filter, nat}
	}
	return []*table{mangle, raw, filter, nat}
}

// addKubelet adds what the kubelet writes on every node, whoever routes Services.
func addKubelet(mangle, filter, nat *table, ipv6 bool) {
	mangle.chain("KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY")
	filter.chain("KUBE-FIREWALL", "KUBE-KUBELET-CANARY")
	nat.chain("KUBE-KUBELET-CANARY")
	filter.add("INPUT", "-j KUBE-FIREWALL")
	filter.add("OUTPUT", "-j KUBE-FIREWALL")
	if !ipv6 {
		filter.add("KUBE-FIREWALL", `! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet`+
			` connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP`)
	}
}

// addForeign adds a rule of the node's owner: nobody who deals with Services may take it away.
func addForeign(filter *table) {
	filter.add("INPUT", `-s 192.0.2.0/24 -p tcp -m tcp --dport 22 -m comment --comment "site: ssh from the office" -j ACCEPT`)
}

// addCilium adds what a Cilium agent writes, the same in both of the program's modes.
func addCilium(mangle, raw, filter, nat *table, s *State) {
	feeder := func(t *table, hook, chain string) {
		t.add(hook, `-m comment --comment "cilium-feeder: %s" -j %s`, chain, chain)
		t.chain(chain)
	}
	feeder(mangle, "PREROUTING", "CILIUM_PRE_mangle")
	feeder(mangle, "POSTROUTING", "CILIUM_POST_mangle")
	feeder(raw, "PREROUTING", "CILIUM_PRE_raw")
	feeder(raw, "OUTPUT", "CILIUM_OUTPUT_raw")
	feeder(filter, "INPUT", "CILIUM_INPUT")
	feeder(filter, "FORWARD", "CILIUM_FORWARD")
	feeder(filter, "OUTPUT", "CILIUM_OUTPUT")
	feeder(nat, "PREROUTING", "CILIUM_PRE_nat")
	feeder(nat, "OUTPUT", "CILIUM_OUTPUT_nat")
	feeder(nat, "POSTROUTING", "CILIUM_POST_nat")
	raw.add("CILIUM_OUTPUT_raw", `-p udp -m udp --dport 8472 -m comment --comment "cilium: NOTRACK for tunnel traffic" -j CT --notrack`)
	filter.add("CILIUM_FORWARD", `-i lxc+ -m comment --comment "cilium: cluster->any on lxc+ forward accept" -j ACCEPT`)
	nat.add("CILIUM_POST_nat", `-s %s ! -d %s ! -o cilium_+ -m comment --comment "cilium masquerade non-cluster" -j MASQUERADE`,
		s.PodCIDR, s.PodCIDR)
}
