//go:build linux

package cow

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// A journal says what is to be done to any file of the host, and lies in a directory that may
// have come from anywhere: a source tree may bring one along. So before it counts, a mark of
// what it says is put where only this user writes, and what has no mark is not carried out.
// Commits make no names in a tree that a journal could have.

// markDirs are where marks may lie: the second for who has no home, or may not write there.
func markDirs() (dirs []string) {
	own := "sandtest-commits-" + strconv.Itoa(os.Geteuid())
	if cache, err := os.UserCacheDir(); err == nil {
		dirs = append(dirs, filepath.Join(cache, own))
	}
	return append(dirs, filepath.Join(os.TempDir(), own))
}

// CheckOwnDir makes sure that a directory belongs to this user and nobody else can write it.
// Errors: those of lstat(2), and one that says what is in the way.
func CheckOwnDir(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s is in the way: want a directory that belongs to uid %d and that nobody else can write; remove it", dir, os.Geteuid())
	}
	return nil
}

// markName is what the mark of a journal is called.
func markName(home string, text []byte) (string, error) {
	home, err := filepath.Abs(home)
	sum := sha256.Sum256(append([]byte(home+"\x00"), text...))
	return hex.EncodeToString(sum[:]), err
}

// markJournal notes that a journal is this user's.
func markJournal(home string, text []byte) error {
	name, err := markName(home, text)
	if err != nil {
		return err
	}
	var failed error
	for _, dir := range markDirs() {
		err := os.MkdirAll(dir, 0o700)
		if err == nil {
			err = CheckOwnDir(dir)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), nil, 0o600)
		}
		if err == nil {
			return nil
		}
		failed = errors.Join(failed, err)
	}
	return fmt.Errorf("mark a journal as this user's: %w", failed)
}

// checkJournal makes sure that a journal is this user's, and returns its mark.
func checkJournal(home string, text []byte) (mark string, err error) {
	name, err := markName(home, text)
	if err != nil {
		return "", err
	}
	for _, dir := range markDirs() {
		mark := filepath.Join(dir, name)
		if _, err := os.Lstat(mark); err == nil && CheckOwnDir(dir) == nil {
			return mark, nil
		}
	}
	return "", errors.New("no commit of this user on this machine has written it, or its mark is gone: look at what it wants to have done, and remove its directory")
}
