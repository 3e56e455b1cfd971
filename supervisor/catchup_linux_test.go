package supervisor

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

func init() { programs["readers"] = readersOf }

// readerWaits are the ways in which a reader waits for some milliseconds, and one of not
// waiting at all.
var readerWaits = []struct {
	name string
	wait func() error
}{
	{"nanosleep", func() error { return unix.Nanosleep(&unix.Timespec{Nsec: 1e7}, nil) }},
	{"clock_nanosleep", func() error {
		return unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &unix.Timespec{Nsec: 1e7}, nil)
	}},
	{"poll", func() error { _, err := unix.Poll(nil, 10); return err }},
	{"ppoll", func() error { _, err := unix.Ppoll(nil, &unix.Timespec{Nsec: 1e7}, nil); return err }},
	{"select", func() error { _, err := unix.Select(0, nil, nil, nil, &unix.Timeval{Usec: 1e4}); return err }},
	{"epoll_wait", func() error {
		fd, err := unix.EpollCreate1(0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		_, err = unix.EpollWait(fd, make([]unix.EpollEvent, 1), 10)
		return err
	}},
	{"compute", func() error { return nil }},
}

// readersOf opens a file, lets others open it and wait, writes to it, and prints what all of
// them read of it from then on. With an argument it is one of those.
func readersOf(args []string) error {
	if len(args) > 0 {
		for _, w := range readerWaits {
			if w.name == args[0] {
				return readLater(w.wait)
			}
		}
	}
	f, err := os.Open("file")
	if err != nil {
		return err
	}
	twin, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 100)
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(f, make([]byte, 5)); err != nil {
		return err
	}
	var cmds []*exec.Cmd
	var outs []*bufio.Reader
	for _, w := range readerWaits {
		cmd := exec.Command("/proc/self/exe", w.name)
		cmd.ExtraFiles = []*os.File{f} // by which it reads as well
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			return err
		}
		cmds, outs = append(cmds, cmd), append(outs, bufio.NewReader(out))
		if _, err := outs[len(outs)-1].ReadString('\n'); err != nil {
			return err
		}
	}
	if err := exec.Command("/bin/sh", "-c", "echo some more text >>file").Run(); err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	rest := make([]byte, 100)
	n, err := unix.Pread(twin, rest, 5)
	at, err2 := f.Seek(0, io.SeekCurrent)
	fmt.Printf("size %d, at %d, %q %v %v\n", st.Size(), at, rest[:n], err, err2)
	for i, cmd := range cmds {
		text, err := io.ReadAll(outs[i])
		fmt.Printf("%s: %s%v %v\n", readerWaits[i].name, text, err, cmd.Wait())
	}
	return nil
}

// readLater reads a file to its end, waits until there is more, and prints it; and what is
// behind an inherited descriptor, which it leaves where it stands.
func readLater(wait func() error) error {
	fd, err := unix.Open("file", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	buf := make([]byte, 100)
	if _, err := unix.Read(fd, buf); err != nil {
		return err
	}
	if _, err := unix.Write(1, []byte("ready\n")); err != nil {
		return err
	}
	for range 100_000_000 {
		n, err := unix.Read(fd, buf)
		if err != nil {
			return err
		}
		if n > 0 {
			fmt.Printf("%q ", buf[:n])
			n, err := unix.Pread(3, buf, 0)
			fmt.Printf("%q %v\n", buf[:n], err)
			return nil
		}
		if err := wait(); err != nil && err != unix.EINTR { // Go's runtime sends itself signals
			return fmt.Errorf("wait: %w", err)
		}
	}
	return io.ErrUnexpectedEOF
}

// TestReadWhatIsWritten: who has a file of the host's open reads what another writes to it
// later, whatever it is doing meanwhile.
func TestReadWhatIsWritten(t *testing.T) {
	command := func() *exec.Cmd {
		cmd := program(t, "readers")
		cmd.Dir = t.TempDir()
		if err := os.WriteFile(filepath.Join(cmd.Dir, "file"), []byte("some text\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	want, err := command().CombinedOutput()
	if err != nil {
		t.Fatalf("bare: %v\n%s", err, want)
	}
	for _, clock := range []det.Mode{det.Virtual, det.Running} {
		if diff := cmp.Diff(string(want), output(t, Config{Clock: clock}, command())); diff != "" {
			t.Errorf("clock %v: bare (-) and in the sandbox (+):\n%s", clock, diff)
		}
	}
}
