//go:build linux

package supervisor

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// queues gives a sandbox POSIX message queues of its own.
//
// Source: the host's queues, which all its processes share and which outlive them
// (mq_overview(7)). Eliminated: the supervisor opens a queue for the program, under
// a name that no other sandbox has, and removes it at the end.
func queues(s *Sandbox) feature {
	q := &sandboxQueues{prefix: filepath.Base(s.view.small) + "-", names: map[string]bool{}}
	return feature{name: "queues", close: q.remove, calls: []call{
		{name: "mq_open", notify: q.open},
		{name: "mq_unlink", notify: q.unlink},
	}}
}

type sandboxQueues struct {
	prefix string
	mu     sync.Mutex
	names  map[string]bool // as the host knows them
}

// name returns the host's name of a queue. libc has taken the slash away.
func (q *sandboxQueues) name(c *Call) (string, Answer) {
	b, err := c.String(c.Arg(0))
	const most = 255
	switch {
	case err != nil:
		return "", c.failed(err)
	case len(b) == 0:
		return "", Errno(unix.ENOENT)
	case strings.ContainsRune(string(b), '/'):
		return "", Errno(unix.EACCES)
	case len(b)+len(q.prefix) > most:
		return "", Errno(unix.ENAMETOOLONG)
	}
	return q.prefix + string(b), goOn
}

func (q *sandboxQueues) open(c *Call) Answer {
	name, a := q.name(c)
	if a.kind != answerGoOn {
		return a
	}
	var attr *[64]byte // struct mq_attr
	if c.Arg(3) != 0 && c.Arg(1)&unix.O_CREAT != 0 {
		attr = new([64]byte)
		if err := c.Read(c.Arg(3), attr[:]); err != nil {
			return c.failed(err)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	fd, err := mqOpen(name, int(int32(c.Arg(1)))|unix.O_CLOEXEC, c.mode(c.Arg(2)), attr)
	if err != nil {
		return c.refusedWith(err)
	}
	q.names[name] = true
	return InjectFD(fd, true) // a queue's descriptor always is close-on-exec
}

func (q *sandboxQueues) unlink(c *Call) Answer {
	name, a := q.name(c)
	if a.kind != answerGoOn {
		return a
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := mqUnlink(name); err != nil {
		return c.refusedWith(err)
	}
	delete(q.names, name)
	return Return(0)
}

// remove removes what is left at the end.
func (q *sandboxQueues) remove() error {
	for name := range q.names {
		if err := mqUnlink(name); err != nil && err != unix.ENOENT {
			return fmt.Errorf("remove message queue %s: %w", name, err)
		}
	}
	return nil
}
