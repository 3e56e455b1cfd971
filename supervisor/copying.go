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
}

// watch puts itself between for the time of cmd.Start; restore puts back what
// the caller has set.
func (c *copying) watch(cmd *exec.Cmd) (restore func()) {
	stdin, stdout, stderr := cmd.Stdin, cmd.Stdout, cmd.Stderr
	if _, file := stdin.(*os.File); !file && stdin != nil {
		cmd.Stdin = watchedReader{c, stdin}
	}
	cmd.Stdout, cmd.Stderr = c.writer(stdout), c.writer(stderr)
	return func() { cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr }
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
