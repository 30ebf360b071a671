package main

import (
	"errors"
	"fmt"
	"sort"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/mapper"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

type commandInputs struct {
	Create *string `pulumi:"create,optional"`
	Update *string `pulumi:"update,optional"`
	Delete *string `pulumi:"delete,optional"`

	Triggers *[]any `pulumi:"triggers,optional"`

	Stdin                  *string            `pulumi:"stdin,optional"`
	Logging                *string            `pulumi:"logging,optional"`
	Interpreter            *[]string          `pulumi:"interpreter,optional"`
	Dir                    *string            `pulumi:"dir,optional"`
	Environment            *map[string]string `pulumi:"environment,optional"`
	AssetPaths             *[]string          `pulumi:"assetPaths,optional"`
	ArchivePaths           *[]string          `pulumi:"archivePaths,optional"`
	AddPreviousOutputInEnv *bool              `pulumi:"addPreviousOutputInEnv,optional"`
}

// commandState is what a state holds. Assets and Archive can be there only if the real plugin put
// them there.
type commandState struct {
	commandInputs

	Stdout  string `pulumi:"stdout"`
	Stderr  string `pulumi:"stderr"`
	Assets  any    `pulumi:"assets,optional"`
	Archive any    `pulumi:"archive,optional"`
}

func (s commandState) output() output {
	return output{stdout: s.Stdout, stderr: s.Stderr}
}

// The values of the input logging. Any other value logs nothing, as "none" does (7).
const (
	logStdout          = "stdout"
	logStderr          = "stderr"
	logStdoutAndStderr = "stdoutAndStderr"
)

func (in commandInputs) logs(stream string) bool {
	return in.Logging == nil || *in.Logging == stream || *in.Logging == logStdoutAndStderr
}

// decodeInputs says what of the inputs is known, and what is wrong with it.
func decodeInputs(m resource.PropertyMap) (commandInputs, []*pulumirpc.CheckFailure) {
	var inputs commandInputs
	var failures []*pulumirpc.CheckFailure
	for _, err := range decode(m, &inputs) {
		failures = append(failures, failure(err))
	}
	for name, paths := range map[string]*[]string{
		"assetPaths":   inputs.AssetPaths,
		"archivePaths": inputs.ArchivePaths,
	} {
		if paths != nil {
			failures = append(failures, &pulumirpc.CheckFailure{
				Property: name,
				Reason: fmt.Sprintf("the %s can't read files back: leave %s out, or install the real "+
					"plugin with `pulumi plugin install resource command %s`", announcement, name, version),
			})
		}
	}
	sort.Slice(failures, func(i, j int) bool { return failures[i].GetProperty() < failures[j].GetProperty() })
	return inputs, failures
}

// decodeState is as strict as the real plugin: a state without stdout, which is what an import
// makes, can be neither updated nor deleted (15).
func decodeState(m resource.PropertyMap) (commandState, error) {
	var state commandState
	return state, errors.Join(decode(m, &state)...)
}

// decode uses the SDK's mapper, as the real plugin does: the same types are taken and refused.
func decode(m resource.PropertyMap, target any) []error {
	fields := map[string]any{}
	for k, v := range m {
		if value, ok := known(v); ok {
			fields[string(k)] = value
		}
	}
	// The mapper panics at a null where it expects a string.
	if elements, ok := fields["interpreter"].([]any); ok {
		for i, e := range elements {
			if e == nil {
				return []error{mapper.NewFieldError("Command", fmt.Sprintf("interpreter[%d]", i),
					errors.New("must be a string, not null"))}
			}
		}
	}
	if err := mapper.New(nil).Decode(fields, target); err != nil {
		return err.Failures()
	}
	return nil
}

func failure(err error) *pulumirpc.CheckFailure {
	var field mapper.FieldError
	if errors.As(err, &field) {
		return &pulumirpc.CheckFailure{Property: field.Field(), Reason: field.Reason()}
	}
	return &pulumirpc.CheckFailure{Reason: err.Error()}
}
