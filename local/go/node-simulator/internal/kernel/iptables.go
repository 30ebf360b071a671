package kernel

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"math"
	"slices"
)

// addKubeProxy adds what kube-proxy 1.36 writes in its iptables mode. No Service here has an IPv6
// address, so ip6tables hold the chains that are there in any case.
func addKubeProxy(mangle, filter, nat *table, s *State, ipv6 bool) {
	mangle.chain("KUBE-PROXY-CANARY")
	addKubeProxyBase(filter, nat)
	if !ipv6 {
		for i := range s.Ports {
			addServicePort(filter, nat, s, &s.Ports[i])
		}
	}
	destination := ""
	if ipv6 {
		destination = "! -d ::1/128 "
	}
	nat.add("KUBE-SERVICES", `%s-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule`+
		` in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS`, destination)
}

func addKubeProxyBase(filter, nat *table) {
	filter.chain("KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-NODEPORTS", "KUBE-PROXY-CANARY", "KUBE-PROXY-FIREWALL", "KUBE-SERVICES")
	nat.chain("KUBE-MARK-MASQ", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-PROXY-CANARY", "KUBE-SERVICES")

	jump := func(hook, comment, chain string) {
		filter.add(hook, `-m conntrack --ctstate NEW -m comment --comment "%s" -j %s`, comment, chain)
	}
	const firewall, portals, visible = "kubernetes load balancer firewall", "kubernetes service portals", "kubernetes externally-visible service portals"
	jump("INPUT", firewall, "KUBE-PROXY-FIREWALL")
	filter.add("INPUT", `-m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS`)
	jump("INPUT", visible, "KUBE-EXTERNAL-SERVICES")
	jump("FORWARD", firewall, "KUBE-PROXY-FIREWALL")
	filter.add("FORWARD", `-m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD`)
	jump("FORWARD", portals, "KUBE-SERVICES")
	jump("FORWARD", visible, "KUBE-EXTERNAL-SERVICES")
	jump("OUTPUT", firewall, "KUBE-PROXY-FIREWALL")
	jump("OUTPUT", portals, "KUBE-SERVICES")
	filter.add("KUBE-FORWARD", "-m conntrack --ctstate INVALID -m nfacct --nfacct-name  ct_state_invalid_dropped_pkts -j DROP")
	filter.add("KUBE-FORWARD", `-m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT`)
	filter.add("KUBE-FORWARD", `-m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`)

	nat.add("PREROUTING", `-m comment --comment "kubernetes service portals" -j KUBE-SERVICES`)
	nat.add("OUTPUT", `-m comment --comment "kubernetes service portals" -j KUBE-SERVICES`)
	nat.add("POSTROUTING", `-m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING`)
	nat.add("KUBE-MARK-MASQ", "-j MARK --set-xmark 0x4000/0x4000")
	nat.add("KUBE-POSTROUTING", "-m mark ! --mark 0x4000/0x4000 -j RETURN")
	nat.add("KUBE-POSTROUTING", "-j MARK --set-xmark 0x4000/0x0")
	nat.add("KUBE-POSTROUTING", `-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully`)
}

func addServicePort(filter, nat *table, s *State, p *ServicePort) {
	name, hash := p.Name(), hash16(p.Name()+p.Protocol)
	cluster, local, external := "KUBE-SVC-"+hash, "KUBE-SVL-"+hash, "KUBE-EXT-"+hash
	here := slices.DeleteFunc(slices.Clone(p.Endpoints), func(e Endpoint) bool { return e.Node != s.Node })
	inside, outside := p.Endpoints, p.Endpoints
	insideChain, outsideChain := cluster, cluster
	if p.InternalLocal {
		inside, insideChain = here, local
	}
	if p.ExternalLocal {
		outside, outsideChain = here, local
	}
	reachableOutside := p.NodePort != 0 || len(p.ExternalIPs)+len(p.LoadBalancerIPs) > 0

	match := fmt.Sprintf(`-p %s -m comment --comment "%s" -m %s --dport`, p.Protocol, "%s", p.Protocol)
	to := func(ip string) string { return "-d " + ip + "/32 " + match }
	if len(inside) > 0 {
		nat.add("KUBE-SERVICES", to(p.ClusterIP)+" %d -j %s", name+" cluster IP", p.Port, insideChain)
		nat.add(insideChain, "! -s %s "+to(p.ClusterIP)+" %d -j KUBE-MARK-MASQ", s.ClusterCIDR, name+" cluster IP", p.Port)
	} else {
		filter.add("KUBE-SERVICES", to(p.ClusterIP)+" %d -j %s", lack(p, name), p.Port, verdict(p))
	}
	addOutside(filter, nat, p, name, external, match, len(outside) > 0)
	if reachableOutside && len(p.Endpoints) > 0 {
		addExternalChain(nat, s, p, name, external, cluster, outsideChain, len(outside) > 0)
	}
	usesCluster := !p.InternalLocal || (reachableOutside && !p.ExternalLocal) || (reachableOutside && p.ExternalLocal)
	if usesCluster && len(p.Endpoints) > 0 {
		addBalancing(nat, p, name, cluster, p.Endpoints)
	}
	if (p.InternalLocal || (reachableOutside && p.ExternalLocal)) && len(here) > 0 {
		addBalancing(nat, p, name, local, here)
	}
	for _, e := range p.Endpoints {
		addEndpoint(nat, p, name, e)
	}
}

// addOutside adds the ways in from outside: external and load balancer addresses, NodePorts.
func addOutside(filter, nat *table, p *ServicePort, name, external, match string, served bool) {
	addresses := map[string][]string{"external": p.ExternalIPs, "loadbalancer": p.LoadBalancerIPs}
	for _, kind := range []string{"external", "loadbalancer"} {
		for _, ip := range addresses[kind] {
			if len(p.Endpoints) > 0 {
				nat.add("KUBE-SERVICES", "-d "+ip+"/32 "+match+" %d -j %s", name+" "+kind+" IP", p.Port, external)
			}
			if !served {
				filter.add("KUBE-EXTERNAL-SERVICES", "-d "+ip+"/32 "+match+" %d -j %s", lack(p, name), p.Port, verdict(p))
			}
		}
	}
	if p.NodePort != 0 {
		if len(p.Endpoints) > 0 {
			nat.add("KUBE-NODEPORTS", "-d 127.0.0.0/8 "+match+" %d -m nfacct --nfacct-name  localhost_nps_accepted_pkts -j %s", name, p.NodePort, external)
			nat.add("KUBE-NODEPORTS", match+" %d -j %s", name, p.NodePort, external)
		}
		if !served {
			filter.add("KUBE-EXTERNAL-SERVICES", `-p %s -m comment --comment "%s" -m addrtype --dst-type LOCAL -m %s --dport %d -j %s`,
				p.Protocol, lack(p, name), p.Protocol, p.NodePort, verdict(p))
		}
	}
	if p.HealthCheckNodePort != 0 {
		filter.add("KUBE-NODEPORTS", `-p tcp -m comment --comment "%s health check node port" -m tcp --dport %d -j ACCEPT`, name, p.HealthCheckNodePort)
	}
}

func addExternalChain(nat *table, s *State, p *ServicePort, name, external, cluster, policy string, served bool) {
	if p.ExternalLocal {
		nat.add(external, `-s %s -m comment --comment "pod traffic for %s external destinations" -j %s`, s.ClusterCIDR, name, cluster)
		nat.add(external, `-m comment --comment "masquerade LOCAL traffic for %s external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ`, name)
		nat.add(external, `-m comment --comment "route LOCAL traffic for %s external destinations" -m addrtype --src-type LOCAL -j %s`, name, cluster)
	} else {
		nat.add(external, `-m comment --comment "masquerade traffic for %s external destinations" -j KUBE-MARK-MASQ`, name)
	}
	if served {
		nat.add(external, "-j %s", policy)
	}
}

func addBalancing(nat *table, p *ServicePort, name, chain string, endpoints []Endpoint) {
	for _, e := range endpoints {
		if p.AffinitySeconds > 0 {
			sep := endpointChain(p, e)
			nat.add(chain, `-m comment --comment "%s -> %s" -m recent --rcheck --seconds %d --reap --name %s --mask 255.255.255.255 --rsource -j %s`,
				name, e.Address(), p.AffinitySeconds, sep, sep)
		}
	}
	for i, e := range endpoints {
		chance := ""
		if rest := len(endpoints) - i; rest > 1 {
			chance = " -m statistic --mode random --probability " + probability(rest)
		}
		nat.add(chain, `-m comment --comment "%s -> %s"%s -j %s`, name, e.Address(), chance, endpointChain(p, e))
	}
}

func addEndpoint(nat *table, p *ServicePort, name string, e Endpoint) {
	chain, recent := endpointChain(p, e), ""
	if p.AffinitySeconds > 0 {
		recent = fmt.Sprintf(" -m recent --set --name %s --mask 255.255.255.255 --rsource", chain)
	}
	nat.add(chain, `-s %s/32 -m comment --comment "%s" -j KUBE-MARK-MASQ`, e.IP, name)
	nat.add(chain, `-p %s -m comment --comment "%s"%s -m %s -j DNAT --to-destination %s`, p.Protocol, name, recent, p.Protocol, e.Address())
}

func lack(p *ServicePort, name string) string {
	if len(p.Endpoints) == 0 {
		return name + " has no endpoints"
	}
	return name + " has no local endpoints"
}

func verdict(p *ServicePort) string {
	if len(p.Endpoints) == 0 {
		return "REJECT --reject-with icmp-port-unreachable"
	}
	return "DROP"
}

func endpointChain(p *ServicePort, e Endpoint) string {
	return "KUBE-SEP-" + hash16(p.Name()+p.Protocol+e.Address())
}

// probability is 1/n as the kernel keeps it, in 31 bits, and as iptables-save shows it.
func probability(n int) string {
	const scale = 1 << 31
	return fmt.Sprintf("%.11f", math.Round(scale/float64(n))/scale)
}

func hash16(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base32.StdEncoding.EncodeToString(sum[:])[:16]
}
