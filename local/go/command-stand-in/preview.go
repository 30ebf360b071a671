package main

import "github.com/pulumi/pulumi/sdk/v3/go/common/resource"

// previewCreate is the state in a preview: what a command would say is unknown until it runs (19).
func previewCreate(inputs resource.PropertyMap) resource.PropertyMap {
	state := inputs.Copy()
	unknown := resource.MakeComputed(resource.NewProperty(""))
	state["stdout"] = unknown
	state["stderr"] = unknown
	return state
}

// previewUpdate leaves the outputs as they are if nothing that was in the state has changed: an
// input that is new in the program doesn't make them unknown (20).
func previewUpdate(olds, inputs resource.PropertyMap, previous output) resource.PropertyMap {
	if anyInputChanged(olds, inputs) {
		return previewCreate(inputs)
	}
	return withOutput(inputs, previous)
}

func anyInputChanged(olds, inputs resource.PropertyMap) bool {
	for _, v := range inputs {
		if isUnknown(v) {
			return true
		}
	}
	for key, old := range olds {
		if isOutput(key) {
			continue
		}
		// What is partly unknown isn't equal to anything that a state can have.
		if !inputs[key].DeepEquals(old) {
			return true
		}
	}
	return false
}

func isOutput(key resource.PropertyKey) bool {
	switch key {
	case "stdout", "stderr", "assets", "archive":
		return true
	default:
		return false
	}
}
