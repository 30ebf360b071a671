package kernel

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Listener is who answers on a node's port 10256, where load balancers ask about the node's health.
type Listener int

// Those who can.
const (
	Nobody Listener = iota
	KubeProxy
	CiliumAgent
)

// listener is a pod with the port, or one that waits for it.
type listener struct {
	pod  types.UID
	who  Listener
	from time.Time
}

// AwaitHealthPort gives the port to a kube-proxy pod as soon as nobody has it: a real one tries again and again.
func (k *Kernels) AwaitHealthPort(name string, pod types.UID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.of(name)
	n.listeners = append(n.listeners, listener{pod: pod, who: KubeProxy})
}

// TakeHealthPort gives the port to an agent's pod, which answers from then on, unless kube-proxy has it: an agent tries
// once only.
func (k *Kernels) TakeHealthPort(name string, pod types.UID, from time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.of(name)
	if len(n.listeners) == 0 || n.listeners[0].who != KubeProxy {
		n.listeners = append(n.listeners, listener{pod: pod, who: CiliumAgent, from: from})
	}
}

// LeaveHealthPort says that the pod's process has ended.
func (k *Kernels) LeaveHealthPort(name string, pod types.UID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.of(name)
	n.listeners = slices.DeleteFunc(n.listeners, func(l listener) bool { return l.pod == pod })
}

// HealthPort is who answers on the port now.
func (k *Kernels) HealthPort(name string, now time.Time) Listener {
	k.mu.Lock()
	defer k.mu.Unlock()
	of := k.of(name).listeners
	if len(of) == 0 || now.Before(of[0].from) {
		return Nobody
	}
	return of[0].who
}
