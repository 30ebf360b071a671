package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc/status"
)

func Test01Interpreter(t *testing.T) {
	for name, c := range map[string]struct {
		inputs properties
		want   string
	}{
		"a shell if there is none": {properties{"create": text(`echo "$0 $((1+1))"`)}, "/bin/sh 2"},
		"a shell if it is empty": {
			properties{"create": text("echo $((1+1))"), "interpreter": list()}, "2",
		},
		"the command is its last argument": {
			properties{"create": text("a  b"), "interpreter": texts("printf", "[%s]", "x y")}, "[x y][a  b]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			state, err := start(t).create(c.inputs)
			must(t, err)
			equal(t, c.want, state["stdout"].StringValue())
		})
	}
}

func Test02WorkingDirectory(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	must(t, os.Mkdir(filepath.Join(root, "below"), 0o755))
	t.Chdir(root)
	f := start(t)
	for name, c := range map[string]struct {
		inputs properties
		want   string
	}{
		"the plugin's":              {properties{}, root},
		"absolute":                  {properties{"dir": text(root + "/below")}, root + "/below"},
		"relative to the plugin's":  {properties{"dir": text("below")}, root + "/below"},
		"empty is as if it weren't": {properties{"dir": text("")}, root},
	} {
		t.Run(name, func(t *testing.T) {
			state, err := f.create(with(c.inputs, properties{"create": text("pwd -P")}))
			must(t, err)
			equal(t, c.want, state["stdout"].StringValue())
		})
	}
	t.Run("missing", func(t *testing.T) {
		_, err := f.create(properties{"create": text("touch ../ran"), "dir": text("nowhere")})
		equal(t, "chdir nowhere: no such file or directory: running \"touch ../ran\":\n", message(err))
	})
}

func Test03Environment(t *testing.T) {
	t.Setenv("INHERITED", "inherited")
	t.Setenv("OVERRIDDEN", "inherited")
	state, err := start(t).update(
		properties{"create": text(""), "stdout": text("said before"), "stderr": text("")},
		properties{
			"create": text(`echo "$INHERITED,$OVERRIDDEN,$OWN,$PULUMI_COMMAND_STDOUT"`),
			"environment": object(properties{
				"OVERRIDDEN": text("own"), "OWN": text("a 'b' \"c\"\n$d é"), "PULUMI_COMMAND_STDOUT": text("own"),
			}),
		})
	must(t, err)
	equal(t, "inherited,own,a 'b' \"c\"\n$d é,said before", state["stdout"].StringValue())
}

func Test04PreviousOutput(t *testing.T) {
	const show = `echo "${PULUMI_COMMAND_STDOUT-unset},${PULUMI_COMMAND_STDERR-unset}"`
	f := start(t)
	before := properties{"stdout": text("out"), "stderr": text("err")}

	t.Run("not at create", func(t *testing.T) {
		state, err := f.create(properties{"create": text(show)})
		must(t, err)
		equal(t, "unset,unset", state["stdout"].StringValue())
	})
	for name, c := range map[string]struct {
		state, inputs properties
		want          string
	}{
		"at update":            {before, properties{}, "out,err"},
		"true is the default":  {before, properties{"addPreviousOutputInEnv": yes(true)}, "out,err"},
		"turned off":           {before, properties{"addPreviousOutputInEnv": yes(false)}, "unset,unset"},
		"what is empty is not": {properties{"stdout": text(""), "stderr": text("err")}, properties{}, "unset,err"},
	} {
		t.Run(name, func(t *testing.T) {
			state, err := f.update(c.state, with(c.inputs, properties{"create": text(show)}))
			must(t, err)
			equal(t, c.want, state["stdout"].StringValue())
		})
		t.Run(name+", at delete too", func(t *testing.T) {
			seen := filepath.Join(t.TempDir(), "seen")
			must(t, f.delete(with(with(c.state, c.inputs), properties{"delete": text(show + " > " + seen)})))
			content, err := os.ReadFile(seen)
			must(t, err)
			equal(t, c.want+"\n", string(content))
		})
	}
}

func Test05StandardInput(t *testing.T) {
	f := start(t)
	for want, inputs := range map[string]properties{
		"a\nb": {"stdin": text("a\nb")},
		"":     {"stdin": text("")},
	} {
		state, err := f.create(with(inputs, properties{"create": text("cat")}))
		must(t, err)
		equal(t, want, state["stdout"].StringValue())
	}
	t.Run("none is an end at once", func(t *testing.T) {
		_, err := f.create(properties{"create": text("cat")})
		must(t, err)
	})
	t.Run("need not be read", func(t *testing.T) {
		_, err := f.create(properties{"create": text("true"), "stdin": text(strings.Repeat("x", 1<<20))})
		must(t, err)
	})
}

func Test06Outputs(t *testing.T) {
	state, err := start(t).create(properties{"create": text(`printf ' a\n\n'; printf 'b' >&2`)})
	must(t, err)
	equal(t, " a\n", state["stdout"].StringValue())
	equal(t, "b", state["stderr"].StringValue())
}

func Test07Logging(t *testing.T) {
	for name, c := range map[string]struct {
		logging properties
		want    string
	}{
		"both by default": {properties{}, "out,err"},
		"stdoutAndStderr": {properties{"logging": text("stdoutAndStderr")}, "out,err"},
		"stdout":          {properties{"logging": text("stdout")}, "out"},
		"stderr":          {properties{"logging": text("stderr")}, "err"},
		"none":            {properties{"logging": text("none")}, ""},
		"any other":       {properties{"logging": text("all")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			state, err := f.create(with(c.logging, properties{"create": text("echo out; sleep 0.1; echo err >&2")}))
			must(t, err)
			equal(t, c.want, strings.Join(f.engine.messages(), ","))
			equal(t, "out", state["stdout"].StringValue())
			equal(t, "err", state["stderr"].StringValue())
		})
	}

	t.Run("line by line, while it runs", func(t *testing.T) {
		f := start(t)
		goOn := filepath.Join(t.TempDir(), "go-on")
		done := make(chan error, 1)
		go func() {
			_, err := f.create(properties{
				"create": text(`printf 'one\r\n\n'; while ! test -e ` + goOn + `; do sleep 0.05; done; printf three`),
			})
			done <- err
		}()
		first := f.engine.waitForLine(t)
		equal(t, "one", first.GetMessage())
		equal(t, string(testURN), first.GetUrn())
		equal(t, pulumirpc.LogSeverity_INFO, first.GetSeverity())
		equal(t, true, first.GetEphemeral())
		equal(t, "", f.engine.waitForLine(t).GetMessage())
		must(t, os.WriteFile(goOn, nil, 0o600))
		equal(t, "three", f.engine.waitForLine(t).GetMessage())
		must(t, <-done)
	})
}

func Test08LongLines(t *testing.T) {
	f := start(t)
	// An odd number of bytes before the characters of two bytes puts a cut into one of them.
	state, err := f.create(properties{
		"create": text(`awk 'BEGIN { printf "x"; for (i = 0; i < 100000; i++) printf "é"; print ""; print "end" }'`),
	})
	must(t, err)
	want := "x" + strings.Repeat("é", 100000) + "\nend"
	equal(t, want, state["stdout"].StringValue())
	pieces := f.engine.messages()
	for _, piece := range pieces {
		if !utf8.ValidString(piece) || strings.ContainsRune(piece, utf8.RuneError) {
			t.Error("a character was cut")
		}
	}
	last := len(pieces) - 1
	equal(t, want, strings.Join(pieces[:last], "")+"\n"+pieces[last])
}

func Test09FailureText(t *testing.T) {
	f := start(t)
	for name, c := range map[string]struct{ inputs, want string }{
		"exit status":     {`echo "a b"; sleep 0.1; echo err >&2; exit 3`, "exit status 3: running %:\na b\nerr\n"},
		"signal":          {"kill -9 $$", "signal: killed: running %:\n"},
		"several\nlines":  {"\nfalse", "exit status 1: running %:\n"},
		"no such program": {"", "fork/exec /nowhere/at/all: no such file or directory: running %:\n"},
	} {
		t.Run(name, func(t *testing.T) {
			inputs := properties{"create": text(c.inputs), "logging": text("none")}
			if c.inputs == "" {
				inputs["interpreter"] = texts("/nowhere/at/all")
			}
			_, err := f.create(inputs)
			quoted := `"` + strings.NewReplacer(`"`, `\"`, "\n", `\n`).Replace(c.inputs) + `"`
			equal(t, strings.Replace(c.want, "%", quoted, 1), message(err))
		})
	}
}

func Test10AssetsAreRefused(t *testing.T) {
	f := start(t)
	for _, name := range []string{"assetPaths", "archivePaths"} {
		inputs := properties{"create": text("true")}
		inputs[resourceKey(name)] = texts("*.txt")
		response, err := f.Check(t.Context(), plugin.CheckRequest{URN: testURN, News: inputs})
		must(t, err)
		equal(t, 1, len(response.Failures))
		equal(t, name, string(response.Failures[0].Property))
		if _, err := f.create(inputs); err == nil || !strings.Contains(err.Error(), "leave "+name+" out") {
			t.Errorf("create took %s: %v", name, err)
		}
	}
}

func Test32OutputThatIsNoText(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	_, err := start(t).create(properties{"create": text(`printf '\377'; touch ` + ran)})
	if err == nil || !strings.Contains(err.Error(), "invalid UTF-8") {
		t.Errorf("want an error about UTF-8, got %v", err)
	}
	if _, err := os.Stat(ran); err != nil {
		t.Error("the command did not run")
	}
}

func TestEngineThatTakesNoLines(t *testing.T) {
	defer func(d time.Duration) { logTimeout = d }(logTimeout)
	logTimeout = 50 * time.Millisecond
	f := start(t)
	f.engine.lines = nil
	done := f.createInBackground(properties{"create": text("echo 1; echo 2; echo 3")})
	must(t, within(t, done))
}

// message is the error's text as the plugin gave it.
func message(err error) string {
	if err == nil {
		return "no error"
	}
	type grpcStatus interface{ Message() string }
	if e, ok := err.(grpcStatus); ok {
		return e.Message()
	}
	return status.Convert(err).Message()
}
