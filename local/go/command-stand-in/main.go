// A stand-in for Pulumi's command plugin, for local development only: it serves
// command:local:Command as the real plugin does. The numbers in this package's comments and
// tests are those of the statements in README.md, which say what the real plugin does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
)

// How often the plugin looks whether its engine is still there. Long enough to cost nothing,
// short enough that a killed engine doesn't leave a process behind for long. Tests change it.
var engineCheckInterval = 15 * time.Second

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve speaks the protocol that the engine expects of a plugin's process: the engine's address
// is the argument, our own port is the first line on standard output (30). An interrupt ends the
// process as it is (31).
func serve() error {
	// The engine hands on its own logging and tracing flags. Those for logging are registered by
	// a package of the SDK; both kinds are taken and not used.
	flag.String("tracing", "", "taken for compatibility, not used")
	flag.Parse()

	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	p := newProvider()
	switch flag.NArg() {
	case 0:
		// The engine will say its address in Attach.
	case 1:
		address := flag.Arg(0)
		if err := p.connect(address); err != nil {
			return fmt.Errorf("can't connect to the engine: %w", err)
		}
		if err := rpcutil.Healthcheck(ctx, address, engineCheckInterval, stop); err != nil {
			return fmt.Errorf("can't watch the engine: %w", err)
		}
	default:
		return errors.New("expected one argument, the engine's address")
	}

	cancel := make(chan bool)
	go func() {
		<-ctx.Done()
		close(cancel)
	}()
	handle, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{
		Cancel: cancel,
		Init: func(server *grpc.Server) error {
			pulumirpc.RegisterResourceProviderServer(server, p)
			return nil
		},
	})
	if err != nil {
		return fmt.Errorf("can't serve: %w", err)
	}
	fmt.Println(handle.Port)
	return <-handle.Done
}
