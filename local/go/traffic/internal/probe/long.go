package probe

import (
	"context"
	"fmt"
	"net"
	"time"
)

const (
	long = "long"
	// again is the least time between two attempts to open a connection.
	again = time.Second
)

// keep opens a connection, sends a byte at each interval and awaits it. It writes one line a second, with the longest
// wait for a byte in it, and one when the connection breaks; then it opens a new one.
func keep(ctx context.Context, stream Stream, record *record) {
	for range stream.Count {
		began := time.Now()
		connection, name, err := open(stream, began.Add(stream.timeout()))
		if err != nil {
			record.write(stream, began, time.Since(began), "", fmt.Errorf("not opened: %w", err))
		} else {
			use(ctx, stream, connection, name, record)
			connection.Close()
		}
		if !sleep(ctx, time.Until(began.Add(again))) {
			return
		}
	}
}

// use returns when the connection is broken or the context has ended.
func use(ctx context.Context, stream Stream, connection net.Conn, name string, record *record) {
	second, longest := time.Now(), time.Duration(0)
	for next := second; sleep(ctx, time.Until(next)); {
		sent := time.Now()
		err := exchange(connection, sent.Add(stream.timeout()))
		waited := time.Since(sent)
		if err != nil {
			record.write(stream, sent, waited, "", fmt.Errorf("broken: %w (%s)", short(err), name))
			return
		}
		longest = max(longest, waited)
		if time.Since(second) >= time.Second {
			record.write(stream, second, longest, name, nil)
			second, longest = time.Now(), 0
		}
		// A byte that came late puts off those after it.
		if next = next.Add(stream.interval()); next.Before(time.Now()) {
			next = time.Now()
		}
	}
	record.write(stream, second, longest, name, nil)
}

func exchange(connection net.Conn, deadline time.Time) error {
	if err := connection.SetDeadline(deadline); err != nil {
		return err
	}
	var one [1]byte
	if _, err := connection.Write(one[:]); err != nil {
		return err
	}
	_, err := connection.Read(one[:])
	return err
}
