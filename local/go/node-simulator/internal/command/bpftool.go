package command

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// bpftool shows where the agent's eBPF programs hang.
func bpftool(r *Runner, pod *corev1.Pod, args []string) Result {
	agent := r.Agents.Of(pod.UID)
	switch asked := strings.Join(args, " "); {
	case agent == nil:
	case asked == "-j cgroup show /run/cilium/cgroupv2":
		return printed(agent.SocketPrograms(r.World.DetachedHook(pod)))
	case asked == "-j -f link show":
		return printed(agent.Links())
	}
	return Result{Code: 255, Err: "Error: can't do that: bpftool " + strings.Join(args, " ") + "\n"}
}
