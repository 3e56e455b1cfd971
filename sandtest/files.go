package sandtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/supervisor"
)

// DefaultWork is where a command sees its directory unless told otherwise.
const DefaultWork = "/work"

// loaderNeeds is what dynamic programs need besides themselves, where it exists.
var loaderNeeds = []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload"}

// devices are what /dev holds besides terminals.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty", "ptmx"}

// files adds to cfg what the command sees of the host's files.
func (o Options) files(cmd *exec.Cmd, cfg *supervisor.Config) error {
	if o.Root != "" {
		root, err := filepath.Abs(o.Root)
		if err == nil {
			root, err = filepath.EvalSymlinks(root)
		}
		if err == nil && !isDir(root) {
			err = &os.PathError{Op: "chroot", Path: root, Err: syscall.ENOTDIR}
		}
		if err != nil {
			return fmt.Errorf("sandtest: Root: %w", err)
		}
		o.Root, cfg.Root = root, root
	}
	switch cfg.Work = o.Work; o.Work {
	case "":
		cfg.Work = DefaultWork
	case InPlace:
		cfg.Work = ""
	default:
		if !filepath.IsAbs(o.Work) || filepath.Clean(o.Work) != o.Work || o.Work == "/" {
			return fmt.Errorf("sandtest: Work is %q: want a clean absolute path below the root", o.Work)
		}
	}
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	var list []cow.Mount
	if len(o.Read) > 0 {
		list = append(list, cow.Mount{At: "/", Mode: 0o755}, cow.Mount{At: "/proc", Host: "/proc", Foreign: true})
		for _, path := range loaderNeeds {
			list = append(list, o.within(path)...)
		}
	}
	list = append(list, cow.Mount{At: "/tmp"}, cow.Mount{At: "/tmp/home", Mode: 0o755, UID: uid, GID: gid})
	list = append(list, deviceMounts()...)
	shown, err := o.shown(cmd)
	if err != nil {
		return err
	}
	cfg.Mounts = append(list, shown...)
	return nil
}

// deviceMounts is a /dev that is the same on every machine.
func deviceMounts() []cow.Mount {
	list := []cow.Mount{{At: "/dev", Mode: 0o755}, {At: "/dev/shm"}, {At: "/dev/mqueue"}}
	for _, name := range devices {
		list = append(list, visible("/dev/"+name)...)
	}
	list = append(list, visible("/dev/pts")...)
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		list = append(list, cow.Mount{At: "/dev/" + name, Target: target})
	}
	return list
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// within shows a file of the command's root at its path there, if it exists.
func (o Options) within(path string) []cow.Mount {
	if o.Root == "" {
		return visible(path)
	}
	host, err := inRoot(o.Root, path)
	if err != nil {
		return nil
	}
	return []cow.Mount{{At: path, Host: host}}
}

// visible shows a file of the host at its own path, if it exists.
func visible(path string) []cow.Mount {
	if _, err := os.Stat(path); err != nil {
		return nil
	}
	return []cow.Mount{{At: path, Host: path}}
}

// shown is what the command is to see, and not to see, in particular: the shorter
// paths first, so that each lies in those before it.
func (o Options) shown(cmd *exec.Cmd) ([]cow.Mount, error) {
	var list []cow.Mount
	for _, kind := range []struct {
		name  string
		paths []string
		mount cow.Mount
	}{{"Read", o.Read, cow.Mount{}}, {"Write", o.Write, cow.Mount{Through: true}}, {"Deny", o.Deny, cow.Mount{Denied: true}}} {
		for _, path := range kind.paths {
			at, host, err := o.place(path)
			if err != nil {
				return nil, fmt.Errorf("sandtest: %s: %w", kind.name, err)
			}
			m := kind.mount
			m.At, m.Host = at, host
			list = append(list, m)
		}
	}
	for _, m := range o.Mounts {
		host, err := filepath.Abs(m.Host)
		if err == nil {
			_, err = os.Stat(host)
		}
		if err != nil {
			return nil, fmt.Errorf("sandtest: Mounts: %w", err)
		}
		if m.Path == "" {
			m.Path = host
		}
		if !filepath.IsAbs(m.Path) || filepath.Clean(m.Path) != m.Path || m.Path == "/" {
			return nil, fmt.Errorf("sandtest: Mounts: %q is no clean absolute path below the root", m.Path)
		}
		list = append(list, cow.Mount{At: m.Path, Host: host, ReadOnly: m.ReadOnly})
	}
	// The program itself, which may lie in the host's /tmp.
	if program, err := filepath.Abs(programPath(cmd)); err == nil && cmd.Path != "" && o.Root == "" {
		mounted := slices.ContainsFunc(list, func(m cow.Mount) bool { return strings.HasPrefix(program, m.Host+"/") })
		if hidden := len(o.Read) > 0 || strings.HasPrefix(program, "/tmp/"); hidden && !mounted {
			list = append(list, visible(program)...)
		}
	}
	slices.SortStableFunc(list, func(a, b cow.Mount) int { return strings.Count(a.At, "/") - strings.Count(b.At, "/") })
	return list, nil
}

// place returns where a path of the options is for the command, and where on the host.
func (o Options) place(path string) (at, host string, err error) {
	if o.Root == "" {
		if at, err = filepath.Abs(path); err == nil {
			_, err = os.Stat(at)
		}
		return at, at, err
	}
	if !filepath.IsAbs(path) {
		return "", "", fmt.Errorf("%q is no absolute path: it is one in Root", path)
	}
	host, err = inRoot(o.Root, path)
	return path, host, err
}

// programPath is the command's path as os/exec means it: relative to its
// directory.
func programPath(cmd *exec.Cmd) string {
	if cmd.Dir != "" && !filepath.IsAbs(cmd.Path) {
		return filepath.Join(cmd.Dir, cmd.Path)
	}
	return cmd.Path
}
