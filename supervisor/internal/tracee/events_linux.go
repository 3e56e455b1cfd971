package tracee

import "golang.org/x/sys/unix"

// Events tell a tracer what its threads come to, each in its turn. wait4(2) looks through
// them from the newest on (do_wait, kernel/exit.c): a few that come to something again and
// again as soon as they are resumed would keep it from ever speaking of the older ones,
// the end of the first among them. So every now and then all that there is is taken at once.
type Events struct {
	ready []event
	next  int // of those
	since int // events since all were taken
}

type event struct {
	tid  int
	ws   unix.WaitStatus
	used unix.Rusage
}

// fairness is how many events one thread may come to while another one waits.
const fairness = 32

// Next waits for what happens next. Where that is the end of a process, it fills in what
// that and the children that it has waited for have used. The error is ECHILD when there
// is nobody left.
func (q *Events) Next(used *unix.Rusage) (tid int, ws unix.WaitStatus, err error) {
	if q.next == len(q.ready) {
		if q.since++; q.since < fairness {
			return wait(-1, 0, used)
		}
		if err := q.take(); err != nil {
			return 0, 0, err
		}
	}
	e := &q.ready[q.next]
	q.next++
	if !e.ws.Stopped() {
		*used = e.used
	}
	return e.tid, e.ws, nil
}

// take waits for one event and takes all.
func (q *Events) take() error {
	q.since, q.next, q.ready = 0, 0, q.ready[:0]
	for flags := 0; ; flags = unix.WNOHANG {
		var e event
		var err error
		e.tid, e.ws, err = wait(-1, flags, &e.used)
		switch {
		case len(q.ready) > 0 && (err != nil || e.tid == 0):
			return nil
		case err != nil:
			return err
		}
		q.ready = append(q.ready, e)
	}
}
