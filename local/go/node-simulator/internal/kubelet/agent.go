package kubelet

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"kube-proxy-replacement/local/node-simulator/internal/agent"
	"kube-proxy-replacement/local/node-simulator/internal/world"
)

// crashBackoff, times the number of crashes, up to five, is how long an agent that has crashed takes to try again.
const crashBackoff = 2 * time.Second

const (
	imagePoll  = 400 * time.Millisecond // between two tries to pull an image
	configPoll = 400 * time.Millisecond // between two tries to read an agent's configuration
)

const (
	agentContainer  = "cilium-agent"
	configContainer = "config" // the init container that first talks to the API server
	configMap       = "cilium-config"
)

// agentRole: a Cilium agent takes its configuration at its start, is Ready some time later, and its
// endpoints some seconds after that.
type agentRole struct{}

type agentRecord struct {
	stuck     bool
	crashes   int
	crashedAt time.Time
	message   string // "" where its log alone has it
	crashing  *corev1.Container
}

func (agentRole) step(ctx context.Context, k *Kubelet, pod *corev1.Pod, r *record, now time.Time) (*corev1.PodStatus, time.Duration) {
	if due := k.mount(ctx, pod, r, now); due > 0 {
		return k.creating(pod, r), due
	}
	own := &r.agent
	if image := mainContainer(pod).Image; r.startedAt.IsZero() && k.World.MissesImage(r.node, image) {
		return k.imageMissing(pod, r, image), imagePoll
	}
	if r.startedAt.IsZero() {
		if due := own.nextTry().Sub(now); own.crashes > 0 && due > 0 {
			return k.crashed(pod, r), due
		}
		own.crashing = firstToAsk(pod)
		cilium := version(mainContainer(pod).Image)
		config, err := k.World.ReadConfig(ctx, pod, initContainer(pod, configContainer), configMap, cilium)
		if err == nil {
			err = k.World.RegisterNodeConfigs(ctx, cilium)
		}
		if err != nil {
			return k.creating(pod, r), configPoll
		}
		if message := k.startAgent(pod, r, config, now); message != "" {
			own.crashes, own.crashedAt, own.message = own.crashes+1, now, message
			k.write(r.uid, own.crashing.Name, message+"\n")
			if own.crashing.Name == agentContainer {
				own.message = "" // a container that leaves nothing in its status
			}
			return k.crashed(pod, r), own.nextTry().Sub(now)
		}
	}
	readyAt := r.startedAt.Add(k.AgentReady)
	if own.stuck {
		return k.up(pod, r, time.Time{}), 0
	}
	if due := readyAt.Sub(now); due > 0 {
		return k.up(pod, r, time.Time{}), due
	}
	k.Kernels.SetUpCilium(r.node)
	return k.up(pod, r, readyAt), 0
}

func (agentRole) stop(k *Kubelet, r *record) {
	k.Agents.Stop(r.uid)
	k.Kernels.LeaveHealthPort(r.node, r.uid)
}

func (a *agentRecord) nextTry() time.Time {
	return a.crashedAt.Add(time.Duration(min(a.crashes, 5)) * crashBackoff)
}

// startAgent starts the pod's agent with its configuration, nil where there is no cilium-config, or returns what the agent
// writes before it gives up.
func (k *Kubelet) startAgent(pod *corev1.Pod, r *record, config map[string]string, now time.Time) (message string) {
	container := mainContainer(pod)
	if address, ok := k.reachable(pod, container); !ok {
		return fmt.Sprintf("time=%s level=error msg=\"Unable to contact k8s api-server\" module=agent.infra.k8s-client ipAddr=https://%s "+
			"error=\"Get \\\"https://%s/api/v1/namespaces/kube-system\\\": dial tcp %s: i/o timeout\"",
			now.UTC().Format(time.RFC3339), address, address, address)
	}
	if config == nil {
		return fmt.Sprintf("Error: failed to build config: could not list config-map %s/%s: configmaps %q not found", pod.Namespace, configMap, configMap)
	}
	if last := k.Agents.LastConfig(r.node); last != nil && k.World.Has(r.node, world.AgentKeepsConfig) {
		config = last
	}
	node := k.World.Node(r.node)
	if last := k.World.CrashLog(r.node); last != "" && (&agent.Agent{Config: config}).Replacing() {
		r.agent.crashing = mainContainer(pod)
		return "level=info msg=\"Starting\"\n" + last
	}
	started := &agent.Agent{
		Node: r.node, NodeIP: world.InternalIP(node), PodCIDR: node.Spec.PodCIDR,
		Version: version(container.Image), Config: config, StartedAt: now,
	}
	r.startedAt, r.agent.stuck = now, k.World.Has(r.node, world.AgentStuck)
	if !r.agent.stuck {
		started.ServesAt = now.Add(k.AgentReady * 2 / 5) // as real ones: some seconds of fifteen
		if started.AnswersHealth() {
			k.Kernels.TakeHealthPort(r.node, r.uid, started.ServesAt)
		}
		if !k.World.Has(r.node, world.EndpointsStuck) {
			started.SwitchedAt = now.Add(k.AgentReady + k.World.EndpointDelay(r.node, k.EndpointDelay))
		}
	}
	k.Agents.Start(r.uid, started)
	return ""
}

// reachable tells whether the agent reaches the API server at the address it was told. Without one
// it takes the cluster's own Service, which needs somebody to route it on this node.
func (k *Kubelet) reachable(pod *corev1.Pod, container *corev1.Container) (address string, ok bool) {
	if address, found := k.World.ToldAPIServer(pod, container); found {
		return address, k.World.IsAPIServer(address)
	}
	last := agent.Agent{Config: k.Agents.LastConfig(pod.Spec.NodeName)}
	return "10.96.0.1:443", k.Kernels.State(pod.Spec.NodeName, "", "").Routes() || last.Replacing()
}

// imageMissing is the status of a pod whose agent's image can't be pulled.
func (k *Kubelet) imageMissing(pod *corev1.Pod, r *record, image string) *corev1.PodStatus {
	missing := func(c *corev1.Container) corev1.ContainerStatus {
		status := waiting(c, "ImagePullBackOff")
		if c.Image != image {
			return waiting(c, "PodInitializing")
		}
		status.State.Waiting.Message = fmt.Sprintf("Back-off pulling image %q: ErrImagePull: failed to pull and unpack image %q: "+
			"failed to resolve reference %q: %s: not found", image, image, image, image)
		return status
	}
	v := view{phase: corev1.PodPending, initContainer: missing}
	v.container = func(c *corev1.Container) corev1.ContainerStatus {
		if len(pod.Spec.InitContainers) > 0 {
			return waiting(c, "PodInitializing")
		}
		return missing(c)
	}
	return k.status(pod, r, v)
}

func (k *Kubelet) crashed(pod *corev1.Pod, r *record) *corev1.PodStatus {
	own, crashing1 := &r.agent, r.agent.crashing
	crash := func(c *corev1.Container) corev1.ContainerStatus {
		return crashing(c, r, own.crashes-1, own.message, own.crashedAt, own.crashedAt)
	}
	v := view{phase: corev1.PodRunning, initializedAt: own.crashedAt}
	v.initContainer = func(c *corev1.Container) corev1.ContainerStatus { return throughInit(c, r, own.crashedAt) }
	v.container = func(c *corev1.Container) corev1.ContainerStatus {
		if c.Name == crashing1.Name {
			return crash(c)
		}
		return running(c, r, own.crashedAt, true)
	}
	if crashing1.Name == configContainer {
		v.phase, v.initializedAt = corev1.PodPending, time.Time{}
		v.container = func(c *corev1.Container) corev1.ContainerStatus { return waiting(c, "PodInitializing") }
		v.initContainer = func(c *corev1.Container) corev1.ContainerStatus {
			if c.Name == crashing1.Name {
				return crash(c)
			}
			return waiting(c, "PodInitializing")
		}
	}
	return k.status(pod, r, v)
}

// firstToAsk is the container that fails when the API server can't be reached.
func firstToAsk(pod *corev1.Pod) *corev1.Container {
	if config := initContainer(pod, configContainer); config != nil {
		return config
	}
	return mainContainer(pod)
}

func initContainer(pod *corev1.Pod, name string) *corev1.Container {
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return &pod.Spec.InitContainers[i]
		}
	}
	return nil
}

func mainContainer(pod *corev1.Pod) *corev1.Container {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == agentContainer {
			return &pod.Spec.Containers[i]
		}
	}
	return &pod.Spec.Containers[0]
}

// version is the tag of an image, without its leading v.
func version(image string) string {
	_, tag, found := strings.Cut(path.Base(strings.SplitN(image, "@", 2)[0]), ":")
	if !found {
		return "unknown"
	}
	return strings.TrimPrefix(tag, "v")
}
