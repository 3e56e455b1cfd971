package script

import (
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/sandtest/go-sandtest/sandtest"
)

// commands keeps the state of each script that runs.
type commands struct {
	opts sandtest.Options

	mu      sync.Mutex
	scripts map[*testscript.TestScript]*script
}

// of returns the state of a script, which ends with it.
func (c *commands) of(ts *testscript.TestScript) *script {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.scripts[ts]
	if s == nil {
		s = new(script)
		c.scripts[ts] = s
		ts.Defer(func() {
			s.end()
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.scripts, ts)
		})
	}
	return s
}

// end kills what runs in the background and throws away what was written.
func (s *script) end() {
	for _, j := range s.background {
		j.process.Kill()
		if res, err := j.process.Result(); err == nil {
			_ = res.Close()
		}
	}
	if s.last != nil {
		_ = s.last.Close()
	}
}
