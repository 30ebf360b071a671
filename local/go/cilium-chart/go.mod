// Cilium's Helm chart, which its Go module carries. Nothing is compiled: go.sum holds what is copied
// out of the module to its published hash.
module kube-proxy-replacement/local/cilium-chart

go 1.26.0

require github.com/cilium/cilium v1.18.6
