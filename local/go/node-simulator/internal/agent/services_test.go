package agent

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"kube-proxy-replacement/local/node-simulator/internal/kernel"
)

// The Services of the node that the answers in testdata are of.
func shop() []kernel.ServicePort {
	pods := func(port int32) []kernel.Endpoint {
		return []kernel.Endpoint{{IP: "10.244.1.88", Port: port}, {IP: "10.244.2.189", Port: port}}
	}
	return []kernel.ServicePort{
		{ClusterIP: "10.96.0.1", Port: 443, Protocol: "tcp", Endpoints: []kernel.Endpoint{{IP: "10.10.0.1", Port: 6443}}},
		{ClusterIP: "10.96.133.139", Port: 53, Protocol: "udp", Endpoints: pods(8080), NodePort: 31058},
		{ClusterIP: "10.96.133.139", Port: 80, Protocol: "tcp", Endpoints: pods(8080), NodePort: 30080},
		{ClusterIP: "10.96.41.182", Port: 53, Protocol: "udp", Endpoints: pods(8080)},
		{ClusterIP: "10.96.41.182", Port: 80, Protocol: "tcp", Endpoints: pods(8080)},
	}
}

// lines are a table's, sorted, without the numbers that Cilium gives to addresses in any order.
func lines(table string) []string {
	table = regexp.MustCompile(`\((\d+)\) \((\d+)\)`).ReplaceAllStringFunc(table, func(ids string) string {
		return strings.Repeat("x", len(ids)-strings.LastIndex(ids, " ")) + ids[strings.LastIndex(ids, " "):]
	})
	all := strings.Split(table, "\n")
	slices.Sort(all)
	return all
}

func TestItsTableIsThatOfARealAgent(t *testing.T) {
	replacing := started(map[string]string{"kube-proxy-replacement": "true"})
	replacing.NodeIP = "10.10.0.11"
	beside := started(map[string]string{"kube-proxy-replacement": "false"})
	beside.NodeIP = "10.10.0.11"
	ready := replacing.SwitchedAt
	for _, c := range []struct {
		what, file string
		agent      *Agent
		at         time.Time
		nodePorts  bool
	}{
		{"replacing", "replace", replacing, ready, true},
		{"replacing, its endpoints not ready", "kube-proxy", replacing, ready.Add(-time.Millisecond), true},
		{"replacing, with the fault", "kube-proxy", replacing, ready, false},
		{"beside kube-proxy", "kube-proxy", beside, ready, true},
	} {
		real, err := os.ReadFile("testdata/bpf-lb-list-" + c.file + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		got := c.agent.ServiceTable(c.at, shop(), c.nodePorts)
		if !slices.Equal(lines(got), lines(string(real))) {
			t.Errorf("%s:\n%s\ninstead of\n%s", c.what, got, real)
		}
	}
}

func TestAnAgentAnswersHealthWhereItIsToldSo(t *testing.T) {
	const address = "kube-proxy-replacement-healthz-bind-address"
	for _, c := range []struct {
		replacement, address string
		answers              bool
	}{
		{"true", "0.0.0.0:10256", true}, {"true", "", false}, {"true", "0.0.0.0:9999", false}, {"false", "0.0.0.0:10256", false},
	} {
		a := started(map[string]string{"kube-proxy-replacement": c.replacement, address: c.address})
		if a.AnswersHealth() != c.answers {
			t.Errorf("%+v: %v", c, !c.answers)
		}
	}
}
