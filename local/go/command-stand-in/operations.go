package main

import (
	"context"
	"time"
)

// operations lets Cancel end everything that runs, and whatever is asked for after it (26).
type operations struct {
	cancelled context.Context
	cancelAll context.CancelFunc
}

func newOperations() *operations {
	cancelled, cancelAll := context.WithCancel(context.Background())
	return &operations{cancelled: cancelled, cancelAll: cancelAll}
}

// begin derives the context of one operation. The engine gives the timeout in seconds, 0 for none;
// fractions of a second are dropped (27). The engine's connection ends the context too (28).
func (o *operations) begin(ctx context.Context, timeout float64) (context.Context, func()) {
	var cancel context.CancelFunc
	if timeout == 0 {
		ctx, cancel = context.WithCancel(ctx)
	} else {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(timeout)*time.Second)
	}
	// AfterFunc would cancel in a goroutine of its own: a process might start before it.
	if o.cancelled.Err() != nil {
		cancel()
	}
	release := context.AfterFunc(o.cancelled, cancel)
	return ctx, func() {
		release()
		cancel()
	}
}
