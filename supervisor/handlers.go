//go:build linux

package supervisor

import (
	"fmt"

	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
)

// Handle makes a [Handler] of Config.Handlers for a system call, by its name as strace
// shows it. answer is asked about each such call for which the sandbox itself has no
// answer, after all that guards its walls, and may be called by several goroutines at a
// time. It returns what becomes of the call: [Errno], [Return], [InjectFD], or [Continue]
// to let the kernel make it. What it reads of the program's memory may be another thing
// when the kernel reads it after Continue.
func Handle(call string, answer func(*Call) Answer) Handler { return Handler{call, answer} }

// A Handler answers a system call, see [Handle].
type Handler struct {
	call   string
	answer func(*Call) Answer
}

// handlers lets the user of the package answer calls. It is the last feature: what others
// answer never comes to it, and it can't let through what they refuse.
func handlers(s *Sandbox) feature {
	f := feature{name: "handler"}
	for _, h := range s.cfg.Handlers {
		f.calls = append(f.calls, call{name: h.call, notify: func(c *Call) Answer {
			s.placement.allowTSC()
			defer s.placement.forbidTSC()
			c.user = true
			defer func() { c.user = false }()
			return h.answer(c)
		}})
	}
	return f
}

// checkHandlers explains handlers that can't be had.
func checkHandlers(list []Handler) error {
	for i, h := range list {
		if _, ok := seccomp.Number(h.call); !ok || h.answer == nil {
			return fmt.Errorf("supervisor: handler %d: there is no system call %q, or no function to answer it", i+1, h.call)
		}
	}
	return nil
}
