package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func Test11Create(t *testing.T) {
	f := start(t)
	t.Run("without a command nothing runs", func(t *testing.T) {
		state, err := f.create(properties{"update": text("exit 1"), "delete": text("exit 1")})
		must(t, err)
		equal(t, "", state["stdout"].StringValue())
		equal(t, "", state["stderr"].StringValue())
	})
	t.Run("the ID is the name and eight random digits", func(t *testing.T) {
		ids := map[resource.ID]bool{}
		for range 3 {
			response, err := f.Create(t.Context(), plugin.CreateRequest{URN: testURN, Properties: properties{}})
			must(t, err)
			if !regexp.MustCompile(`^name[0-9a-f]{8}$`).MatchString(string(response.ID)) {
				t.Errorf("ID %q", response.ID)
			}
			ids[response.ID] = true
		}
		equal(t, 3, len(ids))
	})
	t.Run("the state has the inputs as they were", func(t *testing.T) {
		inputs := properties{
			"create": text("true"), "triggers": list(text("a"), object(properties{"b": yes(true)})),
			"environment": object(properties{}), "interpreter": list(), "dir": text("."),
			"addPreviousOutputInEnv": yes(false), "logging": text("stderr"), "stdin": text("x"),
		}
		inputs["interpreter"] = texts("/bin/sh", "-c")
		state, err := f.create(inputs)
		must(t, err)
		same(t, with(inputs, properties{"stdout": text(""), "stderr": text("")}), state)
	})
}

func Test12Update(t *testing.T) {
	f := start(t)
	before := properties{"create": text("false"), "stdout": text("out"), "stderr": text("err")}
	for name, c := range map[string]struct {
		inputs properties
		want   string
	}{
		"update":            {properties{"create": text("echo create"), "update": text("echo update")}, "update"},
		"create without it": {properties{"create": text("echo create")}, "create"},
		"neither":           {properties{"delete": text("echo delete")}, "out"},
	} {
		t.Run(name, func(t *testing.T) {
			state, err := f.update(before, c.inputs)
			must(t, err)
			equal(t, c.want, state["stdout"].StringValue())
			_, leftFromBefore := state["create"]
			_, isInput := c.inputs["create"]
			equal(t, isInput, leftFromBefore)
		})
	}
}

func Test13Delete(t *testing.T) {
	f := start(t)
	seen := filepath.Join(t.TempDir(), "seen")
	t.Run("what the state says", func(t *testing.T) {
		must(t, f.delete(properties{
			"delete":      text(`{ pwd; echo "$A"; cat; } > ` + seen),
			"update":      text("exit 1"),
			"create":      text("exit 1"),
			"environment": object(properties{"A": secret(text("recorded"))}),
			"dir":         text("/"),
			"stdin":       text("in"),
			"interpreter": texts("/bin/sh", "-ec"),
			"stdout":      secret(text("")),
			"stderr":      text(""),
		}))
		content, err := os.ReadFile(seen)
		must(t, err)
		equal(t, "/\nrecorded\nin", string(content))
	})
	t.Run("nothing", func(t *testing.T) {
		must(t, f.delete(properties{"create": text("exit 1"), "stdout": text(""), "stderr": text("")}))
	})
	t.Run("a failure is an error", func(t *testing.T) {
		err := f.delete(properties{"delete": text("exit 4"), "stdout": text(""), "stderr": text("")})
		equal(t, "exit status 4: running \"exit 4\":\n", message(err))
	})
}

func Test14FailureLeavesNoState(t *testing.T) {
	f := start(t)
	fail := properties{"create": text("echo said; exit 1")}
	_, createErr := f.raw.Create(t.Context(), createRequest(t, fail))
	state := properties{"stdout": text("old"), "stderr": text("")}
	_, updateErr := f.raw.Update(t.Context(), &pulumirpc.UpdateRequest{
		Urn: string(testURN), Id: string(testID), Olds: onWire(t, state), News: onWire(t, fail),
	})
	for name, err := range map[string]error{"create": createErr, "update": updateErr} {
		s := status.Convert(err)
		equal(t, codes.Unknown, s.Code())
		// Details would be a partial state, and the engine would record that.
		if len(s.Details()) != 0 {
			t.Errorf("%s: details %v", name, s.Details())
		}
	}
}

func Test15StateIsReadStrictly(t *testing.T) {
	f := start(t)
	good := properties{"stdout": text(""), "stderr": text(""), "delete": text("true")}
	for name, c := range map[string]struct {
		state properties
		want  string
	}{
		"no stdout":     {properties{"stderr": text("")}, "Missing required field 'stdout'"},
		"unknown field": {with(good, properties{"x": text("")}), "Unrecognized field 'x'"},
		"wrong type":    {with(good, properties{"delete": yes(true)}), "Field 'delete'"},
	} {
		_, updateErr := f.update(c.state, properties{"create": text("true")})
		for verb, err := range map[string]error{"delete": f.delete(c.state), "update": updateErr} {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s at %s: want %q, got %v", name, verb, c.want, err)
			}
		}
	}
	must(t, f.delete(good))
}

func Test19PreviewOfCreate(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	inputs := properties{
		"create":      text("touch " + ran),
		"environment": object(properties{"A": unknown(), "B": secret(text("b"))}),
		"stdin":       unknown(),
	}
	f := start(t)
	response, err := f.Create(t.Context(), plugin.CreateRequest{URN: testURN, Properties: inputs, Preview: true})
	must(t, err)
	same(t, with(inputs, properties{"stdout": unknown(), "stderr": unknown()}), response.Properties)
	if _, err := os.Stat(ran); !errors.Is(err, os.ErrNotExist) {
		t.Error("preview ran the command")
	}
}

func Test20PreviewOfUpdate(t *testing.T) {
	f := start(t)
	state := properties{
		"create": text("exit 1"), "environment": object(properties{"A": text("a")}),
		"stdin": secret(text("s")), "stdout": secret(text("out")), "stderr": text("err"),
	}
	same20 := properties{
		"create": text("exit 1"), "environment": object(properties{"A": text("a")}), "stdin": secret(text("s")),
	}
	withoutStdin := same20.Copy()
	delete(withoutStdin, "stdin")
	for name, c := range map[string]struct {
		inputs  properties
		unknown bool
	}{
		"nothing changed":        {same20, false},
		"an input is new":        {with(same20, properties{"dir": text(".")}), false},
		"a part of it's unknown": {with(same20, properties{"triggers": list(unknown())}), false},
		"all of it is unknown":   {with(same20, properties{"dir": unknown()}), true},
		"an input changed":       {with(same20, properties{"create": text("exit 2")}), true},
		"an input became secret": {with(same20, properties{"create": secret(text("exit 1"))}), true},
		"an input is gone":       {withoutStdin, true},
		"a part is unknown now": {
			with(same20, properties{"environment": object(properties{"A": unknown()})}), true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			response, err := f.Update(t.Context(), plugin.UpdateRequest{
				URN: testURN, ID: testID, OldInputs: properties{}, OldOutputs: state, NewInputs: c.inputs, Preview: true,
			})
			must(t, err)
			want := with(c.inputs, properties{"stdout": text("out"), "stderr": text("err")})
			if c.unknown {
				want = with(c.inputs, properties{"stdout": unknown(), "stderr": unknown()})
			}
			same(t, want, response.Properties)
		})
	}
}

func Test21Secrets(t *testing.T) {
	f := start(t)
	inputs := properties{
		"create":      text(`echo "$A$B"; cat`),
		"environment": object(properties{"A": secret(text("a")), "B": text("b")}),
		"stdin":       secret(text("s")),
	}
	want := with(inputs, properties{"stdout": text("ab\ns"), "stderr": text("")})

	t.Run("inputs stay secret, outputs don't become it", func(t *testing.T) {
		state, err := f.create(inputs)
		must(t, err)
		same(t, want, state)
	})
	t.Run("outputs don't stay secret", func(t *testing.T) {
		state, err := f.update(properties{"stdout": secret(text("x")), "stderr": secret(text("y"))}, inputs)
		must(t, err)
		same(t, want, state)
	})
	t.Run("a whole secret environment", func(t *testing.T) {
		whole := with(inputs, properties{"environment": secret(object(properties{"A": text("a"), "B": text("b")}))})
		state, err := f.create(whole)
		must(t, err)
		same(t, with(whole, properties{"stdout": text("ab\ns"), "stderr": text("")}), state)
	})
}

func Test22Read(t *testing.T) {
	inputs := properties{"create": text("exit 1"), "stdin": secret(text("s"))}
	state := with(inputs, properties{"stdout": text("out"), "stderr": text("")})
	response, err := start(t).Read(t.Context(), plugin.ReadRequest{
		URN: testURN, ID: testID, Inputs: inputs, State: state,
	})
	must(t, err)
	equal(t, testID, response.ID)
	same(t, inputs, response.Inputs)
	same(t, state, response.Outputs)
}

// same compares with the unknown too, which DeepEquals can't do where only one side has it.
func same(t *testing.T, want, got properties) {
	t.Helper()
	equal(t, show(t, want), show(t, got))
}
