package command

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"kube-proxy-replacement/local/node-simulator/internal/world"
)

// ciliumDbg is the part of cilium-dbg that says how an agent is and what its endpoints are.
func ciliumDbg(r *Runner, pod *corev1.Pod, args []string) Result {
	words, json, brief := options(args)
	now := time.Now()
	agent := r.Agents.Of(pod.UID)
	subject := strings.Join(words, " ")
	if agent != nil && subject == "bpf lb list" && !json { // it reads the kernel, and asks no agent
		return Result{Out: agent.ServiceTable(now, r.Kernels.Ports(), !r.World.Has(pod.Spec.NodeName, world.NoNodePorts))}
	}
	if agent == nil || !agent.Serves(now) {
		return Result{Code: 1, Err: `Error: Cannot get status/probe: Get "http://localhost/v1/healthz": dial unix ` +
			"/var/run/cilium/cilium.sock: connect: no such file or directory\nIs the agent running?\n"}
	}
	switch {
	case subject == "status" && json:
		return printed(agent.Status(now))
	case subject == "status" && brief:
		return Result{Out: "OK\n"}
	case subject == "status":
		return Result{Out: agent.Summary(now)}
	case subject == "endpoint list" && json:
		return printed(agent.Endpoints(now, r.World.PodsOn(pod.Spec.NodeName)))
	case subject == "endpoint list":
		text, err := agent.EndpointTable(now, r.World.PodsOn(pod.Spec.NodeName))
		return withError(Result{Out: text}, err)
	case subject == "version":
		return Result{Out: fmt.Sprintf("Client: %s 0000000\nDaemon: %s 0000000\n", agent.Version, agent.Version)}
	}
	return Result{Code: 1, Err: fmt.Sprintf("Error: unknown command %q for \"cilium-dbg\"\nRun 'cilium-dbg --help' for usage.\n", subject)}
}

// options parts a command line of cilium-dbg into its words and the flags that matter here.
func options(args []string) (words []string, json, brief bool) {
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case (arg == "-o" || arg == "--output") && i+1 < len(args):
			i++
			json = args[i] == "json"
		case arg == "-ojson" || arg == "-o=json" || arg == "--output=json":
			json = true
		case arg == "--brief":
			brief = true
		case !strings.HasPrefix(arg, "-"):
			words = append(words, arg)
		}
	}
	return words, json, brief
}

func printed(answer []byte, err error) Result {
	return withError(Result{Out: string(answer) + "\n"}, err)
}

func withError(result Result, err error) Result {
	if err != nil {
		return Result{Code: 1, Err: "Error: " + err.Error() + "\n"}
	}
	return result
}
