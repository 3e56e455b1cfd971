//go:build linux

package supervisor

import (
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Who uses the package can answer calls for which the sandbox has no answer, and can't
// let through what it refuses.
func TestHandlers(t *testing.T) {
	if exec.Command("perl", "-e", "1").Run() != nil {
		t.Skip("perl isn't there")
	}
	const script = `print syscall(39), " ", syscall(102), " ", syscall(165, 0, 0, 0, 0, 0), " $!\n"` // getpid, getuid, mount
	asked := false
	cfg := Config{Handlers: []Handler{
		Handle("getpid", func(c *Call) Answer { return Return(42) }),
		Handle("getuid", func(c *Call) Answer { return Answer{} }), // no answer: the kernel's
		Handle("mount", func(*Call) Answer { asked = true; return Return(0) }),
	}}
	_, out := run(t, cfg, exec.Command("perl", "-e", script))
	if f := strings.Fields(out); len(f) < 3 || f[0] != "42" || f[2] != "-1" || !strings.HasSuffix(out, "Operation not permitted\n") || asked {
		t.Errorf("it says %q; asked about mount: %v", out, asked)
	}
	if want := strings.Fields(out)[1]; unix.Getuid() == 0 && want != "0" {
		t.Errorf("getuid is %s", want)
	}
	for _, h := range []struct {
		handler Handler
		want    string
	}{
		{Handle("getpit", func(*Call) Answer { return Return(0) }), `no system call "getpit"`},
		{Handle("getpid", nil), "no function"},
		{Handle("execve", func(*Call) Answer { return Return(0) }), "execve is wanted on two channels"},
	} {
		if _, err := Start(exec.Command("true"), Config{Handlers: []Handler{h.handler}}); err == nil || !strings.Contains(err.Error(), h.want) {
			t.Errorf("%v, want %q", err, h.want)
		}
	}
}
