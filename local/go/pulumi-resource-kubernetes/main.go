// Pulumi's Kubernetes plugin, with a main of our own: the module's embeds two files that its
// authors generate while they build, and that the module therefore lacks.
package main

import (
	_ "embed"

	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version"
)

// The module's schema.json with the version put in, as its generate.go does.
//
//go:embed schema-embed.json
var schema []byte

// The module's terraform-mapping.json, compacted.
//
//go:embed terraform-mapping-embed.json
var terraformMapping []byte

func main() {
	provider.Serve("kubernetes", version.Version, schema, terraformMapping)
}
