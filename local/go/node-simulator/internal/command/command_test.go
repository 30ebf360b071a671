package command

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

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
