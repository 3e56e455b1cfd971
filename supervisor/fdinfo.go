//go:build linux

package supervisor

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What /proc/PID/fdinfo tells of a descriptor (proc_pid_fdinfo(5)).
//
// Source: inode numbers, devices, mounts, numbers of terminals and eventfds, and locks by
// the host's files. Normalised: a file has the number that stat tells, a terminal its own;
// there is one mount; what else is the host's reads 0, and locks aren't listed.

// fdinfoText is the text about descriptor number n.
func (c *Call) fdinfoText(e *processEntry, n string) string {
	if e.th == nil {
		return ""
	}
	fd, err := unix.Open(e.th.taskDir()+"/fd/"+n, unix.O_PATH|unix.O_CLOEXEC, 0)
	ino := uint64(0)
	var st unix.Stat_t
	if err == nil {
		defer unix.Close(fd)
		if ino, err = c.s.inodeOf(c.Process, fd); err == nil {
			err = unix.Fstat(fd, &st)
		}
	}
	if err != nil {
		if ours(err) {
			c.s.fail(fmt.Errorf("supervisor: tell of descriptor %s of process %s: %w", n, e.th.proc.Lineage, err))
		}
		return "" // it was closed
	}
	var b strings.Builder
	for line := range strings.Lines(e.text()) {
		if pos, err := strconv.ParseInt(strings.TrimSpace(strings.TrimPrefix(line, "pos:")), 10, 64); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			_, at := markOf(pos)
			line = fmt.Sprintf("pos:\t%d\n", at)
		}
		b.WriteString(c.fdinfoLine(line, ino, e.th, n))
	}
	return b.String()
}

func (c *Call) fdinfoLine(line string, ino uint64, th *thread, n string) string {
	name, _, _ := strings.Cut(line, ":")
	switch name {
	case "mnt_id":
		return "mnt_id:\t1\n"
	case "ino":
		return fmt.Sprintf("ino:\t%d\n", ino)
	case "tty-index":
		number, _ := strconv.Atoi(n)
		fd, err := th.proc.fdIfLent(th.tid, int32(number))
		if err != nil {
			return ""
		}
		defer unix.Close(fd)
		dev, err := c.s.terminals.behind(fd)
		if err != nil {
			return ""
		}
		return fmt.Sprintf("tty-index:\t%d\n", unix.Minor(dev))
	case "eventfd-id":
		return "eventfd-id: 0\n"
	case "it_value", "it_interval":
		return name + ": (0, 0)\n"
	case "tfd":
		known, _, _ := strings.Cut(line, " ino:")
		return known + " ino:0 sdev:0\n"
	case "lock":
		return ""
	}
	if watch, _, ok := strings.Cut(line, " ino:"); ok && strings.HasPrefix(line, "inotify wd:") {
		_, mask, _ := strings.Cut(line, " mask:")
		mask, _, _ = strings.Cut(mask, " ")
		return watch + " ino:0 sdev:0 mask:" + mask + " ignored_mask:0\n"
	}
	return line
}

// inodeOf returns the number of an open file as fstat tells it.
func (s *Sandbox) inodeOf(by *Process, fd int) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	f, err := s.view.fileOf(fd, &st, true)
	if err == nil && f == nil {
		err = s.statUnnamed(by, fd, &st)
	}
	if err != nil || f == nil {
		return st.Ino, err
	}
	a, err := f.Stat()
	return a.Ino, err
}
