package dcache_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/internal/call"
	"github.com/sandtest/go-sandtest/supervisor/internal/dcache"
)

// left is what a piece of the test's returns for a call that is left to the kernel.
const left = -9999

// A program is one that sees a table: this one.
type program struct {
	*dcache.Table
	mem     []byte // the table, and what lies behind it
	scratch []byte // a path, and behind it what is written
}

func newProgram(tb testing.TB) *program {
	tb.Helper()
	mem, err := unix.Mmap(-1, 0, dcache.OffOffset+4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		tb.Fatal(err)
	}
	scratch, err := unix.Mmap(-1, 0, 2*pathRoom, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { unix.Munmap(mem); unix.Munmap(scratch) })
	table, err := dcache.New(mem)
	if err != nil {
		tb.Fatal(err)
	}
	return &program{table, mem, scratch}
}

const pathRoom = 8192

func (p *program) standIn(dir uint32) { *(*uint32)(unsafe.Pointer(&p.mem[dcache.CwdOffset])) = dir }

// path puts a path where code finds it.
func (p *program) path(path string) uintptr {
	p.scratch[copy(p.scratch, path)] = 0
	return uintptr(unsafe.Pointer(&p.scratch[0]))
}

func (p *program) out() []byte { return p.scratch[pathRoom:] }

func (p *program) outAt() uintptr { return uintptr(unsafe.Pointer(&p.out()[0])) }

func (p *program) call(nr int, args ...uintptr) int {
	var a [5]uintptr
	copy(a[:], args)
	fn := uintptr(unsafe.Pointer(&p.mem[p.TestSite(nr, left)]))
	return int(call.Call(fn, a[0], a[1], a[2], a[3], a[4]))
}

func (p *program) stat(path string) int  { return p.call(unix.SYS_STAT, p.path(path), p.outAt()) }
func (p *program) lstat(path string) int { return p.call(unix.SYS_LSTAT, p.path(path), p.outAt()) }

var (
	aDir  = &dcache.Attr{Ino: 1<<47 | 11, Mode: unix.S_IFDIR | 0o755, UID: 1, GID: 2, Links: 1, Size: 4096, Mtime: dcache.Time{Sec: 5, Nsec: 6}, Ctime: dcache.Time{Sec: 7}}
	aFile = &dcache.Attr{Ino: 1<<47 | 22, Mode: unix.S_IFREG | 0o640, UID: 3, GID: 4, Links: 2, Size: 5000, Mtime: dcache.Time{Sec: -1, Nsec: 999_999_999}, Ctime: dcache.Time{Sec: 1 << 40, Nsec: 9}}
	aTool = &dcache.Attr{Ino: 1<<47 | 33, Mode: unix.S_IFREG | 0o755, Links: 1, Mtime: dcache.Time{Sec: 4, Nsec: 2}, Ctime: dcache.Time{Sec: 4, Nsec: 1}, May: unix.R_OK | unix.X_OK}
	aLink = &dcache.Attr{Ino: 1<<47 | 44, Mode: unix.S_IFLNK | 0o777, Links: 1, Size: 6}
)

// tree is /usr/bin/{tool,file}, /lib -> usr/bin; /usr is complete, and so is the root.
func tree(p *program) (root, usr, bin, lib uint32) {
	root = p.Root(nil, "", 0)
	usr = p.Dir(root, "usr", aDir, "", 0)
	bin = p.Dir(usr, "bin", aDir, "", 0)
	lib = p.File(root, "lib", aLink, "usr/bin", "", dcache.Identity{})
	p.File(bin, "tool", aTool, "", "", dcache.Identity{})
	p.File(bin, "file", aFile, "", "", dcache.Identity{})
	p.Nothing(bin, "none")
	p.Complete(root)
	p.Complete(usr)
	return root, usr, bin, lib
}

func TestPaths(t *testing.T) {
	p := newProgram(t)
	_, _, bin, lib := tree(p)
	const found, none = 0, -int(unix.ENOENT)
	check := func(path string, want int) {
		t.Helper()
		if got := p.stat(path); got != want {
			t.Errorf("stat(%.60q) = %d, want %d", path, got, want)
		}
	}
	check("/usr", found)
	check("/usr/", found)
	check("//usr//bin/.//tool", found)
	check("/usr/bin/../bin/./file", found)
	check("/../usr/bin/..", found)
	check("/", left) // nothing is known of its attributes
	check("/usr/..", left)
	check("/usr/lib", none)
	check("/usr/lib/more/../and/more", none)
	check("/usr/bin/none", none)
	check("/usr/bin/unheard", left)
	check("/usr/bin/tool/", left)
	check("/usr/bin/tool/more", left)
	check("/lib", left)
	check("/lib/tool", left)
	check("", left)
	check("relative", left)
	check("/usr/"+strings.Repeat("x", 255), none)
	check("/usr/"+strings.Repeat("x", 256), left)
	check("/usr"+strings.Repeat("/", 4050), left)
	check(strings.Repeat("/", 4050), left)
	check("/usr/lib/"+strings.Repeat("x", 4050), left)
	check("/usr/"+strings.Repeat("./", 1990)+"bin", found)
	check("/usr/"+strings.Repeat("./", 2040)+"bin", left)
	if got := p.lstat("/lib"); got != found {
		t.Errorf("lstat(/lib) = %d", got)
	}
	p.standIn(bin)
	check("tool", found)
	check("../bin/tool", found)
	check("./none", none)
	check(".", found)
	p.Leads(lib, bin)
	check("/lib", found)
	check("/lib/tool", found)
	check("/lib/", found)
	self := p.File(bin, "dot", aLink, ".", "", dcache.Identity{})
	p.Leads(self, bin)
	check("/usr/bin/"+strings.Repeat("dot/", 5)+"tool", found)
	check("/usr/bin/"+strings.Repeat("dot/", 6)+"tool", left)
	check("/usr/bin/"+strings.Repeat("dot/", 5)+"dot", left)
	alias := p.File(bin, "alias", aLink, "tool", "", dcache.Identity{})
	p.Leads(alias, p.File(bin, "tool", aTool, "", "", dcache.Identity{}))
	check("/usr/bin/alias", found)
	check("/usr/bin/alias/", left)
	check("/usr/bin/alias/more", left)
	p.standIn(0)
	check("tool", left)
}

func TestAttributes(t *testing.T) {
	p := newProgram(t)
	tree(p)
	for path, a := range map[string]*dcache.Attr{"/usr/bin/file": aFile, "/usr/bin/tool": aTool, "/usr": aDir, "/lib": aLink} {
		copy(p.out(), bytes.Repeat([]byte{0xa5}, pathRoom))
		if got := p.lstat(path); got != 0 {
			t.Errorf("lstat(%q) = %d", path, got)
			continue
		}
		mtime, ctime := unix.Timespec(a.Mtime), unix.Timespec(a.Ctime)
		btime := mtime
		if a == aTool {
			btime = ctime
		}
		blocks := int64(0)
		if a.Mode&unix.S_IFMT == unix.S_IFREG {
			blocks = (a.Size + 4095) / 4096 * 8
		}
		want := unix.Stat_t{Dev: 100, Ino: a.Ino, Nlink: uint64(a.Links), Mode: a.Mode, Uid: a.UID, Gid: a.GID, Size: a.Size, Blksize: 4096, Blocks: blocks, Atim: mtime, Mtim: mtime, Ctim: ctime}
		if got := *(*unix.Stat_t)(unsafe.Pointer(&p.out()[0])); got != want {
			t.Errorf("lstat(%q):\n got %+v\nwant %+v", path, got, want)
		}
		if p.out()[unsafe.Sizeof(want)] != 0xa5 {
			t.Errorf("lstat(%q) has written more than a struct", path)
		}
		ts := func(ts unix.Timespec) unix.StatxTimestamp {
			return unix.StatxTimestamp{Sec: ts.Sec, Nsec: uint32(ts.Nsec)}
		}
		wantx := unix.Statx_t{Mask: unix.STATX_BASIC_STATS | unix.STATX_BTIME, Blksize: 4096, Nlink: a.Links, Uid: a.UID, Gid: a.GID, Mode: uint16(a.Mode), Ino: a.Ino, Size: uint64(a.Size), Blocks: uint64(blocks),
			Atime: ts(mtime), Btime: ts(btime), Ctime: ts(ctime), Mtime: ts(mtime), Dev_minor: 100}
		copy(p.out(), bytes.Repeat([]byte{0xa5}, pathRoom))
		fdcwd := unix.AT_FDCWD
		if got := p.call(unix.SYS_STATX, uintptr(fdcwd), p.path(path), unix.AT_SYMLINK_NOFOLLOW, unix.STATX_ALL, p.outAt()); got != 0 {
			t.Errorf("statx(%q) = %d", path, got)
		} else if got := *(*unix.Statx_t)(unsafe.Pointer(&p.out()[0])); got != wantx {
			t.Errorf("statx(%q):\n got %+v\nwant %+v", path, got, wantx)
		}
		if p.out()[unsafe.Sizeof(wantx)] != 0xa5 {
			t.Errorf("statx(%q) has written more than a struct", path)
		}
	}
}

func TestCalls(t *testing.T) {
	p := newProgram(t)
	_, _, bin, _ := tree(p)
	p.standIn(bin)
	none, inval, fdcwd := -int(unix.ENOENT), -int(unix.EINVAL), uintptr(0xffffff9c) // as C code leaves it
	tool, link, missing := "/usr/bin/tool", "/lib", "/usr/lib"
	for _, c := range []struct {
		nr   int
		path string
		at   int // which argument the path is
		args []uintptr
		want int
	}{
		{unix.SYS_ACCESS, tool, 0, []uintptr{0, unix.F_OK}, 0},
		{unix.SYS_ACCESS, tool, 0, []uintptr{0, unix.R_OK | unix.X_OK}, 0},
		{unix.SYS_ACCESS, tool, 0, []uintptr{0, unix.W_OK}, left},
		{unix.SYS_ACCESS, tool, 0, []uintptr{0, 8}, left},
		{unix.SYS_ACCESS, "/usr/bin/file", 0, []uintptr{0, unix.R_OK}, left},
		{unix.SYS_ACCESS, missing, 0, []uintptr{0, unix.W_OK}, none},
		{unix.SYS_FACCESSAT, "tool", 1, []uintptr{fdcwd, 0, unix.X_OK}, 0},
		{unix.SYS_FACCESSAT, "tool", 1, []uintptr{5, 0, unix.X_OK}, left},
		{unix.SYS_FACCESSAT, tool, 1, []uintptr{5, 0, unix.X_OK}, 0},
		{unix.SYS_FACCESSAT2, "tool", 1, []uintptr{fdcwd, 0, unix.X_OK, unix.AT_EACCESS}, 0},
		{unix.SYS_FACCESSAT2, "tool", 1, []uintptr{fdcwd, 0, unix.X_OK, unix.AT_EMPTY_PATH}, left},
		{unix.SYS_READLINK, link, 0, []uintptr{0, p.outAt(), 100}, 7},
		{unix.SYS_READLINK, link, 0, []uintptr{0, p.outAt(), 3}, 3},
		{unix.SYS_READLINK, link, 0, []uintptr{0, p.outAt(), 0}, left},
		{unix.SYS_READLINK, tool, 0, []uintptr{0, p.outAt(), 100}, inval},
		{unix.SYS_READLINK, "/usr", 0, []uintptr{0, p.outAt(), 100}, inval},
		{unix.SYS_READLINKAT, "tool", 1, []uintptr{fdcwd, 0, p.outAt(), 100}, inval},
		{unix.SYS_READLINKAT, link, 1, []uintptr{fdcwd, 0, p.outAt(), 100}, 7},
		{unix.SYS_READLINKAT, "none", 1, []uintptr{fdcwd, 0, p.outAt(), 100}, none},
		{unix.SYS_OPEN, missing, 0, []uintptr{0, unix.O_RDWR}, none},
		{unix.SYS_OPEN, missing, 0, []uintptr{0, unix.O_RDWR | unix.O_CREAT}, left},
		{unix.SYS_OPEN, missing, 0, []uintptr{0, unix.O_WRONLY | unix.O_TRUNC}, left},
		{unix.SYS_OPEN, missing, 0, []uintptr{0, unix.O_RDONLY | unix.O_TMPFILE}, left},
		{unix.SYS_OPEN, tool, 0, []uintptr{0, 0}, left},
		{unix.SYS_OPENAT, "none", 1, []uintptr{fdcwd, 0, unix.O_CLOEXEC}, none},
		{unix.SYS_OPENAT, "none", 1, []uintptr{3, 0, unix.O_CLOEXEC}, left},
		{unix.SYS_NEWFSTATAT, "tool", 1, []uintptr{fdcwd, 0, p.outAt(), 0}, 0},
		{unix.SYS_NEWFSTATAT, link, 1, []uintptr{fdcwd, 0, p.outAt(), 0}, left},
		{unix.SYS_NEWFSTATAT, link, 1, []uintptr{fdcwd, 0, p.outAt(), unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT}, 0},
		{unix.SYS_NEWFSTATAT, "", 1, []uintptr{3, 0, p.outAt(), unix.AT_EMPTY_PATH}, left},
		{unix.SYS_NEWFSTATAT, "tool", 1, []uintptr{fdcwd, 0, p.outAt(), 1}, left},
		{unix.SYS_STATX, "tool", 1, []uintptr{fdcwd, 0, 0, 1 << 31, p.outAt()}, left},
		{unix.SYS_STATX, "tool", 1, []uintptr{fdcwd, 0, unix.AT_STATX_FORCE_SYNC, 0, p.outAt()}, left},
		{unix.SYS_MKDIR, missing, 0, []uintptr{0, 0o777}, left},
	} {
		c.args[c.at] = p.path(c.path)
		if got := p.call(c.nr, c.args...); got != c.want {
			t.Errorf("call %d of %q with %#x = %d, want %d", c.nr, c.path, c.args, got, c.want)
		}
		if c.want == 7 || c.want == 3 {
			if got := string(p.out()[:c.want]); got != "usr/bin"[:c.want] {
				t.Errorf("readlink(%q) has stored %q", c.path, got)
			}
		}
	}
}

// What the tree changes is asked about.
func TestTakenBack(t *testing.T) {
	p := newProgram(t)
	root, usr, bin, lib := tree(p)
	p.Leads(lib, bin)
	check := func(what, path string, want int) {
		t.Helper()
		if got := p.stat(path); got != want {
			t.Errorf("%s: stat(%q) = %d, want %d", what, path, got, want)
		}
	}
	none := -int(unix.ENOENT)
	check("before", "/usr/new", none)
	p.Ask(usr, "new")
	check("a new name", "/usr/new", left)
	p.Ask(bin, "none")
	check("a name that wasn't there", "/usr/bin/none", left)
	p.Ask(bin, "file")
	check("a changed file", "/usr/bin/file", left)
	p.Touched(usr)
	check("the directory with the new name", "/usr", left)
	check("another name in it", "/usr/other", none)
	check("what lies below", "/usr/bin/tool", 0)
	check("by a link", "/lib/tool", 0)
	p.standIn(bin)
	p.Forget(usr)
	check("below a directory that was moved", "/usr/bin/tool", left)
	check("by a link that led through it", "/lib/tool", left)
	check("within it", "tool", 0)
	check("from within it", "../bin/tool", left)
	again := p.Dir(root, "usr", aDir, "", 0)
	check("in its place", "/usr", 0)
	check("in what has its place", "/usr/bin/tool", left)
	p.Complete(again)
	check("in what has its place, and is known", "/usr/bin/tool", none)
}

// A table that is full says less.
func TestFull(t *testing.T) {
	p := newProgram(t)
	root, _, _, _ := tree(p)
	for i := 0; p.Unknown(root, strings.Repeat("x", 200)+strconv.Itoa(i)) != 0; i++ {
	}
	if got := p.stat("/new"); got != -int(unix.ENOENT) {
		t.Fatalf("stat of what isn't there = %d", got)
	}
	p.Ask(root, "new")
	if got := p.stat("/new"); got != left {
		t.Errorf("stat of what may be there now = %d, want it left to the kernel", got)
	}
	if got := p.stat("/usr/bin/tool"); got != 0 {
		t.Errorf("stat of what is known = %d", got)
	}
}

func BenchmarkStat(b *testing.B) {
	p := newProgram(b)
	tree(p)
	fn := uintptr(unsafe.Pointer(&p.mem[p.TestSite(unix.SYS_STAT, left)]))
	path, out := p.path("/usr/bin/tool"), p.outAt()
	for b.Loop() {
		if call.Call(fn, path, out, 0, 0, 0) != 0 {
			b.Fatal("left to the kernel")
		}
	}
}

func BenchmarkStatOfTheKernel(b *testing.B) {
	var st unix.Stat_t
	for b.Loop() {
		if err := unix.Stat("/usr/bin/env", &st); err != nil {
			b.Fatal(err)
		}
	}
}

// What isn't there can't be executed, which is all that is known of that.
func TestExecutes(t *testing.T) {
	p := newProgram(t)
	tree(p)
	for _, allowed := range []bool{false, true} {
		for path, want := range map[string]int{
			"/usr/bin/none": -int(unix.ENOENT), "/usr/no/tool": -int(unix.ENOENT), "/usr/bin/tool": left, "/usr/bin": left, "/usr/bin/unheard": left, "": left,
		} {
			if !allowed {
				want = left
			}
			if got := p.call(unix.SYS_EXECVE, p.path(path), 0, 0); got != want {
				t.Errorf("execve(%q) = %d, want %d, allowed %v", path, got, want, allowed)
			}
		}
		p.Executes()
	}
}
