//go:build linux

package supervisor

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// The kernel finds the interpreter of a dynamic program (ld.so) at the host's path of
// that name. Where the sandbox has another file there, the program is executed as a copy
// that names where that is on the host.

// interpreted returns where on the host a program is to be executed: host, or a copy with
// the sandbox's own interpreter.
func (v *view) interpreted(th *thread, f *cow.File, name string, head []byte, host string) (string, error) {
	header, ok := interpreterHeader(head)
	if !ok {
		return host, nil
	}
	interpreter, err := readInterpreter(f, head, header)
	if err != nil || interpreter == "" {
		return host, err // the kernel says what is wrong with it
	}
	var own *cow.File
	var at string
	err = v.at(th, unix.AT_FDCWD, interpreter, 0, func(w *cow.Walk, path string) (err error) {
		if own, err = v.tree.Lookup(w, path); err == nil {
			at, err = own.Executable(w.Cred, interpreter)
		}
		return err
	})
	if o := isOutside(err); o != nil {
		unix.Close(o.fd)
		return "", unix.EACCES
	}
	if err != nil {
		return "", err
	}
	if lower, ok := own.Lower(); ok && lower == v.hostInterpreter(interpreter) {
		return host, nil
	}
	return f.Interpreted(name, at, header)
}

// hostInterpreter returns which file of the host the kernel finds, without links.
func (v *view) hostInterpreter(name string) string {
	if at, ok := v.interpreters.Load(name); ok {
		return at.(string)
	}
	at, err := filepath.EvalSymlinks(name)
	if err != nil {
		at = ""
	}
	v.interpreters.Store(name, at)
	return at
}

// interpreterHeader finds the program header of a program's interpreter in the first
// bytes of the file.
func interpreterHeader(head []byte) (header int64, ok bool) {
	const ehdrSize, phdrSize = 64, 56
	if len(head) < ehdrSize || string(head[:4]) != elf.ELFMAG || elf.Class(head[elf.EI_CLASS]) != elf.ELFCLASS64 {
		return 0, false
	}
	le := binary.LittleEndian
	from, n := le.Uint64(head[32:]), int(le.Uint16(head[56:]))
	for i := range n {
		at := from + uint64(i)*phdrSize
		if at+phdrSize > uint64(len(head)) || at < from {
			return 0, false
		}
		if elf.ProgType(le.Uint32(head[at:])) == elf.PT_INTERP {
			return int64(at), true
		}
	}
	return 0, false
}

// readInterpreter reads the interpreter's path.
func readInterpreter(f *cow.File, head []byte, header int64) (string, error) {
	le := binary.LittleEndian
	at, size := le.Uint64(head[header+8:]), le.Uint64(head[header+32:])
	if size < 2 || size > unix.PathMax {
		return "", nil
	}
	text := make([]byte, size)
	if at+size <= uint64(len(head)) {
		copy(text, head[at:])
	} else {
		fd, err := f.Bytes()
		if err != nil {
			return "", err
		}
		defer unix.Close(fd)
		if n, err := unix.Pread(fd, text, int64(at)); err != nil || n < len(text) {
			return "", err
		}
	}
	text, _, _ = bytes.Cut(text, []byte{0})
	return string(text), nil
}

// findCommand lets os/exec start what the command's path means in the sandbox, where it
// has a root of its own.
func (s *Sandbox) findCommand() error {
	if s.cfg.Root == "" {
		return nil
	}
	if err := s.view.make(); err != nil {
		return err
	}
	th, err := s.outsider()
	if err != nil {
		return err
	}
	cmd, name := s.cmd, s.cmd.Path
	if len(cmd.Args) > 0 && !strings.Contains(cmd.Args[0], "/") {
		if name, err = s.lookPath(th, cmd.Args[0]); err != nil {
			return err
		}
	}
	p, err := s.view.program(th, unix.AT_FDCWD, name, 0, 0)
	if o := isOutside(err); o != nil {
		unix.Close(o.fd)
		err = unix.EACCES
	}
	if err != nil {
		return &os.PathError{Op: "exec in " + s.cfg.Root, Path: name, Err: err}
	}
	s.asGiven.path, s.asGiven.args, s.asGiven.err = cmd.Path, cmd.Args, cmd.Err
	s.commandPath = name
	cmd.Path, cmd.Err = p.host, nil
	if p.script != nil {
		cmd.Args = append(p.script[:len(p.script):len(p.script)], cmd.Args[min(1, len(cmd.Args)):]...)
	}
	return nil
}

// outsider stands for the command before there is one.
func (s *Sandbox) outsider() (*thread, error) {
	status, err := readStatus("/proc/self")
	if err != nil {
		return nil, err
	}
	creds, err := status.credentials(allCapabilities)
	if err != nil {
		return nil, fmt.Errorf("supervisor: read the own credentials: %w", err)
	}
	th := &thread{tid: unix.Getpid(), proc: newProcess(unix.Getpid(), nil, 0)}
	th.creds.Store(creds)
	start, err := s.view.start(th.tid)
	if err != nil {
		return nil, err
	}
	th.fs.Store(&fsState{cwd: spot{dir: start}, umask: s.cfg.Umask})
	return th, nil
}

// lookPath finds a program by its name, as execvp(3) does with the command's PATH.
func (s *Sandbox) lookPath(th *thread, name string) (string, error) {
	found := error(unix.ENOENT)
	for _, dir := range filepath.SplitList(variable(s.cmd.Env, "PATH")) {
		if dir == "" {
			dir = "."
		}
		file := path.Join(dir, name)
		_, err := s.view.program(th, unix.AT_FDCWD, file, 0, 0)
		if o := isOutside(err); o != nil {
			unix.Close(o.fd)
			err = unix.EACCES
		}
		if err == nil {
			return file, nil
		}
		var errno unix.Errno
		if errors.As(err, &errno) && errno == unix.EACCES {
			found = err
		}
	}
	return "", &os.PathError{Op: "find in PATH in " + s.cfg.Root, Path: name, Err: found}
}

// variable returns a variable of an environment, or of the supervisor's where there is
// none.
func variable(env []string, name string) string {
	if env == nil {
		return os.Getenv(name)
	}
	value := ""
	for _, v := range env {
		if rest, ok := strings.CutPrefix(v, name+"="); ok {
			value = rest
		}
	}
	return value
}
