package supervisor

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/det"
)

// Memory counts that no process has mapped, and counts once.
func TestHoardedMemory(t *testing.T) {
	path := compileC(t, "hoard", false)
	const limit = 64 << 20
	for _, kind := range []string{"file", "mapped", "sent", "segment", "deleted", "named", "tables", "spawned"} {
		t.Run(kind, func(t *testing.T) {
			if kind == "deleted" || kind == "named" {
				if !inMemory("/dev/shm") {
					t.Skip("/dev/shm is no tmpfs")
				}
				t.Setenv("TMPDIR", "/dev/shm")
			}
			cfg := Config{Clock: det.Running, Limits: Limits{Memory: limit}}
			if state, out := run(t, cfg, cmdC(path, kind, "48", "again and again")); state.OutOfMemory || out != "done\n" {
				t.Errorf("48 MiB ten times: %+v, %q", state, out)
			}
			if kind == "spawned" {
				return
			}
			if state, out := run(t, cfg, cmdC(path, kind, "80")); !state.OutOfMemory || state.Signal != unix.SIGKILL {
				t.Errorf("80 MiB: %+v, %q", state, out)
			}
		})
	}
}
