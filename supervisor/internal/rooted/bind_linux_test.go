package rooted_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/sandtest/go-sandtest/supervisor/internal/rooted"
	"github.com/sandtest/go-sandtest/supervisor/internal/tsc"
	"golang.org/x/sys/unix"
)

func address(name string) []byte {
	return append(append(binary.NativeEndian.AppendUint16(nil, unix.AF_UNIX), name...), 0)
}

func isDenied(err error) bool {
	var clone *rooted.CloneError
	return errors.As(err, &clone)
}

// bind binds a new socket, or skips the test where no such process can be.
func bind(t *testing.T, name, root, dir string) (fd int, err error) {
	t.Helper()
	if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd, rooted.Bind(fd, address(name), root, dir, os.Geteuid() == 0)
}

// The kernel tells the name as the other root has it; the file is there, and this process
// has its own root still.
func TestBind(t *testing.T) {
	if os.Geteuid() != 0 {
		if _, err := bind(t, "/probe", t.TempDir(), "/"); isDenied(err) {
			t.Skip("no user namespaces: ", err)
		}
	}
	for _, tt := range []struct{ name, dir, at string }{
		{"/run/x.sock", "/", "run/x.sock"},
		{"x.sock", "/run", "run/x.sock"},
		{"../x.sock", "/run", "x.sock"},
	} {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, "run"), 0o777); err != nil {
			t.Fatal(err)
		}
		fd, err := bind(t, tt.name, root, tt.dir)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if sa, err := unix.Getsockname(fd); err != nil || sa.(*unix.SockaddrUnix).Name != tt.name {
			t.Errorf("its name is %v (%v), want %s", sa, err, tt.name)
		}
		if f, err := os.Lstat(filepath.Join(root, tt.at)); err != nil || f.Mode()&os.ModeSocket == 0 {
			t.Errorf("at %s: %v, %v, want a socket", tt.at, f, err)
		}
	}
}

// TestBindWithoutCounter: a thread that is kept from the time-stamp counter makes way for
// other goroutines, which reads the clock, while signals are blocked.
func TestBindWithoutCounter(t *testing.T) {
	if !tsc.Dear() {
		t.Skip("threads aren't kept from the counter on this machine")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tsc.Forbid()
	defer tsc.Allow()
	var wg sync.WaitGroup
	defer wg.Wait()
	done := make(chan struct{})
	defer close(done)
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				runtime.GC() // has them all make way
			}
		}
	})
	root := t.TempDir()
	for range 1000 {
		if _, err := bind(t, "/none/x", root, "/"); isDenied(err) {
			t.Skip("no user namespaces: ", err)
		} else if err != unix.ENOENT {
			t.Fatal(err)
		}
	}
}

func TestBindFails(t *testing.T) {
	for _, tt := range []struct {
		name, root, dir string
		want            unix.Errno
	}{
		{"/x", "/nonexistent/root", "/", unix.ENOENT},
		{"/x", "", "/nonexistent", unix.ENOENT},
		{"/no/dir", "", "/", unix.ENOENT},
	} {
		root := tt.root
		if root == "" {
			root = t.TempDir()
		}
		if _, err := bind(t, tt.name, root, tt.dir); err != tt.want && os.Geteuid() == 0 {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

// Many at once, beside goroutines that allocate: none disturbs another.
func TestBindAtOnce(t *testing.T) {
	if os.Geteuid() != 0 {
		if _, err := bind(t, "/probe", t.TempDir(), "/"); isDenied(err) {
			t.Skip("no user namespaces: ", err)
		}
	}
	root := t.TempDir()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 50 {
				fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					t.Error(err)
					return
				}
				name := "/" + string(rune('a'+i)) + string(rune('A'+n))
				if err := rooted.Bind(fd, address(name), root, "/", os.Geteuid() == 0); err != nil {
					t.Error(err)
				}
				unix.Close(fd)
				_ = make([]byte, 1<<16)
			}
		})
	}
	all.Wait()
}

// Whatever a path looks like, there is a place for it, and the kernel tells it.
func TestScaffold(t *testing.T) {
	if _, err := bind(t, "/probe", t.TempDir(), "/"); isDenied(err) {
		t.Skip("no user namespaces: ", err)
	}
	for _, path := range []string{
		"x", "/x", "a/x", "./a//x", "../x", "../../d", "../d", "x/../../d", "l/../l", "/l/../l", "/../x", "/a/../../a/x", "d/dd/../ddd/d",
		"//a/b/c/../../../a/b/c", "a/a/a/../../../../a", strings.Repeat("a/", 53) + "x", strings.Repeat("../", 34) + "x", strings.Repeat("a/../", 20) + "x",
	} {
		root := t.TempDir()
		file, dir, err := rooted.Scaffold(root, path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		fd, err := bind(t, path, root, dir)
		if err != nil {
			t.Errorf("%s in %s: %v", path, dir, err)
			continue
		}
		if sa, err := unix.Getsockname(fd); err != nil || sa.(*unix.SockaddrUnix).Name != path {
			t.Errorf("%s: its name is %v, %v", path, sa, err)
		}
		if f, err := os.Lstat(file); err != nil || f.Mode()&os.ModeSocket == 0 {
			t.Errorf("%s: at %s there is %v, %v", path, file, f, err)
		}
	}
	for _, path := range []string{"", ".", "..", "a/", "/", "a/..", "a/."} {
		if _, _, err := rooted.Scaffold(t.TempDir(), path); err != unix.EADDRINUSE {
			t.Errorf("%q: %v, want %v", path, err, unix.EADDRINUSE)
		}
	}
}
