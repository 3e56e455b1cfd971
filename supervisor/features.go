//go:build linux

package supervisor

import (
	"fmt"

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
	policies,       // calls that a callback judges
	disk,           // what is written has a limit
	faults,         // calls that fail on purpose
	powerLoss,      // what isn't synced may be lost
	refused,        // calls that would get round the sandbox: ENOSYS or EPERM
	landlock,       // the command loses the right to change the host
	capabilities,   // root loses its power over the machine
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
	linkerTime,     // rdtsc in the dynamic linker
	runtimeNaps,    // which program's runtime waits for itself
	randomBytes,    // getrandom
	identity,       // uname, sysinfo
	processors,     // sched_getaffinity, getcpu
	openFiles,      // open
	statFiles,      // stat, access, readlink, statfs
	names,          // mkdir, link, rename, unlink
	attributes,     // chmod, chown, utime, truncate, extended attributes
	workDir,        // chdir, getcwd, umask
	ownAnswers,     // programs that ask about files know the answers themselves
	ownOpens,       // and open what is the host's
	dirOrder,       // getdents in the order of names
	fileWatches,    // inotify
	locks,          // flock, fcntl
	execFiles,      // execve
	terminals,      // /dev/pts, TIOCGPTN
	queues,         // mq_open
	systemV,        // shmget, semget, msgget
	unixSockets,    // bind and connect of sockets with a path
	peers,          // SO_PEERCRED
	controls,       // addresses and times in control messages and options
	network,        // socket, bind, connect, listen of the Internet
	netlinks,       // questions about interfaces
	interfaces,     // SIOCGIFCONF and its like
	addresses,      // what else binds or connects a socket
	messages,       // accept, sendto, sendmsg, recvfrom, recvmsg
	credentialsSet, // setuid
	others,         // processes outside
	turns,          // sched_getscheduler
	foreground,     // tcsetpgrp
	dumpable,       // PR_SET_DUMPABLE
	residency,      // mincore
	limits,         // processes, open files, memory
	resourceLimits, // getrlimit, setrlimit
	cpuShare,       // a share of a CPU
	handlers,       // the user's own
}

// A feature is one thing that a sandbox pins.
type feature struct {
	name  string
	calls []call // what it traps; none when it is switched off

	// checks are made when the table is complete.
	checks []func(*table) error
	// enter, if not nil, adds to what the command is made to call before there is a filter.
	enter func(*entering) error
	// join, if not nil, adds to what it is made to call next, before its first instruction.
	join func(*tracee.List)
	// load, if not nil, prepares a program that has just been loaded, before its
	// first instruction. It runs on the tracer.
	load func(*image) error
	// close, if not nil, releases what the feature holds, after the last process.
	close func() error
}

// A call is a feature's claim on one system call. Exactly one of errno, notify, stop
// and watch is set.
type call struct {
	name   string // as the kernel names it; ignored where the architecture has no such call
	nr     uint32 // instead of name, for a number that has none
	conds  []seccomp.Cond
	anyOf  [][]seccomp.Cond // instead of conds, where several sets will do
	errno  unix.Errno
	notify func(*Call) Answer
	stop   func(*Stop)

	// watch is asked about every such call before all other features, on whichever
	// channel those have it. On a stop, [Hold] is no answer.
	watch func(*event) Answer
	on    channel // where nobody else wants the call; the zero value is a notification
}

// A channel carries a call to the supervisor.
type channel int

const (
	byNotification channel = iota
	byStop
)

// A table is what the features of one sandbox make together.
type table struct {
	features []feature
	rules    []seccomp.Rule
	seen     bool // calls that are refused are to be seen, too

	claims []claims             // the first are those on a call that nobody wants
	at     [lastClose + 1]int16 // which of them are a call's, by its number
	far    map[uint32]int16     // of calls with larger ones
	room   []claim[func(*Call) Answer]
}

// lastClose is a number that the kernel's calls don't reach soon.
const lastClose = 511

// claims are those on one call.
type claims struct {
	notify []claim[func(*Call) Answer]
	stop   []claim[func(*Stop)]
	watch  []claim[func(*event) Answer]
	always seccomp.Action // of a rule without conditions, 0 if there is none
}

// of returns the claims on a call, which are only to be read.
func (t *table) of(nr int) *claims {
	if uint(nr) <= lastClose {
		return &t.claims[t.at[nr]]
	}
	return &t.claims[t.far[uint32(nr)]]
}

// place returns where the claims on a call are, that are to be made.
func (t *table) place(nr uint32) int16 {
	var at int16
	if nr <= lastClose {
		at = t.at[nr]
	} else {
		at = t.far[nr]
	}
	if at != 0 {
		return at
	}
	at = int16(len(t.claims))
	t.claims = append(t.claims, claims{})
	switch {
	case nr <= lastClose:
		t.at[nr] = at
	case t.far == nil:
		t.far = map[uint32]int16{nr: at}
	default:
		t.far[nr] = at
	}
	return at
}

// A claim is a handler of a call, and which of the calls it wants.
type claim[F any] struct {
	anyOf   [][]seccomp.Cond // all, if empty
	handle  F
	feature string
	refuses bool // the handler does nothing else
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

// kernel is who answers a call that no feature answers.
const kernel = "kernel"

// manyCalls is about how many calls the features want.
const manyCalls = 320

// A want is a feature's claim on a call that there is.
type want struct {
	*call
	feature string
	nr      uint32
	at      int16 // in the table's claims
}

func newTable(s *Sandbox) (*table, error) {
	t := &table{
		features: make([]feature, 0, len(s.hooks.features)+len(features)), rules: make([]seccomp.Rule, 0, manyCalls), seen: s.tracing != nil,
		claims: make([]claims, 1, manyCalls), room: make([]claim[func(*Call) Answer], manyCalls),
	}
	for _, build := range s.hooks.features {
		t.features = append(t.features, build(s))
	}
	for _, build := range features {
		t.features = append(t.features, build(s))
	}
	wants := t.wants()
	channels := t.channels(wants)
	for _, watching := range []bool{false, true} { // what watches takes the channel that there is
		for i := range wants {
			w := &wants[i]
			if (w.watch != nil) != watching {
				continue
			}
			if err := t.add(w, channels[w.at]); err != nil {
				return nil, fmt.Errorf("supervisor: feature %s: %w", w.feature, err)
			}
		}
	}
	for _, f := range t.features {
		for _, check := range f.checks {
			if err := check(t); err != nil {
				return nil, fmt.Errorf("supervisor: %w", err)
			}
		}
	}
	return t, nil
}

// wants returns what the features want, as far as the architecture has it.
func (t *table) wants() []want {
	list := make([]want, 0, manyCalls)
	for i := range t.features {
		f := &t.features[i]
		for j := range f.calls {
			if nr, ok := f.calls[j].number(); ok {
				list = append(list, want{&f.calls[j], f.name, nr, t.place(nr)})
			}
		}
	}
	return list
}

// A carriage is how a call comes.
type carriage struct {
	watched, wanted     bool
	watchedOn, wantedOn channel
}

// on returns on which channel a call comes that somebody watches, or that is to be seen although
// it is refused: that on which it is wanted anyhow.
func (c *carriage) on() channel {
	if c.wanted {
		return c.wantedOn
	}
	return c.watchedOn
}

// channels returns how each call comes, by where its claims are.
func (t *table) channels(wants []want) []carriage {
	list := make([]carriage, len(t.claims))
	for _, w := range wants {
		switch c := &list[w.at]; {
		case w.notify != nil:
			c.wanted, c.wantedOn = true, byNotification
		case w.stop != nil:
			if !c.wanted {
				c.wanted, c.wantedOn = true, byStop
			}
		case w.watch != nil:
			c.watched, c.watchedOn = true, max(c.watchedOn, w.on)
		case t.seen:
			c.watched = true
		}
	}
	return list
}

// number returns the call's number, and false where the architecture has no such call.
func (c *call) number() (uint32, bool) {
	if c.name == "" {
		return c.nr, true
	}
	return seccomp.Number(c.name)
}

func (t *table) add(w *want, comes carriage) error {
	c, is := *w.call, &t.claims[w.at]
	refuses := c.errno != 0
	if errno := c.errno; errno != 0 && comes.watched {
		if comes.on() == byStop {
			c.stop = func(st *Stop) { st.skip(errno) }
		} else {
			c.notify = func(*Call) Answer { return Errno(errno) }
		}
	}
	rule, anyOf := seccomp.Rule{Nr: w.nr, Conds: c.conds}, c.anyOf
	if len(c.conds) > 0 {
		anyOf = [][]seccomp.Cond{c.conds}
	}
	switch {
	case c.notify != nil:
		rule.Action = seccomp.Notify
		t.notifies(is, claim[func(*Call) Answer]{anyOf, c.notify, w.feature, refuses})
	case c.stop != nil:
		rule.Action = seccomp.Trace
		is.stop = append(is.stop, claim[func(*Stop)]{anyOf, c.stop, w.feature, refuses})
	case c.watch != nil:
		is.watch = append(is.watch, claim[func(*event) Answer]{anyOf, c.watch, w.feature, false})
		if is.always != 0 {
			return nil
		}
		if rule.Action = seccomp.Trace; comes.on() == byNotification {
			rule.Action = seccomp.Notify
			t.notifies(is, claim[func(*Call) Answer]{nil, func(*Call) Answer { return Continue() }, kernel, false})
		}
	case c.errno != 0:
		rule.Action = seccomp.Errno(uint16(c.errno))
	default:
		return fmt.Errorf("call %s has no answer", seccomp.Name(w.nr))
	}
	if is.always != 0 && is.always != rule.Action {
		if is.always != seccomp.Notify && is.always != seccomp.Trace {
			return nil // it is refused, and never comes
		}
		return fmt.Errorf("call %s is wanted on two channels, as a notification and as a stop", seccomp.Name(w.nr))
	}
	if len(c.anyOf) == 0 {
		if len(c.conds) == 0 {
			is.always = rule.Action
		}
		t.rules = append(t.rules, rule)
	}
	for _, conds := range c.anyOf {
		rule.Conds = conds
		t.rules = append(t.rules, rule)
	}
	return nil
}

// notifies adds a handler of notifications. Most calls have one.
func (t *table) notifies(is *claims, c claim[func(*Call) Answer]) {
	if is.notify == nil && len(t.room) > 0 {
		is.notify, t.room = t.room[:0:1], t.room[1:]
	}
	is.notify = append(is.notify, c)
}

// refuses reports whether a call fails whatever it is about.
func (t *table) refuses(nr int, args *[6]uint64) bool {
	is := t.of(nr)
	for i := range is.notify {
		if c := &is.notify[i]; c.refuses && c.wants(args) {
			return true
		}
	}
	for i := range is.stop {
		if c := &is.stop[i]; c.refuses && c.wants(args) {
			return true
		}
	}
	return false
}

// An entering is the command at its start, not yet under the filter.
type entering struct {
	th    *thread
	calls *tracee.List
	data  *scratch // what they are given
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
