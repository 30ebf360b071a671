package agent

import (
	"encoding/json"
	"testing"
)

func TestSocketProgramsAreThoseOfTheFamiliesThatAreOnWhereItReplaces(t *testing.T) {
	for _, c := range []struct {
		config   map[string]string
		detached string
		programs int
	}{
		{map[string]string{"kube-proxy-replacement": "true", "enable-ipv4": "true"}, "", 3},
		{map[string]string{"kube-proxy-replacement": "true", "enable-ipv4": "true", "enable-ipv6": "true"}, "", 6},
		{map[string]string{"kube-proxy-replacement": "true", "enable-ipv4": "true"}, "cgroup_inet4_connect", 2},
		{map[string]string{"kube-proxy-replacement": "false", "enable-ipv4": "true"}, "", 0},
	} {
		text, err := (&Agent{Config: c.config}).SocketPrograms(c.detached)
		if err != nil {
			t.Fatal(err)
		}
		var programs []object
		if err := json.Unmarshal(text, &programs); err != nil {
			t.Fatal(err)
		}
		if len(programs) != c.programs {
			t.Errorf("%v, %q detached: %s", c.config, c.detached, text)
		}
	}
}
