package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

func Test23ConfigureAndHandshake(t *testing.T) {
	f := start(t)
	response, err := f.raw.Configure(t.Context(), &pulumirpc.ConfigureRequest{AcceptSecrets: true})
	must(t, err)
	equal(t, true, response.GetAcceptSecrets())
	equal(t, true, response.GetSupportsPreview())
	equal(t, true, response.GetAcceptResources())
	equal(t, true, response.GetAcceptOutputs())
	equal(t, false, response.GetSupportsAutonamingConfiguration())

	_, err = f.raw.Handshake(t.Context(), &pulumirpc.ProviderHandshakeRequest{})
	equal(t, codes.Unimplemented, status.Code(err))
}

func Test24ProviderConfiguration(t *testing.T) {
	f := start(t)
	news := properties{"version": text("1.2.1"), "pluginDownloadURL": text("x")}
	response, err := f.raw.CheckConfig(t.Context(), &pulumirpc.CheckRequest{News: onWire(t, news)})
	must(t, err)
	equal(t, 0, len(response.GetFailures()))
	got, err := fromWire(response.GetInputs())
	must(t, err)
	same(t, news, got)

	_, err = f.raw.DiffConfig(t.Context(), &pulumirpc.DiffRequest{})
	equal(t, codes.Unimplemented, status.Code(err))
}

func Test25OtherResourcesAndFunctions(t *testing.T) {
	f := start(t)
	for _, urn := range []string{
		strings.Replace(string(testURN), "command:local:Command", "command:remote:Command", 1), "no URN",
	} {
		_, checkErr := f.raw.Check(t.Context(), &pulumirpc.CheckRequest{Urn: urn})
		_, diffErr := f.raw.Diff(t.Context(), &pulumirpc.DiffRequest{Urn: urn})
		_, createErr := f.raw.Create(t.Context(), &pulumirpc.CreateRequest{Urn: urn})
		_, updateErr := f.raw.Update(t.Context(), &pulumirpc.UpdateRequest{Urn: urn})
		_, deleteErr := f.raw.Delete(t.Context(), &pulumirpc.DeleteRequest{Urn: urn})
		_, readErr := f.raw.Read(t.Context(), &pulumirpc.ReadRequest{Urn: urn})
		for _, err := range []error{checkErr, diffErr, createErr, updateErr, deleteErr, readErr} {
			equal(t, codes.NotFound, status.Code(err))
		}
	}
	_, err := f.raw.Invoke(t.Context(), &pulumirpc.InvokeRequest{Tok: "command:local:run"})
	equal(t, codes.NotFound, status.Code(err))
}

func Test26Cancel(t *testing.T) {
	t.Run("kills the process", func(t *testing.T) {
		f := start(t)
		done := f.createInBackground(properties{"create": text("echo started; exec sleep 60")})
		f.engine.waitForLine(t)
		must(t, f.SignalCancellation(t.Context()))
		equal(t, "signal: killed: running \"echo started; exec sleep 60\":\nstarted\n", message(within(t, done)))
	})
	t.Run("not its children, and waits for whoever holds its output", func(t *testing.T) {
		f := start(t)
		survived := filepath.Join(t.TempDir(), "survived")
		done := f.createInBackground(properties{
			"create": text("(echo started; sleep 1; touch " + survived + "; echo late); true"),
		})
		f.engine.waitForLine(t)
		must(t, f.SignalCancellation(t.Context()))
		err := within(t, done)
		if !strings.HasPrefix(message(err), "signal: killed: ") || !strings.HasSuffix(message(err), "started\nlate\n") {
			t.Errorf("got %v", err)
		}
		if _, err := os.Stat(survived); err != nil {
			t.Error("the child of the child did not live on")
		}
		equal(t, "late", f.engine.waitForLine(t).GetMessage())
	})
	t.Run("nothing starts after it", func(t *testing.T) {
		f := start(t)
		must(t, f.SignalCancellation(t.Context()))
		ran := filepath.Join(t.TempDir(), "ran")
		_, err := f.create(properties{"create": text("touch " + ran)})
		equal(t, "context canceled: running \"touch "+ran+"\":\n", message(err))
		if _, err := os.Stat(ran); !errors.Is(err, os.ErrNotExist) {
			t.Error("the command ran")
		}
	})
}

func Test27Timeouts(t *testing.T) {
	f := start(t)
	state := properties{"delete": text("exec sleep 60"), "stdout": text(""), "stderr": text("")}
	for seconds, want := range map[float64]string{
		1:    "signal: killed: running \"exec sleep 60\":\n",
		1.99: "signal: killed: running \"exec sleep 60\":\n",
		0.5:  "context deadline exceeded: running \"exec sleep 60\":\n",
	} {
		before := time.Now()
		sleep := properties{"create": text("exec sleep 60")}
		request := createRequest(t, sleep)
		request.Timeout = seconds
		_, createErr := f.raw.Create(t.Context(), request)
		_, updateErr := f.raw.Update(t.Context(), &pulumirpc.UpdateRequest{
			Urn: string(testURN), Olds: onWire(t, state), News: onWire(t, sleep), Timeout: seconds,
		})
		_, deleteErr := f.raw.Delete(t.Context(), &pulumirpc.DeleteRequest{
			Urn: string(testURN), Properties: onWire(t, state), Timeout: seconds,
		})
		for _, err := range []error{createErr, updateErr, deleteErr} {
			equal(t, want, message(err))
		}
		if passed := time.Since(before); passed > soon {
			t.Errorf("%v s lasted %v", seconds, passed)
		}
	}
}

func Test28LostConnectionKillsTheProcess(t *testing.T) {
	f := start(t)
	done := f.createInBackground(properties{"create": text("echo $$; exec sleep 60")})
	pid, err := strconv.Atoi(f.engine.waitForLine(t).GetMessage())
	must(t, err)
	must(t, f.conn.Close())
	within(t, done)
	waitFor(t, "the process to end", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
}

func Test29PluginInfoAndSchema(t *testing.T) {
	f := start(t)
	info, err := f.GetPluginInfo(t.Context())
	must(t, err)
	equal(t, "1.2.1", info.Version.String())

	response, err := f.raw.GetSchema(t.Context(), &pulumirpc.GetSchemaRequest{})
	must(t, err)
	var schema struct {
		Name, Version string
		Resources     map[string]struct {
			InputProperties map[string]struct{ ReplaceOnChanges bool }
		}
	}
	must(t, json.Unmarshal([]byte(response.GetSchema()), &schema))
	equal(t, "command 1.2.1", schema.Name+" "+schema.Version)
	inputs := schema.Resources["command:local:Command"].InputProperties
	equal(t, 12, len(inputs))
	for name, input := range inputs {
		equal(t, name == "triggers", input.ReplaceOnChanges)
	}
}

func Test30Process(t *testing.T) {
	engine, address := listenAsEngine(t)
	create := createRequest(t, properties{"create": text("echo hello")})

	t.Run("with the engine's address", func(t *testing.T) {
		p := startProcess(t, "--logtostderr", "-v=9", "--tracing", "nowhere", address)
		_, err := p.client.Create(t.Context(), create)
		must(t, err)
		equal(t, "hello", engine.waitForLine(t).GetMessage())
	})
	t.Run("without it, until Attach", func(t *testing.T) {
		p := startProcess(t)
		_, err := p.client.Create(t.Context(), create)
		must(t, err)
		_, err = p.client.Attach(t.Context(), &pulumirpc.PluginAttach{Address: address})
		must(t, err)
		_, err = p.client.Create(t.Context(), create)
		must(t, err)
		equal(t, "hello", strings.Join(engine.messages(), ","))
	})
	t.Run("two arguments", func(t *testing.T) {
		command := pluginCommand(t, address, address)
		said, err := command.CombinedOutput()
		if err == nil || !strings.Contains(string(said), "expected one argument") {
			t.Errorf("got %v: %s", err, said)
		}
	})
}

func Test31InterruptEndsTheProcess(t *testing.T) {
	_, address := listenAsEngine(t)
	p := startProcess(t, address)
	must(t, p.command.Process.Signal(os.Interrupt))
	err := within(t, p.ended)
	if err == nil || err.Error() != "signal: interrupt" {
		t.Errorf("got %v", err)
	}
}

// The real plugin lives on without its engine.
func TestProcessEndsWithItsEngine(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := grpc.NewServer()
	pulumirpc.RegisterEngineServer(server, &fakeEngine{})
	go func() { _ = server.Serve(listener) }()
	p := startProcess(t, listener.Addr().String())
	select {
	case err := <-p.ended:
		t.Fatalf("ended before its engine: %v", err)
	case <-time.After(10 * engineCheckIntervalInTests):
	}
	server.Stop()
	must(t, p.conn.Close())
	must(t, within(t, p.ended))
}

func TestAnnouncementComesOnceAndNotInPreview(t *testing.T) {
	f := start(t)
	request := createRequest(t, properties{"create": text("true"), "logging": text("none")})
	request.Preview = true
	_, err := f.raw.Create(t.Context(), request)
	must(t, err)
	equal(t, 0, len(f.engine.announced))

	for range 2 {
		must(t, f.delete(properties{"stdout": text(""), "stderr": text("")}))
		_, err := f.create(properties{"create": text("true")})
		must(t, err)
	}
	equal(t, 1, len(f.engine.announced))
	line := f.engine.announced[0]
	equal(t, false, line.GetEphemeral())
	equal(t, pulumirpc.LogSeverity_INFO, line.GetSeverity())
	equal(t, string(testURN), line.GetUrn())
}

func (f *fixture) createInBackground(inputs properties) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := f.create(inputs)
		done <- err
	}()
	return done
}

func within(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(soon):
		t.Fatal("it did not end")
		return nil
	}
}

func listenAsEngine(t *testing.T) (*fakeEngine, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	engine := &fakeEngine{lines: make(chan *pulumirpc.LogRequest, 1000)}
	server := grpc.NewServer()
	pulumirpc.RegisterEngineServer(server, engine)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return engine, listener.Addr().String()
}

// pluginProcess is the plugin as the engine starts it.
type pluginProcess struct {
	command *exec.Cmd
	conn    *grpc.ClientConn
	client  pulumirpc.ResourceProviderClient
	ended   chan error
}

func pluginCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	command := exec.Command(self, args...)
	command.Env = append(os.Environ(), "COMMAND_STAND_IN_SERVE=1")
	return command
}

func startProcess(t *testing.T, args ...string) *pluginProcess {
	t.Helper()
	command := pluginCommand(t, args...)
	stdout, err := command.StdoutPipe()
	must(t, err)
	must(t, command.Start())
	p := &pluginProcess{command: command, ended: make(chan error, 1)}
	reader := bufio.NewReader(stdout)
	port, err := reader.ReadString('\n')
	go func() {
		_, _ = io.Copy(io.Discard, reader)
		p.ended <- command.Wait()
	}()
	t.Cleanup(func() { _ = command.Process.Kill() })
	must(t, err)

	p.conn, err = grpc.NewClient("127.0.0.1:"+strings.TrimSpace(port),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { _ = p.conn.Close() })
	p.client = pulumirpc.NewResourceProviderClient(p.conn)
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	info, err := p.client.GetPluginInfo(ctx, &emptypb.Empty{})
	must(t, err)
	equal(t, "1.2.1", info.GetVersion())
	return p
}
