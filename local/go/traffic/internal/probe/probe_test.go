package probe

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// outcome is a line of the file.
type outcome struct {
	instant      float64
	stream, kind string
	milliseconds int
	answer       string
}

func read(t *testing.T, file string) []outcome {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var found []outcome
	for line := range strings.Lines(string(content)) {
		words := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 5)
		if len(words) != 5 {
			t.Fatalf("%q isn't a line", line)
		}
		instant, err := strconv.ParseFloat(words[0], 64)
		if err != nil {
			t.Fatal(err)
		}
		took, err := strconv.Atoi(words[3])
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, outcome{instant, words[1], words[2], took, words[4]})
	}
	return found
}

// all runs the streams to their end.
func all(t *testing.T, streams ...Stream) []outcome {
	t.Helper()
	file := filepath.Join(t.TempDir(), "outcomes")
	if err := Run(t.Context(), file, Spec{Until: soon(20), Streams: streams}); err != nil {
		t.Fatal(err)
	}
	return read(t, file)
}

func soon(seconds float64) float64 { return float64(time.Now().UnixMilli())/1000 + seconds }

// answering has somebody accept connections for as long as the test; with 0 as number for the first.
func answering(t *testing.T, answer func(number int, connection net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for number := 0; ; number++ {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go answer(number, connection)
		}
	}()
	return listener.Addr().String()
}

func named(name string) func(int, net.Conn) {
	return func(_ int, connection net.Conn) {
		defer connection.Close()
		_, _ = io.WriteString(connection, name+"\n")
		_, _ = io.Copy(connection, connection)
	}
}

func hanging(_ int, connection net.Conn) {
	_, _ = io.Copy(io.Discard, connection)
	connection.Close()
}

func stream(name, kind, address string, count int) Stream {
	return Stream{Name: name, Kind: kind, Address: address, Rate: 50, Count: count, Timeout: 2}
}

func TestANewConnectionReadsTheServersName(t *testing.T) {
	found := all(t, stream("s", "tcp", answering(t, named("node-1:80")), 3))
	if len(found) != 3 {
		t.Fatalf("%d outcomes: %v", len(found), found)
	}
	for _, its := range found {
		if its.stream != "s" || its.kind != "tcp" || its.answer != "node-1:80" || its.milliseconds >= 2000 {
			t.Error(its)
		}
	}
}

func TestEachKindsFailureIsSaid(t *testing.T) {
	unused, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	unused.Close()
	refusing := unused.Addr().String()
	closing := answering(t, func(_ int, connection net.Conn) { connection.Close() })
	sick := answering(t, func(_ int, connection net.Conn) {
		_, _ = connection.Read(make([]byte, 1024))
		_, _ = io.WriteString(connection, "HTTP/1.0 503 Service Unavailable\r\n\r\n")
		connection.Close()
	})
	silent := answering(t, hanging)
	for _, test := range []struct {
		kind, address, wanted string
	}{
		{"tcp", refusing, "! dial: connection refused"},
		{"tcp", closing, "! closed without an answer"},
		{"tcp", silent, "! read: timed out"},
		{"http", sick + "/healthz", "! HTTP/1.0 503 Service Unavailable"},
		{"dns", mute(t, new(atomic.Int32)), "! read: timed out"},
		{"long", refusing, "! not opened: dial: connection refused"},
	} {
		t.Run(test.kind+" "+test.wanted, func(t *testing.T) {
			asked := stream("s", test.kind, test.address, 1)
			asked.Timeout = 0.2
			found := all(t, asked)
			if len(found) != 1 || found[0].answer != test.wanted {
				t.Errorf("%v instead of %q", found, test.wanted)
			}
		})
	}
}

func TestAStatusOf200IsAnAnswer(t *testing.T) {
	asked := make(chan string, 1)
	well := answering(t, func(_ int, connection net.Conn) {
		bytes := make([]byte, 1024)
		count, _ := connection.Read(bytes)
		asked <- string(bytes[:count])
		_, _ = io.WriteString(connection, "HTTP/1.0 200 OK\r\n\r\n{}")
		connection.Close()
	})
	found := all(t, stream("health", "http", well+"/healthz", 1))
	if len(found) != 1 || found[0].answer != "200" {
		t.Error(found)
	}
	if request := <-asked; !strings.HasPrefix(request, "GET /healthz HTTP/1.0\r\n") {
		t.Errorf("%q was asked", request)
	}
}

// mute is a DNS server that counts what it's sent, and says nothing.
func mute(t *testing.T, asked *atomic.Int32) string {
	t.Helper()
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { packets.Close() })
	go func() {
		for bytes := make([]byte, 1500); ; asked.Add(1) {
			if _, _, err := packets.ReadFrom(bytes); err != nil {
				return
			}
		}
	}()
	return packets.LocalAddr().String()
}

func TestADNSQueryIsSentOnceOnly(t *testing.T) {
	var asked atomic.Int32
	query := stream("s", "dns", mute(t, &asked), 3)
	query.Timeout = 0.5
	if found := all(t, query); len(found) != 3 {
		t.Error(found)
	}
	if count := asked.Load(); count != 3 {
		t.Errorf("%d datagrams for 3 queries", count)
	}
}

func TestAnotherQuerysAnswerIsNone(t *testing.T) {
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	go func() {
		bytes := make([]byte, 1500)
		count, from, err := packets.ReadFrom(bytes)
		if err != nil {
			return
		}
		var message dnsmessage.Message
		if err := message.Unpack(bytes[:count]); err != nil {
			return
		}
		message.ID++
		message.Response = true
		head := dnsmessage.ResourceHeader{Name: message.Questions[0].Name, Class: dnsmessage.ClassINET}
		text := &dnsmessage.TXTResource{TXT: []string{"node-1:53"}}
		message.Answers = []dnsmessage.Resource{{Header: head, Body: text}}
		if reply, err := message.Pack(); err == nil {
			_, _ = packets.WriteTo(reply, from)
		}
	}()
	found := all(t, stream("s", "dns", packets.LocalAddr().String(), 1))
	if len(found) != 1 || found[0].answer != "! not the answer to this query" {
		t.Error(found)
	}
}

func TestQuestionsThatHangHoldUpNoOther(t *testing.T) {
	hung := stream("hung", "tcp", answering(t, hanging), 20)
	hung.Timeout = 1
	found := all(t, hung, stream("well", "tcp", answering(t, named("node-1:80")), 20))
	first, last := map[string]float64{}, map[string]float64{}
	for _, its := range found {
		if _, ok := first[its.stream]; !ok || its.instant < first[its.stream] {
			first[its.stream] = its.instant
		}
		last[its.stream] = max(last[its.stream], its.instant)
		if (its.stream == "hung") != strings.HasPrefix(its.answer, "! ") {
			t.Error(its)
		}
	}
	if len(found) != 40 {
		t.Errorf("%d outcomes of 40", len(found))
	}
	// 20 at 50 a second take 0.38 s; one after the other, 20 that hang for a second would take as many seconds.
	for _, name := range []string{"hung", "well"} {
		if took := last[name] - first[name]; took < 0.3 || took > 1.5 {
			t.Errorf("%s: the last was asked %.2f s after the first", name, took)
		}
	}
}

func TestASpecEndsAtItsInstant(t *testing.T) {
	file := filepath.Join(t.TempDir(), "outcomes")
	asked := stream("s", "tcp", answering(t, named("node-1:80")), 1_000_000)
	kept := stream("k", "long", asked.Address, 1_000_000)
	began := time.Now()
	if err := Run(t.Context(), file, Spec{Until: soon(0.5), Streams: []Stream{asked, kept}}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	for _, its := range read(t, file) {
		if strings.HasPrefix(its.answer, "! ") {
			t.Error(its)
		}
	}
}

func TestWhatWasAskedBeforeTheEndIsAwaitedAndWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "outcomes")
	ctx, cancel := context.WithCancel(t.Context())
	slow := answering(t, func(_ int, connection net.Conn) {
		cancel()
		time.Sleep(300 * time.Millisecond)
		named("node-1:80")(0, connection)
	})
	asked := stream("s", "tcp", slow, 10)
	asked.Rate = 1
	if err := Run(ctx, file, Spec{Until: soon(20), Streams: []Stream{asked}}); err != nil {
		t.Fatal(err)
	}
	found := read(t, file)
	if len(found) != 1 || found[0].answer != "node-1:80" || found[0].milliseconds < 300 {
		t.Error(found)
	}
}

func TestOutcomesAreInTheFileLongBeforeTheEnd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "outcomes")
	ctx, cancel := context.WithCancel(t.Context())
	asked := stream("s", "tcp", answering(t, named("node-1:80")), 1_000_000)
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, file, Spec{Until: soon(60), Streams: []Stream{asked}}) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if state, err := os.Stat(file); err == nil && state.Size() > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is in the file")
		}
	}
}

func TestAnEarlierRunsOutcomesStay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "outcomes")
	spec := Spec{Until: soon(20), Streams: []Stream{stream("s", "tcp", answering(t, named("node-1:80")), 1)}}
	for range 2 {
		if err := Run(t.Context(), file, spec); err != nil {
			t.Fatal(err)
		}
	}
	if found := read(t, file); len(found) != 2 {
		t.Error(found)
	}
}

func TestABrokenConnectionIsSaidOnceAndAnotherOpened(t *testing.T) {
	address := answering(t, func(number int, connection net.Conn) {
		_, _ = fmt.Fprintf(connection, "node-%d:80\n", number+1)
		if number == 0 {
			bytes := make([]byte, 1)
			for range 5 {
				_, _ = connection.Read(bytes)
				_, _ = connection.Write(bytes)
			}
			_ = connection.(*net.TCPConn).SetLinger(0) // a reset, no orderly end
			connection.Close()
			return
		}
		named("")(0, connection)
	})
	file := filepath.Join(t.TempDir(), "outcomes")
	if err := Run(t.Context(), file, Spec{Until: soon(2.5), Streams: []Stream{stream("s", "long", address, 10)}}); err != nil {
		t.Fatal(err)
	}
	var broken, others []outcome
	for _, its := range read(t, file) {
		if strings.HasPrefix(its.answer, "! ") {
			broken = append(broken, its)
		} else {
			others = append(others, its)
		}
	}
	if len(broken) != 1 || !strings.HasPrefix(broken[0].answer, "! broken: ") || !strings.HasSuffix(broken[0].answer, "(node-1:80)") {
		t.Errorf("broken: %v", broken)
	}
	if len(others) == 0 {
		t.Error("none was opened after it")
	}
	for _, its := range others {
		if its.answer != "node-2:80" {
			t.Error(its)
		}
	}
}

func TestTheLongestWaitOfAKeptConnectionIsSaid(t *testing.T) {
	address := answering(t, func(_ int, connection net.Conn) {
		defer connection.Close()
		_, _ = io.WriteString(connection, "node-1:80\n")
		bytes := make([]byte, 1)
		for number := 0; ; number++ {
			if _, err := connection.Read(bytes); err != nil {
				return
			}
			if number == 5 {
				time.Sleep(400 * time.Millisecond)
			}
			_, _ = connection.Write(bytes)
		}
	})
	file := filepath.Join(t.TempDir(), "outcomes")
	if err := Run(t.Context(), file, Spec{Until: soon(1.5), Streams: []Stream{stream("s", "long", address, 10)}}); err != nil {
		t.Fatal(err)
	}
	found := read(t, file)
	if len(found) == 0 || found[0].milliseconds < 400 || found[0].answer != "node-1:80" {
		t.Errorf("%v", found)
	}
}

func TestTheClientsAddressIsTheStreams(t *testing.T) {
	asker := make(chan string, 1)
	address := answering(t, func(_ int, connection net.Conn) {
		asker <- connection.RemoteAddr().(*net.TCPAddr).IP.String()
		named("node-1:80")(0, connection)
	})
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	go func() {
		if _, from, err := packets.ReadFrom(make([]byte, 1500)); err == nil {
			asker <- from.(*net.UDPAddr).IP.String()
		}
	}()
	for kind, asked := range map[string]string{"tcp": address, "long": address, "dns": packets.LocalAddr().String()} {
		t.Run(kind, func(t *testing.T) {
			from := stream("s", kind, asked, 1)
			from.From, from.Timeout = "127.0.0.2", 0.2
			file := filepath.Join(t.TempDir(), "outcomes")
			if err := Run(t.Context(), file, Spec{Until: soon(0.3), Streams: []Stream{from}}); err != nil {
				t.Fatal(err)
			}
			if said := <-asker; said != "127.0.0.2" {
				t.Errorf("%s asked", said)
			}
		})
	}
}

func TestASpecThatCannotBeAskedIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":      `{`,
		"unknown kind": `{"streams": [{"name": "s", "kind": "icmp", "rate": 1, "count": 1, "timeout": 1}]}`,
		"no name":      `{"streams": [{"kind": "tcp", "rate": 1, "count": 1, "timeout": 1}]}`,
		"spaces":       `{"streams": [{"name": "a b", "kind": "tcp", "rate": 1, "count": 1, "timeout": 1}]}`,
		"from nowhere": `{"streams": [{"name": "s", "kind": "tcp", "from": "here", "rate": 1, "count": 1, "timeout": 1}]}`,
		"no rate":      `{"streams": [{"name": "s", "kind": "tcp", "count": 1, "timeout": 1}]}`,
		"no count":     `{"streams": [{"name": "s", "kind": "tcp", "rate": 1, "timeout": 1}]}`,
		"no timeout":   `{"streams": [{"name": "s", "kind": "tcp", "rate": 1, "count": 1}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "spec.json")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if spec, err := Read(file, ""); err == nil {
				t.Errorf("%+v", spec)
			}
		})
	}
}

func TestTheSourceComesBeforeTheStreamsName(t *testing.T) {
	file := filepath.Join(t.TempDir(), "spec.json")
	text := `{"until": 5, "streams": [{"name": "web@node-2", "kind": "tcp", "address": "a:1", "rate": 1, "count": 1, "timeout": 1}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	spec, err := Read(file, "outside")
	if err != nil || spec.Streams[0].Name != "outside>web@node-2" || spec.Until != 5 {
		t.Errorf("%+v, %v", spec, err)
	}
}
