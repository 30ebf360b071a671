package probe

import (
	"context"
	"math"
	"sync"
	"time"
)

// Run asks until the spec's end, or that of the context; what was asked by then is still awaited and written.
func Run(ctx context.Context, file string, spec Spec) error {
	seconds, fraction := math.Modf(spec.Until)
	ctx, cancel := context.WithDeadline(ctx, time.Unix(int64(seconds), int64(fraction*1e9)))
	defer cancel()
	record, err := newRecord(file)
	if err != nil {
		return err
	}
	var streams sync.WaitGroup
	for number, stream := range spec.Streams {
		// Spread over their interval: together they'd all wait for one another.
		offset := stream.interval() * time.Duration(number) / time.Duration(len(spec.Streams))
		streams.Go(func() {
			if stream.Kind == long {
				keep(ctx, stream, record)
			} else {
				send(ctx, stream, offset, record)
			}
		})
	}
	streams.Wait()
	return record.close()
}

// send asks by the clock, not by the last one's end: a question that hangs holds up no other.
func send(ctx context.Context, stream Stream, offset time.Duration, record *record) {
	ask := kinds[stream.Kind]
	start := time.Now().Add(offset)
	var asked sync.WaitGroup
	defer asked.Wait()
	for number := range stream.Count {
		if !sleep(ctx, time.Until(start.Add(time.Duration(float64(number)/stream.Rate*float64(time.Second))))) {
			return
		}
		asked.Go(func() {
			began := time.Now()
			answer, err := ask(stream, began.Add(stream.timeout()))
			record.write(stream, began, time.Since(began), answer, err)
		})
	}
}

// sleep says whether the context goes on.
func sleep(ctx context.Context, duration time.Duration) bool {
	if duration <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
