// Package probe is the clients' end: it asks at a fixed rate, whatever becomes of what was asked before, and writes
// each outcome down.
package probe

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// Spec is what is asked.
type Spec struct {
	// Until is the instant (seconds since 1970) at which all of it ends.
	Until   float64  `json:"until"`
	Streams []Stream `json:"streams"`
}

// Stream is one question, asked again and again.
type Stream struct {
	Name string `json:"name"`
	// Kind is tcp (a new connection that reads the server's name), dns (one datagram, never sent again), http (a
	// status of 200 is wanted) or long (one connection that is kept, and its bytes awaited).
	Kind string `json:"kind"`
	// Address is HOST:PORT, for http with the path behind it.
	Address string `json:"address"`
	// From is the client's own address, where it matters.
	From string `json:"from,omitempty"`
	// Rate is how many a second: questions, for long bytes.
	Rate float64 `json:"rate"`
	// Count is how many questions are asked at most; for long, how many connections are opened.
	Count int `json:"count"`
	// Timeout is the longest wait for an answer in seconds, for the connection and what is read from it together.
	Timeout float64 `json:"timeout"`
}

// Read reads a spec; the source comes before each stream's name.
func Read(file, source string) (Spec, error) {
	var spec Spec
	content, err := os.ReadFile(file)
	if err != nil {
		return spec, err
	}
	if err := json.Unmarshal(content, &spec); err != nil {
		return spec, fmt.Errorf("%s: %w", file, err)
	}
	for i := range spec.Streams {
		stream := &spec.Streams[i]
		if source != "" {
			stream.Name = source + ">" + stream.Name
		}
		if _, known := kinds[stream.Kind]; !known && stream.Kind != long {
			return spec, fmt.Errorf("%s: stream %s: no kind is called %q", file, stream.Name, stream.Kind)
		}
		if stream.From != "" && net.ParseIP(stream.From) == nil {
			return spec, fmt.Errorf("%s: stream %s: %q isn't an address", file, stream.Name, stream.From)
		}
		if stream.Name == "" || strings.ContainsAny(stream.Name, " \n") {
			return spec, fmt.Errorf("%s: a stream can't be called %q", file, stream.Name)
		}
		if stream.Rate <= 0 || stream.Count <= 0 || stream.Timeout <= 0 {
			return spec, fmt.Errorf("%s: stream %s: rate, count and timeout must be above 0", file, stream.Name)
		}
	}
	return spec, nil
}

func (s Stream) timeout() time.Duration { return time.Duration(s.Timeout * float64(time.Second)) }

func (s Stream) interval() time.Duration { return time.Duration(float64(time.Second) / s.Rate) }
