//go:build linux

package supervisor

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Semaphores and message queues of System V outlive whoever has made them, also a supervisor
// that was killed. So each gets a key of its own, at random, and before it is made the key
// is noted in the directory of the layer. Who removes a directory that was left behind, the
// sweeper (sweeper.go) or the next sandbox (layerdir.go), removes these before.

// leftFile is the file in that directory.
const leftFile = "sysv"

// A leftKey is a line of it.
type leftKey struct {
	kind systemVKind
	key  int32
}

// make makes an object with a key that nobody knows.
func (v *systemVObjects) make(kind systemVKind, size uint64, flags int32) (int32, error) {
	if kind == sharedMemory { // which is removed as soon as it is held
		return systemVGet(kind, unix.IPC_PRIVATE, size, flags|unix.IPC_CREAT)
	}
	const tries = 100
	for range tries {
		var b [4]byte
		rand.Read(b[:]) // never fails
		key := int32(binary.NativeEndian.Uint32(b[:])>>1 | 1)
		undo, err := v.note(leftKey{kind, key})
		if err != nil {
			return 0, err
		}
		id, err := systemVGet(kind, key, size, flags|unix.IPC_CREAT|unix.IPC_EXCL)
		if err == nil {
			return id, nil
		}
		if failed := undo(); failed != nil {
			return 0, failed
		}
		if err != unix.EEXIST {
			return 0, err
		}
	}
	return 0, unix.ENOSPC
}

// note writes a line, and returns how it is taken back.
func (v *systemVObjects) note(k leftKey) (undo func() error, err error) {
	if v.left == nil {
		if v.left, err = os.OpenFile(filepath.Join(v.s.view.small, leftFile), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
			return nil, fmt.Errorf("note what may be left behind: %w", err)
		}
	}
	end, err := v.left.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = fmt.Fprintf(v.left, "%d %d\n", k.kind, k.key)
	}
	undo = func() error { return v.left.Truncate(end) }
	if err != nil {
		return nil, errors.Join(err, undo())
	}
	return undo, nil
}

// forgetLeft is for the end, when everything has been removed.
func (v *systemVObjects) forgetLeft() error {
	if v.left == nil {
		return nil
	}
	err := errors.Join(v.left.Truncate(0), v.left.Close())
	v.left = nil
	return err
}

// removeLeft removes what the supervisor whose directory it was has left behind. What can't
// be read or removed isn't the user's.
func removeLeft(dir string) {
	f, err := os.Open(filepath.Join(dir, leftFile))
	if err != nil {
		return
	}
	defer f.Close()
	for {
		var k leftKey
		if n, _ := fmt.Fscanln(f, &k.kind, &k.key); n != 2 {
			return
		}
		if k.kind != semaphores && k.kind != messageQueue || k.key == unix.IPC_PRIVATE {
			continue
		}
		if id, err := systemVGet(k.kind, k.key, 0, 0); err == nil {
			_ = systemVControl(k.kind, id, unix.IPC_RMID, nil)
		}
	}
}
