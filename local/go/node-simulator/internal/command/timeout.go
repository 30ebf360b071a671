package command

import (
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"kube-proxy-replacement/local/node-simulator/internal/kernel"
	"kube-proxy-replacement/local/node-simulator/internal/world"
)

// healthAsked is the one thing that is asked with a limit of time: the node's health, on port 10256. It comes as a shell
// line has it, with its quotes, or without them.
var healthAsked = regexp.MustCompile(`^\d+ bash -c "?exec 3<>/dev/tcp/127\.0\.0\.1/10256 && ` +
	`printf %b \\?"GET /healthz HTTP/1\.0\\r\\n\\r\\n\\?" >&3 && head -n1 <&3"?$`)

func timeout(r *Runner, pod *corev1.Pod, args []string) Result {
	if line := strings.Join(args, " "); !healthAsked.MatchString(line) {
		return Result{Code: wrongSyntax, Err: "timeout: the simulated one knows the question to port 10256 only, not: " + line + "\n"}
	}
	node := pod.Spec.NodeName
	who := r.Kernels.HealthPort(node, time.Now())
	if who == kernel.Nobody || who == kernel.CiliumAgent && r.World.Has(node, world.AgentHealthSilent) {
		return Result{Code: 1, Err: "bash: connect: Connection refused\nbash: line 1: /dev/tcp/127.0.0.1/10256: Connection refused\n"}
	}
	return Result{Out: "HTTP/1.0 200 OK\r\n"}
}
