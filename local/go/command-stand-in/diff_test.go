package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
)

func Test16Check(t *testing.T) {
	f := start(t)
	for name, c := range map[string]struct {
		inputs properties
		want   string
	}{
		"not a string":            {properties{"create": yes(true)}, "create: Field 'create'"},
		"not a string, in secret": {properties{"create": secret(yes(true))}, "create: Field 'create'"},
		"a number in environment": {
			properties{"environment": object(properties{"A": resource.NewProperty(1.0)})}, "environment",
		},
		"not a list":          {properties{"interpreter": text("sh")}, "interpreter"},
		"a null in it":        {properties{"interpreter": list(text("sh"), resource.NewNullProperty())}, "interpreter[1]"},
		"triggers not a list": {properties{"triggers": text("x")}, "triggers"},
		"no such input":       {properties{"creat": text("true")}, "creat: Unrecognized field 'creat'"},
	} {
		t.Run(name, func(t *testing.T) {
			response, err := f.Check(t.Context(), plugin.CheckRequest{URN: testURN, News: c.inputs, AllowUnknowns: true})
			must(t, err)
			if len(response.Failures) != 1 {
				t.Fatalf("want one failure, got %v", response.Failures)
			}
			failure := response.Failures[0]
			got := string(failure.Property) + ": " + failure.Reason
			if !strings.HasPrefix(got, c.want) {
				t.Errorf("want %q, got %q", c.want, got)
			}
		})
	}

	t.Run("nothing is added, nothing is lost", func(t *testing.T) {
		inputs := properties{
			"create":      secret(unknown()),
			"delete":      unknown(),
			"environment": object(properties{"A": unknown(), "B": secret(text("b"))}),
			"interpreter": list(text("sh"), unknown()),
			"triggers":    list(text("a"), yes(true), list(), object(properties{"b": unknown()})),
			"logging":     text("no such value"),
		}
		response, err := f.Check(t.Context(), plugin.CheckRequest{URN: testURN, News: inputs, AllowUnknowns: true})
		must(t, err)
		equal(t, 0, len(response.Failures))
		same(t, inputs, response.Properties)
	})
}

func Test17Diff(t *testing.T) {
	f := start(t)
	old := properties{
		"create": text("c"), "environment": object(properties{"A": text("a"), "B.C": text("b")}),
	}
	triggers := func(values ...string) properties { return with(old, properties{"triggers": texts(values...)}) }
	for name, c := range map[string]struct {
		olds, news properties
		changes    string
		replaces   string
	}{
		"nothing":     {old, old, "", ""}, // the outputs aren't compared
		"a new input": {old, with(old, properties{"delete": text("d")}), "delete:add", ""},
		"one gone":    {with(old, properties{"dir": text(".")}), old, "dir:delete", ""},
		"logging only": {
			with(old, properties{"logging": text("none")}), with(old, properties{"logging": text("stdout")}),
			"logging:update", "",
		},
		"in environment": {
			old, with(old, properties{"environment": object(properties{"A": text("x"), "D": text("d")})}),
			`environment.A:update environment.D:add environment["B.C"]:delete`, "",
		},
		"became secret":     {old, with(old, properties{"create": secret(text("c"))}), "create:update", ""},
		"unknown":           {old, with(old, properties{"create": unknown()}), "create:update", ""},
		"an element":        {triggers("a"), triggers("b"), "triggers[0]:update", ""},
		"one element more":  {triggers("a"), triggers("a", "b"), "triggers[1]:add", ""},
		"triggers are new":  {old, triggers("a"), "triggers:add-replace", "triggers"},
		"triggers are gone": {triggers("a"), old, "triggers:delete-replace", "triggers"},
	} {
		t.Run(name, func(t *testing.T) {
			result, err := f.Diff(t.Context(), plugin.DiffRequest{
				URN: testURN, ID: testID, AllowUnknowns: true,
				OldInputs: c.olds, NewInputs: c.news,
				OldOutputs: with(c.olds, properties{"stdout": text("out"), "stderr": text("")}),
			})
			must(t, err)
			equal(t, c.changes, changes(result))
			equal(t, c.changes != "", result.Changes == plugin.DiffSome)
			equal(t, c.changes == "", result.Changes == plugin.DiffNone)
			equal(t, c.replaces, joined(result.ReplaceKeys))
			equal(t, false, result.DeleteBeforeReplace)
		})
	}
	t.Run("changed keys are properties", func(t *testing.T) {
		result, err := f.Diff(t.Context(), plugin.DiffRequest{
			URN: testURN, ID: testID, OldInputs: old, OldOutputs: old,
			NewInputs: properties{"environment": object(properties{"A": text("x"), "D": text("d")})},
		})
		must(t, err)
		equal(t, "create environment", joined(result.ChangedKeys))
	})
}

func Test18NotCompared(t *testing.T) {
	f := start(t)
	old := properties{"create": text("c"), "stdin": text("s")}
	for name, request := range map[string]plugin.DiffRequest{
		"version and the engine's own": {
			NewInputs: with(old, properties{"version": text("1"), "__defaults": list()}),
		},
		"what is to be ignored": {
			NewInputs:     with(old, properties{"create": text("x")}),
			IgnoreChanges: []string{"create", "not there"},
		},
		"what is both secret and unknown": {
			NewInputs: with(old, properties{"create": secret(unknown())}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			request.URN, request.ID, request.AllowUnknowns = testURN, testID, true
			request.OldInputs, request.OldOutputs = old, old
			result, err := f.Diff(t.Context(), request)
			must(t, err)
			equal(t, "", changes(result))
			equal(t, plugin.DiffNone, result.Changes)
		})
	}
	t.Run("what is to be ignored, at update", func(t *testing.T) {
		response, err := f.Update(t.Context(), plugin.UpdateRequest{
			URN: testURN, ID: testID, OldInputs: properties{},
			OldOutputs:    properties{"create": text("echo old"), "stdout": text(""), "stderr": text("")},
			NewInputs:     properties{"create": text("echo new")},
			IgnoreChanges: []string{"create"},
		})
		must(t, err)
		equal(t, "old", response.Properties["stdout"].StringValue())
		equal(t, "echo old", response.Properties["create"].StringValue())
	})
}

func changes(result plugin.DiffResult) string {
	var all []string
	for path, change := range result.DetailedDiff {
		all = append(all, path+":"+change.Kind.String())
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func joined(keys []resource.PropertyKey) string {
	var all []string
	for _, key := range keys {
		all = append(all, string(key))
	}
	return strings.Join(all, " ")
}

func resourceKey(name string) resource.PropertyKey { return resource.PropertyKey(name) }

// onWire is how the engine sends properties.
func onWire(t *testing.T, m properties) *structpb.Struct {
	t.Helper()
	s, err := plugin.MarshalProperties(m, plugin.MarshalOptions{
		KeepUnknowns: true, KeepSecrets: true, KeepResources: true,
	})
	must(t, err)
	return s
}

func show(t *testing.T, m properties) string {
	t.Helper()
	s, err := protojson.MarshalOptions{Multiline: false}.Marshal(onWire(t, m))
	must(t, err)
	// protojson puts blanks at random places, so that nobody relies on its form.
	return strings.ReplaceAll(string(s), " ", "")
}

func createRequest(t *testing.T, inputs properties) *pulumirpc.CreateRequest {
	t.Helper()
	return &pulumirpc.CreateRequest{Urn: string(testURN), Properties: onWire(t, inputs)}
}
