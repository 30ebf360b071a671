// Package agent simulates Cilium agents: what each one was started with, and what it answers.
package agent

import (
	"maps"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Agent is one running Cilium agent.
type Agent struct {
	Node, NodeIP, PodCIDR string
	// Version is the agent's own, without a leading v.
	Version string
	// Config is cilium-config with the node's own CiliumNodeConfigs over it, as they were when the agent started. They are
	// never read again.
	Config map[string]string
	// ServesAt is when the agent begins to answer; zero: it never does.
	ServesAt time.Time
	// SwitchedAt is when the last of its endpoints is ready; zero: never.
	SwitchedAt time.Time
	StartedAt  time.Time
	// ServesSince is when the node's first agent started: pods from before it are on another network.
	ServesSince time.Time
}

// Replacing is what the agent says about kube-proxy's replacement: its configuration, no more.
func (a *Agent) Replacing() bool {
	switch strings.ToLower(a.Config["kube-proxy-replacement"]) {
	case "true", "strict":
		return true
	}
	return false
}

// healthPort is how an agent's health address on kube-proxy's port ends.
const healthPort = ":10256"

// AnswersHealth reports whether the agent was told to answer load balancers in kube-proxy's place.
func (a *Agent) AnswersHealth() bool {
	return a.Replacing() && strings.HasSuffix(a.Config["kube-proxy-replacement-healthz-bind-address"], healthPort)
}

// Serves reports whether the agent's own API answers.
func (a *Agent) Serves(now time.Time) bool { return !a.ServesAt.IsZero() && !now.Before(a.ServesAt) }

// EndpointState is the state of the agent's endpoints: on its way to `ready` after each start.
func (a *Agent) EndpointState(now time.Time) string {
	if a.SwitchedAt.IsZero() {
		return "waiting-to-regenerate"
	}
	left, whole := a.SwitchedAt.Sub(now), a.SwitchedAt.Sub(a.StartedAt)
	switch {
	case left <= 0:
		return "ready"
	case left > whole*2/3:
		return "restoring"
	case left > whole/3:
		return "waiting-to-regenerate"
	}
	return "regenerating"
}

// Agents are the agents of all nodes.
type Agents struct {
	mu      sync.Mutex
	running map[types.UID]*Agent
	last    map[string]map[string]string // by node: what its last agent was started with
	first   map[string]time.Time         // by node: when its first agent started
}

// New returns no agents.
func New() *Agents {
	return &Agents{running: map[types.UID]*Agent{}, last: map[string]map[string]string{}, first: map[string]time.Time{}}
}

// Start records an agent that has just started in a pod.
func (a *Agents) Start(pod types.UID, agent *Agent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, found := a.first[agent.Node]; !found {
		a.first[agent.Node] = agent.StartedAt
	}
	agent.Config, agent.ServesSince = maps.Clone(agent.Config), a.first[agent.Node]
	a.running[pod] = agent
	a.last[agent.Node] = agent.Config
}

// LastConfig is what the last agent of a node was started with, or nil.
func (a *Agents) LastConfig(node string) map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last[node]
}

// Stop forgets the agent of a pod.
func (a *Agents) Stop(pod types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.running, pod)
}

// Of is the agent that runs in a pod, or nil.
func (a *Agents) Of(pod types.UID) *Agent {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.running[pod]
}
