//go:build linux

package cow

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Lower returns where the file lies on the host as it is, and false if what it holds, or
// who may do what with it, is the tree's own.
func (f *File) Lower() (string, bool) {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	in := f.e.inode
	return in.lower, in.lower != "" && in.object == nil && in.own&ownAttr == 0
}

// HostPath returns where on the host the file's bytes are, empty if they are nowhere.
func (f *File) HostPath() string {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	if o := f.e.inode.object; o != nil {
		return o.path
	}
	return f.e.inode.lower
}

// Interpreted returns a path of the host at which the kernel finds the program under the
// name of path, with another interpreter: header is where in the file the program header
// of its PT_INTERP lies (elf(5)). The program is copied once, and its copy is the file, to
// those who ask what it is.
func (f *File) Interpreted(path, interpreter string, header int64) (host string, err error) {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	if err := f.t.settle(f.e.inode); err != nil { // so that its time tells its bytes from others
		return "", err
	}
	from, err := f.t.openToRead(f.e.inode)
	if err != nil {
		return "", err
	}
	defer unix.Close(from)
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return "", err
	}
	key := fmt.Sprintf("%v %d %d %s", idOf(&st), st.Size, st.Mtim.Nano(), interpreter)
	return f.t.nameObject(nil, key, filepath.Base(path), func(_, at string) error {
		defer f.t.noForks()()
		to, err := os.OpenFile(at, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o700)
		if err != nil {
			return err
		}
		defer to.Close()
		if err := copyBytes(int(to.Fd()), from); err != nil {
			return err
		}
		if err := setInterpreter(to, header, st.Size, interpreter); err != nil {
			return err
		}
		if err := to.Chmod(0o755); err != nil {
			return err
		}
		if err := unix.Fstat(int(to.Fd()), &st); err != nil {
			return err
		}
		f.t.knows(idOf(&st), f.e.inode)
		return nil
	})
}

// setInterpreter lets a program header lead to a path at the end of the file. The memory
// that it names is left as it is: it is the dynamic linker that looks there, for the name
// that the program knows it by.
func setInterpreter(to *os.File, header, size int64, interpreter string) error {
	const offset, fileSize = 8, 32 // in Elf64_Phdr
	text := append([]byte(interpreter), 0)
	if _, err := to.WriteAt(text, size); err != nil {
		return err
	}
	b := binary.LittleEndian.AppendUint64(nil, uint64(size))
	if _, err := to.WriteAt(b, header+offset); err != nil {
		return err
	}
	_, err := to.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), header+fileSize)
	return err
}
