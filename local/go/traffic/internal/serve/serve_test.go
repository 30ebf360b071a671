package serve

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// free finds a port of the loopback's that nobody listens on.
func free(t *testing.T, network string) string {
	t.Helper()
	if network == "udp" {
		packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer packets.Close()
		return packets.LocalAddr().String()
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// serving has a server run for as long as the test, and returns where it does.
func serving(t *testing.T, network string) string {
	t.Helper()
	address := free(t, network)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, "node-1", []string{network + "=" + address}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return address
}

func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		connection, err := net.Dial(network, address)
		if err == nil {
			t.Cleanup(func() { connection.Close() })
			if err := connection.SetDeadline(deadline); err != nil {
				t.Fatal(err)
			}
			return connection
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestServerSaysItsNameUnaskedAndGivesEveryByteBack(t *testing.T) {
	address := serving(t, "tcp")
	connection := dial(t, "tcp4", address)
	_, port, _ := net.SplitHostPort(address)
	reader := bufio.NewReader(connection)
	if said, err := reader.ReadString('\n'); err != nil || said != "node-1:"+port+"\n" {
		t.Fatalf("%q, %v", said, err)
	}
	for _, sent := range []string{"a", strings.Repeat("b", 1000)} {
		if _, err := io.WriteString(connection, sent); err != nil {
			t.Fatal(err)
		}
		back := make([]byte, len(sent))
		if _, err := io.ReadFull(reader, back); err != nil || string(back) != sent {
			t.Fatalf("%q came back for %q, %v", back, sent, err)
		}
	}
}

func TestServerClosesWhenItsClientDoes(t *testing.T) {
	connection := dial(t, "tcp4", serving(t, "tcp"))
	if err := connection.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(connection); err != nil || !strings.HasPrefix(string(all), "node-1:") {
		t.Fatalf("%q, %v", all, err)
	}
}

func TestDNSAnswersCarryTheQuerysIDAndTheServersName(t *testing.T) {
	address := serving(t, "udp")
	_, port, _ := net.SplitHostPort(address)
	for _, test := range []struct {
		kind   dnsmessage.Type
		wanted string
	}{
		{dnsmessage.TypeTXT, "node-1:" + port},
		{dnsmessage.TypeA, "192.0.2.1"},
		{dnsmessage.TypeAAAA, ""},
	} {
		t.Run(test.kind.String(), func(t *testing.T) {
			question := dnsmessage.Question{
				Name: dnsmessage.MustNewName("who.test."), Type: test.kind, Class: dnsmessage.ClassINET,
			}
			query := dnsmessage.Message{Header: dnsmessage.Header{ID: 4711}, Questions: []dnsmessage.Question{question}}
			reply := exchange(t, address, query)
			if reply.ID != 4711 || !reply.Response || reply.RCode != dnsmessage.RCodeSuccess {
				t.Errorf("header %+v", reply.Header)
			}
			if len(reply.Questions) != 1 || reply.Questions[0] != question {
				t.Errorf("questions %+v", reply.Questions)
			}
			said := ""
			for _, answer := range reply.Answers {
				switch body := answer.Body.(type) {
				case *dnsmessage.TXTResource:
					said += strings.Join(body.TXT, "")
				case *dnsmessage.AResource:
					said += net.IP(body.A[:]).String()
				}
			}
			if said != test.wanted {
				t.Errorf("%q instead of %q", said, test.wanted)
			}
		})
	}
}

// exchange asks until the server listens: before that, the datagram is lost.
func exchange(t *testing.T, address string, query dnsmessage.Message) dnsmessage.Message {
	t.Helper()
	packed, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	connection := dial(t, "udp4", address)
	deadline := time.Now().Add(5 * time.Second)
	datagram := make([]byte, 1500)
	for {
		if _, err := connection.Write(packed); err == nil {
			if count, err := connection.Read(datagram); err == nil {
				var reply dnsmessage.Message
				if err := reply.Unpack(datagram[:count]); err != nil {
					t.Fatal(err)
				}
				return reply
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("no answer")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestNeitherTCPNorUDPIsAnError(t *testing.T) {
	if err := Run(t.Context(), "node-1", []string{"127.0.0.1:0"}); err == nil {
		t.Error("it serves")
	}
}

func TestATakenPortIsAnError(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := Run(t.Context(), "node-1", []string{"tcp=" + listener.Addr().String()}); err == nil {
		t.Error("it serves")
	}
}
