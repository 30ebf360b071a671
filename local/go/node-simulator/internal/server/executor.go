package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/utils/exec"

	"kube-proxy-replacement/local/node-simulator/internal/kubelet"
	"kube-proxy-replacement/local/node-simulator/internal/world"
)

// executor runs one command in one container.
type executor struct {
	kubelet   *kubelet.Kubelet
	pod       *corev1.Pod
	container *corev1.Container
}

// ExecInContainer runs the command, with what the node's faults do to it.
func (e *executor) ExecInContainer(
	ctx context.Context, _, _, _ string, cmd []string, _ io.Reader, stdout, stderr io.WriteCloser,
	_ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration,
) error {
	of := e.kubelet.World
	if delay := of.ExecDelay(e.pod.Spec.NodeName); delay > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(delay):
		}
	}
	if of.Has(e.pod.Spec.NodeName, world.ExecFails) {
		return errors.New("failed to exec in container: failed to create exec: cannot exec in a stopped container: unknown")
	}
	result, err := e.kubelet.Execute(e.pod, e.container, cmd)
	if err != nil {
		return err
	}
	if stderr == nil {
		stderr = stdout // a terminal has one stream
	}
	if err := send(stdout, result.Out); err != nil {
		return err
	}
	if err := send(stderr, result.Err); err != nil {
		return err
	}
	if result.Code != 0 {
		return exec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", result.Code), Code: result.Code}
	}
	return nil
}

func send(stream io.Writer, text string) error {
	if stream == nil || text == "" {
		return nil
	}
	_, err := io.WriteString(stream, text)
	return err
}
