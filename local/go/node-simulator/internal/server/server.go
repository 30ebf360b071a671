// Package server is the part of the kubelets' own API that the API server calls: exec and logs.
package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"kube-proxy-replacement/local/node-simulator/internal/kubelet"
	"kube-proxy-replacement/local/node-simulator/internal/world"
)

const (
	idleTimeout    = 4 * time.Hour
	streamCreation = 30 * time.Second
)

// Server answers for every node: the nodes' status names its one port for all of them.
type Server struct {
	Kubelet *kubelet.Kubelet
}

// Listen serves HTTPS on the address to clients with a certificate of the CA, until the context ends.
func (s *Server) Listen(ctx context.Context, address, certFile, keyFile, caFile string) error {
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return err
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(ca) {
		return fmt.Errorf("no certificate in %s", caFile)
	}
	mux := http.NewServeMux()
	for _, pattern := range []string{"/exec/{namespace}/{pod}/{container}", "/exec/{namespace}/{pod}/{uid}/{container}"} {
		mux.HandleFunc("GET "+pattern, s.exec)
		mux.HandleFunc("POST "+pattern, s.exec)
	}
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.logs)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	server := &http.Server{
		Addr: address, Handler: mux, ReadHeaderTimeout: streamCreation,
		BaseContext: func(net.Listener) context.Context { return ctx },
		// Exec over SPDY and WebSocket upgrades the connection, which HTTP/2 can't.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		TLSConfig:    &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients},
	}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServeTLS(certFile, keyFile); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// target finds the container of a request on a node that is at work, or answers why there is none.
func (s *Server) target(w http.ResponseWriter, req *http.Request) (*corev1.Pod, *corev1.Container) {
	name, of := req.PathValue("pod"), s.Kubelet.World
	pod := of.Pod(req.PathValue("namespace"), name)
	if pod == nil {
		http.Error(w, fmt.Sprintf("pod %q does not exist", name), http.StatusNotFound)
		return nil, nil
	}
	if node := of.Node(pod.Spec.NodeName); !world.Ready(node) {
		http.Error(w, fmt.Sprintf("dial tcp %s:10250: connect: connection refused", world.InternalIP(node)), http.StatusBadGateway)
		return nil, nil
	}
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == req.PathValue("container") {
			return pod, &pod.Spec.Containers[i]
		}
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == req.PathValue("container") {
			return pod, &pod.Spec.InitContainers[i]
		}
	}
	http.Error(w, fmt.Sprintf("container %s is not valid for pod %s", req.PathValue("container"), name), http.StatusBadRequest)
	return nil, nil
}

func (s *Server) logs(w http.ResponseWriter, req *http.Request) {
	if pod, container := s.target(w, req); pod != nil {
		_, _ = io.WriteString(w, s.Kubelet.Logs(pod.UID, container.Name))
	}
}

func (s *Server) exec(w http.ResponseWriter, req *http.Request) {
	pod, container := s.target(w, req)
	if pod == nil {
		return
	}
	command := req.URL.Query()["command"]
	options, err := remotecommand.NewOptions(req)
	if err == nil && (len(command) == 0 || strings.TrimSpace(command[0]) == "") {
		err = errors.New("you must specify at least 1 command for the container")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !isRunning(pod, container.Name) {
		http.Error(w, fmt.Sprintf("container not found (%q)", container.Name), http.StatusNotFound)
		return
	}
	remotecommand.ServeExec(w, req, &executor{s.Kubelet, pod, container}, pod.Name, string(pod.UID), container.Name,
		command, options, idleTimeout, streamCreation, remotecommand.SupportedStreamingProtocols)
}

func isRunning(pod *corev1.Pod, container string) bool {
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		for _, status := range statuses {
			if status.Name == container {
				return status.State.Running != nil
			}
		}
	}
	return false
}
