package sandtest

import (
	"io"
	"sync/atomic"
)

// An outputLimit ends a command that writes too much.
type outputLimit struct {
	limited  bool
	left     atomic.Int64
	exceeded atomic.Bool
	exceed   func() // ends the command
}

// writer returns a writer that passes on to w what is within the limit.
func (o *outputLimit) writer(w io.Writer) io.Writer { return &limitedWriter{o, w} }

type limitedWriter struct {
	o *outputLimit
	w io.Writer
}

func (l *limitedWriter) Write(b []byte) (int, error) {
	if !l.o.limited {
		return l.w.Write(b)
	}
	after := l.o.left.Add(-int64(len(b)))
	if after >= 0 {
		return l.w.Write(b)
	}
	if fits := max(after+int64(len(b)), 0); fits > 0 {
		if n, err := l.w.Write(b[:fits]); err != nil {
			return n, err
		}
	}
	if l.o.exceeded.CompareAndSwap(false, true) {
		l.o.exceed()
	}
	return len(b), nil // the rest of what it still writes is nobody's
}
