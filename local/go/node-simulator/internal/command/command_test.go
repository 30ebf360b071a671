package command

import (
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestTheShellAnswersEachPartOfAnAgentsLine(t *testing.T) {
	says := func(out, complaint string, code int) program {
		return func(*Runner, *corev1.Pod, []string) Result { return Result{out, complaint, code} }
	}
	usual := agentPrograms
	defer func() { agentPrograms = usual }()
	agentPrograms = map[string]program{
		"cilium-dbg":           says("{}\n", "warned\n", 0),
		"iptables-nft-save":    says(":KUBE-SERVICES - [0:0]\n:INPUT - [0:0]\n", "", 0),
		"ip6tables-nft-save":   says("", "", 0),
		"iptables-legacy-save": says("", "no\n", 3),
	}
	line, err := os.ReadFile("testdata/line.sh")
	if err != nil {
		t.Fatal(err)
	}
	marked := func(parts ...string) string {
		return "\nkube-proxy-replacement: " + strings.Join(parts, "\nkube-proxy-replacement: ")
	}
	result := shell(nil, nil, []string{"-c", strings.TrimSuffix(string(line), "\n")})
	out := "{}\n" + marked("cilium-dbg status -o json 0\n") + "{}\n" + marked("cilium-dbg endpoint list -o json 0\n") +
		marked("iptables-nft-save 0\n") + "1\n" + marked("count of iptables-nft-save 0\n") +
		marked("ip6tables-nft-save 0\n") + "0\n" + marked("count of ip6tables-nft-save 1\n") +
		marked("iptables-legacy-save 3\n") + "0\n" + marked("count of iptables-legacy-save 1\n") +
		marked("ip6tables-legacy-save 127\n") + "0\n" + marked("count of ip6tables-legacy-save 1\n")
	if result.Out != out || result.Code != 0 {
		t.Errorf("printed %q, exit code %d, instead of %q", result.Out, result.Code, out)
	}
	for _, words := range []string{"warned\n", "no\n", "sh: 1: ip6tables-legacy-save: not found\n"} {
		if !strings.Contains(result.Err, words) {
			t.Errorf("no %q in its complaint %q", words, result.Err)
		}
	}
}

func TestTheShellRefusesAnotherLine(t *testing.T) {
	line, _ := os.ReadFile("testdata/line.sh")
	functions, _, _ := strings.Cut(string(line), "cilium-dbg")
	for _, other := range []string{"true", "", functions + "true", functions + "true | true; end 'true'"} {
		if result := shell(nil, nil, []string{"-c", other}); result.Code != wrongSyntax {
			t.Errorf("%q: exit code %d", other, result.Code)
		}
	}
}

func TestAnImageHasItsProgramsAndNoOthers(t *testing.T) {
	for _, c := range []struct {
		name, image, program string
		has                  bool
	}{
		{"kube-proxy", "example.org/kube-proxy:v1.36.3", "nft", true},
		{"kube-proxy", "example.org/kube-proxy:v1.36.3", "cilium-dbg", false},
		{"anything", "mirror.example.org:5000/k8s/kube-proxy-amd64@sha256:00", "iptables-save", true},
		{"cilium-agent", "example.org/cilium/cilium:v1.18.6@sha256:00", "cilium-dbg", true},
		{"cilium-agent", "example.org/cilium/cilium:v1.18.6@sha256:00", "nft", false},
		{"cilium-agent", "example.org/cilium/cilium:v1.18.6", "sh", true},
		{"coredns", "example.org/coredns/coredns:v1.14.2", "iptables-save", false},
		{"kube-proxy", "example.org/kube-proxy:v1.36.3", "sh", false},
	} {
		if _, has := programs(&corev1.Container{Name: c.name, Image: c.image})[c.program]; has != c.has {
			t.Errorf("%s in %s: %v", c.program, c.image, has)
		}
	}
}

func TestOptionsOfCiliumDbg(t *testing.T) {
	for _, line := range [][]string{
		{"endpoint", "list", "-o", "json"}, {"endpoint", "list", "-ojson"}, {"endpoint", "list", "--output=json", "--verbose"},
	} {
		words, json, _ := options(line)
		if !json || !slices.Equal(words, []string{"endpoint", "list"}) {
			t.Errorf("%v: %v, json %v", line, words, json)
		}
	}
}
