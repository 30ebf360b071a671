package world

import (
	"context"
	"fmt"
	"net"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What a pod says about where it looks for the API server.
const (
	serviceHost = "KUBERNETES_SERVICE_HOST"
	servicePort = "KUBERNETES_SERVICE_PORT"
)

// MissingVolume names the volume that keeps the pod's containers from being created, and why;
// ok is true when every volume is there.
func (w *World) MissingVolume(ctx context.Context, pod *corev1.Pod) (volume, reason string, ok bool) {
	for _, v := range pod.Spec.Volumes {
		switch {
		case v.ConfigMap != nil && !optional(v.ConfigMap.Optional):
			if w.ConfigMap(pod.Namespace, v.ConfigMap.Name) == nil {
				return v.Name, fmt.Sprintf("configmap %q not found", v.ConfigMap.Name), false
			}
		case v.Secret != nil && !optional(v.Secret.Optional):
			_, err := w.Client.CoreV1().Secrets(pod.Namespace).Get(ctx, v.Secret.SecretName, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return v.Name, fmt.Sprintf("secret %q not found", v.Secret.SecretName), false
			}
		}
	}
	return "", "", true
}

// Env is the value of a container's environment variable, with what comes from a ConfigMap.
func (w *World) Env(pod *corev1.Pod, container *corev1.Container, name string) (string, bool) {
	for _, env := range container.Env {
		if env.Name != name {
			continue
		}
		if env.ValueFrom == nil {
			return env.Value, true
		}
		if ref := env.ValueFrom.ConfigMapKeyRef; ref != nil {
			if cm := w.ConfigMap(pod.Namespace, ref.Name); cm != nil {
				value, found := cm.Data[ref.Key]
				return value, found
			}
		}
	}
	return "", false
}

// ToldAPIServer is the address, host:port, that a container's environment gives for the API
// server; found is false when it gives none and the cluster's own Service is used.
func (w *World) ToldAPIServer(pod *corev1.Pod, container *corev1.Container) (address string, found bool) {
	host, found := w.Env(pod, container, serviceHost)
	if !found {
		return "", false
	}
	port, given := w.Env(pod, container, servicePort)
	if !given {
		port = "443"
	}
	return net.JoinHostPort(host, port), true
}

// IsAPIServer reports whether the API server really answers at the address.
func (w *World) IsAPIServer(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port) == w.APIServer
}

func optional(flag *bool) bool { return flag != nil && *flag }
