//go:build linux

package supervisor

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A sweeper is a process that removes the layers of this one when it has ended without
// having done so itself, by SIGKILL for one: it is a shell that waits for the end of what
// it reads. Where there is no shell, the user's next sandbox removes them (sweepLayers).
//
// The supervisor starts it with its first sandbox. It has a session of its own, so that
// what kills the group or the terminal of the one doesn't kill the other, and is nobody's
// child, so that who waits for his own isn't told of it.
type sweeper struct {
	mu   sync.Mutex
	to   io.WriteCloser // nil if there is none
	told map[string]bool
}

// sweeps is the sweeper of this process.
var sweeps sweeper

// layerPrefix is how the names of this process's layers begin, and nobody else's.
var layerPrefix = sync.OnceValue(func() string {
	return fmt.Sprintf("%d-%x-", os.Getpid(), time.Now().UnixNano())
})

// sweeping reads how paths begin, one a line, and at the end of that removes what there is,
// and before what it notes of System V: where that can't be done, nothing, which leaves it
// to the next sandbox.
var sweeping = fmt.Sprintf(`exec 3<&0
{ while IFS= read -r begin; do set -- "$@" "$begin"; done
for begin; do
	for dir in "$begin"*; do
		[ -e "$dir" ] || continue
		if [ -s "$dir/%[1]s" ]; then
			command -v ipcrm >/dev/null || continue
			while read -r kind key; do
				case $kind in %[2]d) ipcrm -S "$key" ;; %[3]d) ipcrm -Q "$key" ;; esac
			done <"$dir/%[1]s"
		fi
		rm -rf -- "$dir"
	done
	[ ! -d "${begin%%/*}" ] || rmdir -- "${begin%%/*}"
done; } <&3 2>/dev/null &`, leftFile, semaphores, messageQueue)

// watch lets the sweeper know of layers whose paths begin so.
func (w *sweeper) watch(begin ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range begin {
		if w.told[b] || strings.Contains(b, "\n") {
			continue
		}
		if w.to == nil && w.start() != nil {
			return
		}
		if _, err := io.WriteString(w.to, b+"\n"); err != nil { // somebody has killed it
			_ = w.to.Close()
			w.to = nil
			return
		}
		w.told[b] = true
	}
}

func (w *sweeper) start() error {
	cmd := exec.Command("/bin/sh", "-c", sweeping, "sandtest")
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin:" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	from, to, err := os.Pipe()
	if err != nil {
		return err
	}
	defer from.Close()
	cmd.Stdin = from
	// The calling thread may be kept on one CPU and from the time-stamp counter, which is
	// inherited.
	started := make(chan error)
	go func() { started <- cmd.Start() }()
	if err := <-started; err != nil {
		to.Close()
		return err
	}
	go cmd.Wait() // it puts the rest into the background, and ends
	w.to, w.told = to, map[string]bool{}
	return nil
}
