package main

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// A line that is longer goes to the engine in pieces. The real plugin hangs at such a line (8).
const maxLine = 64 * 1024

// A line that the engine doesn't take must not hold its command up forever. Tests change it.
var logTimeout = 10 * time.Second

// engineLog shows lines to the user. Without an engine, before Attach, it drops them.
type engineLog struct {
	mutex  sync.Mutex
	client pulumirpc.EngineClient
}

func dialEngine(address string) (pulumirpc.EngineClient, error) {
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), rpcutil.GrpcChannelOptions())
	if err != nil {
		return nil, err
	}
	return pulumirpc.NewEngineClient(conn), nil
}

func (l *engineLog) set(client pulumirpc.EngineClient) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.client = client
}

// info leaves a line that is there after the run too.
func (l *engineLog) info(ctx context.Context, urn resource.URN, message string) {
	l.send(ctx, &pulumirpc.LogRequest{Urn: string(urn), Message: message})
}

// status shows a line beside the resource until the next one comes (7).
func (l *engineLog) status(ctx context.Context, urn resource.URN, message string) {
	l.send(ctx, &pulumirpc.LogRequest{Urn: string(urn), Message: message, Ephemeral: true})
}

func (l *engineLog) send(ctx context.Context, request *pulumirpc.LogRequest) {
	l.mutex.Lock()
	client := l.client
	l.mutex.Unlock()
	if client == nil {
		return
	}
	request.Severity = pulumirpc.LogSeverity_INFO
	request.Message = strings.ToValidUTF8(request.Message, "\uFFFD")
	// What a command says while it is being killed is worth showing: its context has ended by then.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logTimeout)
	defer cancel()
	// A line that can't be shown is still in the outputs, or in the error.
	_, _ = client.Log(ctx, request)
}

// lineWriter cuts a stream into lines.
type lineWriter struct {
	emit    func(string)
	pending []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.pending = append(w.pending, p...)
	for {
		line, rest, found := bytes.Cut(w.pending, []byte("\n"))
		if found {
			w.emit(string(bytes.TrimSuffix(line, []byte("\r"))))
			w.pending = rest
			continue
		}
		if len(w.pending) <= maxLine {
			break
		}
		end := pieceEnd(w.pending)
		w.emit(string(w.pending[:end]))
		w.pending = w.pending[end:]
	}
	return len(p), nil
}

func (w *lineWriter) flush() {
	if len(w.pending) > 0 {
		w.emit(string(w.pending))
		w.pending = nil
	}
}

// pieceEnd is the end of a first piece that doesn't cut through a character.
func pieceEnd(p []byte) int {
	for end := maxLine; end > maxLine-utf8.UTFMax; end-- {
		if utf8.RuneStart(p[end]) {
			return end
		}
	}
	return maxLine
}
