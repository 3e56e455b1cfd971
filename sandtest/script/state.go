package script

import (
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/sandtest/go-sandtest/sandtest"
)

// commands keeps the state of each script that runs.
type commands struct {
	opts   sandtest.Options
	update map[string]string // the files of scripts by name, if they are to be updated

	mu      sync.Mutex
	scripts map[*testscript.TestScript]*script
}

func newCommands(opts sandtest.Options) *commands {
	return &commands{opts: opts, scripts: map[*testscript.TestScript]*script{}}
}

func (c *commands) table() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	return map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"sandbox": c.sandbox,
		"changes": c.changes,
	}
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
			defer ts.Check(s.rewrite(c.update[ts.Name()]))
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
