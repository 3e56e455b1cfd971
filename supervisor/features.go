//go:build linux

package supervisor

import (
	"fmt"
	"slices"

	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// features is everything a sandbox does, in the order in which features are
// asked about a call that several of them want: the first answer other than goOn
// stands, and a call for which nobody answers runs as it is.
//
// A new feature is one file and one line here.
var features = []func(*Sandbox) feature{
	refused,        // calls that would get round the sandbox: ENOSYS or EPERM
	landlock,       // the command loses the right to change the host
	imageLoader,    // every program start: clock region, vDSO, AT_RANDOM
	clockCalls,     // raw clock system calls
	clockSetting,   // clock_settime, adjtimex
	cpuTime,        // getrusage, times
	timedWaits,     // sleeps, timeouts and deadlines follow the virtual clock
	socketTimeouts, // SO_RCVTIMEO, SO_SNDTIMEO
	deadlines,      // instants of the running clock become the host's
	intervalTimers, // setitimer, alarm
	posixTimers,    // timer_create
	timerFDs,       // timerfd_create
	timeStamps,     // rdtsc
	runtimeNaps,    // which program's runtime waits for itself
	randomBytes,    // getrandom
	identity,       // uname, sysinfo
	processors,     // sched_getaffinity, getcpu
	openFiles,      // open
	statFiles,      // stat, access, readlink, statfs
	names,          // mkdir, link, rename, unlink
	attributes,     // chmod, chown, utime, truncate, extended attributes
	workDir,        // chdir, getcwd, umask
	dirOrder,       // getdents in the order of names
	execFiles,      // execve
	queues,         // mq_open
	unixSockets,    // bind and connect of sockets with a path
	network,        // socket, bind, connect, listen of the Internet
	netlinks,       // questions about interfaces
	interfaces,     // SIOCGIFCONF and its like
	messages,       // accept, sendto, sendmsg, recvfrom, recvmsg
	credentialsSet, // setuid
	limits,         // processes, open files, memory
}

// A feature is one thing that a sandbox pins.
type feature struct {
	name  string
	calls []call // what it traps; none when it is switched off

	// load, if not nil, prepares a program that has just been loaded, before its
	// first instruction. It runs on the tracer.
	load func(*image) error
	// close, if not nil, releases what the feature holds, after the last process.
	close func() error
}

// A call is a feature's claim on one system call. Exactly one of errno, notify
// and stop is set.
type call struct {
	name   string // as the kernel names it; ignored where the architecture has no such call
	nr     uint32 // instead of name, for a number that has none
	conds  []seccomp.Cond
	anyOf  [][]seccomp.Cond // instead of conds, where several sets will do
	errno  unix.Errno
	notify func(*Call) Answer
	stop   func(*Stop)
}

// A table is what the features of one sandbox make together.
type table struct {
	features []feature
	rules    []seccomp.Rule
	notify   map[int][]claim[func(*Call) Answer]
	stop     map[int][]claim[func(*Stop)]
	always   map[uint32]seccomp.Action // of the rules without conditions
}

// A claim is a handler of a call, and which of the calls it wants.
type claim[F any] struct {
	anyOf  [][]seccomp.Cond // all, if empty
	handle F
}

// wants reports whether a call with these arguments is one of those.
func (c *claim[F]) wants(args *[6]uint64) bool {
	for _, conds := range c.anyOf {
		if fulfilled(conds, args) {
			return true
		}
	}
	return len(c.anyOf) == 0
}

func fulfilled(conds []seccomp.Cond, args *[6]uint64) bool {
	for i := range conds {
		if !conds[i].Holds(args) {
			return false
		}
	}
	return true
}

// manyCalls is about how many calls the features want.
const manyCalls = 256

func newTable(s *Sandbox) (*table, error) {
	t := &table{
		rules: make([]seccomp.Rule, 0, manyCalls), notify: make(map[int][]claim[func(*Call) Answer], manyCalls),
		stop: map[int][]claim[func(*Stop)]{}, always: make(map[uint32]seccomp.Action, manyCalls),
	}
	for _, build := range slices.Concat(s.hooks.features, features) {
		f := build(s)
		t.features = append(t.features, f)
		for _, c := range f.calls {
			if err := t.add(c); err != nil {
				return nil, fmt.Errorf("supervisor: feature %s: %w", f.name, err)
			}
		}
	}
	return t, nil
}

func (t *table) add(c call) error {
	nr := c.nr
	if c.name != "" {
		var ok bool
		if nr, ok = seccomp.Number(c.name); !ok {
			return nil
		}
	}
	rule, anyOf := seccomp.Rule{Nr: nr, Conds: c.conds}, c.anyOf
	if len(c.conds) > 0 {
		anyOf = [][]seccomp.Cond{c.conds}
	}
	switch {
	case c.notify != nil:
		rule.Action = seccomp.Notify
		t.notify[int(nr)] = append(t.notify[int(nr)], claim[func(*Call) Answer]{anyOf, c.notify})
	case c.stop != nil:
		rule.Action = seccomp.Trace
		t.stop[int(nr)] = append(t.stop[int(nr)], claim[func(*Stop)]{anyOf, c.stop})
	case c.errno != 0:
		rule.Action = seccomp.Errno(uint16(c.errno))
	default:
		return fmt.Errorf("call %s has no answer", seccomp.Name(nr))
	}
	if action, ok := t.always[nr]; ok && action != rule.Action {
		return fmt.Errorf("call %s is wanted on two channels", seccomp.Name(nr))
	}
	if len(c.anyOf) == 0 {
		if len(c.conds) == 0 {
			t.always[nr] = rule.Action
		}
		t.rules = append(t.rules, rule)
	}
	for _, conds := range c.anyOf {
		rule.Conds = conds
		t.rules = append(t.rules, rule)
	}
	return nil
}

// An image is a program that has just been loaded, standing before its first
// instruction.
type image struct {
	t    *tracer
	th   *thread
	sys  *tracee.Remote // makes the program execute system calls
	auxv tracee.Auxv
	vdso vdsoInfo

	listener int64 // the listener's number in the program, to be closed; or -1
}
