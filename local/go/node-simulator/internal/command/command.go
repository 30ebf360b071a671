// Package command runs the programs that simulated containers have, without starting any process.
package command

import (
	"fmt"
	"path"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"kube-proxy-replacement/local/node-simulator/internal/agent"
	"kube-proxy-replacement/local/node-simulator/internal/kernel"
	"kube-proxy-replacement/local/node-simulator/internal/world"
)

// Result is what a program has printed and its exit code.
type Result struct {
	Out, Err string
	Code     int
}

// NotFoundError is a container runtime's error for a program that isn't in the container's image.
type NotFoundError struct{ Program string }

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("failed to exec in container: failed to start exec \"%016x\": OCI runtime exec failed: exec failed: "+
		"unable to start container process: exec: %q: executable file not found in $PATH: unknown", time.Now().UnixNano(), e.Program)
}

// Runner knows what containers' programs need to know.
type Runner struct {
	World   *world.World
	Kernels *kernel.Kernels
	Agents  *agent.Agents
}

type program func(r *Runner, pod *corev1.Pod, args []string) Result

// Execute runs a command in a container of the pod.
func (r *Runner) Execute(pod *corev1.Pod, container *corev1.Container, command []string) (Result, error) {
	name := path.Base(command[0])
	run, found := programs(container)[name]
	if !found {
		return Result{}, &NotFoundError{Program: command[0]}
	}
	return run(r, pod, command[1:]), nil
}

// programs are those that the container's image has.
func programs(container *corev1.Container) map[string]program {
	tagged, _, _ := strings.Cut(container.Image, "@")
	image, _, _ := strings.Cut(path.Base(tagged), ":")
	switch {
	case container.Name == "kube-proxy" || strings.HasPrefix(image, "kube-proxy"):
		return kubeProxyImage
	case container.Name == "cilium-agent" || image == "cilium" || image == "cilium-ci":
		return ciliumImage
	}
	return nil
}

var iptablesSave = map[string]program{
	"iptables-save":         saver(false),
	"iptables-nft-save":     saver(false),
	"ip6tables-save":        saver(true),
	"ip6tables-nft-save":    saver(true),
	"iptables-legacy-save":  nothing,
	"ip6tables-legacy-save": nothing,
}

var kubeProxyImage = with(iptablesSave, map[string]program{"nft": nft})

var agentPrograms = with(iptablesSave, map[string]program{"cilium-dbg": ciliumDbg, "cilium": ciliumDbg, "bpftool": bpftool, "timeout": timeout})

var ciliumImage = with(agentPrograms, map[string]program{"sh": shell})

func with(base, more map[string]program) map[string]program {
	all := map[string]program{}
	for _, programs := range []map[string]program{base, more} {
		for name, run := range programs {
			all[name] = run
		}
	}
	return all
}

func nothing(*Runner, *corev1.Pod, []string) Result { return Result{} }

func (r *Runner) state(node string) *kernel.State {
	object := r.World.Node(node)
	podCIDR := ""
	if object != nil {
		podCIDR = object.Spec.PodCIDR
	}
	return r.Kernels.State(node, world.InternalIP(object), podCIDR)
}
