package world

import (
	"context"
	_ "embed" // the CRD of CiliumNodeConfig
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/version"
	"sigs.k8s.io/yaml"
)

// answerWithin is how long an agent's first container waits for one answer of the API server's.
const answerWithin = 2 * time.Second

// Versions of CiliumNodeConfig, and the Ciliums that brought them.
const (
	nodeConfigAlpha = "v2alpha1"
	nodeConfigV2    = "v2"
)

// nodeConfigSource is what build-config calls CiliumNodeConfigs.
const nodeConfigSource = "cilium-node-config"

var (
	sinceAlpha = version.MajorMinor(1, 13)
	sinceV2    = version.MajorMinor(1, 16)
)

//go:embed ciliumnodeconfigs.yaml
var nodeConfigCRD []byte

var crds = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// nodeConfigs are the versions of CiliumNodeConfig that a Cilium registers, the one that its agents read first; empty
// before 1.13. One whose image doesn't say its version is taken for a present one.
func nodeConfigs(cilium string) []string {
	its, err := version.ParseGeneric(cilium)
	switch {
	case err != nil || its.AtLeast(sinceV2):
		return []string{nodeConfigV2, nodeConfigAlpha}
	case its.AtLeast(sinceAlpha):
		return []string{nodeConfigAlpha}
	}
	return nil
}

// RegisterNodeConfigs makes sure that the cluster knows CiliumNodeConfig as that Cilium's operator registers it; an error
// says that it doesn't yet. Nobody takes it away when Cilium goes.
func (w *World) RegisterNodeConfigs(ctx context.Context, cilium string) error {
	wanted := nodeConfigs(cilium)
	if len(wanted) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	crd, err := crdWith(wanted)
	if err != nil {
		return err
	}
	found, err := w.Anything.Resource(crds).Get(ctx, crd.GetName(), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = w.Anything.Resource(crds).Create(ctx, crd, metav1.CreateOptions{})
		return errors.Join(err, errors.New("registered only now"))
	case err != nil:
		return err
	case !serves(found, wanted[0]):
		crd.SetResourceVersion(found.GetResourceVersion())
		_, err = w.Anything.Resource(crds).Update(ctx, crd, metav1.UpdateOptions{})
		return errors.Join(err, errors.New("registered only now"))
	case !established(found):
		return errors.New("not established yet")
	}
	return nil
}

// crdWith is the CRD with some versions, the first of them stored.
func crdWith(versions []string) (*unstructured.Unstructured, error) {
	crd := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(nodeConfigCRD, &crd.Object); err != nil {
		return nil, err
	}
	shapes, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
	if err != nil || len(shapes) != 1 {
		return nil, fmt.Errorf("the CRD has %d versions: %w", len(shapes), err)
	}
	all := make([]any, 0, len(versions))
	for i, name := range versions {
		of := runtime.DeepCopyJSON(shapes[0].(map[string]any))
		of["name"], of["storage"], of["deprecated"] = name, i == 0, i > 0
		all = append(all, of)
	}
	return crd, unstructured.SetNestedSlice(crd.Object, all, "spec", "versions")
}

func serves(crd *unstructured.Unstructured, name string) bool {
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	return slices.ContainsFunc(versions, func(of any) bool {
		its, _ := of.(map[string]any)
		return its["name"] == name && its["served"] == true
	})
}

func established(crd *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(crd.Object, "status", "conditions")
	return slices.ContainsFunc(conditions, func(of any) bool {
		its, _ := of.(map[string]any)
		return its["type"] == "Established" && its["status"] == "True"
	})
}

// ReadConfig is what an agent that starts in the pod takes for its configuration: cilium-config, and over it the defaults of
// each CiliumNodeConfig of its namespace that selects its node, those of later names over those of earlier ones. It is nil
// where there is no cilium-config. The API server itself is asked, as does the agent's first container, nil where it has
// none: a watch that has just been cut off may be behind. See ResolveConfigurations in pkg/option/resolver of Cilium.
func (w *World) ReadConfig(
	ctx context.Context, pod *corev1.Pod, first *corev1.Container, configMap, cilium string,
) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	cm, err := w.Client.CoreV1().ConfigMaps(pod.Namespace).Get(ctx, configMap, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	config := map[string]string{}
	maps.Copy(config, cm.Data)
	return config, w.override(ctx, config, pod, overridable(first), cilium)
}

// overridable reports of a key whether a CiliumNodeConfig may give it another value: what `cilium-dbg build-config`, which
// the agent's first container runs, is told by its flags. Without that container nobody reads a CiliumNodeConfig.
func overridable(first *corev1.Container) func(key string) bool {
	nothing := func(string) bool { return false }
	if first == nil {
		return nothing
	}
	flags := map[string][]string{"--source": {nodeConfigSource}}
	for _, word := range slices.Concat(first.Command, first.Args) {
		name, values, _ := strings.Cut(word, "=")
		flags[name] = strings.FieldsFunc(values, func(r rune) bool { return r == ',' })
	}
	if !slices.ContainsFunc(flags["--source"], func(of string) bool { return strings.HasPrefix(of, nodeConfigSource) }) {
		return nothing
	}
	allowed, denied := flags["--allow-config-keys"], flags["--deny-config-keys"]
	return func(key string) bool {
		if len(allowed) > 0 {
			return slices.Contains(allowed, key)
		}
		return !slices.Contains(denied, key)
	}
}

func (w *World) override(
	ctx context.Context, config map[string]string, pod *corev1.Pod, may func(key string) bool, cilium string,
) error {
	versions := nodeConfigs(cilium)
	if len(versions) == 0 {
		return nil
	}
	of := schema.GroupVersionResource{Group: "cilium.io", Version: versions[0], Resource: "ciliumnodeconfigs"}
	found, err := w.Anything.Resource(of).Namespace(pod.Namespace).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) || err == nil && len(found.Items) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	node, err := w.Client.CoreV1().Nodes().Get(ctx, pod.Spec.NodeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	slices.SortFunc(found.Items, func(a, b unstructured.Unstructured) int { return strings.Compare(a.GetName(), b.GetName()) })
	for _, item := range found.Items {
		var its struct {
			Spec struct {
				NodeSelector *metav1.LabelSelector `json:"nodeSelector"`
				Defaults     map[string]string     `json:"defaults"`
			} `json:"spec"`
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(item.Object, &its); err != nil {
			return err
		}
		// One without a selector selects no node.
		selector, err := metav1.LabelSelectorAsSelector(its.Spec.NodeSelector)
		if err != nil {
			return err
		}
		if selector.Matches(labels.Set(node.Labels)) {
			for key, value := range its.Spec.Defaults {
				if may(key) {
					config[key] = value
				}
			}
		}
	}
	return nil
}
