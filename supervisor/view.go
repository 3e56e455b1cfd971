//go:build linux

package supervisor

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

// A view is the files that a sandbox sees: a copy-on-write tree over the host's,
// and /proc, which is the kernel's. Its features answer every system call that
// takes a path or tells of a file; what is opened is handed over as a descriptor,
// and reading and writing it is the kernel's business.
type view struct {
	s     *Sandbox
	tree  *cow.Tree
	small string // holds what the sandbox makes that has no bytes

	dir       *sharedLayer // that
	discarded sync.Once

	interpreters sync.Map // which files the host has, by the paths that programs name

	command string // the command's directory on the host
	atRoot  bool   // that is the host's root

	bound     sync.Map // the paths that sockets were bound at, by those that the host knows
	listeners sync.Map // who listens there, by the same
	listening sync.Mutex

	changed int64 // the time of the last change
}

// newView begins the view of a command that is about to start.
func newView(s *Sandbox) (v *view, err error) {
	v = &view{s: s}
	if v.command, err = absolute(cmp.Or(s.cmd.Dir, ".")); err != nil {
		return nil, fmt.Errorf("supervisor: the command's directory: %w", err)
	}
	if s.cfg.Continue != nil && s.cfg.Lower != "" {
		return nil, errors.New("supervisor: Continue and Lower: a sandbox starts upon one or the other")
	}
	if before := s.cfg.Continue; before != nil {
		return v, v.resume(before)
	}
	return v, nil
}

// make makes the rest, unless it is there.
func (v *view) make() (err error) {
	if v.tree != nil {
		return nil
	}
	s := v.s
	if v.dir, err = newSharedLayer(); err != nil {
		return fmt.Errorf("supervisor: make a directory for what is written: %w", err)
	}
	v.small = v.dir.small.path
	v.tree, err = cow.New(cow.Config{MakeUpper: v.dir.path, Small: v.small, Mounts: v.mounts(v.command), Start: s.inputTime(), Change: v.change, MaxBytes: s.cfg.Limits.Disk, MaxInodes: s.cfg.Limits.inodes(), Inodes: s.cfg.Inodes, ProtectLinks: true, Dropping: s.memory.layer(v.dir.tmp), Devices: []string{devPTS}})
	if err == nil && s.cfg.Lower != "" {
		err = v.tree.Restore(s.cfg.Lower)
	}
	if err != nil {
		return fmt.Errorf("supervisor: %w", errors.Join(err, v.discard()))
	}
	return nil
}

// resume takes the files of a sandbox that has ended.
func (v *view) resume(before *Sandbox) error {
	select {
	case <-before.done:
	default:
		return errors.New("supervisor: Continue: that sandbox hasn't ended")
	}
	if !before.cfg.KeepLayer || !before.view.dir.share() {
		return errors.New("supervisor: Continue: what that sandbox has written has been thrown away")
	}
	v.dir, v.small, v.tree = before.view.dir, before.view.small, before.view.tree
	return v.tree.Resume(v.change, v.s.cfg.Limits.Disk, v.s.cfg.Limits.inodes(), v.s.memory.layer(v.dir.tmp))
}

// inputTime is what files that were changed later read as, in nanoseconds since 1970.
func (s *Sandbox) inputTime() int64 {
	if s.cfg.Clock == det.Host {
		return s.clock.startsAt()
	}
	return s.cfg.Inputs.UnixNano()
}

// absolute returns a directory's path without links, as the kernel knows it.
func absolute(dir string) (string, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "chdir", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	return fdPath(fd)
}

// mounts returns what is shown where.
func (v *view) mounts(dir string) []cow.Mount {
	cfg := &v.s.cfg
	list := []cow.Mount{{At: "/", Host: "/"}}
	if cfg.Root != "" {
		list[0].Host = cfg.Root
	}
	list = append(list, []cow.Mount{
		{At: "/proc", Host: "/proc", Foreign: true},
		{At: procSys, Template: settingsTemplate},
		{At: "/etc/hostname", Text: cfg.Identity.Hostname + "\n"},
		{At: "/etc/machine-id", Text: v.s.machineID() + "\n"},
	}...)
	const dbus = "/var/lib/dbus/machine-id" // older programs look there
	if exists(cfg.Root + dbus) {
		list = append(list, cow.Mount{At: dbus, Text: v.s.machineID() + "\n"})
	}
	list = append(list, v.s.netMounts()...)
	list = append(list, v.s.sysMounts()...)
	list = append(list, cfg.Mounts...)
	work := cfg.Work
	if work == "" && cfg.Root == "" {
		work = dir
	}
	if dir == "/" {
		v.atRoot = true // which can't be shown in itself, and is not what one in another root is to see
		return list
	}
	if work == "/" || work == "" {
		return list
	}
	// What is mounted there or below goes on top of it.
	i := slices.IndexFunc(list, func(m cow.Mount) bool { return m.At == work || strings.HasPrefix(m.At, work+"/") })
	if i < 0 {
		i = len(list)
	}
	return slices.Insert(list, i, cow.Mount{At: work, Host: dir})
}

func exists(file string) bool {
	_, err := os.Lstat(file)
	return err == nil
}

// change is the time of a change. The tree asks for one at a time.
func (v *view) change() int64 {
	if c := v.s.clock.virtual; c != nil {
		return c.Mark()
	}
	ns, err := v.s.clock.read(det.Realtime)
	if err != nil {
		v.s.fail(err)
	}
	v.changed = max(ns, v.changed+1)
	return v.changed
}

// given tells the tree which files the command has open from the beginning.
func (v *view) given() {
	cmd := v.s.cmd
	for _, from := range []any{cmd.Stdin, cmd.Stdout, cmd.Stderr} {
		if f, ok := from.(*os.File); ok {
			v.givenFile(f)
		}
	}
	for _, f := range cmd.ExtraFiles {
		v.givenFile(f)
	}
}

func (v *view) givenFile(f *os.File) {
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			v.tree.Given(st.Dev, st.Ino)
		}
	}
}

// saw notes that a program is told a file's times. Changes that happen while the clock
// stands still have times of their own, each a nanosecond later; a program that sees
// one (make, tar) must not find it in the future.
func (v *view) saw(a *cow.Attr) {
	c := v.s.clock.virtual
	if c == nil {
		return
	}
	for _, ts := range [...]unix.Timespec{a.Mtime, a.Ctime, a.Atime} {
		if forward := c.Saw(cow.Nanoseconds(ts)); forward > 0 {
			v.s.agenda.stepped(forward)
		}
	}
}

// enter lets the command's first thread start where it was started, with what it was given.
func (v *view) enter(th *thread) error {
	v.given()
	dir, err := v.start(th.tid)
	if err == nil {
		th.fs.Store(&fsState{cwd: spot{dir: dir}, umask: v.s.cfg.Umask})
	}
	return err
}

// start returns where the command starts, which is where the process is on the host if
// nothing says otherwise.
func (v *view) start(pid int) (*cow.Inode, error) {
	dir := v.s.cfg.Work
	switch {
	case v.atRoot:
		dir = "/"
	case dir != "":
	case v.s.cfg.Root != "":
		dir = "/"
	default:
		at, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		if err != nil {
			return nil, err
		}
		dir = at
		if inner, ok := v.tree.Inner(at); ok {
			dir = inner
		}
	}
	f, err := v.tree.Lookup(&cow.Walk{Cred: cow.Superuser()}, dir)
	if err != nil {
		return nil, fmt.Errorf("enter %s: %w", dir, err)
	}
	return f.Inode(), nil
}

// end lists what was written, or throws it away.
func (v *view) end() (err error) {
	if !v.s.cfg.KeepLayer {
		return v.discard()
	}
	if err := v.s.losePower(); err != nil {
		return err
	}
	v.s.state.Changes, err = v.tree.Changes()
	return err
}

func (v *view) discard() (err error) {
	v.discarded.Do(func() {
		if v.tree != nil {
			v.tree.Rest()
		}
		if v.dir != nil {
			err = v.dir.leave()
		}
	})
	return err
}

// An fsState is what threads share that were made with CLONE_FS: the working
// directory and the umask.
type fsState struct {
	mu    sync.Mutex
	cwd   spot
	umask uint32

	shared atomic.Bool // by processes
}

// A spot is a directory: of the tree, or of /proc.
type spot struct {
	dir     *cow.Inode
	foreign string
}

func (fs *fsState) copy() *fsState {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return &fsState{cwd: fs.cwd, umask: fs.umask}
}

func (fs *fsState) at() spot {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.cwd
}

func (fs *fsState) enter(s spot) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.cwd = s
}

// mode takes the umask from the permissions of a new file.
func (c *Call) mode(mode uint64) uint32 {
	fs := c.thread.fs.Load()
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return uint32(mode) &^ fs.umask
}

// credentials say on whose behalf a thread acts: with its file-system ids, and
// with its real ones, by which access(2) judges; and what counts when others look into
// it: its real, effective and saved ids, and its capabilities.
type credentials struct {
	fs, real             *cow.Cred
	uids, gids           [3]uint32
	permitted, effective uint64
}

// creds returns a thread's credentials. They are read once, and again when the
// thread has called what may change them.
func (v *view) creds(th *thread) (*credentials, error) {
	if c := th.creds.Load(); c != nil {
		return c, nil
	}
	status, err := readStatus(th.taskDir())
	if err != nil {
		return nil, unix.EINTR // it is gone
	}
	c, err := status.credentials(allCapabilities)
	if err != nil {
		return nil, fmt.Errorf("read the credentials of a thread of process %s: %w", th.proc.Lineage, err)
	}
	th.creds.Store(c)
	return c, nil
}

// A threadStatus is what the kernel tells of who a thread is (proc_pid_status(5)): the fields of
// a line by its name.
type threadStatus map[string][]string

func readStatus(taskDir string) (threadStatus, error) {
	text, err := readKernelFile(taskDir + "/status")
	return parseStatus(string(text)), err
}

func parseStatus(text string) threadStatus {
	fields := threadStatus{}
	for line := range strings.Lines(text) {
		switch name, value, _ := strings.Cut(line, ":"); name {
		case "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd":
			fields[name] = strings.Fields(value)
		}
	}
	return fields
}

const allCapabilities = 1<<64 - 1

// credentials reads ids, groups and those of the capabilities that a thread keeps
// (capabilities(7)).
func (fields threadStatus) credentials(kept uint64) (*credentials, error) {
	uid, err1 := numbers(fields["Uid"], 10, 4)
	gid, err2 := numbers(fields["Gid"], 10, 4)
	groups, err3 := numbers(fields["Groups"], 10, 0)
	caps, err4 := numbers(fields["CapEff"], 16, 1)
	permitted, err5 := numbers(fields["CapPrm"], 16, 1)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, err
	}
	caps[0], permitted[0] = caps[0]&kept, permitted[0]&kept
	has := func(n int) bool { return caps[0]&(1<<n) != 0 }
	const fsid = 3
	fs := &cow.Cred{
		UID: uint32(uid[fsid]), GID: uint32(gid[fsid]),
		Override: has(unix.CAP_DAC_OVERRIDE), ReadSearch: has(unix.CAP_DAC_READ_SEARCH), Owner: has(unix.CAP_FOWNER),
		Chown: has(unix.CAP_CHOWN), SetID: has(unix.CAP_FSETID), Mknod: has(unix.CAP_MKNOD), Admin: has(unix.CAP_SYS_ADMIN),
	}
	for _, g := range groups {
		fs.Groups = append(fs.Groups, uint32(g))
	}
	c := &credentials{fs: fs, real: fs, permitted: permitted[0], effective: caps[0]}
	for i := range c.uids {
		c.uids[i], c.gids[i] = uint32(uid[i]), uint32(gid[i])
	}
	if uid[0] != uid[fsid] || gid[0] != gid[fsid] {
		real := *fs
		real.UID, real.GID = uint32(uid[0]), uint32(gid[0])
		if uid[0] != 0 { // cap_set_effective of access_override_creds, fs/open.c
			real.Override, real.ReadSearch = false, false
		}
		c.real = &real
	}
	return c, nil
}

// numbers parses the fields of a line, of which there must be at least want.
func numbers(fields []string, base, want int) ([]uint64, error) {
	if len(fields) < want {
		return nil, errors.New("a line is too short")
	}
	list := make([]uint64, len(fields))
	for i, f := range fields {
		var err error
		if list[i], err = strconv.ParseUint(f, base, 64); err != nil {
			return nil, err
		}
	}
	return list, nil
}
