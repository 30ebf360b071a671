package kubelet

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"kube-proxy-replacement/local/node-simulator/internal/world"
)

// How long after its acceptance a task's pod runs, and how long it then takes.
const (
	taskStarts = 100 * time.Millisecond
	taskTakes  = 250 * time.Millisecond
)

// The tasks that are more than a program's run.
const (
	cleanTask = "clean" // takes kube-proxy's rules off the node
	reachTask = "reach" // asks the API server at the address it was told
)

// taskRole: a pod that does its work and ends. Its value is the task's name.
type taskRole string

type taskRecord struct {
	endedAt  time.Time
	outcomes map[string]outcome // by container
}

type outcome struct {
	code    int
	message string
}

func (t taskRole) step(ctx context.Context, k *Kubelet, pod *corev1.Pod, r *record, now time.Time) (*corev1.PodStatus, time.Duration) {
	if r.mountedAt.IsZero() {
		if due := k.mount(ctx, pod, r, now); r.mountedAt.IsZero() {
			return k.creating(pod, r), due
		}
	}
	if due := r.mountedAt.Add(taskStarts).Sub(now); due > 0 {
		return k.creating(pod, r), due
	}
	if r.startedAt.IsZero() {
		r.startedAt = now
	}
	if due := r.startedAt.Add(taskTakes).Sub(now); due > 0 {
		return k.up(pod, r, r.startedAt), due
	}
	if r.task.outcomes == nil {
		r.task.endedAt, r.task.outcomes = now, t.run(k, pod)
		for container, of := range r.task.outcomes {
			k.write(r.uid, container, of.message)
		}
	}
	return k.ended(pod, r), 0
}

func (taskRole) stop(*Kubelet, *record) {}

// run does the task's work and returns how each of the pod's containers has ended.
func (t taskRole) run(k *Kubelet, pod *corev1.Pod) map[string]outcome {
	outcomes := map[string]outcome{}
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		command := slices.Concat(container.Command, container.Args)
		switch {
		case t == cleanTask && slices.Contains(command, "--cleanup"):
			outcomes[container.Name] = k.clean(pod)
		case t == reachTask && k.asks(pod, &container):
			outcomes[container.Name] = k.reach(pod, &container)
		case len(command) > 0:
			result, err := k.Execute(pod, &container, command)
			if err != nil {
				// What else a container does isn't simulated: it goes well.
				result.Out = ""
			}
			outcomes[container.Name] = outcome{code: result.Code, message: result.Out + result.Err}
		default:
			outcomes[container.Name] = outcome{}
		}
	}
	return outcomes
}

func (k *Kubelet) clean(pod *corev1.Pod) outcome {
	if k.World.Has(pod.Spec.NodeName, world.CleanFails) {
		return outcome{1, fmt.Sprintf("E%s       1 cleanup.go:61] \"Failed to execute iptables-save\" err=\"exit status 4\" table=\"nat\"\n"+
			"E%s       1 run.go:72] \"command failed\" err=\"encountered an error while tearing down rules\"\n", klogTime(), klogTime())}
	}
	k.Kernels.Clean(pod.Spec.NodeName)
	return outcome{0, fmt.Sprintf("I%s       1 server_linux.go:344] \"Cleaned up kube-proxy's rules\"\n", klogTime())}
}

// asks reports whether the container says where it looks for the API server.
func (k *Kubelet) asks(pod *corev1.Pod, container *corev1.Container) bool {
	_, found := k.asked(pod, container)
	return found
}

func (k *Kubelet) asked(pod *corev1.Pod, container *corev1.Container) (address string, found bool) {
	for _, arg := range slices.Concat(container.Command, container.Args) {
		for _, word := range strings.Fields(arg) {
			if target, err := url.Parse(strings.Trim(word, `"'`)); err == nil && target.Scheme == "https" && target.Port() != "" {
				return target.Host, true
			}
		}
	}
	return k.World.ToldAPIServer(pod, container)
}

func (k *Kubelet) reach(pod *corev1.Pod, container *corev1.Container) outcome {
	address, _ := k.asked(pod, container)
	if !k.World.IsAPIServer(address) || k.World.Has(pod.Spec.NodeName, world.APIServerUnreachable) {
		return outcome{1, fmt.Sprintf("Get \"https://%s/livez\": dial tcp %s: i/o timeout\n", address, address)}
	}
	return outcome{0, "ok\n"}
}

// ended is the status of a pod whose containers have all ended, the first failure among its init
// containers keeping the rest from starting.
func (k *Kubelet) ended(pod *corev1.Pod, r *record) *corev1.PodStatus {
	own, failed, stopped := r.task, false, false
	for _, c := range pod.Spec.InitContainers {
		stopped = stopped || own.outcomes[c.Name].code != 0
	}
	for _, c := range pod.Spec.Containers {
		failed = failed || own.outcomes[c.Name].code != 0
	}
	v := view{phase: corev1.PodSucceeded, initializedAt: r.startedAt, doneAt: own.endedAt}
	if failed || stopped {
		v.phase = corev1.PodFailed
	}
	end := func(c *corev1.Container) corev1.ContainerStatus {
		of := own.outcomes[c.Name]
		return terminated(c, r, of.code, of.message, r.startedAt, own.endedAt)
	}
	v.container, v.initContainer = end, end
	if stopped {
		v.container = func(c *corev1.Container) corev1.ContainerStatus { return waiting(c, "PodInitializing") }
	}
	return k.status(pod, r, v)
}

func klogTime() string { return time.Now().Format("0102 15:04:05.000000") }
