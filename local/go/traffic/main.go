// Command traffic is both ends of what is sent through a real cluster's Services.
//
//	traffic serve NAME tcp=ADDRESS:PORT udp=ADDRESS:PORT …
//	traffic probe [-source NAME] FILE SPEC.json
//
// serve: over TCP it says its name and a newline at once, then gives every byte back; over UDP it answers DNS
// queries with its name. probe: asks as the spec says, and writes each outcome to FILE (to standard output for -).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"kube-proxy-replacement/local/traffic/internal/probe"
	"kube-proxy-replacement/local/traffic/internal/serve"
)

var errUsage = errors.New("traffic serve NAME tcp=ADDRESS udp=ADDRESS … | traffic probe [-source NAME] FILE SPEC.json")

func main() {
	// What is measured shares the machine's few processors: one thread at a time takes the least of them.
	runtime.GOMAXPROCS(1)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, words []string) error {
	switch {
	case len(words) >= 3 && words[0] == "serve":
		return serve.Run(ctx, words[1], words[2:])
	case len(words) >= 1 && words[0] == "probe":
		flags := flag.NewFlagSet("probe", flag.ContinueOnError)
		source := flags.String("source", "", "`name` that streams are told apart by: it comes before theirs, with a >")
		if err := flags.Parse(words[1:]); err != nil || flags.NArg() != 2 {
			return errUsage
		}
		spec, err := probe.Read(flags.Arg(1), *source)
		if err != nil {
			return err
		}
		return probe.Run(ctx, flags.Arg(0), spec)
	}
	return errUsage
}
