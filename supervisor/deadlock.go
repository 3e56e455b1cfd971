//go:build linux

package supervisor

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// A sandbox is deadlocked when everything in it waits, nothing is on the agenda,
// and no thread waits for what can come from outside. Threads that wait for a
// lock, a child, a signal, or the other end of a pipe that was made in the
// sandbox wait for each other. What the command was given at its start, what has
// a name, and sockets other than pairs can be reached from outside, and so can a
// process that was stopped.

// deadlocked returns all threads if they wait for each other, nil otherwise. It
// is called when everything waits.
func (d *detector) deadlocked() []BlockedThread {
	commands := map[*Process][]string{}
	var list []BlockedThread
	for _, th := range d.order {
		t := d.task(th)
		if t == nil {
			return nil // it has ended meanwhile
		}
		if t.state() == 'Z' {
			continue
		}
		at, ok := blockedIn(th)
		if !ok || !d.closed(at) {
			return nil
		}
		if commands[th.proc] == nil {
			commands[th.proc] = commandLine(th.proc.TGID)
		}
		b := BlockedThread{Process: th.proc.Lineage, Thread: th.index, Command: commands[th.proc], Call: at.String()}
		if w := th.sleeps.Load(); w != nil {
			b.Call = w.name
		}
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b BlockedThread) int {
		return cmp.Or(compareLineage(a.Process, b.Process), cmp.Compare(a.Thread, b.Thread))
	})
	return list
}

// A blockedCall is a call that a thread waits in.
type blockedCall struct {
	th   *thread
	nr   int
	args [6]uint64
	fds  []int32 // the descriptors it waits for
}

// String returns the call and its descriptors.
func (b *blockedCall) String() string {
	name := seccomp.Name(uint32(b.nr))
	if len(b.fds) == 0 {
		return name
	}
	var list []string
	for _, fd := range b.fds {
		list = append(list, strconv.Itoa(int(fd)))
	}
	return name + "(" + strings.Join(list, ", ") + ")"
}

// blockedIn reads what call a thread is in (proc_pid_syscall(5)). ok is false if
// that isn't known.
func blockedIn(th *thread) (b blockedCall, ok bool) {
	text, err := readKernelFile("/proc/" + strconv.Itoa(th.tid) + "/syscall")
	f := bytes.Fields(text)
	if err != nil || len(f) < 7 {
		return b, false
	}
	b.th = th
	if b.nr, err = strconv.Atoi(string(f[0])); err != nil || b.nr < 0 {
		return b, false
	}
	for i := range b.args {
		if b.args[i], err = strconv.ParseUint(string(f[1+i]), 0, 64); err != nil {
			return b, false
		}
	}
	return b, b.findFDs()
}

// findFDs sets what the call waits for. It reports false for a call that may end
// because of something that isn't known here.
func (b *blockedCall) findFDs() bool {
	switch seccomp.Name(uint32(b.nr)) {
	case "futex", "futex_waitv", "pause", "rt_sigsuspend", "rt_sigtimedwait", "wait4", "waitid", "vfork", "clone", "clone3", "exit":
		return true
	case "read", "readv", "write", "writev", "recvfrom", "recvmsg", "sendto", "sendmsg", "epoll_wait", "epoll_pwait", "epoll_pwait2":
		b.fds = []int32{int32(b.args[0])}
		return true
	case "poll", "ppoll":
		return b.pollFDs()
	case "select", "pselect6":
		return b.selectFDs()
	}
	return false
}

// most is how many descriptors are looked at.
const most = 1024

func (b *blockedCall) pollFDs() bool {
	n := b.args[1]
	if n > most {
		return false
	}
	buf := make([]byte, 8*n) // struct pollfd
	if tracee.ReadMem(b.th.tid, b.args[0], buf) != nil && n > 0 {
		return false
	}
	for ; len(buf) > 0; buf = buf[8:] {
		if fd := int32(binary.NativeEndian.Uint32(buf)); fd >= 0 {
			b.fds = append(b.fds, fd)
		}
	}
	return true
}

func (b *blockedCall) selectFDs() bool {
	n := min(int(int32(b.args[0])), most)
	for set := 1; set <= 3; set++ {
		if b.args[set] == 0 || n <= 0 {
			continue
		}
		buf := make([]byte, (n+63)/64*8)
		if tracee.ReadMem(b.th.tid, b.args[set], buf) != nil {
			return false
		}
		for fd := range n {
			if buf[fd/8]&(1<<(fd%8)) != 0 {
				b.fds = append(b.fds, int32(fd))
			}
		}
	}
	return true
}

// closed reports whether a call can be ended by the sandbox's own threads alone.
func (d *detector) closed(b blockedCall) bool {
	for _, fd := range b.fds {
		if !d.closedFD(b.th.proc, fd, 0) {
			return false
		}
	}
	return true
}

// closedFD reports whether nobody outside can make a descriptor ready.
func (d *detector) closedFD(p *Process, fd int32, depth int) bool {
	dir, number := "/proc/"+strconv.Itoa(p.TGID), strconv.Itoa(int(fd))
	link, err := os.Readlink(dir + "/fd/" + number)
	if err != nil {
		return os.IsNotExist(err) // then the call is about to fail
	}
	if d.s.given[link] {
		return false
	}
	kind, _, _ := strings.Cut(strings.TrimPrefix(link, "anon_inode:"), ":")
	switch kind {
	case "pipe", "[eventfd]", "[timerfd]", "[signalfd]", "[pidfd]":
		return true
	case "socket":
		return p.isPair(fd)
	case "[eventpoll]":
		const deepest = 5 // as the kernel nests them
		if depth == deepest {
			return false
		}
		info, err := readKernelFile(dir + "/fdinfo/" + number)
		if err != nil {
			return false
		}
		for line := range strings.Lines(string(info)) {
			f := strings.Fields(line)
			if len(f) < 2 || f[0] != "tfd:" {
				continue
			}
			target, err := strconv.Atoi(f[1])
			if err != nil || !d.closedFD(p, int32(target), depth+1) {
				return false
			}
		}
		return true
	}
	return false
}

// isPair reports whether a socket is one of a pair: neither has a name.
func (p *Process) isPair(fd int32) bool {
	own, err := p.fdIfLent(p.TGID, fd)
	if err != nil {
		return false
	}
	defer unix.Close(own)
	here, err := unix.Getsockname(own)
	if err != nil {
		return false
	}
	there, err := unix.Getpeername(own)
	if err != nil {
		return false
	}
	return nameless(here) && nameless(there)
}

// nameless reports whether an address is what x/sys makes of that of a Unix
// socket without one: nothing, or the abstract name without a character.
func nameless(sa unix.Sockaddr) bool {
	a, ok := sa.(*unix.SockaddrUnix)
	return ok && (a.Name == "" || a.Name == "@")
}

// givenFiles returns what a command has open at its start, by the names of
// proc_pid_fd(5).
func givenFiles(pid int) map[string]bool {
	given := map[string]bool{}
	for _, link := range openFilesIn("/proc/" + strconv.Itoa(pid) + "/fd") {
		given[link] = true
	}
	return given
}

// openFilesIn returns what a process has open, by number; of one that has ended nothing.
func openFilesIn(dir string) iter.Seq2[string, string] {
	return func(yield func(name, link string) bool) {
		files, err := os.ReadDir(dir)
		if err != nil {
			return
		}
		for _, f := range files {
			if link, err := os.Readlink(dir + "/" + f.Name()); err == nil && !yield(f.Name(), link) {
				return
			}
		}
	}
}
