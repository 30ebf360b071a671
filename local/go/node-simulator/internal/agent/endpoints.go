package agent

import (
	_ "embed" // the shapes of real agents' answers
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

//go:embed answers/endpoints.json
var endpointShapes []byte

type endpoint struct {
	ID     int
	IP     string
	Labels []string
	value  object
}

// Endpoints is what `cilium-dbg endpoint list -o json` prints: the host, the health probe, and the
// pods of the node that Cilium gave their network.
func (a *Agent) Endpoints(now time.Time, pods []*corev1.Pod) ([]byte, error) {
	endpoints, err := a.endpoints(now, pods)
	if err != nil {
		return nil, err
	}
	values := make([]object, 0, len(endpoints))
	for _, e := range endpoints {
		values = append(values, e.value)
	}
	return json.MarshalIndent(values, "", "  ")
}

// EndpointTable is what `cilium-dbg endpoint list` prints for people.
func (a *Agent) EndpointTable(now time.Time, pods []*corev1.Pod) (string, error) {
	endpoints, err := a.endpoints(now, pods)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%-10s %-60s %-16s %s\n", "ENDPOINT", "LABELS (source:key[=value])", "IPv4", "STATUS")
	for _, e := range endpoints {
		fmt.Fprintf(&out, "%-10d %-60s %-16s %s\n", e.ID, e.Labels[0], e.IP, a.EndpointState(now))
	}
	return out.String(), nil
}

func (a *Agent) endpoints(now time.Time, pods []*corev1.Pod) ([]endpoint, error) {
	list := []endpoint{
		{ID: 253, Labels: []string{"reserved:host"}},
		{ID: number(a.Node+a.StartedAt.String(), 1000, 3000), Labels: []string{"reserved:health"}},
	}
	for _, pod := range pods {
		if !a.serves(pod) {
			continue
		}
		list = append(list, endpoint{ID: number(string(pod.UID), 3000, 60000), IP: pod.Status.PodIP, Labels: podLabels(pod)})
	}
	shape := map[int]string{0: "host", 1: "health"}
	for i := range list {
		kind, special := shape[i]
		if !special {
			kind = "pod"
		}
		var shapes map[string]object
		if err := json.Unmarshal(endpointShapes, &shapes); err != nil {
			return nil, err
		}
		list[i].value = shapes[kind]
		list[i].fill(a.EndpointState(now), now)
	}
	slices.SortStableFunc(list, func(x, y endpoint) int { return x.ID - y.ID })
	return list, nil
}

func (a *Agent) serves(pod *corev1.Pod) bool {
	return !pod.Spec.HostNetwork && pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil &&
		pod.Status.StartTime != nil && !pod.Status.StartTime.Time.Before(a.ServesSince.Truncate(time.Second))
}

func (e *endpoint) fill(state string, now time.Time) {
	e.value["id"] = e.ID
	status := e.value["status"].(object)
	status["state"] = state
	status["identity"].(object)["labels"] = e.Labels
	status["labels"].(object)["security-relevant"] = e.Labels
	if e.IP != "" {
		status["networking"].(object)["addressing"] = []object{{"ipv4": e.IP, "ipv4-pool-name": "default"}}
	}
	if state != "ready" {
		status["health"] = object{"bpf": "Pending", "connected": true, "overallHealth": "Pending", "policy": "Pending"}
		status["log"] = []object{{
			"code":      "OK",
			"message":   "Triggering endpoint regeneration due to DeviceConfigurationChanged: Configuration or devices changed",
			"state":     state,
			"timestamp": now.UTC().Format(time.RFC3339),
		}}
	}
}

func podLabels(pod *corev1.Pod) []string {
	labels := []string{
		"k8s:io.cilium.k8s.policy.cluster=default",
		"k8s:io.cilium.k8s.policy.serviceaccount=" + pod.Spec.ServiceAccountName,
		"k8s:io.kubernetes.pod.namespace=" + pod.Namespace,
	}
	for key, value := range pod.Labels {
		if key != "pod-template-hash" && key != "controller-revision-hash" {
			labels = append(labels, "k8s:"+key+"="+value)
		}
	}
	slices.Sort(labels)
	return labels
}

// number is a number from least up to, not including, most, always the same for the same text.
func number(text string, least, most int) int {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(text))
	return least + int(hash.Sum32()%uint32(most-least))
}
