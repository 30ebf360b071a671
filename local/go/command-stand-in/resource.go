package main

import (
	"context"
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Check refuses inputs of the wrong type and adds nothing to them (16).
func (p *provider) Check(_ context.Context, req *pulumirpc.CheckRequest) (*pulumirpc.CheckResponse, error) {
	if _, err := commandURN(req.GetUrn()); err != nil {
		return nil, err
	}
	news, err := fromWire(req.GetNews())
	if err != nil {
		return nil, err
	}
	_, failures := decodeInputs(news)
	inputs, err := toWire(news)
	if err != nil {
		return nil, err
	}
	return &pulumirpc.CheckResponse{Inputs: inputs, Failures: failures}, nil
}

func (p *provider) Create(
	ctx context.Context, req *pulumirpc.CreateRequest,
) (*pulumirpc.CreateResponse, error) {
	urn, err := commandURN(req.GetUrn())
	if err != nil {
		return nil, err
	}
	news, err := fromWire(req.GetProperties())
	if err != nil {
		return nil, err
	}
	inputs, failures := decodeInputs(news)
	if len(failures) > 0 {
		return nil, invalid(failures)
	}
	id, err := resource.NewUniqueHex(urn.Name(), 8, 0)
	if err != nil {
		return nil, err
	}

	var state resource.PropertyMap
	if req.GetPreview() {
		state = previewCreate(news)
	} else {
		out, err := p.run(ctx, urn, req.GetTimeout(), inputs.Create, inputs, output{})
		if err != nil {
			return nil, err
		}
		state = withOutput(news, out)
	}
	properties, err := toWire(state)
	if err != nil {
		return nil, err
	}
	return &pulumirpc.CreateResponse{Id: id, Properties: properties}, nil
}

func (p *provider) Update(
	ctx context.Context, req *pulumirpc.UpdateRequest,
) (*pulumirpc.UpdateResponse, error) {
	urn, err := commandURN(req.GetUrn())
	if err != nil {
		return nil, err
	}
	olds, err := fromWire(req.GetOlds())
	if err != nil {
		return nil, err
	}
	news, err := fromWire(req.GetNews())
	if err != nil {
		return nil, err
	}
	ignoreChanges(news, olds, req.GetIgnoreChanges())
	old, err := decodeState(olds)
	if err != nil {
		return nil, err
	}
	inputs, failures := decodeInputs(news)
	if len(failures) > 0 {
		return nil, invalid(failures)
	}

	var state resource.PropertyMap
	if req.GetPreview() {
		state = previewUpdate(olds, news, old.output())
	} else {
		command := inputs.Update
		if command == nil {
			command = inputs.Create
		}
		out, err := p.run(ctx, urn, req.GetTimeout(), command, inputs, old.output())
		if err != nil {
			return nil, err
		}
		state = withOutput(news, out)
	}
	properties, err := toWire(state)
	if err != nil {
		return nil, err
	}
	return &pulumirpc.UpdateResponse{Properties: properties}, nil
}

// Delete runs what the state says, not what today's program says (13).
func (p *provider) Delete(ctx context.Context, req *pulumirpc.DeleteRequest) (*emptypb.Empty, error) {
	urn, err := commandURN(req.GetUrn())
	if err != nil {
		return nil, err
	}
	olds, err := fromWire(req.GetProperties())
	if err != nil {
		return nil, err
	}
	old, err := decodeState(olds)
	if err != nil {
		return nil, err
	}
	_, err = p.run(ctx, urn, req.GetTimeout(), old.Delete, old.commandInputs, old.output())
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// Read returns what it was given: a command leaves nothing that could be looked at (22).
func (p *provider) Read(_ context.Context, req *pulumirpc.ReadRequest) (*pulumirpc.ReadResponse, error) {
	if _, err := commandURN(req.GetUrn()); err != nil {
		return nil, err
	}
	return &pulumirpc.ReadResponse{
		Id:         req.GetId(),
		Properties: req.GetProperties(),
		Inputs:     req.GetInputs(),
	}, nil
}

// run runs one of the resource's commands; a missing one leaves everything as it was.
func (p *provider) run(
	ctx context.Context, urn resource.URN, timeout float64, command *string, inputs commandInputs, previous output,
) (output, error) {
	p.announce.Do(func() { p.engine.info(ctx, urn, announcement) })
	if command == nil {
		return previous, nil
	}
	ctx, end := p.operations.begin(ctx, timeout)
	defer end()
	return inputs.run(ctx, *command, previous, func(line string) { p.engine.status(ctx, urn, line) })
}

func invalid(failures []*pulumirpc.CheckFailure) error {
	return fmt.Errorf("invalid inputs: %s", failures[0].GetReason())
}
