// Package marked finds the processes of a sandbox among those of the host, whatever they
// are called inside: tests put a mark into the environment of what they run.
package marked

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

var marks atomic.Int64

// A Mark is an entry of an environment that no other process has.
type Mark string

// New returns a new mark.
func New() Mark {
	return Mark(fmt.Sprintf("MARK=%d.%d.%d", os.Getpid(), marks.Add(1), time.Now().UnixNano()))
}

// Alive returns the processes that were started with the mark, or are descendants of such
// ones that haven't executed a program with another environment, and still run: a zombie
// has no environment any more.
func (m Mark) Alive() (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		panic(err) // no test can do without
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err != nil { // it has ended, or is somebody else's
			continue
		}
		for entry := range bytes.SplitSeq(env, []byte{0}) {
			if string(entry) == string(m) {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

// Gone waits until no such process is alive, and returns those that are after a time in
// which they should have ended.
func (m Mark) Gone(within time.Duration) (alive []int) {
	for deadline := time.Now().Add(within); ; time.Sleep(time.Millisecond) {
		alive = m.Alive()
		if len(alive) == 0 || time.Now().After(deadline) {
			return alive
		}
	}
}

// Named returns a process of the mark's that executes a program of that name
// (proc_pid_comm(5)), 0 if there is none.
func (m Mark) Named(name string) int {
	for _, pid := range m.Alive() {
		comm, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		if err == nil && strings.TrimSuffix(string(comm), "\n") == name {
			return pid
		}
	}
	return 0
}
