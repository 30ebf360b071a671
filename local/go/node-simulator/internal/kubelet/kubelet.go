// Package kubelet does for the simulated pods what a node's kubelet does: it creates their
// containers, says how they are, and ends them.
package kubelet

import (
	"context"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"

	"kube-proxy-replacement/local/node-simulator/internal/command"
	"kube-proxy-replacement/local/node-simulator/internal/world"
)

// How long things take on a simulated node.
const (
	creation    = 300 * time.Millisecond // of a pod's containers, once its volumes are there
	termination = 400 * time.Millisecond // of a pod that is deleted
	volumePoll  = 400 * time.Millisecond // between two looks for a volume that is missing
)

// Kubelet is the kubelet of every node. It deals with the pods that have a role and no others.
type Kubelet struct {
	*command.Runner
	// EndpointDelay is how long after its readiness an agent's endpoints are ready.
	EndpointDelay time.Duration
	// AgentReady is how long after its start an agent is Ready.
	AgentReady time.Duration

	queue workqueue.TypedRateLimitingInterface[types.NamespacedName]

	mu      sync.Mutex
	records map[types.NamespacedName]*record
	logs    map[types.UID]map[string]string
}

// record is what a kubelet remembers of a pod. One worker at a time has it.
type record struct {
	uid        types.UID
	node       string
	role       role
	acceptedAt time.Time
	mountedAt  time.Time // zero: a volume is missing
	unmounted  bool      // a missing volume has been reported
	startedAt  time.Time // of the containers that stay; zero: not yet
	endingAt   time.Time // when a deleted pod is gone; zero: it isn't deleted

	kubeProxy kubeProxyRecord
	agent     agentRecord
	task      taskRecord
}

// role is what kind of pod it is to the simulation.
type role interface {
	// step does what is due now and returns the pod's status, and after how long to look again;
	// 0: not before something changes.
	step(ctx context.Context, k *Kubelet, pod *corev1.Pod, r *record, now time.Time) (*corev1.PodStatus, time.Duration)
	// stop ends what the pod's processes did on the node.
	stop(k *Kubelet, r *record)
}

// New returns a Kubelet; Watch must be called before its World starts, Run after.
func New(runner *command.Runner, agentReady, endpointDelay time.Duration) *Kubelet {
	return &Kubelet{
		Runner:        runner,
		EndpointDelay: endpointDelay,
		AgentReady:    agentReady,
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](20*time.Millisecond, 5*time.Second)),
		records: map[types.NamespacedName]*record{},
		logs:    map[types.UID]map[string]string{},
	}
}

// Watch makes the kubelet look at each pod that changes, and at a node's pods when it becomes Ready.
func (k *Kubelet) Watch() error {
	if err := k.World.OnPod(func(pod *corev1.Pod) {
		if roleOf(pod) != nil {
			k.queue.Add(types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name})
		}
	}); err != nil {
		return err
	}
	return k.World.OnNode(func(before, after *corev1.Node) {
		if k.World.Node(after.Name) == nil {
			k.Kernels.Forget(after.Name)
		} else if before == nil || world.Ready(before) != world.Ready(after) {
			for _, pod := range k.World.PodsOn(after.Name) {
				if roleOf(pod) != nil {
					k.queue.Add(types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name})
				}
			}
		}
	})
}

// Run works until the context ends.
func (k *Kubelet) Run(ctx context.Context, workers int) {
	var done sync.WaitGroup
	for range workers {
		done.Go(func() {
			for k.next(ctx) {
			}
		})
	}
	<-ctx.Done()
	k.queue.ShutDown()
	done.Wait()
}

func (k *Kubelet) next(ctx context.Context) bool {
	key, quit := k.queue.Get()
	if quit {
		return false
	}
	defer k.queue.Done(key)
	again, err := k.sync(ctx, key)
	switch {
	case err != nil:
		if !apierrors.IsConflict(err) {
			slog.Warn("pod not brought up to date", "pod", key, "error", err)
		}
		k.queue.AddRateLimited(key)
	default:
		k.queue.Forget(key)
		if again > 0 {
			k.queue.AddAfter(key, again)
		}
	}
	return true
}

func (k *Kubelet) sync(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	pod, now := k.World.Pod(key.Namespace, key.Name), time.Now()
	r := k.record(key)
	if r != nil && (pod == nil || pod.UID != r.uid) {
		k.end(key, r)
		r = nil
	}
	if pod == nil || pod.Spec.NodeName == "" || !world.Ready(k.World.Node(pod.Spec.NodeName)) {
		return 0, nil
	}
	if r == nil {
		r = k.accept(key, pod, now)
	}
	if pod.DeletionTimestamp != nil {
		return k.terminate(ctx, pod, r, now)
	}
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return 0, nil
	}
	status, again := r.role.step(ctx, k, pod, r, now)
	return again, k.report(ctx, pod, status)
}

func (k *Kubelet) record(key types.NamespacedName) *record {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.records[key]
}

func (k *Kubelet) accept(key types.NamespacedName, pod *corev1.Pod, now time.Time) *record {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := &record{uid: pod.UID, node: pod.Spec.NodeName, role: roleOf(pod), acceptedAt: now}
	k.records[key] = r
	return r
}

func (k *Kubelet) end(key types.NamespacedName, r *record) {
	r.role.stop(k, r)
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.records, key)
	delete(k.logs, r.uid)
}

func (k *Kubelet) terminate(ctx context.Context, pod *corev1.Pod, r *record, now time.Time) (time.Duration, error) {
	if r.endingAt.IsZero() {
		r.endingAt = now.Add(termination)
		if ptr.Deref(pod.DeletionGracePeriodSeconds, 1) == 0 {
			r.endingAt = now
		}
	}
	if now.Before(r.endingAt) {
		return r.endingAt.Sub(now), nil
	}
	r.role.stop(k, r)
	err := k.World.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: ptr.To[int64](0),
		Preconditions:      metav1.NewUIDPreconditions(string(pod.UID)),
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return 0, nil
	}
	return 0, err
}

func (k *Kubelet) report(ctx context.Context, pod *corev1.Pod, status *corev1.PodStatus) error {
	if status == nil || equality.Semantic.DeepEqual(*status, pod.Status) {
		return nil
	}
	updated := pod.DeepCopy()
	updated.Status = *status
	_, err := k.World.Client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// Logs is what a container of the pod has written.
func (k *Kubelet) Logs(pod types.UID, container string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.logs[pod][container]
}

func (k *Kubelet) write(pod types.UID, container, text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.logs[pod] == nil {
		k.logs[pod] = map[string]string{}
	}
	k.logs[pod][container] += text
}
