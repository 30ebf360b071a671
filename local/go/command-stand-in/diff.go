package main

import (
	"context"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

var propertyDiffKinds = map[plugin.DiffKind]pulumirpc.PropertyDiff_Kind{
	plugin.DiffAdd:           pulumirpc.PropertyDiff_ADD,
	plugin.DiffAddReplace:    pulumirpc.PropertyDiff_ADD_REPLACE,
	plugin.DiffDelete:        pulumirpc.PropertyDiff_DELETE,
	plugin.DiffDeleteReplace: pulumirpc.PropertyDiff_DELETE_REPLACE,
	plugin.DiffUpdate:        pulumirpc.PropertyDiff_UPDATE,
	plugin.DiffUpdateReplace: pulumirpc.PropertyDiff_UPDATE_REPLACE,
}

// Diff compares the inputs of the last run with today's: any difference is an update (17, 18).
func (p *provider) Diff(_ context.Context, req *pulumirpc.DiffRequest) (*pulumirpc.DiffResponse, error) {
	if _, err := commandURN(req.GetUrn()); err != nil {
		return nil, err
	}
	state, err := fromWire(req.GetOlds())
	if err != nil {
		return nil, err
	}
	olds, err := fromWire(req.GetOldInputs())
	if err != nil {
		return nil, err
	}
	news, err := fromWire(req.GetNews())
	if err != nil {
		return nil, err
	}
	ignoreChanges(news, state, req.GetIgnoreChanges())
	for key := range news {
		if key == "version" || strings.HasPrefix(string(key), "__") {
			delete(news, key)
		}
	}

	diff := olds.Diff(news)
	response := &pulumirpc.DiffResponse{
		Changes:         pulumirpc.DiffResponse_DIFF_NONE,
		HasDetailedDiff: true,
		DetailedDiff:    map[string]*pulumirpc.PropertyDiff{},
	}
	if diff.AnyChanges() {
		response.Changes = pulumirpc.DiffResponse_DIFF_SOME
	}
	for path, change := range plugin.NewDetailedDiffFromObjectDiff(diff, false) {
		kind := change.Kind
		// The schema's mark is on the whole property, so an element of triggers isn't meant here.
		// The SDKs ask the engine for a replacement in that case.
		if path == "triggers" {
			kind = kind.AsReplace()
			response.Replaces = append(response.Replaces, path)
		}
		response.DetailedDiff[path] = &pulumirpc.PropertyDiff{Kind: propertyDiffKinds[kind]}
		response.Diffs = append(response.Diffs, property(path))
	}
	slices.Sort(response.Diffs)
	response.Diffs = slices.Compact(response.Diffs)
	return response, nil
}

// property is the name of the property that a path begins with.
func property(path string) string {
	if parsed, err := resource.ParsePropertyPath(path); err == nil && len(parsed) > 0 {
		if name, ok := parsed[0].(string); ok {
			return name
		}
	}
	return path
}
