package supervisor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func init() { programs["peers"] = tellPeers }

// tellPeers listens at a path and at an abstract name, lets a process of its own connect,
// and prints who each end says is at the other. The argument makes it that process.
func tellPeers(args []string) error {
	if len(args) > 0 {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err == nil {
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: args[0]})
		}
		if err == nil {
			fmt.Println("server:", isAtTheEnd(fd, os.Getppid()))
		}
		return err
	}
	for _, name := range []string{"listens", "@listens"} {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: name}), unix.Listen(fd, 1)); err != nil {
			return err
		}
		cmd := exec.Command(os.Args[0], name)
		cmd.Env = append(os.Environ(), programVar+"=peers")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Start(); err != nil {
			return err
		}
		end, _, err := unix.Accept(fd)
		if err != nil {
			return err
		}
		if err := cmd.Wait(); err != nil {
			return err
		}
		fmt.Println("client:", isAtTheEnd(end, cmd.Process.Pid))
		fmt.Println("itself:", isAtTheEnd(fd, os.Getpid()))
		os.Remove(name)
	}
	return nil
}

// isAtTheEnd tells whether the peer of a socket is a process of the same user.
func isAtTheEnd(fd, pid int) string {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return err.Error()
	}
	groups, err := os.Getgroups()
	if err != nil {
		return err.Error()
	}
	told, err := rawOption(fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS, 4*len(groups)+4)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(int(cred.Pid) == pid, int(cred.Uid) == os.Getuid(), int(cred.Gid) == os.Getgid(), len(told) == 4*len(groups))
}

// TestPeers: the ends of a Unix socket's connection learn who is at the other, as on the
// bare kernel.
func TestPeers(t *testing.T) {
	bare := program(t, "peers")
	bare.Dir = t.TempDir()
	want, err := bare.CombinedOutput()
	if err != nil {
		t.Fatalf("bare: %v\n%s", err, want)
	}
	cmd := program(t, "peers")
	cmd.Dir = t.TempDir()
	if diff := cmp.Diff(string(want), succeeds(t, Config{}, cmd)); diff != "" {
		t.Errorf("bare (-) and in the sandbox (+):\n%s", diff)
	}
}
