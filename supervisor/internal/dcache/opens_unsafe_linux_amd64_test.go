package dcache_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/supervisor/internal/dcache"
)

// newOpener is newProgram, with the paths where programs have them.
func newOpener(t *testing.T) *program {
	t.Helper()
	fd, err := unix.MemfdCreate("table", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	const size = dcache.OffOffset + 4096
	if err := unix.Ftruncate(fd, size); err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	const own = dcache.PathsAt - dcache.OwnAt
	if _, _, errno := unix.Syscall6(unix.SYS_MMAP, dcache.OwnAt, own+dcache.PathsSize, unix.PROT_READ, unix.MAP_SHARED|unix.MAP_FIXED_NOREPLACE, uintptr(fd), dcache.PathsOffset-own); errno != 0 {
		t.Fatal(errno)
	}
	if _, _, errno := unix.Syscall6(unix.SYS_MMAP, dcache.OwnAt, own, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED, ^uintptr(0), 0); errno != 0 {
		t.Fatal(errno)
	}
	table, err := dcache.New(mem)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Munmap(mem)
		unix.Syscall(unix.SYS_MUNMAP, dcache.OwnAt, own+dcache.PathsSize, 0)
	})
	return &program{table, mem, make([]byte, 2*pathRoom)}
}

func (p *program) open(path string, flags int) int {
	at := unix.AT_FDCWD
	return p.call(unix.SYS_OPENAT, uintptr(at), p.path(path), uintptr(flags))
}

// TestOpens: what is opened by its path is what the kernel opens, with the same flags.
func TestOpens(t *testing.T) {
	p := newOpener(t)
	dir := t.TempDir()
	host := filepath.Join(dir, "file")
	if err := os.WriteFile(host, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	const mark = 1<<(dcache.MarkBits-1) | 77
	root := p.Root(nil, "", 0)
	sub := p.Dir(root, "dir", aDir, dir, mark)
	file := p.File(sub, "file", aFile, "", host, dcache.Identity{})
	link := p.File(root, "link", aLink, "dir/file", "", dcache.Identity{})
	p.Leads(link, file)
	p.File(root, "long", aFile, "", "/"+string(make([]byte, dcache.PathSlot-1)), dcache.Identity{})
	p.File(root, "hidden", aFile, "", "", dcache.Identity{})
	p.File(root, "gone", aFile, "", filepath.Join(dir, "none"), dcache.Identity{})

	check := func(path string, flags int, want string) {
		t.Helper()
		got := p.open(path, flags)
		if want == "" {
			if got != left {
				t.Errorf("open(%q, %#x) = %d, and was to be asked about", path, flags, got)
			}
			return
		}
		if got < 0 {
			t.Errorf("open(%q, %#x) = %d", path, flags, got)
			return
		}
		defer unix.Close(got)
		bare, err := unix.Open(want, flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(bare)
		var a, b unix.Stat_t
		if unix.Fstat(got, &a) != nil || unix.Fstat(bare, &b) != nil || a.Ino != b.Ino || a.Dev != b.Dev {
			t.Errorf("open(%q, %#x) has opened another file than %q", path, flags, want)
		}
		for _, cmd := range []int{unix.F_GETFL, unix.F_GETFD} {
			a, _ := unix.FcntlInt(uintptr(got), cmd, 0)
			b, _ := unix.FcntlInt(uintptr(bare), cmd, 0)
			if a != b {
				t.Errorf("open(%q, %#x): fcntl %d says %#x, and natively %#x", path, flags, cmd, a, b)
			}
		}
		at, err := unix.Seek(got, 0, unix.SEEK_CUR)
		wantAt := int64(0)
		if want == dir {
			wantAt = mark << dcache.PositionBits
		}
		if err != nil || at != wantAt {
			t.Errorf("open(%q, %#x) stands at %#x, %v, want %#x", path, flags, at, err, wantAt)
		}
	}
	check("/dir/file", 0, "")
	p.Opens(true)
	for flags := range 16 {
		const bit = 1
		f := 0
		for i, flag := range []int{unix.O_CLOEXEC, unix.O_NONBLOCK, unix.O_NOFOLLOW, unix.O_NOCTTY} {
			if flags>>i&bit != 0 {
				f |= flag
			}
		}
		check("/dir/file", f, host)
		check("/dir", f, dir)
		check("/dir/", f|unix.O_DIRECTORY, dir)
		if f&unix.O_NOFOLLOW == 0 {
			check("/link", f, host)
		} else {
			check("/link", f, "")
		}
	}
	for _, flags := range []int{unix.O_WRONLY, unix.O_RDWR, unix.O_APPEND, unix.O_CREAT, unix.O_TRUNC, unix.O_PATH, unix.O_TMPFILE, unix.O_DIRECT,
		unix.O_SYNC, unix.O_NOATIME, unix.O_ASYNC, unix.O_DIRECTORY, 1 << 30} {
		check("/dir/file", flags, "")
	}
	check("/dir/file/", 0, "")
	check("/long", 0, "")
	check("/hidden", 0, "")
	check("/gone", 0, "")
	p.standIn(sub)
	check("file", 0, host)
	check(".", 0, dir)

	p.Touched(sub)
	check("/dir", 0, dir)
	p.Ask(sub, "file")
	check("/dir/file", 0, "")
	p.Forget(sub)
	check("/dir", 0, "")
	another := p.File(root, "another", aFile, "", host, dcache.Identity{})
	check("/another", 0, host)
	p.Opens(false)
	check("/another", 0, "")
	p.Opens(true)
	p.Forget(another)
	check("/another", 0, "")
}

// TestPathsTakenBack: the path of what has changed opens nothing, for who knows where it lies
// either.
func TestPathsTakenBack(t *testing.T) {
	p := newOpener(t)
	host := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(host, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.Opens(true)
	root := p.Root(nil, "", 0)
	file := p.File(root, "file", aFile, "", host, dcache.Identity{})
	const first = dcache.PathsAt + dcache.HowSlots*dcache.PathSlot
	open := func() unix.Errno {
		fd, _, errno := unix.Syscall6(dcache.Opener, ^uintptr(0), first, dcache.PathsAt, dcache.HowSize, 0, 0)
		if errno == 0 {
			unix.Close(int(fd))
		}
		return errno
	}
	if errno := open(); errno != 0 {
		t.Fatalf("the first path isn't where it is expected: %v", errno)
	}
	p.Closes(host)
	if got := p.open("/file", 0); got != left {
		t.Errorf("open says %d", got)
	}
	_ = file
	if errno := open(); errno != unix.ENOENT {
		t.Errorf("the path of a file that has changed: %v, want ENOENT", errno)
	}
}

// TestIdentities: what is open is what the kernel says, and nothing else of that is there.
func TestIdentities(t *testing.T) {
	p := newOpener(t)
	p.Opens(true)
	root := p.Root(nil, "", 0)
	dir := t.TempDir()
	open := func(name string) (fd int, id dcache.Identity) {
		t.Helper()
		fd, err := unix.Open(filepath.Join(dir, name), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
		var st unix.Stat_t
		if err != nil || unix.Fstat(fd, &st) != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd, dcache.Identity{Dev: st.Dev, Ino: st.Ino}
	}
	fd, id := open("file")
	other, otherID := open("other")
	unknown, _ := open("unknown")
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	file := p.File(root, "file", aFile, "", filepath.Join(dir, "file"), id)
	p.File(root, "other", aTool, "", filepath.Join(dir, "other"), otherID)
	p.File(root, "again", aTool, "", filepath.Join(dir, "again"), id) // the first counts

	const statIno, statxIno = 8, 32
	check := func(what string, fd, want int, a *dcache.Attr) {
		t.Helper()
		number := func(call string, got, at int) {
			t.Helper()
			ino := binary.NativeEndian.Uint64(p.out()[at:])
			if clear(p.out()); got != want || want == 0 && ino != a.Ino {
				t.Errorf("%s of %s = %d, number %d, want %d, %+v", call, what, got, ino, want, a)
			}
		}
		number("fstat", p.call(unix.SYS_FSTAT, uintptr(fd), p.outAt()), statIno)
		number("statx", p.call(unix.SYS_STATX, uintptr(fd), p.path(""), unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, p.outAt()), statxIno)
		if got := p.call(unix.SYS_NEWFSTATAT, uintptr(fd), p.path("file"), p.outAt(), unix.AT_EMPTY_PATH); got != left {
			t.Errorf("newfstatat of a name in %s = %d, want it left to the kernel", what, got)
		}
	}
	check("a file", fd, 0, aFile)
	check("another", other, 0, aTool)
	check("one that isn't known", unknown, left, nil)
	check("a pipe", int(reader.Fd()), left, nil)
	check("nothing", 999, left, nil)
	if _, err := unix.Seek(fd, 3, unix.SEEK_SET); err != nil {
		t.Fatal(err)
	}
	check("a file, elsewhere in it", fd, 0, aFile)
	busy := (*uint32)(unsafe.Pointer(&p.mem[dcache.IdentifyingOffset]))
	*busy = 1
	check("a file, while a thread asks", fd, left, nil)
	*busy = 0
	check("a file, after that", fd, 0, aFile)
	p.Opens(false)
	check("a file that may not be opened", fd, left, nil)
	p.Opens(true)
	p.Forget(file)
	check("a file whose name means something else", fd, left, nil)
	p.Other(id.Dev, id.Ino+1<<40)
	check("another than one that has changed", other, 0, aTool)
	p.Other(otherID.Dev, otherID.Ino)
	check("a file that has changed", other, left, nil)

	var st unix.Stat_t
	_, _, errno := unix.Syscall(unix.SYS_FSTAT, uintptr(other), dcache.IdentityAt, 0)
	if err := unix.Fstat(other, &st); err != nil || errno != unix.EFAULT {
		t.Errorf("fstat says %v, %v", errno, err)
	}
	own, place := dcache.OwnAt, make([]byte, dcache.PathsAt-dcache.OwnAt)
	if _, err := unix.ProcessVMReadv(os.Getpid(), []unix.Iovec{{Base: &place[0], Len: uint64(len(place))}}, []unix.RemoteIovec{{Base: uintptr(own), Len: len(place)}}, 0); err != nil {
		t.Fatal(err)
	}
	want := binary.NativeEndian.AppendUint64(make([]byte, dcache.IdentityAt-dcache.OwnAt), st.Dev)
	if want = binary.NativeEndian.AppendUint64(want, st.Ino); !bytes.Equal(place, want) {
		t.Errorf("the kernel tells %x, want %x", place, want)
	}
}
