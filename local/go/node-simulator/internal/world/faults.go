package world

import (
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Fault is the name of a node's annotation that makes something fail on that node.
type Fault string

// The faults that a node's annotations can ask for, each with the value "true".
const (
	APIServerUnreachable   Fault = "simulator/api-server-unreachable"
	AgentStuck             Fault = "simulator/agent-stuck"
	AgentKeepsConfig       Fault = "simulator/agent-keeps-config"
	EndpointsStuck         Fault = "simulator/endpoints-stuck"
	ExecFails              Fault = "simulator/exec-fails"
	CleanFails             Fault = "simulator/clean-fails"
	KubeProxyWritesNoRules Fault = "simulator/kube-proxy-writes-no-rules"
	AgentHealthSilent      Fault = "simulator/agent-health-silent"
	NoNodePorts            Fault = "simulator/no-node-ports"
)

// Annotations of a node whose value is a number of seconds.
const (
	execSlow      = "simulator/exec-slow"
	endpointDelay = "simulator/endpoint-delay"
)

// Annotations of a node whose value says what, or when.
const (
	imageMissing  = "simulator/image-missing"
	agentsLastLog = "simulator/agent-crashes-replacing"
)

// MissesImage reports whether the node can't pull the image: its annotation is a part of the image's name.
func (w *World) MissesImage(node, image string) bool {
	object := w.Node(node)
	if object == nil || object.Annotations[imageMissing] == "" {
		return false
	}
	return strings.Contains(image, object.Annotations[imageMissing])
}

// CrashLog is the last line that an agent on the node logs before it ends, whenever it is to replace kube-proxy; empty:
// it doesn't end.
func (w *World) CrashLog(node string) string {
	object := w.Node(node)
	if object == nil {
		return ""
	}
	return object.Annotations[agentsLastLog]
}

// hookDetached is the annotation «POD HOOK» of a node: somebody has taken that agent's program off that hook. The next
// agent puts its own there when it starts.
const hookDetached = "simulator/hook-detached"

// DetachedHook is the hook, in bpftool's words, that an agent's program was taken off; empty: none.
func (w *World) DetachedHook(agent *corev1.Pod) string {
	object := w.Node(agent.Spec.NodeName)
	if object == nil {
		return ""
	}
	pod, hook, _ := strings.Cut(object.Annotations[hookDetached], " ")
	if pod != agent.Name {
		return ""
	}
	return hook
}

// Has reports whether the node's annotations ask for the fault now.
func (w *World) Has(node string, fault Fault) bool {
	object := w.Node(node)
	return object != nil && object.Annotations[string(fault)] == "true"
}

// ExecDelay is how long an exec on the node takes to begin.
func (w *World) ExecDelay(node string) time.Duration { return w.seconds(node, execSlow, 0) }

// EndpointDelay is how long after its readiness an agent's endpoints are ready.
func (w *World) EndpointDelay(node string, usual time.Duration) time.Duration {
	return w.seconds(node, endpointDelay, usual)
}

func (w *World) seconds(node, annotation string, otherwise time.Duration) time.Duration {
	object := w.Node(node)
	if object == nil {
		return otherwise
	}
	seconds, err := strconv.ParseFloat(object.Annotations[annotation], 64)
	if err != nil {
		return otherwise
	}
	return time.Duration(seconds * float64(time.Second))
}

// Ready reports whether the node's kubelet is at work: with a node that isn't Ready, nothing
// starts, nothing ends and nothing answers.
func Ready(node *corev1.Node) bool {
	if node == nil {
		return false
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// InternalIP is the node's own address.
func InternalIP(node *corev1.Node) string {
	if node == nil {
		return ""
	}
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			return address.Address
		}
	}
	return ""
}
