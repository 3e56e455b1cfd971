package supervisor

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func init() {
	programs["terminals"] = showTerminals
	programs["own terminal"] = takeOwnTerminal
	programs["closes on exec"] = closesOnExec
}

// openTerminals opens a pseudo terminal, and returns both ends and the number of the second.
func openTerminals() (master, slave, n int, err error) {
	if master, err = unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return
	}
	if err = unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return
	}
	if n, err = unix.IoctlGetInt(master, unix.TIOCGPTN); err != nil {
		return
	}
	slave, err = unix.Open(fmt.Sprintf("/dev/pts/%d", n), unix.O_RDWR|unix.O_NOCTTY, 0)
	return
}

// showTerminals opens terminals and prints what tells of them, and what comes of opening
// those that are named.
func showTerminals(others []string) error {
	for range 2 {
		master, slave, n, err := openTerminals()
		if err != nil {
			return err
		}
		var byFD, byPath unix.Stat_t
		link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", slave))
		err = errors.Join(err, unix.Fstat(slave, &byFD), unix.Stat(link, &byPath))
		if err != nil {
			return err
		}
		dev, err := unix.IoctlGetInt(master, tiocgdev)
		if err != nil {
			return err
		}
		info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", master))
		if err != nil {
			return err
		}
		_, index, _ := strings.Cut(string(info), "tty-index:\t")
		peer, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY)
		if e != 0 {
			return e
		}
		peerLink, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", peer))
		if err != nil {
			return err
		}
		fmt.Printf("%d: %s, %s, device %d:%d, the same by path %v, TIOCGDEV %#x, fdinfo %s\n", n, link, peerLink,
			unix.Major(byFD.Rdev), unix.Minor(byFD.Rdev), byFD.Rdev == byPath.Rdev && byFD.Ino == byPath.Ino, dev, strings.TrimSpace(index))
	}
	list, err := os.ReadDir("/dev/pts")
	if err != nil {
		return err
	}
	for _, e := range list {
		fmt.Println(e.Name(), e.Type() == os.ModeDevice|os.ModeCharDevice)
	}
	for _, name := range others {
		fd, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY, 0)
		fmt.Printf("another's: %v\n", err)
		if err == nil {
			_, _ = unix.Write(fd, []byte("escaped\n"))
		}
	}
	return nil
}

// A sandbox has terminals of its own, and doesn't reach others of the same user.
func TestTerminals(t *testing.T) {
	master, slave := newTerminal(t)
	for range 3 { // so that the host's numbers aren't the sandbox's
		newTerminal(t)
	}
	want := "0: /dev/pts/0, /dev/pts/0, device 136:0, the same by path true, TIOCGDEV 0x8800, fdinfo 0\n" +
		"1: /dev/pts/1, /dev/pts/1, device 136:1, the same by path true, TIOCGDEV 0x8801, fdinfo 1\n" +
		"0 true\n1 true\nptmx true\nanother's: no such file or directory\n"
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	for n < 2 {
		master, slave = newTerminal(t)
		if n, err = unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN); err != nil {
			t.Fatal(err)
		}
	}
	got := output(t, Config{}, program(t, "terminals", slave.Name()))
	if diff := cmp.Diff(lines(want), lines(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := unix.SetNonblock(int(master.Fd()), true); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Read(int(master.Fd()), make([]byte, 16)); err != unix.EAGAIN {
		t.Errorf("%d bytes, %v have come to another's terminal", n, err)
	}
}

// What the command was given is the first of its terminals, and its own.
func TestGivenTerminal(t *testing.T) {
	if _, err := exec.LookPath("ps"); err != nil {
		t.Skip(err)
	}
	for range 2 {
		newTerminal(t)
	}
	master, slave := newTerminal(t)
	cmd := sh(`tty; readlink /proc/self/fd/0; ls -1 /dev/pts; cut -d' ' -f7 /proc/self/stat; ps -o tty= -p $$; stat -c %t:%T "$(tty)"; echo own >/dev/pts/0`)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	s, err := Start(cmd, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(ending, s.Kill).Stop()
	shown := bufio.NewReader(master)
	for _, want := range []string{"/dev/pts/0", "/dev/pts/0", "0", "ptmx", "34816", "pts/0", "88:0", "own"} {
		if line, err := shown.ReadString('\n'); strings.TrimSpace(line) != want {
			t.Errorf("%q, %v, want %q", line, err, want)
		}
	}
	if state, err := s.Wait(); err != nil || state.ExitCode != 0 {
		t.Errorf("state %+v, %v", state, err)
	}
}

// takeOwnTerminal opens a terminal as the leader of a session that has none, and says
// whether it is its own then, unless it is told to become the leader first.
func takeOwnTerminal(args []string) error {
	if len(args) == 0 {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		for _, flags := range []int{0, unix.O_NOCTTY, unix.O_CLOEXEC} {
			cmd := exec.Command(self, strconv.Itoa(flags))
			cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = os.Stdout, os.Stderr, &syscall.SysProcAttr{Setsid: true}
			if err := cmd.Run(); err != nil {
				return err
			}
		}
		return nil
	}
	flags, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	signal.Ignore(unix.SIGHUP) // of the terminal, when it is closed
	master, _, n, err := openTerminals()
	if err != nil {
		return err
	}
	slave, err := unix.Open(fmt.Sprintf("/dev/pts/%d", n), unix.O_RDWR|flags, 0)
	if err != nil {
		return err
	}
	kept, err := unix.FcntlInt(uintptr(slave), unix.F_GETFD, 0)
	if err != nil {
		return err
	}
	own, err := unix.Open("/dev/tty", unix.O_RDWR, 0)
	fmt.Printf("with %#x: /dev/tty %v, descriptor flags %d", flags, err, kept)
	if err == nil {
		if kept, err = unix.FcntlInt(uintptr(own), unix.F_GETFD, 0); err != nil {
			return err
		}
		_, err = unix.Write(own, []byte("own"))
		b := make([]byte, 8)
		n, err2 := unix.Read(master, b)
		fmt.Printf(", %v %v %s, descriptor flags %d", err, err2, b[:max(n, 0)], kept)
	}
	fmt.Println()
	return nil
}

// Who leads a session without a terminal gets the first that it opens, as bare.
func TestOwnTerminal(t *testing.T) {
	newTerminal(t)
	sameAsBare(t, Config{}, func() *exec.Cmd { return program(t, "own terminal") })
}

// closesOnExec tells of descriptors that it has to open itself whether they are closed by
// execve.
func closesOnExec([]string) error {
	for _, cloexec := range []int{0, unix.O_CLOEXEC} {
		path, err := unix.Open("/dev/null", unix.O_PATH|cloexec, 0)
		if err != nil {
			return err
		}
		if err := unix.Mkfifo("fifo"+strconv.Itoa(cloexec), 0o600); err != nil {
			return err
		}
		opened := make(chan error)
		go func() {
			w, err := unix.Open("fifo"+strconv.Itoa(cloexec), unix.O_WRONLY, 0)
			_ = w
			opened <- err
		}()
		fifo, err := unix.Open("fifo"+strconv.Itoa(cloexec), unix.O_RDONLY|cloexec, 0)
		if err = errors.Join(err, <-opened); err != nil {
			return err
		}
		for _, fd := range []int{path, fifo} {
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			fmt.Println(flags, err)
		}
		unix.Close(path)
	}
	return nil
}

func TestClosesOnExec(t *testing.T) {
	sameAsBare(t, Config{}, func() *exec.Cmd {
		cmd := program(t, "closes on exec")
		cmd.Dir = t.TempDir()
		return cmd
	})
}
