//go:build linux

package supervisor

import (
	"bufio"
	"bytes"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// A memory is all that a sandbox has of it, for [Limits.Memory].
//
// What processes have mapped and what their page tables take, the kernel tells
// (proc_pid_status(5), and where shared memory is counted twice smaps). Files in
// memory keep theirs also while nobody has them mapped, or even open, on their way through
// a socket. Those are: what memfd_create makes, which the supervisor does itself then; what
// lies in the layer, where that is in a tmpfs; and segments of System V. The supervisor has
// them open, and asks whether nobody else has (F_SETLEASE, fcntl(2)).
//
// What remains: pages of a shared anonymous mapping that is still there, but from which
// whoever wrote them has taken them away (MADV_DONTNEED), and what lies in pipes and
// sockets.
type memory struct {
	s       *Sandbox
	inLayer bool // the layer lies in a tmpfs

	mu    sync.Mutex
	files []memoryFile
}

// A memoryFile is a file in memory that needn't have a name.
type memoryFile struct {
	fd int // its own open file of it
	id fileID
}

// A fileID is a file of the host.
type fileID struct{ dev, ino uint64 }

func idOf(st *unix.Stat_t) fileID { return fileID{uint64(st.Dev), st.Ino} }

// layer returns what is to be told of files of the layer that lose their name, nil where
// those don't count. tmp is where the layer lies.
func (m *memory) layer(tmp string) func(path string) {
	if !m.s.limitsMemory() || !inMemory(tmp) {
		return nil
	}
	m.inLayer = true
	return func(path string) {
		if fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
			m.keep(fd)
		}
	}
}

// keep lets the memory of an open file count.
func (m *memory) keep(fd int) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		unix.Close(fd)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files = append(m.files, memoryFile{fd, idOf(&st)})
}

// createFile answers memfd_create.
func (m *memory) createFile(c *Call) Answer {
	const longest = 249 // MFD_NAME_MAX_LEN, mm/memfd.c
	flags := int(c.Arg(1))
	name, err := tracee.ReadString(c.thread.tid, c.Arg(0), c.scratch(unix.PathMax))
	switch {
	case err == unix.ENAMETOOLONG || err == nil && len(name) > longest:
		return Errno(unix.EINVAL)
	case err != nil:
		return c.failed(err)
	}
	made, err := unix.MemfdCreate(string(name), flags|unix.MFD_CLOEXEC)
	if err == unix.EMFILE {
		m.filesUsed() // which closes those that nobody has any more
		made, err = unix.MemfdCreate(string(name), flags|unix.MFD_CLOEXEC)
	}
	if err != nil {
		return c.refusedWith(err)
	}
	defer unix.Close(made)
	if err := c.owned(made); err != nil {
		return c.refusedWith(err)
	}
	// What memfd_create itself has opened isn't counted among who writes to the file.
	fd, err := unix.Open(fdName(made), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return c.refusedWith(err)
	}
	own, err := unix.Open(fdName(made), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(fd)
		return c.refusedWith(err)
	}
	m.keep(own)
	return InjectFD(fd, flags&unix.MFD_CLOEXEC != 0)
}

// owned gives a new file to the caller.
func (c *Call) owned(fd int) error {
	creds, err := c.s.view.creds(c.thread)
	if err != nil || int(creds.fs.UID) == unix.Geteuid() && int(creds.fs.GID) == unix.Getegid() {
		return err
	}
	return unix.Fchown(fd, int(creds.fs.UID), int(creds.fs.GID))
}

// filesUsed returns how much the files have that somebody still has, and closes the others.
func (m *memory) filesUsed() (sum int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files = slices.DeleteFunc(m.files, func(f memoryFile) bool {
		var st unix.Stat_t
		_, err := unix.FcntlInt(uintptr(f.fd), unix.F_SETLEASE, unix.F_WRLCK)
		if err == nil || unix.Fstat(f.fd, &st) != nil {
			unix.Close(f.fd)
			return true
		}
		const block = 512 // stat(2)
		sum += st.Blocks * block
		return false
	})
	return sum
}

func (m *memory) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.files {
		unix.Close(f.fd)
	}
	m.files = nil
}

// unmapped returns how much files and segments have, mapped or not.
func (m *memory) unmapped() int64 {
	sum := m.filesUsed() + m.s.systemV.resident()
	if m.inLayer {
		sum += m.s.view.tree.Blocks()
	}
	return sum
}

// roughly returns no less than the sandbox has: what several processes share counts for
// each.
func (m *memory) roughly() int64 {
	sum := m.unmapped()
	for _, pid := range m.s.threads.processes() {
		sum += has(pid)
	}
	return sum
}

// has returns what one process has.
func has(pid int) int64 {
	all, _ := kilobytes("/proc/"+strconv.Itoa(pid)+"/status", "RssAnon:", "RssShmem:", "VmPTE:")
	return all
}

// used returns what the sandbox has, as exactly as is needed to know whether that is more
// than a limit. What moves from one place to another while it is added up may count twice,
// and does so once.
func (m *memory) used(limit int64) (sum int64) {
	sum = m.roughly()
	const looks = 3
	for i := 0; i < looks && sum > limit; i++ {
		sum = m.exactly()
	}
	return sum
}

// exactly returns what the sandbox has. What has ended, or executed another program, while
// the others were looked at has given back what it had.
func (m *memory) exactly() int64 {
	counted, mapped := map[int]int64{}, map[int][]mapping{}
	tracked := m.tracked(newTracked())
	for _, pid := range m.ownMemory(m.s.threads.processes()) {
		counted[pid], mapped[pid] = m.share(pid)
	}
	tracked = m.tracked(tracked) // with what has come meanwhile
	sum := m.unmapped()
	for pid, own := range counted {
		for i := range mapped[pid] {
			if at := &mapped[pid][i]; !tracked.has(at) {
				own += int64(at.end)
			}
		}
		sum += min(own, has(pid))
	}
	return sum
}

// share returns what a process has, with what it shares in parts, and its mappings of files
// in memory, of which end is its share there.
func (m *memory) share(pid int) (own int64, files []mapping) {
	dir := "/proc/" + strconv.Itoa(pid)
	text, err := readKernelFile(dir + "/smaps")
	if err != nil { // a program that lets nobody look into it gets nothing off for what it shares
		return has(pid), nil
	}
	own, _ = kilobytes(dir+"/status", "VmPTE:")
	var at mapping
	var resident, pss int64
	for scan := bufio.NewScanner(bytes.NewReader(text)); scan.Scan(); {
		name, value, _ := strings.Cut(scan.Text(), ":")
		n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch {
		case err != nil:
			if begun, ok := parseMapping(scan.Text()); ok {
				at = begun
			}
		case name == "Rss":
			resident = n
		case name == "Pss":
			pss = n << 10
		case name == "Anonymous" && resident > 0:
			if at.dev == memoryDevice() {
				at.end = uint64(pss)
				files = append(files, at)
			} else {
				own += pss * n / resident
			}
		}
	}
	return own, files
}

// memoryDevice is the device of files in memory that have no name in a file system.
var memoryDevice = sync.OnceValue(func() uint64 {
	fd, err := unix.MemfdCreate("device", unix.MFD_CLOEXEC)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0
	}
	return st.Dev
})

// A trackedMemory are the files and segments whose memory counts as theirs.
type trackedMemory struct {
	files    map[fileID]bool
	segments map[uint64]bool // by number, which is that of their inodes
}

func newTracked() trackedMemory { return trackedMemory{map[fileID]bool{}, map[uint64]bool{}} }

// tracked adds those that there are.
func (m *memory) tracked(t trackedMemory) trackedMemory {
	if id, err := m.s.page.id(); err == nil { // which is the supervisor's
		t.files[id] = true
	}
	m.s.systemV.segments(func(id int32, _ []string) { t.segments[uint64(id)] = true })
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.files {
		t.files[f.id] = true
	}
	return t
}

// has reports whether what is mapped counts otherwise.
func (t *trackedMemory) has(at *mapping) bool {
	return t.files[fileID{at.dev, at.ino}] || strings.HasPrefix(at.path, "/SYSV") && t.segments[at.ino]
}

// ownMemory leaves out processes that run in the memory of one before (vfork, CLONE_VM).
func (m *memory) ownMemory(pids []int) (list []int) {
	slices.Sort(pids)
	for _, pid := range pids {
		if !slices.ContainsFunc(list, func(other int) bool { return sameMemory(pid, other) }) {
			list = append(list, pid)
		}
	}
	return list
}

func sameMemory(a, b int) bool {
	const kcmpVM = 1 // kcmp(2)
	r, _, e := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), kcmpVM, 0, 0, 0)
	return e == 0 && r == 0
}
