package agent

import (
	_ "embed" // the shapes of real agents' answers
	"encoding/json"
	"fmt"
	"time"
)

//go:embed answers/status.json
var statusShape []byte

type object = map[string]any

// Status is what `cilium-dbg status -o json` prints.
func (a *Agent) Status(now time.Time) ([]byte, error) {
	var status object
	if err := json.Unmarshal(statusShape, &status); err != nil {
		return nil, err
	}
	status["cilium"] = object{"msg": fmt.Sprintf("%s (v%s-0000000)", a.Version, a.Version), "state": "Ok"}
	cluster := object{"nodes": nil, "self": a.Node}
	if a.EndpointState(now) == "ready" {
		cluster["ciliumHealth"] = object{"state": "Ok"}
	}
	status["cluster"] = cluster
	status["hubble"] = object{"state": "Disabled"}
	if a.Config["enable-hubble"] == "true" {
		status["hubble"] = object{"state": "Ok", "observer": object{"max-flows": 4095, "current-flows": 0, "seen-flows": 0}}
	}
	status["ipam"] = object{
		"allocations": object{}, "ipv4": []any{}, "ipv6": nil,
		"status": fmt.Sprintf("IPv4: 0/254 allocated from %s, ", a.PodCIDR),
	}
	status["masquerading"] = object{
		"enabled": true, "enabledProtocols": object{"ipv4": true}, "mode": a.masquerading(),
		"snat-exclusion-cidr": a.PodCIDR, "snat-exclusion-cidr-v4": a.PodCIDR,
	}
	a.replacement(status["kube-proxy-replacement"].(object))
	return json.MarshalIndent(status, "", "  ")
}

func (a *Agent) masquerading() string {
	if a.Config["enable-bpf-masquerade"] == "true" {
		return "BPF"
	}
	return "IPTables"
}

// replacement fills in what the agent says about kube-proxy's replacement.
func (a *Agent) replacement(said object) {
	said["deviceList"] = []object{{"ip": []string{a.NodeIP}, "name": "eth0"}}
	features := said["features"].(object)
	if a.Replacing() {
		said["mode"] = "True"
		nodePort := features["nodePort"].(object)
		nodePort["algorithm"] = titled(a.Config["bpf-lb-algorithm"], "Random", map[string]string{"maglev": "Maglev"})
		nodePort["mode"] = titled(a.Config["bpf-lb-mode"], "SNAT", map[string]string{"dsr": "DSR", "hybrid": "Hybrid", "annotation": "Annotation"})
		nodePort["acceleration"] = titled(a.Config["bpf-lb-acceleration"], "Disabled",
			map[string]string{"native": "Native", "generic": "Generic", "best-effort": "Best-Effort"})
		if a.Config["bpf-lb-sock-hostns-only"] == "true" {
			said["features"].(object)["bpfSocketLBHostnsOnly"] = true
		}
		return
	}
	said["mode"] = "False"
	features["annotations"] = nil
	for _, feature := range []string{"externalIPs", "hostPort", "nodePort", "socketLB", "socketLBTracing"} {
		features[feature] = object{}
	}
}

func titled(configured, usual string, known map[string]string) string {
	if title, found := known[configured]; found {
		return title
	}
	return usual
}

// Summary is what `cilium-dbg status` prints for people, cut to what says something here.
func (a *Agent) Summary(now time.Time) string {
	mode, devices := "False", ""
	if a.Replacing() {
		mode, devices = "True", fmt.Sprintf("   [eth0   %s (Direct Routing)]", a.NodeIP)
	}
	return fmt.Sprintf("KVStore:                 Disabled\nKubernetes:              Ok         1.36 (v1.36.3) [linux/amd64]\n"+
		"KubeProxyReplacement:    %s%s\nCilium:                  Ok   %s (v%s-0000000)\n"+
		"Modules Health:          Stopped(0) Degraded(0) OK(60)\n", mode, devices, a.Version, a.Version)
}
