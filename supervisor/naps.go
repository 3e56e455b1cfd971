//go:build linux

package supervisor

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"time"

	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"github.com/sandtest/go-sandtest/vdso"
)

// Go's runtime waits for itself all the time: a thread that looks for work backs
// off for 3 us, the monitor naps for 20 us to 10 ms until every processor is idle.
// None of it must move the clock, or time.Since would differ from run to run. Go
// programs themselves sleep by futex and epoll, so in a Go program a nanosleep is
// the runtime's nap. A nap is a yield: when everything else waits, it ends and the
// clock stays. It also ends by itself after a millisecond of real time, or as many as
// it asks for, up to 10, so that the runtime gets on beside a program that computes.
//
// The monitor takes a processor back from a thread that is stuck in a system call
// only when the clock has moved; then naps alone would follow each other for
// ever. So a thread may yield for 100 ms in all at one instant. After that its
// naps are waits like any other, until something else has moved the clock.
//
// A thread that stops all others waits on a futex until they have stopped, and asks once
// more after 100 us, because one may not have been able to stop just then. That is a
// nap, too, and so is what is left of it when something has moved the clock meanwhile: a
// thread that isn't asked again computes on, and the clock stands still. But it asks only
// when the clock says so. If it has napped so often that others must have had their time,
// it waits busily, as far as the clock is concerned (busy.go), and has it move.
//
// A program is known as one of Go by the note with its build ID.
//
// While every processor is idle, the monitor sleeps for up to a minute, for ever,
// on a futex. That alone must not move the clock either, or a program that waits
// for input would find that years have gone by. So the monitor, known by its first
// nap of 20 us, wakes up when something else has moved the clock that far.
//
// What remains: the monitor preempts a goroutine that has run for 10 ms, and while
// the sandbox's clock stands still nobody has. A goroutine that spins until
// another one has run, on one CPU, spins for ever.

// monitorNap is how the monitor's naps begin, and nobody else's (sysmon,
// runtime/proc.go).
const monitorNap = 20 * time.Microsecond

// runtimeRetry is how long the runtime waits before it asks a thread once more to stop
// (stopTheWorldWithSema and forEachP, runtime/proc.go).
const runtimeRetry = 100 * time.Microsecond

// shortestNap is the least that a yield takes from the account: what is left of a wait may
// be a nanosecond.
const shortestNap = 3 * time.Microsecond

// longestNap is what the monitor's naps grow to.
const longestNap = 10 * time.Millisecond

// endsByItself makes a nap end when enough real time has passed.
func (w *wait) endsByItself(st *Stop, want time.Duration) {
	region := st.th.proc.region.Load()
	if region != 0 && (want <= time.Millisecond || want > longestNap) {
		st.regs.SetArg(w.arg, region+vdso.NapOffset)
	}
}

// retryPatience is how many such waits may end by themselves one after another, each after
// a millisecond of real time. A machine would have to be very busy to keep a thread from
// stopping for as long.
const retryPatience = 500

// retries reports whether a wait is one for others to stop, or what is left of it. The
// monitor sleeps on a futex until the next timer, which may be as soon.
func (th *thread) retries(want *timeout) bool {
	return !want.instant && (want.span == runtimeRetry || want.span < runtimeRetry && !th.monitor)
}

// retried notes that a wait for others to stop has ended, by itself or not.
func (th *thread) retried(a *agenda, byItself bool) {
	if !byItself {
		th.retryCount = 0
		return
	}
	if th.retryCount++; th.retryCount == retryPatience {
		th.retryCount = 0
		a.tick(th)
	}
}

// napAllowance is how long a thread may yield at one instant.
const napAllowance = 100 * time.Millisecond

// naps is a thread's account of yields. It belongs to the agenda.
type naps struct {
	since uint64 // agenda.moves when the account was opened
	spent time.Duration
}

func (n *naps) mayYield(a *agenda, length time.Duration) bool {
	return n.since != a.moves || n.spent+max(length, shortestNap) <= napAllowance
}

// yields spends length of the account, if there is enough left.
func (n *naps) yields(a *agenda, length time.Duration) bool {
	if !n.mayYield(a, length) {
		return false
	}
	if n.since != a.moves {
		n.since, n.spent = a.moves, 0
	}
	n.spent += max(length, shortestNap)
	return true
}

// runtimeNaps is a feature of its own because it has to look at every program.
func runtimeNaps(s *Sandbox) feature {
	return feature{name: "naps", load: func(im *image) error {
		im.th.proc.naps = im.hasGoNote()
		return nil
	}}
}

// hasGoNote looks for the build ID in the notes of a program in memory
// (cmd/internal/buildid: name "Go", type 4). What can't be read has none.
func (im *image) hasGoNote() bool {
	headers, base := im.programHeaders()
	const most = 4096
	for _, h := range headers {
		if elf.ProgType(h.Type) != elf.PT_NOTE || h.Filesz > most {
			continue
		}
		note := make([]byte, h.Filesz)
		if tracee.ReadMem(im.th.tid, base+h.Vaddr, note) == nil && bytes.Contains(note, goNote) {
			return true
		}
	}
	return false
}

// codeStart returns where a program's code lies, 0 if that can't be found out.
func (im *image) codeStart() uint64 {
	headers, base := im.programHeaders()
	for _, h := range headers {
		if elf.ProgType(h.Type) == elf.PT_LOAD && elf.ProgFlag(h.Flags)&elf.PF_X != 0 {
			return base + h.Vaddr
		}
	}
	return 0
}

// programHeaders returns those of a program in memory, and where it lies if it can lie
// anywhere.
func (im *image) programHeaders() (headers []elf.Prog64, base uint64) {
	at, _ := im.auxv.Get(tracee.ATPhdr)
	n, _ := im.auxv.Get(tracee.ATPhnum)
	if at == 0 || n == 0 || n > 64 {
		return nil, 0
	}
	raw := make([]byte, int(n)*binary.Size(elf.Prog64{}))
	if tracee.ReadMem(im.th.tid, at, raw) != nil {
		return nil, 0
	}
	headers = make([]elf.Prog64, n)
	if _, err := binary.Decode(raw, binary.NativeEndian, headers); err != nil {
		return nil, 0
	}
	for _, h := range headers {
		if elf.ProgType(h.Type) == elf.PT_PHDR {
			base = at - h.Vaddr
		}
	}
	return headers, base
}

// goNote is the end of such a note's header: its type and its name.
var goNote = []byte("\x04\x00\x00\x00Go\x00\x00")
