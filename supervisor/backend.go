package supervisor

import (
	"fmt"
	"os"
)

// A Backend is what a sandbox is made of. What programs see is the same, but for their
// process ids.
type Backend int

const (
	// BackendAuto, the zero value, is what the environment variable SANDTEST_BACKEND names,
	// so that a suite of tests can be run with either; without it BackendNamespaces where
	// the machine allows it, else BackendSeccomp. State.Stats says which it was.
	BackendAuto Backend = iota

	// BackendSeccomp makes do with seccomp and ptrace, and works wherever those do. Process
	// ids are the host's.
	BackendSeccomp

	// BackendNamespaces gives the sandbox namespaces of processes and mounts of its own
	// (namespaces(7)), and, where nothing of the host's network is wanted, one of the network,
	// with a user namespace where there is no privilege.
	// Process ids are small, and those of processes that are created one after another the
	// same in every run: the command is 2, its parent 1. It is an error on a machine that
	// allows no such namespaces.
	BackendNamespaces
)

var backends = [...]string{BackendAuto: "auto", BackendSeccomp: "seccomp", BackendNamespaces: "namespaces"}

// String returns the name by which the command's --backend knows it.
func (b Backend) String() string {
	if b < 0 || int(b) >= len(backends) {
		return fmt.Sprintf("Backend(%d)", int(b))
	}
	return backends[b]
}

// ParseBackend is the opposite of String.
func ParseBackend(name string) (Backend, error) {
	for b, known := range backends {
		if name == known {
			return Backend(b), nil
		}
	}
	return 0, fmt.Errorf("unknown backend %q: want auto, seccomp or namespaces", name)
}

// chosen returns the backend that is to be had.
func (b Backend) chosen() (Backend, error) {
	if b < 0 || int(b) >= len(backends) {
		return b, fmt.Errorf("unknown backend %v", b)
	}
	name := os.Getenv("SANDTEST_BACKEND")
	if b != BackendAuto || name == "" {
		return b, nil
	}
	b, err := ParseBackend(name)
	if err != nil {
		return b, fmt.Errorf("SANDTEST_BACKEND: %w", err)
	}
	return b, nil
}
