//go:build linux

package supervisor

import (
	"encoding/binary"
	"fmt"
	"os"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// Some files the program has to open itself: one that it is to wait for (a FIFO),
// one that is different for each who opens it (/dev/tty), and descriptors that are
// only a path's (O_PATH), which can't be handed over. The call is notified, and a
// notification can't change registers. So it is answered with the error upon which
// the kernel starts a call anew, and the thread is poked: at the stop the tracer
// gives it the path of the host's file instead, in memory that no program can write, and
// when the call is notified once more, it may go on.

// An again is a path or an address with which a thread is to make its call once more, or
// the connection that it is to wait for instead (connecting.go).
type again struct {
	argument int // its number
	bytes    []byte
	sized    bool // the argument after it is its size
	opens    bool // the call is to be openat2, with the flags
	flags    int
	at       uint64   // where it lies, once it does
	begun    bool     // the thread has entered the kernel with it; the tracer's
	pin      *os.File // what is to stay open until it is made
	connects *connecting
	lends    []int32 // what the thread is to lend before, and nothing else is new
}

// again lets the caller make its call anew, with a path of the host's.
func (c *Call) again(argument int, host string) Answer {
	return c.makeAnew(&again{argument: argument, bytes: append([]byte(host), 0)})
}

// againOpen lets the caller open a file of the tree. A symbolic link that has come to be
// in its path since isn't followed. flags are what the program has asked for.
func (c *Call) againOpen(sp *cow.Special, flags int) Answer {
	own := sp.Flags&^unix.O_CLOEXEC | flags&unix.O_CLOEXEC
	return c.makeAnew(&again{argument: 1, bytes: append([]byte(sp.Host), 0), opens: true, flags: own})
}

// againTo lets the caller make its call anew, with a socket's address.
func (c *Call) againTo(argument int, addr []byte) Answer {
	return c.makeAnew(&again{argument: argument, bytes: addr, sized: true})
}

func (c *Call) makeAnew(a *again) Answer {
	c.thread.again.Store(a)
	c.thread.poke()
	return Errno(erestartnointr)
}

// madeAnew reports whether this is the call that again has asked for.
func (c *Call) madeAnew(argument int) bool {
	a := c.thread.again.Load()
	if a == nil {
		return false
	}
	c.thread.again.Store(nil)
	return a.at != 0 && a.argument == argument && a.at == c.Arg(argument)
}

// isMadeAnew reports whether the call that the thread is in is one that again has asked
// for: it was judged when it came first.
func (th *thread) isMadeAnew() bool {
	a := th.again.Load()
	return a != nil && a.at != 0
}

// interruptAgain lets a signal that was held back interrupt a call that is to be
// made anew, as it would natively while the call waits.
func (th *thread) interruptAgain() {
	a := th.again.Load()
	if a == nil || a.at != 0 {
		return
	}
	th.dropAgain(a)
	if regs, err := tracee.GetRegs(th.tid); err == nil && regs.Result() == -erestartnointr {
		regs.SetResult(-erestartsys)
		if a.connects != nil && a.connects.ends {
			regs.SetResult(-int64(unix.EINTR))
		}
		_ = regs.Store(th.tid) // it fails only when the thread was killed
	}
}

// dropAgain forgets a call that isn't to be made anew after all.
func (th *thread) dropAgain(a *again) {
	th.again.Store(nil)
	th.proc.lends(th.tid, nil)
	a.unpin()
}

// unpin lets go of what was kept open. A thread that is killed meanwhile leaves that to the
// garbage collector.
func (a *again) unpin() {
	if a.pin != nil {
		a.pin.Close()
	}
}

// isToGoAgain reports whether a thread stands between the end of a call that is to be
// made anew and the new one.
func (th *thread) isToGoAgain(regs *tracee.Regs) bool {
	a := th.again.Load()
	switch {
	case a == nil:
		return false
	case a.at != 0: // the kernel may have set the registers back already
		return !a.begun
	}
	return regs.Result() == -erestartnointr && regs.Nr() >= 0
}

// giveAgain gives a thread that was poked the path, if it stands at the end of the
// call. Should a signal have led it elsewhere, the call starts from the beginning.
func (t *tracer) giveAgain(th *thread, regs *tracee.Regs) {
	a := th.again.Load()
	if a == nil || a.at != 0 {
		return
	}
	if !th.isToGoAgain(regs) {
		th.dropAgain(a)
		return
	}
	if a.connects != nil {
		t.letConnect(th, regs, a)
		return
	}
	if a.lends != nil {
		th.again.Store(nil)
		t.lend(th, regs, a.lends)
		return
	}
	at, mem, err := t.take(th, pathPlace)
	if err == nil && len(a.bytes) > len(mem) {
		err = unix.ENAMETOOLONG
	}
	if err != nil {
		th.dropAgain(a)
		t.s.fail(fmt.Errorf("supervisor: give process %s what its call is to be made with: %w", th.proc.Lineage, err))
		return
	}
	copy(mem, a.bytes)
	given := *regs
	regs.SetArg(a.argument, at)
	switch {
	case a.sized:
		regs.SetArg(a.argument+1, uint64(len(a.bytes)))
	case a.opens:
		const sizeOfHow = 24
		cwd := int64(unix.AT_FDCWD)
		how := mem[unix.PathMax:][:sizeOfHow]
		clear(how)
		binary.NativeEndian.PutUint64(how, uint64(cow.HostFlags(a.flags)))
		binary.NativeEndian.PutUint64(how[16:], unix.RESOLVE_NO_SYMLINKS)
		regs.SetNr(unix.SYS_OPENAT2)
		regs.SetArg(0, uint64(cwd))
		regs.SetArg(2, at+unix.PathMax)
		regs.SetArg(3, sizeOfHow)
	}
	if regs.Store(th.tid) != nil {
		return // killed
	}
	made := *a
	made.at = at
	th.again.Store(&made)
	var ended func(*Stop)
	ended = func(st *Stop) {
		if st.Result() == -int64(unix.ENOSYS) { // its entry
			made.begun = true
			st.OnExit(ended)
			return
		}
		st.t.giveBack(st.th, pathPlace)
		a.unpin()
		if st.th.isMadeAnew() { // a signal came before anybody received it
			st.th.again.Store(nil)
		}
		if a.opens && st.regs.Nr() >= 0 {
			st.regs.SetNr(given.Nr())
		}
		for i := range 6 {
			st.regs.SetArg(i, given.Arg(i))
		}
		_ = st.regs.Store(st.th.tid) // it fails only when the thread was killed
	}
	th.onExit = ended
}
