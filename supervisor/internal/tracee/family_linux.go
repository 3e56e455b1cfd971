package tracee

import "golang.org/x/sys/unix"

// A Family is a few processes that this thread alone waits for, and all that it does. What
// one of them comes to while another is waited for is kept: a process that ends may have to
// wait in the kernel until others have been waited for (zap_pid_ns_processes).
type Family struct {
	stops, dead map[int]unix.WaitStatus
}

// NewFamily returns a family of which nobody has been heard yet.
func NewFamily() *Family { return &Family{map[int]unix.WaitStatus{}, map[int]unix.WaitStatus{}} }

// Wait waits for a stop or the end of one of them. The error is ErrGone where that has come
// already.
func (f *Family) Wait(tid int) (unix.WaitStatus, error) {
	for {
		if ws, ok := f.stops[tid]; ok {
			delete(f.stops, tid)
			return ws, nil
		}
		if f.isDead(tid) {
			return 0, ErrGone
		}
		if err := f.hear(); err != nil {
			return 0, err
		}
	}
}

// hear waits for whatever happens next.
func (f *Family) hear() error {
	tid, ws, err := Wait()
	switch {
	case err != nil:
		return err
	case ws.Stopped():
		f.stops[tid] = ws
	default:
		delete(f.stops, tid)
		f.dead[tid] = ws
	}
	return nil
}

func (f *Family) isDead(tid int) bool {
	_, ok := f.dead[tid]
	return ok
}

// Unheard returns what nobody has waited for, and forgets it.
func (f *Family) Unheard() map[int]unix.WaitStatus {
	rest := f.dead
	for tid, ws := range f.stops {
		rest[tid] = ws
	}
	f.stops, f.dead = nil, nil
	return rest
}

// Kill ends processes, with those of the family that they have made and that are heard of
// meanwhile, and waits until they are gone.
func (f *Family) Kill(tids ...int) {
	for _, tid := range tids {
		f.end(tid)
	}
	for _, tid := range tids {
		for tid != 0 && !f.isDead(tid) {
			if f.hear() != nil {
				return // there is nobody any more
			}
			f.endStopped()
		}
	}
}

// KillAll ends processes and whoever else is in the family, and waits until they are gone.
// One that was killed while it made another never tells of that, which is stopped all the same
// where it comes into being, maybe later.
func (f *Family) KillAll(tids ...int) {
	f.Kill(tids...)
	f.endStopped()
	for f.hear() == nil {
		f.endStopped()
	}
}

func (f *Family) end(tid int) {
	if tid != 0 && !f.isDead(tid) {
		_ = unix.Kill(tid, unix.SIGKILL) // it isn't waited for yet, so the number is its own
	}
}

func (f *Family) endStopped() {
	for tid := range f.stops {
		delete(f.stops, tid)
		f.end(tid)
	}
}
