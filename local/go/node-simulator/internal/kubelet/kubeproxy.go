package kubelet

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"kube-proxy-replacement/local/node-simulator/internal/kernel"
	"kube-proxy-replacement/local/node-simulator/internal/world"
)

// firstSync is how long after its start kube-proxy has written its rules.
const firstSync = time.Second

// kubeProxyRole: a kube-proxy pod waits for its ConfigMap, and routes from a second after its start.
type kubeProxyRole struct{}

type kubeProxyRecord struct {
	synced      bool
	mode        kernel.Mode
	clusterCIDR string
}

func (kubeProxyRole) step(ctx context.Context, k *Kubelet, pod *corev1.Pod, r *record, now time.Time) (*corev1.PodStatus, time.Duration) {
	if due := k.mount(ctx, pod, r, now); due > 0 {
		return k.creating(pod, r), due
	}
	own := &r.kubeProxy
	if r.startedAt.IsZero() {
		r.startedAt = now
		own.mode, own.clusterCIDR = k.kubeProxyConfig(pod)
		k.Kernels.AwaitHealthPort(r.node, r.uid)
	}
	status := k.up(pod, r, r.startedAt)
	if own.synced {
		return status, 0
	}
	if due := r.startedAt.Add(firstSync).Sub(now); due > 0 {
		return status, due
	}
	own.synced = true
	if !k.World.Has(r.node, world.KubeProxyWritesNoRules) {
		k.Kernels.Attach(r.node, r.uid, own.mode, own.clusterCIDR)
	}
	return status, 0
}

func (kubeProxyRole) stop(k *Kubelet, r *record) {
	k.Kernels.Detach(r.node, r.uid)
	k.Kernels.LeaveHealthPort(r.node, r.uid)
}

// kubeProxyConfig is what the pod's ConfigMap says about the mode and about pods' addresses.
func (k *Kubelet) kubeProxyConfig(pod *corev1.Pod) (kernel.Mode, string) {
	var config struct {
		Mode        string `json:"mode"`
		ClusterCIDR string `json:"clusterCIDR"`
	}
	for _, volume := range pod.Spec.Volumes {
		if volume.ConfigMap == nil {
			continue
		}
		if cm := k.World.ConfigMap(pod.Namespace, volume.ConfigMap.Name); cm != nil {
			_ = yaml.Unmarshal([]byte(cm.Data["config.conf"]), &config)
		}
	}
	if config.Mode == string(kernel.NFTables) {
		return kernel.NFTables, config.ClusterCIDR
	}
	return kernel.IPTables, config.ClusterCIDR
}
