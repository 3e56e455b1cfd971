package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/det"
)

// Under the seccomp policy of docker run, which keeps one process from taking another's
// descriptors, from making namespaces, from comparing files and from switching address
// randomisation off, calls are answered as ever; and under one that does nothing but the first,
// so are those that can be compared in a namespace alone.
func TestDockersPolicy(t *testing.T) {
	refuse := compileC(t, "refuse", true)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for policy, tests := range map[string]string{
		"docker": "Connecting|TimedCalls|HeldFiles|ExecuteDescriptor|LengthsOfPaths|DirectoryErrors",
		"getfd":  "Controls|NetworkCalls|SocketList|Peers|Publish|NamesOfUnixSockets|FileWatches",
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(refuse, policy, self, "-test.v")
			if testing.Short() {
				cmd.Args = append(cmd.Args, "-test.short")
			} else {
				tests += "|Conformance|Names|Escapes|NoOtherPaths|EveryProcessIsPatched|Detours"
			}
			cmd.Args = append(cmd.Args, "-test.run=^Test("+tests+")$")
			cmd.Env = append(os.Environ(), "SANDTEST_BACKEND=auto")
			if policy == "docker" {
				cmd.Env = append(cmd.Env, aslrVar+"=1")
			}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if passed := strings.Count(string(out), "\n--- PASS: "); passed < 3 {
				t.Errorf("%d tests have passed:\n%s", passed, out)
			}
		})
	}
}

func init() {
	// Tells what descriptors programs have that use some in a sandbox.
	programs["lends"] = func([]string) error {
		var out strings.Builder
		cmd := exec.Command("/bin/sh", "-c", "exec 7</; find /etc -maxdepth 1 -newer /etc/passwd >/dev/null; "+
			"ls /proc/self/fd; ls /proc/$$/fd")
		cmd.Env, cmd.Stdout, cmd.Stderr = environ(), &out, &out
		s, err := Start(cmd, Config{Backend: BackendSeccomp, ASLR: true})
		if err != nil {
			return err
		}
		state, err := s.Wait()
		fmt.Print(state.ExitCode, "\n", out.String())
		return err
	}
}

func init() {
	// Runs a program in a sandbox with the host's clock.
	programs["runs"] = func(args []string) error {
		cmd := exec.Command(args[0])
		cmd.Env, cmd.Stdout, cmd.Stderr = environ(), os.Stdout, os.Stderr
		s, err := Start(cmd, Config{Backend: BackendSeccomp, Clock: det.Host, Trace: true}) // which has it ask each time
		if err != nil {
			return err
		}
		defer time.AfterFunc(ending, s.Kill).Stop()
		state, err := s.Wait()
		if err == nil && len(state.Leaked) > 0 {
			err = fmt.Errorf("%v are left", state.Leaked)
		}
		return err
	}
}

// Who lends while its threads and signals do something else isn't lost, and has the answers of
// that very call.
func TestLendingMeanwhile(t *testing.T) {
	refuse, path := compileC(t, "refuse", true), compileC(t, "lends", false)
	bare, err := cmdC(path).Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := program(t, "runs", path)
	cmd.Path, cmd.Args = refuse, append([]string{refuse, "getfd"}, cmd.Args...)
	if diff := cmp.Diff(lines(string(bare)), lines(runBare(t, cmd))); diff != "" {
		t.Errorf("(-bare +sandbox):\n%s", diff)
	}
}

// What lends its descriptors has no others for it, and no more afterwards.
func TestLendingLeavesNothing(t *testing.T) {
	refuse := compileC(t, "refuse", true)
	cmd := program(t, "lends")
	taken := runBare(t, cmd)
	if strings.Count(taken, "\n7\n") != 2 || !strings.HasPrefix(taken, "0\n") {
		t.Errorf("a program says it has\n%s", taken)
	}
	lends := program(t, "lends")
	lends.Path, lends.Args = refuse, append([]string{refuse, "getfd", lends.Path}, lends.Args[1:]...)
	if lent := runBare(t, lends); lent != taken {
		t.Errorf("where descriptors are lent\n%s\notherwise\n%s", lent, taken)
	}
}
