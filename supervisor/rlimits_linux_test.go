package supervisor

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func init() { programs["limited"] = limited }

// limited runs a command with other limits than usual, as on another machine.
func limited(args []string) error {
	lower := func(resource int, cur, max uint64) error {
		var is unix.Rlimit
		if err := unix.Getrlimit(resource, &is); err != nil {
			return err
		}
		return unix.Setrlimit(resource, &unix.Rlimit{Cur: min(cur, is.Max), Max: min(max, is.Max)})
	}
	err := errors.Join(lower(unix.RLIMIT_STACK, 4<<20, unlimited), lower(unix.RLIMIT_NPROC, 9876, 9877), lower(rlimitSigPending, 123, 124), lower(unix.RLIMIT_NOFILE, 512, 1<<20),
		lower(unix.RLIMIT_FSIZE, 1<<40, unlimited), lower(unix.RLIMIT_CORE, 5, unlimited))
	if err != nil {
		return err
	}
	return programs["supervise"](args)
}

// Limits are the same whatever those are of who starts the sandbox, and whoever tells.
func TestUsualLimits(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip(err)
	}
	const script = `ulimit -a; ulimit -Ha; cat /proc/self/limits; ulimit -u 10; ulimit -u; ulimit -Su 11 2>/dev/null || echo no; ulimit -c unlimited 2>/dev/null || echo no; ulimit -i`
	all := output(t, Config{}, exec.Command("bash", "-c", script))
	for _, want := range []string{"-n) 1024\n", "-s) 8192\n", "-u) 15000\n", "-i) 15000\n", "-c) 0\n", "-f) unlimited\n"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	if !strings.HasSuffix(all, "10\nno\nno\n15000\n") {
		t.Errorf("lowered and raised: %s", all)
	}
	elsewhere, err := program(t, "limited", "/bin/bash", "-c", script).Output()
	if diff := cmp.Diff(lines(all), lines(string(elsewhere))); diff != "" || err != nil {
		t.Errorf("%v, with other limits outside (-usual +other):\n%s", err, diff)
	}
	bareText, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		t.Fatal(err)
	}
	values := regexp.MustCompile(`(unlimited|[0-9]+) +(unlimited|[0-9]+) +`)
	inside := output(t, Config{}, sh("cat /proc/self/limits"))
	if diff := cmp.Diff(lines(values.ReplaceAllString(string(bareText), "N ")), lines(values.ReplaceAllString(inside, "N "))); diff != "" {
		t.Errorf("/proc/self/limits (-bare +sandbox):\n%s", diff)
	}
}
