package kubelet

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// mount returns 0 when the pod's volumes are there and its containers created, else when to look again.
func (k *Kubelet) mount(ctx context.Context, pod *corev1.Pod, r *record, now time.Time) time.Duration {
	if r.mountedAt.IsZero() {
		volume, reason, ok := k.World.MissingVolume(ctx, pod)
		if !ok {
			if !r.unmounted {
				r.unmounted = true
				k.warn(ctx, pod, "FailedMount", fmt.Sprintf("MountVolume.SetUp failed for volume %q : %s", volume, reason))
			}
			return volumePoll
		}
		r.mountedAt = now
	}
	return max(0, r.mountedAt.Add(creation).Sub(now))
}

func (k *Kubelet) creating(pod *corev1.Pod, r *record) *corev1.PodStatus {
	mains := "ContainerCreating"
	if len(pod.Spec.InitContainers) > 0 {
		mains = "PodInitializing"
	}
	return k.status(pod, r, view{
		phase:         corev1.PodPending,
		container:     func(c *corev1.Container) corev1.ContainerStatus { return waiting(c, mains) },
		initContainer: func(c *corev1.Container) corev1.ContainerStatus { return waiting(c, "PodInitializing") },
	})
}

// up is the status of a pod whose containers all run; it is ready from readyAt on, if that isn't zero.
func (k *Kubelet) up(pod *corev1.Pod, r *record, readyAt time.Time) *corev1.PodStatus {
	return k.status(pod, r, view{
		phase:         corev1.PodRunning,
		initializedAt: r.startedAt,
		readyAt:       readyAt,
		container: func(c *corev1.Container) corev1.ContainerStatus {
			return running(c, r, r.startedAt, !readyAt.IsZero())
		},
		initContainer: func(c *corev1.Container) corev1.ContainerStatus { return throughInit(c, r, r.startedAt) },
	})
}
