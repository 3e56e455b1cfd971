package cow

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSpares: objects that are made before they are needed are each one file's, and no more
// than it seems that are needed.
func TestSpares(t *testing.T) {
	upper := t.TempDir()
	tr, err := New(Config{Upper: upper, Mounts: []Mount{{At: "/", Host: t.TempDir()}}, Start: 1e18})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Rest()
	w := &Walk{Cred: Superuser()}
	const files = 400
	taken := 0
	for i := range files {
		tr.Rest() // so that there is one, if there is to be one
		tr.mu.Lock()
		before := len(tr.spares.list)
		tr.mu.Unlock()
		name := fmt.Sprint("/", i)
		fd, err := tr.Open(w, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if before > 0 {
			taken++
		}
		if _, err := unix.Write(fd, []byte(name)); err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
	if taken < files/2 {
		t.Errorf("of %d files %d have got an object that was there", files, taken)
	}
	for i := range files {
		name := fmt.Sprint("/", i)
		fd, err := tr.Open(w, name, unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		n, err := unix.Read(fd, buf)
		unix.Close(fd)
		if got := string(buf[:max(n, 0)]); got != name || err != nil {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
	tr.Rest()
	entries, err := os.ReadDir(upper)
	if most := files + files/sparesShare; err != nil || len(entries) > most {
		t.Errorf("%d objects (%v) for %d files, want no more than %d", len(entries), err, files, most)
	}
	changes, err := tr.Changes()
	if err != nil || len(changes) != files {
		t.Errorf("%d changes (%v), want %d", len(changes), err, files)
	}

	// Where no more can be made, whoever needs one is told.
	if unix.Geteuid() == 0 {
		return // who may make files anywhere
	}
	if err := os.Chmod(upper, 0o500); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(upper, 0o700)
	for i := range files {
		fd, err := tr.Open(w, fmt.Sprint("/more", i), unix.O_WRONLY|unix.O_CREAT, 0o644)
		if err == unix.EACCES {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
	t.Errorf("there were objects for %d files in a directory without write permission", files)
}

// TestSpareFlags: a file that has got an object that was there is open as the kernel would
// have opened it.
func TestSpareFlags(t *testing.T) {
	dir, upper := t.TempDir(), t.TempDir()
	tr, err := New(Config{Upper: upper, Mounts: []Mount{{At: "/", Host: dir}}, Start: 1e18})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Rest()
	w := &Walk{Cred: Superuser()}
	ready, all := 0, 0
	for round := range 2 * firstSpares {
		for i, flags := range []int{
			unix.O_WRONLY, unix.O_WRONLY, unix.O_WRONLY | unix.O_APPEND, unix.O_RDWR, unix.O_RDWR | unix.O_NONBLOCK, unix.O_RDONLY, unix.O_RDONLY,
			unix.O_WRONLY | unix.O_NOFOLLOW, unix.O_RDWR | unix.O_SYNC, unix.O_RDWR | unix.O_NOATIME, unix.O_RDWR | 0o100000, unix.O_WRONLY | unix.O_NOCTTY | unix.O_TRUNC,
		} {
			if round%4 == 0 {
				tr.Rest()
			}
			tr.spares.made.Wait()
			tr.mu.Lock()
			if n := len(tr.spares.list); n > 0 && tr.spares.list[n-1].fd >= 0 && tr.spares.list[n-1].access == flags&unix.O_ACCMODE {
				ready++
			}
			tr.mu.Unlock()
			name := fmt.Sprint("f", round, "-", i)
			fd, err := tr.Open(w, "/"+name, flags|unix.O_CREAT|unix.O_EXCL, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			bare, err := unix.Open(upper+"/"+name, flags|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			got, gotErr := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			want, wantErr := unix.FcntlInt(uintptr(bare), unix.F_GETFL, 0)
			if got != want || gotErr != nil || wantErr != nil {
				t.Errorf("opened with %#o it has %#o (%v), natively %#o (%v)", flags, got, gotErr, want, wantErr)
			}
			unix.Close(bare)
			unix.Close(fd)
			all++
		}
	}
	tr.Rest()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.HasPrefix(to, upper) {
			t.Errorf("%s stays open", to)
		}
	}
	if ready < all/8 {
		t.Errorf("of %d files %d were open already", all, ready)
	}
}
