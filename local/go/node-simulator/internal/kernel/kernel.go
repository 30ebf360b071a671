// Package kernel holds what the nodes' kernels hold: the rules of kube-proxy, the kubelet and Cilium.
package kernel

import (
	"maps"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// Mode is the part of the kernel that kube-proxy writes its rules to.
type Mode string

// The modes of kube-proxy that are simulated.
const (
	IPTables Mode = "iptables"
	NFTables Mode = "nftables"
)

// State is what one node's kernel holds.
type State struct {
	Node    string
	NodeIP  string
	PodCIDR string

	// ClusterCIDR is what kube-proxy was told about pods' addresses.
	ClusterCIDR string
	// Mode is how kube-proxy's rules are there; empty: there are none.
	Mode Mode
	// Ports is what those rules route.
	Ports []ServicePort
	// Cilium reports whether a Cilium agent has set up its own chains.
	Cilium bool

	deleted map[string]bool // families whose nft table somebody has deleted
}

// Routes reports whether kube-proxy's rules are in the kernel.
func (s *State) Routes() bool { return s.Mode != "" }

type node struct {
	writer      types.UID // the kube-proxy pod that keeps the rules up to date; empty: they are frozen
	mode        Mode
	clusterCIDR string
	frozen      []ServicePort
	cilium      bool
	deleted     map[string]bool
	listeners   []listener // on port 10256: the first has it, the others wait
}

// Kernels are the kernels of all nodes.
type Kernels struct {
	routing *Routing

	mu    sync.Mutex
	nodes map[string]*node
}

// New returns kernels without any rule of kube-proxy.
func New(routing *Routing) *Kernels { return &Kernels{routing: routing, nodes: map[string]*node{}} }

func (k *Kernels) of(name string) *node {
	if k.nodes[name] == nil {
		k.nodes[name] = &node{}
	}
	return k.nodes[name]
}

// Attach lets a kube-proxy pod write its rules on a node and keep them up to date. As the real one
// does when it starts, it takes away what another mode has left.
func (k *Kernels) Attach(name string, pod types.UID, mode Mode, clusterCIDR string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.of(name)
	n.writer, n.mode, n.clusterCIDR, n.frozen, n.deleted = pod, mode, clusterCIDR, nil, nil
}

// Detach leaves the node with the rules of this moment once the pod that wrote them is gone.
func (k *Kernels) Detach(name string, pod types.UID) {
	current := k.routing.Current()
	k.mu.Lock()
	defer k.mu.Unlock()
	if n := k.of(name); n.writer == pod {
		n.writer, n.frozen = "", current
	}
}

// Clean takes kube-proxy's rules off a node. One that still runs writes them again at once.
func (k *Kernels) Clean(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n := k.of(name); n.writer == "" {
		n.mode, n.frozen = "", nil
	}
}

// DeleteNFT takes kube-proxy's nft table of one family off a node, as Clean does with all.
func (k *Kernels) DeleteNFT(name, family string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.of(name)
	if n.writer != "" || n.mode != NFTables {
		return
	}
	gone := map[string]bool{family: true}
	maps.Copy(gone, n.deleted)
	if n.deleted = gone; gone["ip"] && gone["ip6"] {
		n.mode, n.frozen, n.deleted = "", nil, nil
	}
}

// SetUpCilium says that a Cilium agent has written its own chains on the node.
func (k *Kernels) SetUpCilium(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.of(name).cilium = true
}

// Forget drops the kernel of a node that is gone.
func (k *Kernels) Forget(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.nodes, name)
}

// Ports is what the API server says is to be routed now. The slice is shared and never changed.
func (k *Kernels) Ports() []ServicePort { return k.routing.Current() }

// State is what a node's kernel holds now.
func (k *Kernels) State(name, nodeIP, podCIDR string) *State {
	current := k.routing.Current()
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.of(name)
	state := &State{
		Node: name, NodeIP: nodeIP, PodCIDR: podCIDR, ClusterCIDR: n.clusterCIDR,
		Mode: n.mode, Ports: n.frozen, Cilium: n.cilium, deleted: n.deleted,
	}
	if n.writer != "" {
		state.Ports = current
	}
	return state
}
