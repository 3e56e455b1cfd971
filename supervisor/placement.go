//go:build linux

package supervisor

import "golang.org/x/sys/unix"

// While a tracee is made to execute calls, it and the tracer stay on one CPU.
// Each call is two wake-ups; on one CPU that is a switch of context, across two
// it is many times slower, because the other one sleeps. Affinity is a matter of
// speed alone: where it can't be set, everything works all the same.

// near runs f with the tracee tid on the tracer's CPU.
func (t *tracer) near(tid int, f func() error) error {
	if !t.pin() {
		return f()
	}
	defer t.unpin()
	_ = unix.SchedSetaffinity(tid, &t.here)
	defer t.release(tid)
	return f()
}

// pin keeps the tracer on the CPU it is on, and what it starts from then on.
func (t *tracer) pin() bool {
	if t.cpus.Count() < 2 {
		return false
	}
	cpu, err := currentCPU()
	if err != nil {
		return false
	}
	t.here.Zero()
	t.here.Set(cpu)
	return unix.SchedSetaffinity(0, &t.here) == nil
}

func (t *tracer) unpin() { _ = unix.SchedSetaffinity(0, &t.cpus) }

// release lets a tracee run on every CPU that the supervisor may use. What the
// program itself asks for never reaches the kernel, see processors.go.
func (t *tracer) release(tid int) { _ = unix.SchedSetaffinity(tid, &t.cpus) }
