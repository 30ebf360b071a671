package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
)

// output is what a command has said.
type output struct {
	stdout, stderr string
}

// run runs one command to its end. log gets its lines while it runs.
func (in commandInputs) run(
	ctx context.Context, command string, previous output, log func(string),
) (output, error) {
	argv := append(in.interpreter(), command)
	// Only the process itself is killed when the context ends, and Wait goes on until whoever holds
	// its output closes it: that is how the real plugin does it, so callers see it here too (26).
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = in.environment(previous)
	if in.Dir != nil {
		cmd.Dir = *in.Dir
	}
	if in.Stdin != nil && *in.Stdin != "" {
		cmd.Stdin = strings.NewReader(*in.Stdin)
	}

	var stdout, stderr bytes.Buffer
	var both lockedBuffer
	cmd.Stdout = io.MultiWriter(&stdout, &both)
	cmd.Stderr = io.MultiWriter(&stderr, &both)
	if in.logs(logStdout) {
		lines := &lineWriter{emit: log}
		defer lines.flush()
		cmd.Stdout = io.MultiWriter(cmd.Stdout, lines)
	}
	if in.logs(logStderr) {
		lines := &lineWriter{emit: log}
		defer lines.flush()
		cmd.Stderr = io.MultiWriter(cmd.Stderr, lines)
	}

	if err := cmd.Run(); err != nil {
		return output{}, fmt.Errorf("%w: running %q:\n%s", err, command, both.buffer.String())
	}
	return output{
		stdout: strings.TrimSuffix(stdout.String(), "\n"),
		stderr: strings.TrimSuffix(stderr.String(), "\n"),
	}, nil
}

func (in commandInputs) interpreter() []string {
	if in.Interpreter != nil && len(*in.Interpreter) > 0 {
		return append([]string(nil), *in.Interpreter...)
	}
	if runtime.GOOS == "windows" {
		return []string{"cmd", "/C"}
	}
	return []string{"/bin/sh", "-c"}
}

// environment is in the order in which a later entry wins over an earlier one.
func (in commandInputs) environment(previous output) []string {
	env := os.Environ()
	if in.Environment != nil {
		for name, value := range *in.Environment {
			env = append(env, name+"="+value)
		}
	}
	if in.AddPreviousOutputInEnv == nil || *in.AddPreviousOutputInEnv {
		if previous.stdout != "" {
			env = append(env, "PULUMI_COMMAND_STDOUT="+previous.stdout)
		}
		if previous.stderr != "" {
			env = append(env, "PULUMI_COMMAND_STDERR="+previous.stderr)
		}
	}
	return env
}

// lockedBuffer collects both streams in the order in which they come, for the error message.
type lockedBuffer struct {
	mutex  sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.buffer.Write(p)
}
