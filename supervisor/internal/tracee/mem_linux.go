package tracee

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

const pageSize = 4096

// ReadMem fills buf from a process's memory. EFAULT means that some of it isn't
// mapped readable, ESRCH that the process is gone (process_vm_readv(2)).
func ReadMem(pid int, addr uint64, buf []byte) error {
	n, err := readSome(pid, addr, buf)
	if err == nil && n < len(buf) {
		err = unix.EFAULT
	}
	return err
}

// ReadSome fills buf as far as a process's memory can be read, and returns how far that is.
func ReadSome(pid int, addr uint64, buf []byte) int {
	n, err := readSome(pid, addr, buf)
	if err != nil {
		return 0
	}
	return n
}

func readSome(pid int, addr uint64, buf []byte) (int, error) {
	if len(buf) == 0 {
		return 0, nil
	}
	local := [1]unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	remote := [1]unix.RemoteIovec{{Base: uintptr(addr), Len: len(buf)}}
	return unix.ProcessVMReadv(pid, local[:], remote[:], 0)
}

// WriteMem writes buf into memory that the process itself could write, and
// returns how much of it was written: less than all of it with EFAULT when some
// isn't mapped writable.
func WriteMem(pid int, addr uint64, buf []byte) (int, error) {
	if len(buf) == 0 {
		return 0, nil
	}
	local := [1]unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	remote := [1]unix.RemoteIovec{{Base: uintptr(addr), Len: len(buf)}}
	n, err := unix.ProcessVMWritev(pid, local[:], remote[:], 0)
	if err == nil && n < len(buf) {
		err = unix.EFAULT
	}
	return max(n, 0), err
}

// Overwrite writes buf into memory that the process itself may not write to, such as its
// program, of which it gets pages of its own (proc_pid_mem(5)).
func Overwrite(pid int, addr uint64, buf []byte) error {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/mem", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	n, err := unix.Pwrite(fd, buf, int64(addr))
	if err == nil && n < len(buf) {
		err = unix.EFAULT
	}
	return err
}

// ReadString reads a NUL-terminated string of at most len(buf)-1 bytes into buf
// and returns it without the NUL. It never reads beyond the page in which the
// string ends, so a string at the end of a mapping is read whole. A longer
// string gives ENAMETOOLONG.
func ReadString(pid int, addr uint64, buf []byte) ([]byte, error) {
	for n := 0; n < len(buf); {
		chunk := min(len(buf)-n, pageSize-int((addr+uint64(n))%pageSize))
		got, err := readSome(pid, addr+uint64(n), buf[n:n+chunk])
		if err != nil {
			return nil, err
		}
		if end := bytes.IndexByte(buf[n:n+got], 0); end >= 0 {
			return buf[:n+end], nil
		}
		if n += got; got < chunk {
			return nil, unix.EFAULT
		}
	}
	return nil, unix.ENAMETOOLONG
}

// An Auxv holds the entries of a program's auxiliary vector (getauxval(3)).
type Auxv struct{ raw []byte }

// Keys of the auxiliary vector (elf.h).
const (
	ATNull       = 0
	ATIgnore     = 1
	ATPhdr       = 3 // where the program headers lie
	ATPhnum      = 5 // how many
	ATEntry      = 9
	ATBase       = 7 // where the dynamic linker lies
	ATRandom     = 25
	ATExecFn     = 31 // the path of the program, as execve was told
	ATSysinfoPtr = 33 // AT_SYSINFO_EHDR, where the vDSO lies
)

// ReadAuxv returns the vector of the program that the process executes.
func ReadAuxv(pid int) (Auxv, error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/auxv", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Auxv{}, fmt.Errorf("open: %w", err)
	}
	defer unix.Close(fd)
	raw := make([]byte, 1024) // the kernel keeps 52 entries at most (linux/mm_types.h)
	n, err := unix.Read(fd, raw)
	if err != nil {
		return Auxv{}, fmt.Errorf("read: %w", err)
	}
	return Auxv{raw[:n]}, nil
}

// Get returns the value of a key.
func (a Auxv) Get(key uint64) (uint64, bool) {
	i := a.index(key)
	if i < 0 {
		return 0, false
	}
	return binary.NativeEndian.Uint64(a.raw[i+8:]), true
}

func (a Auxv) index(key uint64) int {
	for i := 0; i+16 <= len(a.raw); i += 16 {
		switch binary.NativeEndian.Uint64(a.raw[i:]) {
		case key:
			return i
		case ATNull:
			return -1
		}
	}
	return -1
}

// HideVDSO makes a program that has not started yet believe that there is no
// vDSO: its copy of the vector, on the stack above sp, gets AT_IGNORE there.
func (a Auxv) HideVDSO(pid int, sp uint64) error {
	base, ok := a.Get(ATSysinfoPtr)
	if !ok {
		return nil
	}
	return a.Replace(pid, sp, ATSysinfoPtr, ATIgnore, base)
}

// words reads words of a process one after another, a piece of its memory at a time.
type words struct {
	from uint64
	buf  [1024]byte
	n    int
}

func (w *words) at(pid int, addr uint64) (uint64, error) {
	if addr < w.from || addr+8 > w.from+uint64(w.n) {
		const page = 4096
		w.from, w.n = addr, min(len(w.buf), int(page-addr%page))
		if err := ReadMem(pid, addr, w.buf[:w.n]); err != nil {
			w.n = 0
			return 0, err
		}
	}
	return binary.NativeEndian.Uint64(w.buf[addr-w.from:]), nil
}

// Arguments returns where the arguments of a program lie that has not started yet, above
// sp, and how many bytes they are.
func Arguments(pid int, sp uint64) (at, size uint64, err error) {
	// argc, argv, NULL, envp; the strings lie in that order.
	var stack words
	argc, err := stack.at(pid, sp)
	if err != nil || argc == 0 {
		return 0, 0, err
	}
	if at, err = stack.at(pid, sp+8); err != nil {
		return 0, 0, err
	}
	environ, err := stack.at(pid, sp+8+8*argc+8)
	if err != nil || environ <= at {
		return 0, 0, err // there is no environment to end them
	}
	return at, environ - at, nil
}

// Replace changes an entry of the vector of a program that has not started yet, in
// its copy on the stack above sp.
func (a Auxv) Replace(pid int, sp, old, key, value uint64) error {
	// The stack is argc, argv, NULL, envp, NULL, auxv. No pointer in argv or envp
	// equals the small key, so the pair is unmistakable once envp has ended.
	var stack words
	read := func(addr uint64) (uint64, error) { return stack.at(pid, addr) }
	argc, err := read(sp)
	if err != nil {
		return fmt.Errorf("read the stack: %w", err)
	}
	at := sp + 8 + 8*argc + 8
	for {
		v, err := read(at)
		if err != nil {
			return fmt.Errorf("read the environment: %w", err)
		}
		if at += 8; v == 0 {
			break
		}
	}
	for {
		k, err := read(at)
		if err != nil {
			return fmt.Errorf("read the auxiliary vector: %w", err)
		}
		if k == ATNull {
			return fmt.Errorf("no entry %d on the stack, but in the auxiliary vector", old)
		}
		if k == old {
			entry := binary.NativeEndian.AppendUint64(nil, key)
			_, err := WriteMem(pid, at, binary.NativeEndian.AppendUint64(entry, value))
			return err
		}
		at += 16
	}
}
