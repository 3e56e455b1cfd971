//go:build linux

package supervisor

import (
	"math/rand/v2"
	"strings"

	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"golang.org/x/sys/unix"
)

// powerLoss makes of a process that a fault kills a loss of power: everything ends, and of
// what was written there is what may be there on a disk, as the seed draws it. For that the
// tree is told what programs sync.
//
// What remains: of a file opened with O_SYNC or O_DSYNC all is taken for synced, and of one
// whose mapping is synced (msync(2)) the whole file.
func powerLoss(s *Sandbox) feature {
	f := feature{name: "powerloss"}
	if !s.cfg.PowerLoss {
		return f
	}
	s.view.tree.KeepJournal()
	for _, name := range []string{"fsync", "fdatasync"} {
		f.calls = append(f.calls, call{name: name, on: byStop, watch: s.synced})
	}
	f.calls = append(f.calls, call{name: "msync", on: byStop, watch: s.syncedMappings, conds: []seccomp.Cond{{Arg: 2, Mask: unix.MS_SYNC, Value: unix.MS_SYNC}}})
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

// syncedMappings tells the tree of the files whose mappings are being synced.
func (s *Sandbox) syncedMappings(e *event) Answer {
	start := e.args[0]
	end := start + e.args[1]
	maps, err := readKernelFile(e.th.taskDir() + "/maps")
	if err != nil || start%pageSize != 0 {
		return goOn // it is being killed, or the kernel says what is wrong
	}
	for line := range strings.Lines(string(maps)) {
		m, ok := parseMapping(line)
		if !ok || m.perms[3] != 's' || m.end <= start || m.start >= end {
			continue
		}
		if f := s.view.mapped(&m); f != nil {
			if err := s.view.tree.Sync(f); err != nil {
				return Fatal(err)
			}
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
