// Package serve is the servers' end.
package serve

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"
)

// idle is how long a client may be silent: one that was cut off never says so.
const idle = time.Minute

// Run serves under a name until the context ends. Each place is tcp=ADDRESS:PORT or udp=ADDRESS:PORT; an answer is
// the name with the port that was asked, NAME:PORT.
func Run(ctx context.Context, name string, places []string) error {
	for _, place := range places {
		network, address, _ := strings.Cut(place, "=")
		var err error
		switch network {
		case "tcp":
			err = listenTCP(ctx, name, address)
		case "udp":
			err = listenUDP(ctx, name, address)
		default:
			err = fmt.Errorf("%s: neither tcp= nor udp=", place)
		}
		if err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

func listenTCP(ctx context.Context, name, address string) error {
	// Plain TCP, as most servers': Go listens with Multipath TCP by default.
	config := net.ListenConfig{KeepAlive: -1}
	config.SetMultipathTCP(false)
	listener, err := config.Listen(ctx, "tcp4", address)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	said := []byte(answer(name, listener.Addr()) + "\n")
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				if ctx.Err() != nil {
					return
				}
				time.Sleep(10 * time.Millisecond) // out of descriptors, as a rule
				continue
			}
			go echo(connection, said)
		}
	}()
	return nil
}

func echo(connection net.Conn, said []byte) {
	defer connection.Close()
	// By hand: io.Copy between two connections goes through a pipe of the kernel's, which is dear for a byte.
	var bytes [256]byte
	for {
		if err := connection.SetDeadline(time.Now().Add(idle)); err != nil {
			return
		}
		if _, err := connection.Write(said); err != nil {
			return
		}
		count, err := connection.Read(bytes[:])
		if err != nil {
			return
		}
		said = bytes[:count]
	}
}

func listenUDP(ctx context.Context, name, address string) error {
	var config net.ListenConfig
	packets, err := config.ListenPacket(ctx, "udp4", address)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { packets.Close() })
	said := answer(name, packets.LocalAddr())
	go func() {
		bytes := make([]byte, 1500)
		for {
			count, from, err := packets.ReadFrom(bytes)
			if err != nil {
				if ctx.Err() != nil {
					return
				}
				continue // a client's refusal of an earlier answer
			}
			if reply, err := resolve(bytes[:count], said); err == nil {
				_, _ = packets.WriteTo(reply, from) // the client sees it as no answer
			}
		}
	}()
	return nil
}

func answer(name string, own net.Addr) string {
	_, port, _ := net.SplitHostPort(own.String())
	return name + ":" + port
}
