//go:build linux

package supervisor

import (
	"math/rand/v2"
	"sync"

	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

// randomBytes answers getrandom.
//
// Source: the kernel's entropy. Eliminated: each process draws from a ChaCha8
// stream named by seed and lineage. What remains: threads of one process share
// its stream.
func randomBytes(s *Sandbox) feature {
	return feature{name: "random", calls: []call{{name: "getrandom", notify: s.getrandom}}}
}

// processRandom is a process's random state.
type processRandom struct {
	mu     sync.Mutex
	stream *rand.ChaCha8 // getrandom's, made at the first call
	opened map[det.Source]uint64
}

// count returns how many times the process has used a source before.
func (r *processRandom) count(src det.Source) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.opened == nil {
		r.opened = map[det.Source]uint64{}
	}
	n := r.opened[src]
	r.opened[src]++
	return n
}

const (
	randomChunk = 64 << 10
	maxRW       = 0x7ffff000 // MAX_RW_COUNT, linux/fs.h
)

func (s *Sandbox) getrandom(c *Call) Answer {
	at, size, flags := c.Arg(0), c.Arg(1), uint32(c.Arg(2))
	if flags&^(unix.GRND_NONBLOCK|unix.GRND_RANDOM|unix.GRND_INSECURE) != 0 ||
		flags&(unix.GRND_RANDOM|unix.GRND_INSECURE) == unix.GRND_RANDOM|unix.GRND_INSECURE {
		return Errno(unix.EINVAL)
	}
	size = min(size, maxRW)
	if size > randomChunk {
		c.Yield()
	}
	r := &c.Process.random
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stream == nil {
		r.stream = det.NewStream(s.cfg.Seed, det.GetRandom, c.Process.Lineage, 0)
	}
	// Like the kernel: what was written before a bad page counts.
	written := uint64(0)
	for written < size {
		b := c.scratch(randomChunk)[:min(size-written, randomChunk)]
		r.stream.Read(b)
		n, err := c.Write(at+written, b)
		written += uint64(n)
		if err != nil {
			if a := c.failed(err); written == 0 || a.kind == answerFatal {
				return a
			}
			break
		}
	}
	return Return(int64(written))
}
