package kubelet

import corev1 "k8s.io/api/core/v1"

const (
	appLabel  = "k8s-app"
	taskLabel = "kube-proxy-replacement/task"
)

// roleOf is the pod's role, or nil when kwok deals with the pod. kwok's stages leave out exactly
// the labels that are looked at here.
func roleOf(pod *corev1.Pod) role {
	if task, found := pod.Labels[taskLabel]; found {
		return taskRole(task)
	}
	switch pod.Labels[appLabel] {
	case "kube-proxy":
		return kubeProxyRole{}
	case "cilium":
		return agentRole{}
	}
	return nil
}
