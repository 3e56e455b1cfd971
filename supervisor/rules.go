package supervisor

import (
	"fmt"
	"net/netip"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/sandtest/go-sandtest/det"
)

// Rules are what [Config.OnSyscall] may change while a sandbox runs. They take away, and
// give back what they have taken; what the sandbox's walls don't allow they can't give.
// They may be used by several goroutines, also after the callback has returned.
type Rules struct {
	// memory and processes are the limits in force, 0 for none.
	memory, processes atomic.Int64

	mu         sync.Mutex
	paths      map[string]bool // whether what is there may be seen
	restricted bool
	granted    destinations
	processIDs map[int]bool // that have no network
	any        atomic.Bool  // there is a rule about paths
}

// DenyPath hides a file or directory, and what is in it: calls that name it fail with
// EACCES. The path is as the command sees it, without links.
func (r *Rules) DenyPath(p string) { r.setPath(p, false) }

// AllowPath takes back what DenyPath has done, or makes an exception of it: of several
// paths that lead to a file, the longest counts.
func (r *Rules) AllowPath(p string) { r.setPath(p, true) }

func (r *Rules) setPath(p string, allowed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.paths == nil {
		r.paths = map[string]bool{}
	}
	r.paths[path.Clean("/"+p)] = allowed
	r.any.Store(true)
}

// path judges a path.
func (r *Rules) path(p string) error {
	if !r.any.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for ; ; p = path.Dir(p) {
		if allowed, ok := r.paths[p]; ok {
			if allowed {
				return nil
			}
			return syscall.EACCES
		}
		if p == "/" || p == "." {
			return nil
		}
	}
}

// RestrictNetwork lets no process connect, bind or send to an address any more, but for
// those that are granted: ENETUNREACH, and EACCES for bind. Connections that there are
// go on.
func (r *Rules) RestrictNetwork() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.restricted = true
}

// GrantNetwork makes an exception of RestrictNetwork, for HOST or HOST:PORT as in
// [Config.AllowNet]; * is everything. It opens nothing that isn't open otherwise.
func (r *Rules) GrantNetwork(to string) error {
	if to == "*" {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.restricted = false
		return nil
	}
	d, err := parseDestinations([]string{to})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.granted.list = append(r.granted.list, d.list...)
	return nil
}

// RestrictPidNetwork takes the network from a process, by Event.PID, and from those that
// it creates from then on, whatever is granted to others.
func (r *Rules) RestrictPidNetwork(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.processIDs == nil {
		r.processIDs = map[int]bool{}
	}
	r.processIDs[pid] = true
}

// network judges an address that one of these processes, which are each other's
// parents, is about to use.
func (r *Rules) network(pids []int, a netip.AddrPort, bind bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	denied := r.restricted && !r.granted.allow(a)
	for _, pid := range pids {
		denied = denied || r.processIDs[pid]
	}
	switch {
	case !denied:
		return nil
	case bind:
		return syscall.EACCES
	}
	return syscall.ENETUNREACH
}

// LimitMemory sets how much memory all processes may have together, as Limits.Memory
// does; 0 takes the limit away, unless there was one at the start: that can only be
// lowered.
func (r *Rules) LimitMemory(bytes int64) { r.memory.Store(max(bytes, 0)) }

// LimitProcesses sets how many processes and threads there may be, as Limits.Processes
// does, and with the same exception.
func (r *Rules) LimitProcesses(n int) { r.processes.Store(int64(max(n, 0))) }

// lower returns the limit in force of one that was set at the start and one that may
// have been set since, where 0 is none.
func lower(start, now int64) int64 {
	if start == 0 || now > 0 && now < start {
		return now
	}
	return start
}

// An AuditEntry is a call that [Config.OnSyscall] has had listed.
type AuditEntry struct {
	Process det.Lineage
	Thread  int
	Event   Event
}

// String returns the entry as a line.
func (a AuditEntry) String() string {
	e := &a.Event
	s := fmt.Sprintf("%s %s", a.Process, e.Name)
	for _, part := range []string{e.Path, e.To, strings.Join(e.Argv, " ")} {
		if part != "" {
			s += " " + part
		}
	}
	if e.Host != "" {
		s += fmt.Sprintf(" %s:%d", e.Host, e.Port)
	}
	return s
}
