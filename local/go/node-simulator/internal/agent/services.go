package agent

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"kube-proxy-replacement/local/node-simulator/internal/kernel"
)

// frontend is an address that the kernel's table leads from.
type frontend struct {
	ip    string
	port  int32
	flags string
}

// ServiceTable is what `cilium-dbg bpf lb list` prints: each address of each Service's port, with one entry for itself and
// one for each endpoint. Node ports are there where the agent replaces kube-proxy and its endpoints are ready.
// Real ones print it in no order; see pkg/loadbalancer/maps and cilium-dbg/cmd/bpf_lb_list.go of Cilium.
func (a *Agent) ServiceTable(now time.Time, ports []kernel.ServicePort, nodePorts bool) string {
	nodePorts = nodePorts && a.Replacing() && a.EndpointState(now) == "ready"
	var out strings.Builder
	table := tabwriter.NewWriter(&out, 5, 0, 3, ' ', 0)
	fmt.Fprint(table, "SERVICE ADDRESS\tBACKEND ADDRESS (REVNAT_ID) (SLOT)\n")
	id, seen := 0, map[string]bool{}
	for _, port := range ports {
		if !seen[port.ClusterIP] { // what comes to another port of it is dropped
			seen[port.ClusterIP] = true
			fmt.Fprintf(table, "%s:0/ANY (0)\t0.0.0.0:0 (0) (0) [ClusterIP, non-routable] \t\n", port.ClusterIP)
		}
		frontends := []frontend{{port.ClusterIP, port.Port, "ClusterIP, non-routable"}}
		if nodePorts && port.NodePort != 0 {
			frontends = append(frontends, frontend{"0.0.0.0", port.NodePort, "NodePort, non-routable"},
				frontend{a.NodeIP, port.NodePort, "NodePort"})
		}
		protocol := strings.ToUpper(port.Protocol)
		for _, f := range frontends {
			id++
			from := net.JoinHostPort(f.ip, strconv.Itoa(int(f.port))) + "/" + protocol
			fmt.Fprintf(table, "%s (0)\t0.0.0.0:0 (%d) (0) [%s] \t\n", from, id, f.flags)
			for slot, endpoint := range port.Endpoints {
				fmt.Fprintf(table, "%s (%d)\t%s/%s (%d) (%d)\t\n", from, slot+1, endpoint.Address(), protocol, id, slot+1)
			}
		}
	}
	_ = table.Flush()
	return out.String()
}
