package command

import (
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"kube-proxy-replacement/local/node-simulator/internal/agent"
	"kube-proxy-replacement/local/node-simulator/internal/kernel"
	"kube-proxy-replacement/local/node-simulator/internal/world"
)

// inALine is the question as it stands in an agent's shell line, bare as the shell hands it on.
const (
	inALine = `timeout 5 bash -c "exec 3<>/dev/tcp/127.0.0.1/10256 && printf %b \"GET /healthz HTTP/1.0\r\n\r\n\" >&3 && head -n1 <&3"`
	bare    = `exec 3<>/dev/tcp/127.0.0.1/10256 && printf %b "GET /healthz HTTP/1.0\r\n\r\n" >&3 && head -n1 <&3`
)

// on returns a Runner whose one node has an annotation, and the pod of its agent.
func on(t *testing.T, annotation string) (*Runner, *corev1.Pod) {
	t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Annotations: map[string]string{annotation: "true"}}}
	objects, err := world.New(fake.NewClientset(node), nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := objects.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "agent"}, Spec: corev1.PodSpec{NodeName: "node-1"}}
	return &Runner{World: objects, Kernels: kernel.New(kernel.NewRouting(objects)), Agents: agent.New()}, pod
}

func TestPort10256IsAskedInTheShellsLineAndWithoutIt(t *testing.T) {
	line, _ := os.ReadFile("testdata/line.sh")
	functions, _, _ := strings.Cut(string(line), "cilium-dbg")
	r, pod := on(t, "none")
	both := func() []Result {
		return []Result{
			shell(r, pod, []string{"-c", functions + inALine + "; end 'health'"}),
			timeout(r, pod, []string{"5", "bash", "-c", bare}),
		}
	}
	for _, said := range both() {
		if strings.Contains(said.Out, "200") || !strings.Contains(said.Err, "bash: connect: Connection refused\nbash: line 1: /dev/tcp/127.0.0.1/10256: Connection refused\n") {
			t.Errorf("nobody listens: %+v", said)
		}
	}
	if said := both(); !strings.Contains(said[0].Out, "kube-proxy-replacement: health 1\n") || said[1].Code != 1 {
		t.Errorf("nobody listens: %+v", said)
	}
	r.Kernels.AwaitHealthPort("node-1", "proxy")
	said := both()
	if !strings.HasPrefix(said[0].Out, "HTTP/1.0 200 OK\r\n") || !strings.Contains(said[0].Out, "kube-proxy-replacement: health 0\n") {
		t.Errorf("kube-proxy listens: %+v", said[0])
	}
	if said[1] != (Result{Out: "HTTP/1.0 200 OK\r\n"}) {
		t.Errorf("kube-proxy listens: %+v", said[1])
	}
	if other := timeout(r, pod, []string{"5", "bash", "-c", "true"}); other.Code != wrongSyntax {
		t.Errorf("another question is answered: %+v", other)
	}
}

func TestAFaultSilencesTheAgentsHealthAndNotKubeProxys(t *testing.T) {
	r, pod := on(t, string(world.AgentHealthSilent))
	question := []string{"5", "bash", "-c", bare}
	r.Kernels.AwaitHealthPort("node-1", "proxy")
	if said := timeout(r, pod, question); said.Code != 0 {
		t.Errorf("kube-proxy: %+v", said)
	}
	r.Kernels.LeaveHealthPort("node-1", "proxy")
	r.Kernels.TakeHealthPort("node-1", "agent", time.Time{})
	if said := timeout(r, pod, question); said.Code != 1 {
		t.Errorf("the agent: %+v", said)
	}
	well, _ := on(t, "none")
	well.Kernels.TakeHealthPort("node-1", "agent", time.Time{})
	if said := timeout(well, pod, question); said.Code != 0 {
		t.Errorf("the agent without the fault: %+v", said)
	}
}
