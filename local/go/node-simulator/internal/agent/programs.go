package agent

import (
	"encoding/json"
	"fmt"
)

// SocketPrograms are those at the node's cgroup, as `bpftool -j cgroup show` prints them, but for one that somebody has
// taken off.
func (a *Agent) SocketPrograms(detached string) ([]byte, error) {
	programs := []object{}
	for _, family := range []string{"4", "6"} {
		if !a.Replacing() || a.Config["enable-ipv"+family] != "true" {
			continue
		}
		for _, hook := range [][2]string{{"inet%s", "connect"}, {"udp%s", "sendmsg"}, {"udp%s", "recvmsg"}} {
			kind := "cgroup_" + fmt.Sprintf(hook[0], family) + "_" + hook[1]
			if kind != detached {
				programs = append(programs, object{
					"id": 100 + len(programs), "attach_type": kind, "attach_flags": "multi",
					"name": "cil_sock" + family + "_" + hook[1],
				})
			}
		}
	}
	return json.Marshal(programs)
}

// Links are those of the agent's programs at devices, as `bpftool -j -f link show` prints them.
func (a *Agent) Links() ([]byte, error) {
	links := []object{}
	for _, at := range []string{"cilium_host/links/cil_from_host", "eth0/links/cil_from_netdev"} {
		pinned := []string{"/sys/fs/bpf/cilium/devices/" + at}
		links = append(links, object{"id": len(links) + 1, "type": "tcx", "prog_id": 200 + len(links), "pinned": pinned})
	}
	return json.Marshal(links)
}
