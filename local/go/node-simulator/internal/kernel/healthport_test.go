package kernel

import (
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func TestPort10256ChangesHands(t *testing.T) {
	k := New(nil)
	expect := func(when string, at time.Time, want Listener) {
		t.Helper()
		if got := k.HealthPort("node-1", at); got != want {
			t.Errorf("%s: %v instead of %v", when, got, want)
		}
	}
	expect("at first", noon, Nobody)
	k.AwaitHealthPort("node-1", "proxy")
	expect("kube-proxy runs", noon, KubeProxy)
	k.TakeHealthPort("node-1", "early", noon)
	k.LeaveHealthPort("node-1", "proxy")
	expect("an agent that found the port taken doesn't try again", noon.Add(time.Hour), Nobody)
	k.LeaveHealthPort("node-1", "early")

	k.TakeHealthPort("node-1", "agent", noon.Add(time.Second))
	expect("it doesn't serve yet", noon, Nobody)
	expect("it serves", noon.Add(time.Second), CiliumAgent)
	k.AwaitHealthPort("node-1", "proxy")
	expect("kube-proxy waits", noon.Add(time.Second), CiliumAgent)
	k.LeaveHealthPort("node-1", "agent")
	expect("and takes it as soon as the agent is gone", noon, KubeProxy)
	if got := k.HealthPort("node-2", noon); got != Nobody {
		t.Errorf("on another node: %v", got)
	}
}
