package probe

import (
	"bufio"
	"errors"
	"os"
	"strconv"
	"sync"
	"time"
)

// flushes is the longest that an outcome is held back.
const flushes = 200 * time.Millisecond

// record is the file of outcomes, a line each:
//
//	INSTANT STREAM KIND MILLISECONDS ANSWER
//	INSTANT STREAM KIND MILLISECONDS ! ERROR
//
// The instant is that of the question, in seconds since 1970.
type record struct {
	mutex sync.Mutex
	file  *os.File
	lines *bufio.Writer
	stop  chan struct{}
	ended chan struct{}
	err   error
}

func newRecord(path string) (*record, error) {
	file := os.Stdout
	if path != "-" {
		var err error
		if file, err = os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
			return nil, err
		}
	}
	made := &record{file: file, lines: bufio.NewWriterSize(file, 1<<16), stop: make(chan struct{}), ended: make(chan struct{})}
	go made.flush()
	return made, nil
}

func (r *record) write(stream Stream, began time.Time, took time.Duration, answer string, err error) {
	if err != nil {
		answer = "! " + err.Error()
	}
	line := make([]byte, 0, 128)
	line = strconv.AppendFloat(line, float64(began.UnixMilli())/1000, 'f', 3, 64)
	line = append(append(line, ' '), stream.Name...)
	line = append(append(line, ' '), stream.Kind...)
	line = strconv.AppendInt(append(line, ' '), took.Milliseconds(), 10)
	line = append(append(append(line, ' '), answer...), '\n')
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if _, err := r.lines.Write(line); err != nil {
		r.err = err
	}
}

func (r *record) flush() {
	defer close(r.ended)
	ticker := time.NewTicker(flushes)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-r.stop:
			return
		}
		r.mutex.Lock()
		if err := r.lines.Flush(); err != nil {
			r.err = err
		}
		r.mutex.Unlock()
	}
}

func (r *record) close() error {
	close(r.stop)
	<-r.ended
	return errors.Join(r.err, r.lines.Flush(), r.file.Close())
}
