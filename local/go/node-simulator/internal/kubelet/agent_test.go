package kubelet

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	kubernetes "k8s.io/client-go/kubernetes/fake"

	"kube-proxy-replacement/local/node-simulator/internal/agent"
	"kube-proxy-replacement/local/node-simulator/internal/command"
	"kube-proxy-replacement/local/node-simulator/internal/kernel"
	"kube-proxy-replacement/local/node-simulator/internal/world"
)

var (
	began       = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	crds        = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	nodeConfigs = schema.GroupVersionResource{Group: "cilium.io", Version: "v2", Resource: "ciliumnodeconfigs"}
)

func ready(status *corev1.PodStatus) bool {
	for _, condition := range status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

func TestAnAgentStartsWithItsNodesConfigurationAndIsReadyInItsTime(t *testing.T) {
	const system = "kube-system"
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "cilium-1", UID: "agent"}}
	pod.Spec = corev1.PodSpec{
		NodeName:       "node-1",
		InitContainers: []corev1.Container{{Name: "config"}},
		Containers: []corev1.Container{{Name: "cilium-agent", Image: "example.org/cilium:v1.20.2", Env: []corev1.EnvVar{
			{Name: "KUBERNETES_SERVICE_HOST", Value: "10.10.0.1"}, {Name: "KUBERNETES_SERVICE_PORT", Value: "6443"},
		}}},
	}
	config := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "cilium.io/v2", "kind": "CiliumNodeConfig", "metadata": map[string]any{"namespace": system, "name": "on"},
		"spec": map[string]any{"nodeSelector": map[string]any{}, "defaults": map[string]any{
			"kube-proxy-replacement": "true", "kube-proxy-replacement-healthz-bind-address": "0.0.0.0:10256",
		}},
	}}
	anything := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		crds: "CustomResourceDefinitionList", nodeConfigs: "CiliumNodeConfigList",
	}, config)
	objects, err := world.New(kubernetes.NewClientset(
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "cilium-config"}},
	), anything, "10.10.0.1:6443")
	if err != nil {
		t.Fatal(err)
	}
	if err := objects.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	runner := &command.Runner{World: objects, Kernels: kernel.New(kernel.NewRouting(objects)), Agents: agent.New()}
	k := New(runner, 15*time.Second, 0)
	r := &record{uid: pod.UID, node: "node-1", role: agentRole{}, acceptedAt: began, mountedAt: began}
	step := func(after time.Duration) *corev1.PodStatus {
		status, _ := agentRole{}.step(t.Context(), k, pod, r, began.Add(after))
		return status
	}

	step(time.Second)
	crd, err := anything.Resource(crds).Get(t.Context(), "ciliumnodeconfigs.cilium.io", metav1.GetOptions{})
	if err != nil || runner.Agents.Of(pod.UID) != nil {
		t.Fatalf("it starts before CiliumNodeConfig is known (%v)", err)
	}
	established := []any{map[string]any{"type": "Established", "status": "True"}}
	if err := unstructured.SetNestedSlice(crd.Object, established, "status", "conditions"); err != nil {
		t.Fatal(err)
	}
	if _, err := anything.Resource(crds).Update(t.Context(), crd, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}

	step(2 * time.Second)
	if its := runner.Agents.Of(pod.UID); its == nil || !its.Replacing() {
		t.Fatalf("it was started as %+v", its)
	}
	for after, want := range map[time.Duration]struct {
		listener kernel.Listener
		ready    bool
	}{
		8*time.Second - 1:  {kernel.Nobody, false},
		8 * time.Second:    {kernel.CiliumAgent, false},
		17*time.Second - 1: {kernel.CiliumAgent, false},
		17 * time.Second:   {kernel.CiliumAgent, true},
	} {
		listener := runner.Kernels.HealthPort("node-1", began.Add(after))
		if is := ready(step(after)); is != want.ready || listener != want.listener {
			t.Errorf("after %v: ready %v, port 10256 %v", after, is, listener)
		}
	}
	r.role.stop(k, r)
	if listener := runner.Kernels.HealthPort("node-1", began.Add(time.Hour)); listener != kernel.Nobody {
		t.Errorf("it is gone, and port 10256 has %v", listener)
	}
}
