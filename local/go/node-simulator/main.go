// Command node-simulator is the kubelet of the simulated nodes, for the pods whose behaviour
// matters to the replacement of kube-proxy, and those nodes' kernels. kwok does all other pods.
package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"kube-proxy-replacement/local/node-simulator/internal/agent"
	"kube-proxy-replacement/local/node-simulator/internal/command"
	"kube-proxy-replacement/local/node-simulator/internal/kernel"
	"kube-proxy-replacement/local/node-simulator/internal/kubelet"
	"kube-proxy-replacement/local/node-simulator/internal/server"
	"kube-proxy-replacement/local/node-simulator/internal/world"
)

// workers bring that many pods up to date at a time.
const workers = 16

type settings struct {
	kubeconfig, listen, apiServer, certFile, keyFile, clientCA string
	agentReady, endpointDelay                                  time.Duration
}

func main() {
	var s settings
	flag.StringVar(&s.kubeconfig, "kubeconfig", "", "kubeconfig `file` of the cluster")
	flag.StringVar(&s.listen, "listen", "", "`address` (host:port) that the kubelets' exec and logs are served on")
	flag.StringVar(&s.apiServer, "api-server", "", "`address` (host:port) where nodes really reach the API server")
	flag.StringVar(&s.certFile, "tls-cert-file", "", "`file` with the certificate to serve with")
	flag.StringVar(&s.keyFile, "tls-private-key-file", "", "`file` with its key")
	flag.StringVar(&s.clientCA, "client-ca-file", "", "`file` with the CA of the clients that are let in")
	flag.DurationVar(&s.agentReady, "agent-ready", time.Second, "how long after its start an agent is Ready; it answers after two fifths of that")
	flag.DurationVar(&s.endpointDelay, "endpoint-delay", 2*time.Second, "how long after its readiness an agent's endpoints are ready")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil && !errors.Is(err, context.Canceled) {
		slog.Error("stopped", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	config, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1 // hundreds of nodes, as many kubelets
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.UserAgent = "kubelet/v1.36.3 (node-simulator)"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	anything, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	objects, err := world.New(client, anything, s.apiServer)
	if err != nil {
		return err
	}
	routing := kernel.NewRouting(objects)
	runner := &command.Runner{World: objects, Kernels: kernel.New(routing), Agents: agent.New()}
	nodes := kubelet.New(runner, s.agentReady, s.endpointDelay)
	if err := errors.Join(objects.OnRouting(routing.Changed), nodes.Watch()); err != nil {
		return err
	}
	if err := objects.Start(ctx); err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() {
		failed <- (&server.Server{Kubelet: nodes}).Listen(ctx, s.listen, s.certFile, s.keyFile, s.clientCA)
	}()
	go nodes.Run(ctx, workers)
	slog.Info("simulating", "listen", s.listen)
	return <-failed
}
