package agent

import (
	"encoding/json"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var start = time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)

func started(config map[string]string) *Agent {
	return &Agent{
		Node: "node-1", Version: "1.18.6", Config: config, StartedAt: start,
		ServesAt: start.Add(time.Second), SwitchedAt: start.Add(6 * time.Second),
	}
}

func mode(t *testing.T, a *Agent) any {
	t.Helper()
	answer, err := a.Status(start)
	if err != nil {
		t.Fatal(err)
	}
	var said map[string]any
	if err := json.Unmarshal(answer, &said); err != nil {
		t.Fatal(err)
	}
	return said["kube-proxy-replacement"].(map[string]any)["mode"]
}

func TestAnAgentGoesOnSayingWhatItWasStartedWith(t *testing.T) {
	config := map[string]string{"kube-proxy-replacement": "false"}
	agents := New()
	agents.Start("pod", started(config))
	config["kube-proxy-replacement"] = "true"
	if got := mode(t, agents.Of("pod")); got != "False" {
		t.Errorf("it says %v after the configuration changed", got)
	}
	agents.Stop("pod")
	agents.Start("next", started(config))
	if got := mode(t, agents.Of("next")); got != "True" {
		t.Errorf("a new one says %v", got)
	}
}

func TestEndpointsBecomeReadyInTheOrderOfRealOnes(t *testing.T) {
	a := started(nil)
	for after, want := range map[time.Duration]string{
		0: "restoring", 3 * time.Second: "waiting-to-regenerate", 5 * time.Second: "regenerating", 6 * time.Second: "ready",
	} {
		if got := a.EndpointState(start.Add(after)); got != want {
			t.Errorf("%s after %v instead of %s", got, after, want)
		}
	}
	a.SwitchedAt = time.Time{}
	if got := a.EndpointState(start.Add(time.Hour)); got == "ready" {
		t.Error("a stuck endpoint became ready")
	}
}

func TestPodsFromBeforeTheAgentAreNoEndpoints(t *testing.T) {
	pod := func(name string, at time.Time) *corev1.Pod {
		of := &corev1.Pod{}
		of.UID, of.Labels = "uid", map[string]string{"app": name}
		of.Status.Phase, of.Status.StartTime = corev1.PodRunning, &metav1.Time{Time: at}
		return of
	}
	agents := New()
	agents.Start("pod", started(nil))
	answer, err := agents.Of("pod").Endpoints(start, []*corev1.Pod{pod("old", start.Add(-time.Minute)), pod("new", start.Add(time.Minute))})
	if err != nil {
		t.Fatal(err)
	}
	var endpoints []any
	if err := json.Unmarshal(answer, &endpoints); err != nil || len(endpoints) != 3 {
		t.Errorf("%d endpoints instead of host, health and one pod (%v)", len(endpoints), err)
	}
}
