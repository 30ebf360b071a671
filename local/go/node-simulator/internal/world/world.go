// Package world holds what the API server says: the nodes, the pods and what pods are given.
package world

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const podsByNode = "node"

// World is a local copy of the API server's objects, kept up to date by watches.
type World struct {
	Client    kubernetes.Interface
	Anything  dynamic.Interface // for objects without a type here
	APIServer string            // host:port where the API server really answers

	factory    informers.SharedInformerFactory
	nodes      cache.SharedIndexInformer
	pods       cache.SharedIndexInformer
	configMaps cache.SharedIndexInformer
	services   cache.SharedIndexInformer
	slices     cache.SharedIndexInformer
}

// New returns a World that knows nothing until Start.
func New(client kubernetes.Interface, anything dynamic.Interface, apiServer string) (*World, error) {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(dropManagedFields))
	w := &World{
		Client:     client,
		Anything:   anything,
		APIServer:  apiServer,
		factory:    factory,
		nodes:      factory.Core().V1().Nodes().Informer(),
		pods:       factory.Core().V1().Pods().Informer(),
		configMaps: factory.Core().V1().ConfigMaps().Informer(),
		services:   factory.Core().V1().Services().Informer(),
		slices:     factory.Discovery().V1().EndpointSlices().Informer(),
	}
	err := w.pods.AddIndexers(cache.Indexers{podsByNode: func(obj any) ([]string, error) {
		return []string{obj.(*corev1.Pod).Spec.NodeName}, nil
	}})
	return w, err
}

// Start watches and returns when every object of the moment is known.
func (w *World) Start(ctx context.Context) error {
	w.factory.Start(ctx.Done())
	for kind, synced := range w.factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("no list of %v from the API server", kind)
		}
	}
	return nil
}

// OnPod calls changed with each pod that comes, changes or goes.
func (w *World) OnPod(changed func(*corev1.Pod)) error {
	return handle(w.pods, func(_, pod *corev1.Pod) { changed(pod) })
}

// OnNode calls changed with each node that comes, changes or goes; before is nil when it came.
func (w *World) OnNode(changed func(before, after *corev1.Node)) error {
	return handle(w.nodes, changed)
}

// OnRouting calls changed after each change of a Service or of its endpoints.
func (w *World) OnRouting(changed func()) error {
	if err := handle(w.services, func(_, _ *corev1.Service) { changed() }); err != nil {
		return err
	}
	return handle(w.slices, func(_, _ *discoveryv1.EndpointSlice) { changed() })
}

// Pod returns the pod, or nil.
func (w *World) Pod(namespace, name string) *corev1.Pod {
	return get[corev1.Pod](w.pods, namespace+"/"+name)
}

// Node returns the node, or nil.
func (w *World) Node(name string) *corev1.Node { return get[corev1.Node](w.nodes, name) }

// ConfigMap returns the ConfigMap, or nil.
func (w *World) ConfigMap(namespace, name string) *corev1.ConfigMap {
	return get[corev1.ConfigMap](w.configMaps, namespace+"/"+name)
}

// PodsOn returns the pods of a node.
func (w *World) PodsOn(node string) []*corev1.Pod {
	objs, err := w.pods.GetIndexer().ByIndex(podsByNode, node)
	if err != nil {
		return nil
	}
	pods := make([]*corev1.Pod, 0, len(objs))
	for _, obj := range objs {
		pods = append(pods, obj.(*corev1.Pod))
	}
	return pods
}

// Services returns every Service.
func (w *World) Services() []*corev1.Service { return list[corev1.Service](w.services) }

// EndpointSlices returns every EndpointSlice.
func (w *World) EndpointSlices() []*discoveryv1.EndpointSlice {
	return list[discoveryv1.EndpointSlice](w.slices)
}

func dropManagedFields(obj any) (any, error) {
	if object, err := meta.Accessor(obj); err == nil {
		object.SetManagedFields(nil)
	}
	return obj, nil
}

func get[T any](informer cache.SharedIndexInformer, key string) *T {
	obj, exists, err := informer.GetIndexer().GetByKey(key)
	if err != nil || !exists {
		return nil
	}
	return obj.(any).(*T)
}

func list[T any](informer cache.SharedIndexInformer) []*T {
	var found []*T
	_ = cache.ListAll(informer.GetIndexer(), labels.Everything(), func(obj any) {
		found = append(found, obj.(*T))
	})
	return found
}

func handle[T any](informer cache.SharedIndexInformer, changed func(before, after *T)) error {
	_, err := informer.AddEventHandlerWithResyncPeriod(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { changed(nil, obj.(*T)) },
		UpdateFunc: func(before, after any) {
			changed(before.(*T), after.(*T))
		},
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			if last, ok := obj.(*T); ok {
				changed(last, last)
			}
		},
	}, time.Duration(0))
	return err
}
