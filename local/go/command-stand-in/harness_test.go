package main

import (
	"context"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"
)

const (
	testURN = resource.URN("urn:pulumi:test::project::command:local:Command::name")
	testID  = resource.ID("name01234567")

	// A test waits this long for something that is to happen soon.
	soon = 20 * time.Second

	engineCheckIntervalInTests = 50 * time.Millisecond
)

// TestMain turns the test's own binary into the plugin where a test needs a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("COMMAND_STAND_IN_SERVE") != "" {
		engineCheckInterval = engineCheckIntervalInTests
		main()
		return
	}
	os.Exit(m.Run())
}

// fixture is a provider behind a gRPC connection. The engine's own client drives it, so that
// properties are on the wire as the engine puts them there.
type fixture struct {
	plugin.Provider

	conn   *grpc.ClientConn
	raw    pulumirpc.ResourceProviderClient
	engine *fakeEngine
}

func start(t *testing.T) *fixture {
	t.Helper()
	engine := &fakeEngine{lines: make(chan *pulumirpc.LogRequest, 1000)}
	engineConn := serveInMemory(t, func(s *grpc.Server) { pulumirpc.RegisterEngineServer(s, engine) })

	p := newProvider()
	p.engine.set(pulumirpc.NewEngineClient(engineConn))
	conn := serveInMemory(t, func(s *grpc.Server) { pulumirpc.RegisterResourceProviderServer(s, p) })
	raw := pulumirpc.NewResourceProviderClient(conn)

	f := &fixture{
		Provider: plugin.NewProviderWithClient(nil, raw, false),
		conn:     conn,
		raw:      raw,
		engine:   engine,
	}
	providerType := tokens.Type("pulumi:providers:command")
	_, err := f.Configure(t.Context(), plugin.ConfigureRequest{
		Type: &providerType, Inputs: resource.PropertyMap{},
	})
	must(t, err)
	return f
}

func serveInMemory(t *testing.T, register func(*grpc.Server)) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	register(server)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///in-memory",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return listener.DialContext(ctx)
		}))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (f *fixture) create(inputs resource.PropertyMap) (resource.PropertyMap, error) {
	response, err := f.Create(context.Background(), plugin.CreateRequest{URN: testURN, Properties: inputs})
	return response.Properties, err
}

func (f *fixture) update(state, inputs resource.PropertyMap) (resource.PropertyMap, error) {
	response, err := f.Update(context.Background(), plugin.UpdateRequest{
		URN: testURN, ID: testID, OldInputs: resource.PropertyMap{}, OldOutputs: state, NewInputs: inputs,
	})
	return response.Properties, err
}

func (f *fixture) delete(state resource.PropertyMap) error {
	_, err := f.Delete(context.Background(), plugin.DeleteRequest{
		URN: testURN, ID: testID, Inputs: resource.PropertyMap{}, Outputs: state,
	})
	return err
}

// fakeEngine collects what is logged, but for the announcement, which has a test of its own.
type fakeEngine struct {
	pulumirpc.UnimplementedEngineServer

	lines chan *pulumirpc.LogRequest

	mutex     sync.Mutex
	announced []*pulumirpc.LogRequest
}

func (e *fakeEngine) Log(ctx context.Context, req *pulumirpc.LogRequest) (*emptypb.Empty, error) {
	if req.GetMessage() == announcement {
		e.mutex.Lock()
		defer e.mutex.Unlock()
		e.announced = append(e.announced, req)
		return &emptypb.Empty{}, nil
	}
	select {
	case e.lines <- req:
		return &emptypb.Empty{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (e *fakeEngine) messages() []string {
	messages := []string{}
	for {
		select {
		case line := <-e.lines:
			messages = append(messages, line.GetMessage())
		default:
			return messages
		}
	}
}

func (e *fakeEngine) waitForLine(t *testing.T) *pulumirpc.LogRequest {
	t.Helper()
	select {
	case line := <-e.lines:
		return line
	case <-time.After(soon):
		t.Fatal("no line came")
		return nil
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t *testing.T, want, got T) {
	t.Helper()
	if want != got {
		t.Errorf("\nwant %#v\ngot  %#v", want, got)
	}
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(soon); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("waited in vain: %s", what)
}

type properties = resource.PropertyMap

func text(s string) resource.PropertyValue { return resource.NewProperty(s) }

func yes(b bool) resource.PropertyValue { return resource.NewProperty(b) }

func list(elements ...resource.PropertyValue) resource.PropertyValue {
	return resource.NewProperty(elements)
}

func texts(elements ...string) resource.PropertyValue {
	values := []resource.PropertyValue{}
	for _, e := range elements {
		values = append(values, text(e))
	}
	return resource.NewProperty(values)
}

func object(m properties) resource.PropertyValue { return resource.NewProperty(m) }

func secret(v resource.PropertyValue) resource.PropertyValue { return resource.MakeSecret(v) }

func unknown() resource.PropertyValue { return resource.MakeComputed(text("")) }

func with(m properties, more properties) properties {
	merged := m.Copy()
	for k, v := range more {
		merged[k] = v
	}
	return merged
}
