package kernel

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// What testdata/nat.txt and testdata/filter.txt were written for by a real kube-proxy 1.36.3, on node1.
func realPorts() []ServicePort {
	port := func(service, name, protocol, ip string, number, nodePort int32, endpoints ...Endpoint) ServicePort {
		return ServicePort{
			Namespace: "default", Service: service, PortName: name, Protocol: protocol,
			ClusterIP: ip, Port: number, NodePort: nodePort, Endpoints: endpoints,
		}
	}
	echo := []Endpoint{{"10.244.1.88", 8080, "node1"}, {"10.244.2.189", 8080, "node2"}}
	return []ServicePort{
		port("kubernetes", "https", "tcp", "10.96.0.1", 443, 0, Endpoint{"10.10.0.1", 6443, ""}),
		port("echo", "t", "tcp", "10.96.133.139", 80, 0, echo...),
		port("echo", "u", "udp", "10.96.133.139", 53, 0, echo...),
		port("echo-np", "t", "tcp", "10.96.41.182", 80, 30080, echo...),
		port("echo-np", "u", "udp", "10.96.41.182", 53, 31058, echo...),
	}
}

func realState(mode Mode, ports []ServicePort) *State {
	return &State{Node: "node1", NodeIP: "10.10.0.11", ClusterCIDR: "10.244.0.0/16", Mode: mode, Ports: ports}
}

func lines(text string) []string {
	var all []string
	for _, line := range strings.Split(text, "\n") {
		if line != "" && !strings.HasPrefix(line, "#") && !strings.Contains(line, "site: ssh") {
			all = append(all, line)
		}
	}
	slices.Sort(all)
	return all
}

func compare(t *testing.T, got, want []string) {
	t.Helper()
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("missing: %s", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("too much: %s", line)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d lines instead of %d", len(got), len(want))
	}
}

func TestRulesAreThoseOfARealKubeProxy(t *testing.T) {
	for _, table := range []string{"nat", "filter"} {
		want, err := os.ReadFile("testdata/" + table + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		got, _ := realState(IPTables, realPorts()).Save(false, table, false)
		compare(t, lines(got), lines(string(want)))
	}
}

func TestNFTablesAreThoseOfARealKubeProxy(t *testing.T) {
	want, err := os.ReadFile("testdata/nft-table-ip.txt")
	if err != nil {
		t.Fatal(err)
	}
	// Names of chains hold a hash; blocks are compared by their names, and what in them is no list of elements.
	blocks := regexp.MustCompile(`(?m)^\t(?:chain|set|map) \S+ \{$`)
	got, found := realState(NFTables, realPorts()).NFTTable("ip")
	if !found {
		t.Fatal("no table ip kube-proxy")
	}
	compare(t, sorted(blocks.FindAllString(got, -1)), sorted(blocks.FindAllString(string(want), -1)))
	if saved, _ := realState(NFTables, realPorts()).Save(false, "", false); strings.Contains(saved, "KUBE-SVC") {
		t.Error("rules in iptables too")
	}
}

func sorted(all []string) []string {
	slices.Sort(all)
	return all
}

func TestEightLinesOfTheKubeletStay(t *testing.T) {
	saved, _ := realState("", nil).Save(false, "", false)
	if count := strings.Count(saved, "KUBE-"); count == 0 {
		t.Fatal("none")
	}
	var kube []string
	for _, line := range lines(saved) {
		if strings.Contains(line, "KUBE-") {
			kube = append(kube, line)
		}
	}
	if len(kube) != 8 {
		t.Errorf("%d lines: %v", len(kube), kube)
	}
}

func TestServiceWithoutEndpointsIsRejected(t *testing.T) {
	port := realPorts()[3]
	port.Endpoints = nil
	filter, _ := realState(IPTables, []ServicePort{port}).Save(false, "filter", false)
	for _, want := range []string{
		`-A KUBE-SERVICES -d 10.96.41.182/32 -p tcp -m comment --comment "default/echo-np:t has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable`,
		`-A KUBE-EXTERNAL-SERVICES -p tcp -m comment --comment "default/echo-np:t has no endpoints" -m addrtype --dst-type LOCAL -m tcp --dport 30080 -j REJECT --reject-with icmp-port-unreachable`,
	} {
		if !strings.Contains(filter, want) {
			t.Errorf("missing: %s", want)
		}
	}
	if nat, _ := realState(IPTables, []ServicePort{port}).Save(false, "nat", false); strings.Contains(nat, "KUBE-SVC") {
		t.Error("a chain without endpoints")
	}
}

func TestLocalPolicyUsesTheNodesOwnEndpoints(t *testing.T) {
	port := realPorts()[3]
	port.ExternalLocal = true
	nat, _ := realState(IPTables, []ServicePort{port}).Save(false, "nat", false)
	local := "KUBE-SVL-7RKK2G36QWITD2DZ"
	if !strings.Contains(nat, "-A KUBE-EXT-7RKK2G36QWITD2DZ -j "+local) || strings.Count(nat, "-A "+local) != 1 {
		t.Errorf("no %s with one endpoint in:\n%s", local, nat)
	}
}

func TestProbabilityIsTheKernels(t *testing.T) {
	for n, want := range map[int]string{2: "0.50000000000", 3: "0.33333333349", 4: "0.25000000000"} {
		if got := probability(n); got != want {
			t.Errorf("1/%d: %s instead of %s", n, got, want)
		}
	}
}

// objects is a Source that a test changes.
type objects struct {
	services []*corev1.Service
	slices   []*discoveryv1.EndpointSlice
}

func (o *objects) Services() []*corev1.Service                  { return o.services }
func (o *objects) EndpointSlices() []*discoveryv1.EndpointSlice { return o.slices }

func service(name, ip string) *corev1.Service {
	of := &corev1.Service{}
	of.Namespace, of.Name, of.Spec.ClusterIP = "default", name, ip
	of.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}
	return of
}

func TestRulesFollowWhileKubeProxyRunsAndFreezeAfter(t *testing.T) {
	source := &objects{services: []*corev1.Service{service("one", "10.96.0.11")}}
	routing := NewRouting(source)
	kernels := New(routing)
	count := func() int { return len(kernels.State("n", "", "").Ports) }

	if kernels.State("n", "", "").Routes() || count() != 0 {
		t.Error("rules before kube-proxy")
	}
	kernels.Attach("n", "pod", IPTables, "")
	source.services = append(source.services, service("two", "10.96.0.12"))
	routing.Changed()
	if count() != 2 {
		t.Error("a new Service isn't followed")
	}
	kernels.Detach("n", "another")
	kernels.Detach("n", "pod")
	source.services = nil
	routing.Changed()
	if count() != 2 || !kernels.State("n", "", "").Routes() {
		t.Error("the rules didn't stay as they were")
	}
	kernels.Clean("n")
	if kernels.State("n", "", "").Routes() {
		t.Error("rules after cleaning")
	}
}

func TestNFTTablesAreDeletedOneByOne(t *testing.T) {
	kernels := New(NewRouting(&objects{}))
	kernels.Attach("n", "pod", NFTables, "")
	kernels.DeleteNFT("n", "ip")
	if _, found := kernels.State("n", "", "").NFTTable("ip"); !found {
		t.Error("kube-proxy runs, and would have written it again")
	}
	kernels.Detach("n", "pod")
	kernels.DeleteNFT("n", "ip")
	_, four := kernels.State("n", "", "").NFTTable("ip")
	_, six := kernels.State("n", "", "").NFTTable("ip6")
	if four || !six {
		t.Error("ip should be gone and ip6 there")
	}
	kernels.DeleteNFT("n", "ip6")
	if kernels.State("n", "", "").Routes() {
		t.Error("it routes without tables")
	}
}

func TestHeadlessServicesAreNotRouted(t *testing.T) {
	source := &objects{services: []*corev1.Service{service("headless", corev1.ClusterIPNone), service("one", "10.96.0.11")}}
	found := map[string]bool{}
	for _, port := range NewRouting(source).Current() {
		found[port.Service] = true
	}
	if !maps.Equal(found, map[string]bool{"one": true}) {
		t.Error(found)
	}
}
