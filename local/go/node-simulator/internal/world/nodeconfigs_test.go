package world

import (
	"context"
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	kubernetes "k8s.io/client-go/kubernetes/fake"
)

const system = "kube-system"

func nodeConfig(version, namespace, name string, selector, defaults map[string]any) *unstructured.Unstructured {
	spec := map[string]any{"defaults": defaults}
	if selector != nil {
		spec["nodeSelector"] = selector
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "cilium.io/" + version, "kind": "CiliumNodeConfig",
		"metadata": map[string]any{"namespace": namespace, "name": name}, "spec": spec,
	}}
}

func worldOf(t *testing.T, objects ...runtime.Object) (*World, *fake.FakeDynamicClient) {
	t.Helper()
	kinds := map[schema.GroupVersionResource]string{crds: "CustomResourceDefinitionList"}
	for _, version := range []string{nodeConfigV2, nodeConfigAlpha} {
		kinds[schema.GroupVersionResource{Group: "cilium.io", Version: version, Resource: "ciliumnodeconfigs"}] = "CiliumNodeConfigList"
	}
	typed := kubernetes.NewClientset(
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{"routing": "cilium"}}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "cilium-config"}, Data: map[string]string{"a": "0", "kept": "0"}},
	)
	anything := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds, objects...)
	w, err := New(typed, anything, "")
	if err != nil {
		t.Fatal(err)
	}
	return w, anything
}

func onNode1() *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: system}, Spec: corev1.PodSpec{NodeName: "node-1"}}
}

func in(values ...any) map[string]any {
	return map[string]any{"matchExpressions": []any{map[string]any{"key": "routing", "operator": "In", "values": values}}}
}

func TestTheNodesOwnConfigurationsLieOverTheClusters(t *testing.T) {
	w, _ := worldOf(t,
		nodeConfig("v2", system, "second", in("cilium", "both"), map[string]any{"a": "2"}),
		nodeConfig("v2", system, "first", map[string]any{"matchLabels": map[string]any{"routing": "cilium"}}, map[string]any{"a": "1", "b": "1"}),
		nodeConfig("v2", system, "third", in("kube-proxy"), map[string]any{"a": "3"}),
		nodeConfig("v2", system, "all", map[string]any{}, map[string]any{"c": "all"}),
		nodeConfig("v2", system, "without-selector", nil, map[string]any{"a": "4"}),
		nodeConfig("v2", "elsewhere", "zz", in("cilium"), map[string]any{"a": "5"}),
		nodeConfig("v2alpha1", system, "old", in("cilium"), map[string]any{"a": "old"}),
	)
	for cilium, want := range map[string]map[string]string{
		"1.20.2":      {"a": "2", "b": "1", "c": "all", "kept": "0"},
		"1.16.0-rc.1": {"a": "2", "b": "1", "c": "all", "kept": "0"},
		"unknown":     {"a": "2", "b": "1", "c": "all", "kept": "0"},
		"1.15.9":      {"a": "old", "kept": "0"},
		"1.13.0":      {"a": "old", "kept": "0"},
		"1.12.19":     {"a": "0", "kept": "0"},
	} {
		config, err := w.ReadConfig(context.Background(), onNode1(), &corev1.Container{}, "cilium-config", cilium)
		if err != nil || !maps.Equal(config, want) {
			t.Errorf("%s: %v instead of %v (%v)", cilium, config, want, err)
		}
	}
}

func TestAnAgentsFirstContainerIsToldWhatMayBeOverridden(t *testing.T) {
	w, _ := worldOf(t, nodeConfig("v2", system, "on", in("cilium"), map[string]any{"a": "1", "b": "1"}))
	build := func(flags ...string) *corev1.Container {
		return &corev1.Container{Command: append([]string{"cilium-dbg", "build-config"}, flags...)}
	}
	none, a, b := map[string]string{}, map[string]string{"a": "1"}, map[string]string{"b": "1"}
	for _, c := range []struct {
		first *corev1.Container
		want  map[string]string
	}{
		{build(), map[string]string{"a": "1", "b": "1"}},
		{build("--allow-config-keys="), map[string]string{"a": "1", "b": "1"}},
		{build("--allow-config-keys=none"), none},
		{build("--allow-config-keys=a,c"), a},
		{build("--deny-config-keys=a,c"), b},
		{build("--deny-config-keys=a", "--allow-config-keys=a"), a},
		{build("--source=config-map:cilium-config,cilium-node-config"), map[string]string{"a": "1", "b": "1"}},
		{build("--source=config-map:cilium-config,node"), none},
		{build("--source=config-map:cilium-config,node", "--allow-config-keys=a"), none},
		{nil, none},
	} {
		want := map[string]string{"a": "0", "kept": "0"}
		maps.Copy(want, c.want)
		config, err := w.ReadConfig(context.Background(), onNode1(), c.first, "cilium-config", "1.20.2")
		if err != nil || !maps.Equal(config, want) {
			t.Errorf("%+v: %v instead of %v (%v)", c.first, config, want, err)
		}
	}
}

func TestALabelOfTheMomentDecides(t *testing.T) {
	ctx := context.Background()
	w, _ := worldOf(t, nodeConfig("v2", system, "on", in("cilium"), map[string]any{"a": "1"}))
	nodes := w.Client.CoreV1().Nodes()
	node, _ := nodes.Get(ctx, "node-1", metav1.GetOptions{})
	node.Labels = nil
	if _, err := nodes.Update(ctx, node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if config, err := w.ReadConfig(ctx, onNode1(), &corev1.Container{}, "cilium-config", "1.20.2"); err != nil || config["a"] != "0" {
		t.Errorf("%v (%v) without the label", config, err)
	}
}

func TestWithoutCiliumConfigThereIsNoConfiguration(t *testing.T) {
	w, _ := worldOf(t, nodeConfig("v2", system, "on", in("cilium"), map[string]any{"a": "1"}))
	if config, err := w.ReadConfig(context.Background(), onNode1(), &corev1.Container{}, "another", "1.20.2"); err != nil || config != nil {
		t.Errorf("%v (%v)", config, err)
	}
}

func TestEachCiliumRegistersTheVersionsThatItHas(t *testing.T) {
	ctx := context.Background()
	w, anything := worldOf(t)
	const name = "ciliumnodeconfigs.cilium.io"
	if err := w.RegisterNodeConfigs(ctx, "1.12.19"); err != nil || len(anything.Actions()) > 0 {
		t.Errorf("1.12 did %v (%v)", anything.Actions(), err)
	}
	for _, of := range []struct {
		cilium    string
		registers bool
		served    map[string]bool // and whether it is stored
	}{
		{"1.15.9", true, map[string]bool{"v2alpha1": true}},
		{"1.16.0", true, map[string]bool{"v2": true, "v2alpha1": false}},
		{"1.15.9", false, map[string]bool{"v2": true, "v2alpha1": false}},
	} {
		if err := w.RegisterNodeConfigs(ctx, of.cilium); of.registers && err == nil {
			t.Errorf("%s says at once that it is there", of.cilium)
		}
		crd, err := anything.Resource(crds).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
		served := map[string]bool{}
		for _, version := range versions {
			its := version.(map[string]any)
			served[its["name"].(string)] = its["storage"].(bool)
		}
		if !maps.Equal(served, of.served) {
			t.Errorf("after %s: %v instead of %v", of.cilium, served, of.served)
		}
		if err := w.RegisterNodeConfigs(ctx, of.cilium); err == nil {
			t.Errorf("%s says that it is there, and the API server doesn't", of.cilium)
		}
		established := []any{map[string]any{"type": "Established", "status": "True"}}
		if err := unstructured.SetNestedSlice(crd.Object, established, "status", "conditions"); err != nil {
			t.Fatal(err)
		}
		if _, err := anything.Resource(crds).Update(ctx, crd, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := w.RegisterNodeConfigs(ctx, of.cilium); err != nil {
			t.Errorf("%s: %v", of.cilium, err)
		}
		_ = unstructured.SetNestedSlice(crd.Object, nil, "status", "conditions")
		_, _ = anything.Resource(crds).Update(ctx, crd, metav1.UpdateOptions{})
	}
}
