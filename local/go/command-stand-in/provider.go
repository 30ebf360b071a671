package main

import (
	"context"
	_ "embed"
	"sync"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

const (
	// The version of the real plugin whose behaviour this one has.
	version = "1.2.1"

	commandType = "command:local:Command"

	announcement = "stand-in for the command plugin (local development only)"
)

//go:embed schema.json
var schema string

// provider answers the engine. What it doesn't implement (Handshake, DiffConfig, Construct, …) the
// real plugin doesn't either: the engine then falls back to what it does for the real one (23, 24).
type provider struct {
	pulumirpc.UnimplementedResourceProviderServer

	engine     engineLog
	operations *operations
	announce   sync.Once
}

func newProvider() *provider {
	return &provider{operations: newOperations()}
}

func (p *provider) GetPluginInfo(context.Context, *emptypb.Empty) (*pulumirpc.PluginInfo, error) {
	return &pulumirpc.PluginInfo{Version: version}, nil
}

func (p *provider) GetSchema(context.Context, *pulumirpc.GetSchemaRequest) (*pulumirpc.GetSchemaResponse, error) {
	return &pulumirpc.GetSchemaResponse{Schema: schema}, nil
}

// CheckConfig takes everything: the plugin has no configuration of its own.
func (p *provider) CheckConfig(_ context.Context, req *pulumirpc.CheckRequest) (*pulumirpc.CheckResponse, error) {
	return &pulumirpc.CheckResponse{Inputs: req.GetNews()}, nil
}

func (p *provider) Configure(
	context.Context, *pulumirpc.ConfigureRequest,
) (*pulumirpc.ConfigureResponse, error) {
	return &pulumirpc.ConfigureResponse{
		AcceptSecrets:   true,
		SupportsPreview: true,
		AcceptResources: true,
		AcceptOutputs:   true,
	}, nil
}

// Attach is called instead of passing the address as an argument, when the engine was told to use
// a plugin that already runs.
func (p *provider) Attach(_ context.Context, req *pulumirpc.PluginAttach) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, p.connect(req.GetAddress())
}

func (p *provider) Cancel(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	p.operations.cancelAll()
	return &emptypb.Empty{}, nil
}

func (p *provider) Invoke(_ context.Context, req *pulumirpc.InvokeRequest) (*pulumirpc.InvokeResponse, error) {
	return nil, status.Errorf(codes.NotFound, "Invoke '%s' not found: the %s serves only %s",
		req.GetTok(), announcement, commandType)
}

func (p *provider) connect(address string) error {
	client, err := dialEngine(address)
	if err != nil {
		return err
	}
	p.engine.set(client)
	return nil
}

// commandURN refuses the real plugin's other resources.
func commandURN(s string) (resource.URN, error) {
	urn := resource.URN(s)
	if !urn.IsValid() || urn.Type() != commandType {
		return "", status.Errorf(codes.NotFound, "Resource '%s' not found: the %s serves only %s",
			s, announcement, commandType)
	}
	return urn, nil
}
