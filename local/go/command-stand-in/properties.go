package main

import (
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"google.golang.org/protobuf/types/known/structpb"
)

var wireOptions = plugin.MarshalOptions{
	KeepUnknowns:     true,
	SkipNulls:        true,
	KeepSecrets:      true,
	KeepResources:    true,
	KeepOutputValues: true,
}

// fromWire reads properties as the real plugin does, on a way through property.Map. That way isn't
// idle: a value that is both secret and unknown comes out as an output, and the comparison in Diff
// doesn't count outputs as changed (18).
func fromWire(s *structpb.Struct) (resource.PropertyMap, error) {
	m, err := plugin.UnmarshalProperties(s, wireOptions)
	if err != nil {
		return nil, err
	}
	return resource.ToResourcePropertyMap(resource.FromResourcePropertyMap(m)), nil
}

func toWire(m resource.PropertyMap) (*structpb.Struct, error) {
	return plugin.MarshalProperties(m, wireOptions)
}

// ignoreChanges takes the properties whose changes are to be ignored from the state.
func ignoreChanges(news, olds resource.PropertyMap, ignored []string) {
	for _, name := range ignored {
		key := resource.PropertyKey(name)
		if v, ok := olds[key]; ok {
			news[key] = v
		}
	}
}

func isUnknown(v resource.PropertyValue) bool {
	return v.IsComputed() || (v.IsOutput() && !v.OutputValue().Known)
}

// known takes the wrapping of secrets and outputs off a value, at every depth, and says false if
// the value itself is unknown. What is unknown inside of it becomes an empty string: an input is
// looked at while parts of it are unknown only for its type.
func known(v resource.PropertyValue) (any, bool) {
	switch {
	case isUnknown(v):
		return nil, false
	case v.IsSecret():
		return known(v.SecretValue().Element)
	case v.IsOutput():
		return known(v.OutputValue().Element)
	case v.IsArray():
		elements := []any{}
		for _, e := range v.ArrayValue() {
			elements = append(elements, knownOrEmpty(e))
		}
		return elements, true
	case v.IsObject():
		fields := map[string]any{}
		for k, e := range v.ObjectValue() {
			fields[string(k)] = knownOrEmpty(e)
		}
		return fields, true
	default:
		return v.Mappable(), true
	}
}

func knownOrEmpty(v resource.PropertyValue) any {
	if value, ok := known(v); ok {
		return value
	}
	return ""
}

// withOutput is the state after a command has run.
func withOutput(inputs resource.PropertyMap, out output) resource.PropertyMap {
	state := inputs.Copy()
	state["stdout"] = resource.NewProperty(out.stdout)
	state["stderr"] = resource.NewProperty(out.stderr)
	return state
}
