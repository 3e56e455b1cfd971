//go:build linux

package supervisor

import (
	"math/rand/v2"

	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

// powerLoss makes of a process that a fault kills a loss of power: everything ends, and of
// what was written there is what may be there on a disk, as the seed draws it. For that the
// tree is told what programs sync.
//
// What remains: msync syncs nothing, and of a file opened with O_SYNC or O_DSYNC all is
// taken for synced.
func powerLoss(s *Sandbox) feature {
	f := feature{name: "powerloss"}
	if !s.cfg.PowerLoss {
		return f
	}
	s.view.tree.KeepJournal()
	for _, name := range []string{"fsync", "fdatasync"} {
		f.calls = append(f.calls, call{name: name, on: byStop, watch: s.synced})
	}
	for _, name := range []string{"sync", "syncfs"} {
		f.calls = append(f.calls, call{name: name, watch: func(*event) Answer {
			if err := s.view.tree.SyncAll(); err != nil {
				return Fatal(err)
			}
			return goOn
		}})
	}
	return f
}

// synced tells the tree of a file that is being synced.
func (s *Sandbox) synced(e *event) Answer {
	fd, err := e.th.proc.fd(e.th.tid, e.int(0))
	if err != nil {
		return goOn // the kernel says what is wrong with it
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return goOn
	}
	if f := s.view.tree.Descriptor(&st); f != nil {
		if err := s.view.tree.Sync(f); err != nil {
			return Fatal(err)
		}
	}
	return goOn
}

// losePower leaves the files as they may be after a loss of power, if there was one.
func (s *Sandbox) losePower() error {
	if !s.powerLost.Load() {
		return nil
	}
	return s.view.tree.LosePower(rand.New(det.NewStream(s.cfg.Seed, det.PowerLoss, det.Root, 0)))
}
