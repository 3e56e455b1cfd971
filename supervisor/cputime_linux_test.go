package supervisor

import (
	"os/exec"
	"testing"
)

// TestWaitUsage: what a child has used is as much a secret of the host's as what the process
// itself has.
func TestWaitUsage(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	const script = `import ctypes, os
def child(status):
    pid = os.fork()
    if not pid:
        x = [i * i for i in range(300000)]
        os._exit(status)
    return pid
pid = child(3)
got, status, usage = os.wait4(pid, 0)
print(got == pid, status >> 8, sum(usage))
libc = ctypes.CDLL(None)
pid, info, usage = child(4), (ctypes.c_int * 32)(), (ctypes.c_long * 20)(*[7] * 20)
print(libc.syscall(247, 1, pid, info, 4, usage), info[4] == pid, info[6], list(usage))
usage = (ctypes.c_long * 20)(*[7] * 20)
print(libc.syscall(61, -1, None, 0, usage), list(usage))
pid = child(5)
print(os.waitpid(pid, 0)[1] >> 8)`
	want := "True 3 0.0\n0 True 4 [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 7]\n" +
		"-1 [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]\n5\n"
	if got := output(t, Config{}, exec.Command(python, "-c", script)); got != want {
		t.Errorf("it says\n%swant\n%s", got, want)
	}
}

// TestWaitsByUsage: who waits until it has used some time, or the machine has run some, doesn't
// wait for ever.
func TestWaitsByUsage(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	waits := []string{"import resource\nwhile resource.getrusage(resource.RUSAGE_SELF).ru_utime < 0.001: pass"}
	if long {
		waits = append(waits, "first = open('/proc/uptime').read()\nwhile open('/proc/uptime').read() == first: pass")
	}
	for _, wait := range waits {
		if got := output(t, Config{}, exec.Command(python, "-c", wait+"\nprint('over')")); got != "over\n" {
			t.Errorf("%s\nit says %q", wait, got)
		}
	}
}

// TestStoppedState: a process that job control has stopped is seen to be that.
func TestStoppedState(t *testing.T) {
	t.Parallel()
	const script = `sleep 1000 & kill -STOP $!
while ! grep -q "^State:.T (stopped)" /proc/$!/status; do sleep 1; done
read -r pid name state rest </proc/$!/stat; echo $state
kill -CONT $!
while ! grep -q "^State:.S (sleeping)" /proc/$!/status; do sleep 1; done
kill $!; wait`
	cmd := sh(script)
	if got := output(t, Config{}, cmd); got != "T\n" {
		t.Errorf("it says %q", got)
	}
}
