package cow

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDescriptorOfLink: a symbolic link that is held open says where it leads.
func TestDescriptorOfLink(t *testing.T) {
	host := t.TempDir()
	const target = "somewhere/else"
	if err := os.Symlink(target, filepath.Join(host, "link")); err != nil {
		t.Fatal(err)
	}
	tr, err := New(Config{Upper: t.TempDir(), Mounts: []Mount{{At: "/", Host: host}}, Start: 1e18})
	if err != nil {
		t.Fatal(err)
	}
	root, err := tr.Lookup(&Walk{Cred: Superuser()}, "/")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := root.ReadDir(); err != nil { // it was seen, and not looked up
		t.Fatal(err)
	}
	for _, known := range []bool{false, true} {
		if known {
			if _, err := tr.Lookup(&Walk{Cred: Superuser(), NoFollow: true}, "/link"); err != nil {
				t.Fatal(err)
			}
		}
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(host, "link"), &st); err != nil {
			t.Fatal(err)
		}
		f := tr.Descriptor(&st)
		if f == nil {
			t.Fatal("it isn't known")
		}
		if got, err := f.Readlink(); got != target || err != nil {
			t.Errorf("it leads to %q, %v", got, err)
		}
		if a, err := f.Stat(); a.Size != int64(len(target)) || err != nil {
			t.Errorf("its size is %d, %v", a.Size, err)
		}
	}
}
