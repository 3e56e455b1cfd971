//go:build linux

package supervisor

import (
	"io"
	"os"
	"os/exec"
	"sync"
)

// A copying notes what goes wrong between the command's standard streams and the
// readers and writers of an exec.Cmd. os/exec reports it only where it could wait
// for the process itself, and the tracer has done that.
type copying struct {
	mu    sync.Mutex
	first error

	restore func() // puts back what the caller has set
}

// watch puts itself between before cmd.Start. The goroutine that copies standard
// input looks at cmd.Stdin once more, so restore may be called when that has ended
// or never began.
func (c *copying) watch(cmd *exec.Cmd) {
	stdin, stdout, stderr := cmd.Stdin, cmd.Stdout, cmd.Stderr
	if _, file := stdin.(*os.File); !file && stdin != nil {
		cmd.Stdin = watchedReader{c, stdin}
	}
	cmd.Stdout, cmd.Stderr = c.writer(stdout), c.writer(stderr)
	c.restore = func() { cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr }
}

// writer leaves files alone, and keeps equal writers equal: os/exec gives those
// one pipe.
func (c *copying) writer(w io.Writer) io.Writer {
	if _, file := w.(*os.File); file || w == nil {
		return w
	}
	return watchedWriter{c, w}
}

func (c *copying) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == nil {
		c.first = err
	}
}

func (c *copying) error() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first
}

type watchedWriter struct {
	c *copying
	w io.Writer
}

func (w watchedWriter) Write(b []byte) (int, error) {
	n, err := w.w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		w.c.note(err)
	}
	return n, err
}

type watchedReader struct {
	c *copying
	r io.Reader
}

func (r watchedReader) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	if err != nil && err != io.EOF {
		r.c.note(err)
	}
	return n, err
}
