package probe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// kinds has for each kind of question how it's asked, until a deadline.
var kinds = map[string]func(stream Stream, deadline time.Time) (string, error){"tcp": askTCP, "dns": askDNS, "http": askHTTP}

var errClosed = errors.New("closed without an answer")

func askTCP(stream Stream, deadline time.Time) (string, error) {
	connection, name, err := open(stream, deadline)
	if err == nil {
		connection.Close()
	}
	return name, err
}

// open connects, and reads the name that the server says.
func open(stream Stream, deadline time.Time) (net.Conn, string, error) {
	connection, err := dial("tcp", stream.From, stream.Address, deadline)
	if err != nil {
		return nil, "", err
	}
	name, err := line(connection)
	if err != nil {
		connection.Close()
		return nil, "", err
	}
	return connection, name, nil
}

func askHTTP(stream Stream, deadline time.Time) (string, error) {
	host, path, _ := strings.Cut(stream.Address, "/")
	connection, err := dial("tcp", stream.From, host, deadline)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	if _, err := fmt.Fprintf(connection, "GET /%s HTTP/1.0\r\nHost: %s\r\n\r\n", path, host); err != nil {
		return "", short(err)
	}
	status, err := line(connection)
	if err != nil {
		return "", err
	}
	if words := strings.Fields(status); len(words) < 2 || words[1] != "200" {
		return "", errors.New(status)
	}
	return "200", nil
}

// askDNS sends one datagram from a port of its own, as resolvers do, but never again.
func askDNS(stream Stream, deadline time.Time) (string, error) {
	connection, err := dial("udp", stream.From, stream.Address, deadline)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	id := uint16(rand.Uint32())
	query := dnsmessage.Message{
		Header: dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{
			Name: dnsmessage.MustNewName("who.test."), Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET,
		}},
	}
	packed, err := query.Pack()
	if err != nil {
		return "", err
	}
	if _, err := connection.Write(packed); err != nil {
		return "", short(err)
	}
	var datagram [1500]byte
	count, err := connection.Read(datagram[:])
	if err != nil {
		return "", short(err)
	}
	var reply dnsmessage.Message
	if err := reply.Unpack(datagram[:count]); err != nil {
		return "", fmt.Errorf("no DNS answer: %w", err)
	}
	if reply.ID != id || !reply.Response || len(reply.Answers) != 1 {
		return "", errors.New("not the answer to this query")
	}
	text, ok := reply.Answers[0].Body.(*dnsmessage.TXTResource)
	if !ok || len(text.TXT) != 1 {
		return "", errors.New("not the record that was asked for")
	}
	return text.TXT[0], nil
}

func dial(network, from, address string, deadline time.Time) (net.Conn, error) {
	dialer := net.Dialer{Deadline: deadline, KeepAlive: -1}
	if ip := net.ParseIP(from); ip != nil && network == "tcp" {
		dialer.LocalAddr = &net.TCPAddr{IP: ip}
	} else if ip != nil {
		dialer.LocalAddr = &net.UDPAddr{IP: ip}
	}
	connection, err := dialer.Dial(network+"4", address)
	if err != nil {
		return nil, short(err)
	}
	if err := connection.SetDeadline(deadline); err != nil {
		connection.Close()
		return nil, err
	}
	return connection, nil
}

// line reads up to the first newline; what comes behind it in the same segment is lost.
func line(connection net.Conn) (string, error) {
	var all [256]byte
	for end := 0; end < len(all); {
		count, err := connection.Read(all[end:])
		end += count
		if at := bytes.IndexByte(all[:end], '\n'); at >= 0 {
			return strings.TrimSpace(string(all[:at])), nil
		}
		if err != nil {
			return "", short(err)
		}
	}
	return "", errors.New("no end of line")
}

// short says what was being done and why it failed, without the addresses: the stream's name stands beside it.
func short(err error) error {
	if errors.Is(err, io.EOF) {
		return errClosed
	}
	doing := ""
	if operation := (*net.OpError)(nil); errors.As(err, &operation) {
		doing = operation.Op + ": "
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || isTimeout(err) {
		return errors.New(doing + "timed out")
	}
	if number := syscall.Errno(0); errors.As(err, &number) {
		return errors.New(doing + number.Error())
	}
	return err
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}
