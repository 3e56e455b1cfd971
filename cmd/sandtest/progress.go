package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/sandtest/go-sandtest/internal/runflags"
)

// A progress tells what is going on while something takes long: a line for each step with
// the time elapsed, or on a terminal one line that is kept up to date and goes away.
type progress struct {
	w     io.Writer
	live  bool
	began time.Time

	mu    sync.Mutex
	step  string
	ended chan struct{}
}

func startProgress(f *os.File) *progress {
	p := &progress{w: f, live: runflags.IsTerminal(f), began: time.Now(), ended: make(chan struct{})}
	if p.live {
		go p.tick()
	}
	return p
}

// say tells of the next step.
func (p *progress) say(step string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step = step
	p.show()
}

const (
	clearLine = "\r\x1b[K"
	columns   = 79 // hardly a terminal is narrower; a line that is broken can't be taken away
)

func (p *progress) show() {
	line := fmt.Sprintf("%6.1fs  %s", time.Since(p.began).Seconds(), p.step)
	if p.live {
		fmt.Fprint(p.w, clearLine, line[:min(len(line), columns)])
	} else {
		fmt.Fprintln(p.w, line)
	}
}

func (p *progress) tick() {
	every := time.NewTicker(time.Second / 5)
	defer every.Stop()
	for {
		select {
		case <-p.ended:
			return
		case <-every.C:
		}
		p.mu.Lock()
		if p.step != "" {
			p.show()
		}
		p.mu.Unlock()
	}
}

// end takes the line away.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.ended)
	if p.step = ""; p.live {
		fmt.Fprint(p.w, clearLine)
	}
}
