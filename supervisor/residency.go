//go:build linux

package supervisor

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"

	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"golang.org/x/sys/unix"
)

// residency answers mincore.
//
// Source: which pages of a file the host has in memory, which tells what others have read,
// and which of a program's own have been swapped out. Eliminated: what is mapped is
// resident. /proc/PID/pagemap, which tells the same, doesn't exist, and no file system
// knows reading what is in memory alone (RWF_NOWAIT).
func residency(*Sandbox) feature {
	const noWait = 8 // RWF_NOWAIT, linux/fs.h
	return feature{name: "residency", calls: []call{
		{name: "mincore", notify: mincore},
		{name: "preadv2", errno: unix.EOPNOTSUPP, conds: []seccomp.Cond{{Arg: 5, Mask: noWait, Value: noWait}}},
	}}
}

func mincore(c *Call) Answer {
	from, size, vector := c.Arg(0), c.Arg(1), c.Arg(2)
	if from%pageSize != 0 {
		return Errno(unix.EINVAL)
	}
	pages := size / pageSize
	if size%pageSize != 0 {
		pages++
	}
	if pages == 0 {
		return Return(0)
	}
	const highest = 1 << 56 / pageSize // more than there is of it anywhere
	if from/pageSize > highest || pages > highest {
		return Errno(unix.ENOMEM)
	}
	mapped, err := mappedFrom(c.thread, from, from+pages*pageSize)
	if err != nil {
		return c.failed(err)
	}
	all := c.scratch(int(min(pages, maxDirBuffer)))
	for i := range all {
		all[i] = 1
	}
	for left := mapped / pageSize; left > 0; {
		n, err := c.Write(vector, all[:min(left, uint64(len(all)))])
		if err != nil {
			return c.failed(err)
		}
		vector, left = vector+uint64(n), left-uint64(n)
	}
	if mapped < pages*pageSize {
		return Errno(unix.ENOMEM)
	}
	return Return(0)
}

// mappedFrom returns how much of a range of a thread's memory is mapped, from its beginning
// on.
func mappedFrom(th *thread, from, to uint64) (uint64, error) {
	text, err := readKernelFile(th.taskDir() + "/maps")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, unix.ESRCH
	}
	if err != nil {
		return 0, fmt.Errorf("read what is mapped: %w", err)
	}
	at := from
	for scan := bufio.NewScanner(bytes.NewReader(text)); scan.Scan() && at < to; {
		m, ok := parseMapping(scan.Text())
		if ok && m.start <= at && at < m.end {
			at = min(m.end, to)
		}
	}
	return at - from, nil
}
