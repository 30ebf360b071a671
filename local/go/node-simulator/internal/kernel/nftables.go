package kernel

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
)

// NFTTables are the names of the nft tables of a node, as `nft list tables` shows them.
func (s *State) NFTTables() []string {
	tables := []string{}
	for _, family := range []string{"ip", "ip6"} {
		for _, t := range s.tables(family == "ip6") {
			tables = append(tables, family+" "+t.name)
		}
		if s.Mode == NFTables && !s.deleted[family] {
			tables = append(tables, family+" kube-proxy")
		}
	}
	return tables
}

// NFTTable is what `nft list table FAMILY kube-proxy` shows; found is false when it isn't there.
func (s *State) NFTTable(family string) (text string, found bool) {
	if s.Mode != NFTables || s.deleted[family] || (family != "ip" && family != "ip6") {
		return "", false
	}
	ports := s.Ports
	if family == "ip6" {
		ports = nil
	}
	t := &nft{state: s, family: family}
	t.collect(ports)
	return t.render(), true
}

// nft gathers the elements of kube-proxy's sets and maps and the chains of its Services.
type nft struct {
	state  *State
	family string

	hairpin, clusterIPs, noServices, noNodePorts, services, nodePorts []string
	chains                                                            []string
}

func (t *nft) collect(ports []ServicePort) {
	seen := map[string]bool{}
	for i := range ports {
		p := &ports[i]
		if !seen[p.ClusterIP] {
			seen[p.ClusterIP] = true
			t.clusterIPs = append(t.clusterIPs, p.ClusterIP)
		}
		base := nftName(p)
		service, external := "service-"+base, "external-"+base
		outside := append(append([]string{}, p.ExternalIPs...), p.LoadBalancerIPs...)
		if len(p.Endpoints) == 0 {
			for _, ip := range append([]string{p.ClusterIP}, outside...) {
				t.noServices = append(t.noServices, fmt.Sprintf("%s . %s . %d : goto reject-chain", ip, p.Protocol, p.Port))
			}
			if p.NodePort != 0 {
				t.noNodePorts = append(t.noNodePorts, fmt.Sprintf("%s . %d : goto reject-chain", p.Protocol, p.NodePort))
			}
			continue
		}
		t.services = append(t.services, fmt.Sprintf("%s . %s . %d : goto %s", p.ClusterIP, p.Protocol, p.Port, service))
		for _, ip := range outside {
			t.services = append(t.services, fmt.Sprintf("%s . %s . %d : goto %s", ip, p.Protocol, p.Port, external))
		}
		if p.NodePort != 0 {
			t.nodePorts = append(t.nodePorts, fmt.Sprintf("%s . %d : goto %s", p.Protocol, p.NodePort, external))
		}
		t.addChains(p, service, external, p.NodePort != 0 || len(outside) > 0)
	}
}

func (t *nft) addChains(p *ServicePort, service, external string, outside bool) {
	targets := make([]string, 0, len(p.Endpoints))
	for i, e := range p.Endpoints {
		targets = append(targets, fmt.Sprintf("%d : %s . %d", i, e.IP, e.Port))
		if e.Node == t.state.Node {
			t.hairpin = append(t.hairpin, fmt.Sprintf("%s . %s . %s . %d", e.IP, e.IP, p.Protocol, e.Port))
		}
	}
	t.chains = append(t.chains, chain(service, fmt.Sprintf(
		"meta l4proto %s dnat ip to numgen random mod %d map { %s }", p.Protocol, len(targets), strings.Join(targets, ", "))))
	if outside {
		t.chains = append(t.chains, chain(external, `meta mark set meta mark | 0x00004000 comment "masquerade"`, "goto "+service))
	}
}

func (t *nft) render() string {
	address := map[string]string{"ip": "ipv4_addr", "ip6": "ipv6_addr"}[t.family]
	nodeIPs := []string{}
	if t.family == "ip" {
		nodeIPs = []string{t.state.NodeIP}
	}
	destination := address + " . inet_proto . inet_service : verdict"
	parts := []string{
		collection("set", "hairpin-connections", address+" . "+address+" . inet_proto . inet_service", "service hairpin connections", t.hairpin),
		collection("set", "cluster-ips", address, "Active ClusterIPs", t.clusterIPs),
		collection("set", "nodeport-ips", address, "IPs that accept NodePort traffic", nodeIPs),
		collection("map", "no-endpoint-services", destination, "vmap to drop or reject packets to services with no endpoints", t.noServices),
		collection("map", "no-endpoint-nodeports", "inet_proto . inet_service : verdict",
			"vmap to drop or reject packets to service nodeports with no endpoints", t.noNodePorts),
		collection("map", "firewall-ips", destination, "destinations that are subject to LoadBalancerSourceRanges", nil),
		collection("map", "service-ips", destination, "ClusterIP, ExternalIP and LoadBalancer IP traffic", t.services),
		collection("map", "service-nodeports", "inet_proto . inet_service : verdict", "NodePort traffic", t.nodePorts),
	}
	parts = append(parts, t.baseChains()...)
	parts = append(parts, t.chains...)
	return fmt.Sprintf("table %s kube-proxy {\n\tcomment \"rules for kube-proxy\"\n%s}\n", t.family, strings.Join(parts, "\n"))
}

func (t *nft) baseChains() []string {
	hook := func(kind, name, priority string) string {
		return fmt.Sprintf("type %s hook %s priority %s; policy accept;", kind, name, priority)
	}
	const firewall, services, valid = "ct state new jump firewall-check", "ct state new jump service-endpoints-check", "ct state new jump cluster-ips-check"
	f := t.family
	masquerade := fmt.Sprintf(`%s daddr @cluster-ips %s saddr != %s meta mark set meta mark | 0x00004000 comment "masquerade clusterIP traffic from outside cluster"`,
		f, f, t.state.ClusterCIDR)
	return []string{
		chain("filter-prerouting-pre-dnat", hook("filter", "prerouting", "dstnat - 10"), firewall),
		chain("filter-output-pre-dnat", hook("filter", "output", "-110"), firewall),
		chain("filter-input", hook("filter", "input", "filter"), "ct state new jump nodeport-endpoints-check", services),
		chain("filter-forward", hook("filter", "forward", "filter"), services, valid),
		chain("filter-output", hook("filter", "output", "filter"), services, valid),
		chain("nat-prerouting", hook("nat", "prerouting", "dstnat"), "jump services"),
		chain("nat-output", hook("nat", "output", "-100"), "jump services"),
		chain("nat-postrouting", hook("nat", "postrouting", "srcnat"), "jump masquerading"),
		chain("nodeport-endpoints-check", f+" daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports"),
		chain("service-endpoints-check", f+" daddr . meta l4proto . th dport vmap @no-endpoint-services"),
		chain("firewall-check", f+" daddr . meta l4proto . th dport vmap @firewall-ips"),
		chain("services", masquerade, f+" daddr . meta l4proto . th dport vmap @service-ips",
			f+" daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports"),
		chain("masquerading", "meta mark & 0x00004000 != 0x00000000 meta mark set meta mark ^ 0x00004000 masquerade fully-random",
			"ct status dnat "+f+" saddr . "+f+" daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random"),
		chain("cluster-ips-check", f+` daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"`),
		chain("reject-chain", `comment "helper for @no-endpoint-services / @no-endpoint-nodeports"`, "reject"),
	}
}

func collection(kind, name, of, comment string, elements []string) string {
	content := ""
	if len(elements) > 0 {
		content = fmt.Sprintf("\t\telements = { %s }\n", strings.Join(elements, ",\n\t\t\t     "))
	}
	return fmt.Sprintf("\t%s %s {\n\t\ttype %s\n\t\tcomment \"%s\"\n%s\t}\n", kind, name, of, comment, content)
}

func chain(name string, lines ...string) string {
	return fmt.Sprintf("\tchain %s {\n\t\t%s\n\t}\n", name, strings.Join(lines, "\n\t\t"))
}

func nftName(p *ServicePort) string {
	name := fmt.Sprintf("%s/%s/%s/%s", p.Namespace, p.Service, p.Protocol, p.PortName)
	sum := sha256.Sum256([]byte(name))
	return base32.StdEncoding.EncodeToString(sum[:])[:8] + "-" + name
}
