package supervisor

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

func init() { programs["watches"] = watchFiles }

var eventNames = []struct {
	bit  uint32
	name string
}{
	{unix.IN_ACCESS, "ACCESS"}, {unix.IN_MODIFY, "MODIFY"}, {unix.IN_ATTRIB, "ATTRIB"}, {unix.IN_CLOSE_WRITE, "CLOSE_WRITE"}, {unix.IN_CLOSE_NOWRITE, "CLOSE_NOWRITE"},
	{unix.IN_OPEN, "OPEN"}, {unix.IN_MOVED_FROM, "MOVED_FROM"}, {unix.IN_MOVED_TO, "MOVED_TO"}, {unix.IN_CREATE, "CREATE"}, {unix.IN_DELETE, "DELETE"},
	{unix.IN_DELETE_SELF, "DELETE_SELF"}, {unix.IN_MOVE_SELF, "MOVE_SELF"}, {unix.IN_IGNORED, "IGNORED"}, {unix.IN_Q_OVERFLOW, "Q_OVERFLOW"}, {unix.IN_ISDIR, "ISDIR"},
}

// A watcher is an instance of inotify that prints what it is told.
type watcher struct {
	fd      int
	cookies map[uint32]int
}

func newWatcher() (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	return &watcher{fd, map[uint32]int{}}, err
}

func (w *watcher) add(path string, mask uint32) {
	wd, err := unix.InotifyAddWatch(w.fd, path, mask)
	fmt.Println("watch", strings.TrimRight(path, "0123456789"), wd, errnoOf(err)) // whatever number a descriptor has
}

// tell prints what has been told since the last time.
func (w *watcher) tell() {
	buf := make([]byte, 1<<16)
	for {
		n, err := unix.Read(w.fd, buf)
		if err != nil {
			if err != unix.EAGAIN {
				fmt.Println(err)
			}
			return
		}
		for b := buf[:n]; len(b) > 0; {
			wd, mask, cookie, size := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[8:]), binary.NativeEndian.Uint32(b[12:])
			name := strings.TrimRight(string(b[16:16+size]), "\x00")
			b = b[16+size:]
			var bits []string
			for _, e := range eventNames {
				if mask&e.bit != 0 {
					bits = append(bits, e.name)
				}
			}
			line := fmt.Sprint("\t", wd, " ", strings.Join(bits, "|"), " ", name)
			if cookie != 0 {
				if w.cookies[cookie] == 0 {
					w.cookies[cookie] = len(w.cookies) + 1
				}
				line += fmt.Sprint(" #", w.cookies[cookie])
			}
			fmt.Println(line)
		}
	}
}

// watchFiles lets things happen to watched files and prints what is told of each. Watches
// on directories leave out what is told of directories that are opened.
func watchFiles(args []string) error {
	if len(args) > 0 {
		if args[0] == "through" {
			return watchThrough(args[1], args[2])
		}
		return map[string]func() error{"often": watchOften, "outside": watchOutside, "odd": watchOdd}[args[0]]()
	}
	all, err := newWatcher()
	if err != nil {
		return err
	}
	names, err := newWatcher()
	if err != nil {
		return err
	}
	const (
		everything = unix.IN_ALL_EVENTS
		changes    = unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	)
	early, err := os.OpenFile("dir/log", os.O_WRONLY|os.O_APPEND, 0) // before anybody watches
	if err != nil {
		return err
	}
	all.add("dir", everything)
	all.add("dir/", everything) // the same
	names.add("dir", changes)
	names.add("dir/sub", changes|unix.IN_ONLYDIR)
	all.add("other", changes)
	all.add("watched", everything)
	names.add("watched", unix.IN_MODIFY)
	names.add("watched", unix.IN_ATTRIB|unix.IN_MASK_ADD)
	names.add("watched", unix.IN_ATTRIB|unix.IN_MASK_CREATE)
	names.add("watched", unix.IN_ONLYDIR|unix.IN_ATTRIB)
	names.add("watched", 0)
	names.add("nothing", changes)
	names.add("secret", changes)
	names.add("link", changes|unix.IN_DONT_FOLLOW)
	names.add("link", changes)
	stdin := &watcher{fd: 0}
	stdin.add("dir", changes)
	stdin.fd = 77
	stdin.add("dir", changes)

	write := func(path, text string, flags int) error {
		f, err := os.OpenFile(path, flags|os.O_WRONLY, 0o666)
		if err == nil {
			_, err = f.WriteString(text)
			err = errors.Join(err, f.Close())
		}
		return err
	}
	read := func(path string) error { _, err := os.ReadFile(path); return err }
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"write by an early descriptor", func() error { _, err := early.WriteString("text"); return errors.Join(err, early.Close()) }},
		{"create", func() error { return write("dir/new", "text", os.O_CREATE|os.O_EXCL) }},
		{"read", func() error { return read("dir/new") }},
		{"append", func() error { return write("dir/new", "text", os.O_APPEND) }},
		{"overwrite the host's", func() error { return write("dir/old", "text", os.O_TRUNC) }},
		{"append to the host's", func() error { return write("dir/log", "text", os.O_APPEND) }},
		{"read the host's", func() error { return read("dir/read") }},
		{"write nothing", func() error { return write("dir/b", "", 0) }},
		{"chmod", func() error { return errors.Join(os.Chmod("dir/new", 0o600), os.Chmod("dir/c", 0o600)) }},
		{"chmod a directory", func() error { return errors.Join(os.Chmod("dir/sub", 0o700), os.Chmod("dir", 0o700)) }},
		{"set an attribute", func() error { return unix.Setxattr("dir/new", "user.a", []byte("b"), 0) }},
		{"set both times", func() error { return unix.UtimesNano("dir/c", []unix.Timespec{{Sec: 1}, {Sec: 1}}) }},
		{"set one time", func() error {
			return errors.Join(unix.UtimesNano("dir/new", []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: 1}}), unix.UtimesNano("dir/c", []unix.Timespec{{Sec: 1}, {Nsec: unix.UTIME_OMIT}}))
		}},
		{"truncate", func() error { return errors.Join(os.Truncate("dir/new", 1), os.Truncate("dir/d", 1)) }},
		{"mkdir", func() error { return os.Mkdir("dir/made", 0o777) }},
		{"symlink, FIFO", func() error { return errors.Join(os.Symlink("x", "dir/link"), unix.Mkfifo("dir/fifo", 0o666)) }},
		{"link", func() error { return errors.Join(os.Link("dir/new", "dir/twin"), os.Link("watched", "other/twin")) }},
		{"write by the other name", func() error { return write("dir/twin", "text", 0) }},
		{"rename within", func() error { return errors.Join(os.Rename("dir/new", "dir/renamed"), os.Rename("dir/d", "dir/e")) }},
		{"write to what was renamed", func() error { return write("dir/renamed", "text", 0) }},
		{"rename between", func() error { return errors.Join(os.Rename("dir/e", "other/e"), os.Rename("other/e", "dir/e")) }},
		{"rename away", func() error { return os.Rename("dir/e", "elsewhere/e") }},
		{"rename into", func() error { return os.Rename("elsewhere/f", "dir/f") }},
		{"rename over", func() error { return errors.Join(os.Rename("elsewhere/g", "dir/f"), os.Rename("dir/f", "dir/renamed")) }},
		{"exchange", func() error {
			return unix.Renameat2(unix.AT_FDCWD, "dir/renamed", unix.AT_FDCWD, "elsewhere/h", unix.RENAME_EXCHANGE)
		}},
		{"write to what was exchanged", func() error { return write("dir/renamed", "text", 0) }},
		{"rename a watched directory", func() error { return os.Rename("dir/sub", "elsewhere/sub") }},
		{"create in it", func() error { return write("elsewhere/sub/file", "", os.O_CREATE) }},
		{"rename it back", func() error { return os.Rename("elsewhere/sub", "dir/sub") }},
		{"write in it", func() error { return write("dir/sub/file", "text", 0) }},
		{"unlink", func() error {
			return errors.Join(os.Remove("dir/renamed"), os.Remove("dir/twin"), os.Remove("dir/read"), os.Remove("dir/link"), os.Remove("dir/made"))
		}},
		{"create once more", func() error { return write("dir/renamed", "text", os.O_CREATE|os.O_EXCL) }},
		{"the file: write, chmod", func() error { return errors.Join(write("watched", "text", 0), os.Chmod("watched", 0o640)) }},
		{"the file: read", func() error { return read("watched") }},
		{"the file: rename", func() error { return os.Rename("watched", "elsewhere/watched") }},
		{"the file: write where it is now", func() error { return write("elsewhere/watched", "text", os.O_TRUNC) }},
		{"the file: unlink", func() error { return errors.Join(os.Remove("other/twin"), os.Remove("elsewhere/watched")) }},
		{"remove a watched directory", func() error { return errors.Join(os.Remove("dir/sub/file"), os.Remove("dir/sub")) }},
		{"no more", func() error { _, err := unix.InotifyRmWatch(all.fd, 1); return err }},
		{"none", func() error { _, err := unix.InotifyRmWatch(all.fd, 99); return err }},
		{"unheard", func() error { return write("dir/last", "text", os.O_CREATE) }},
	} {
		fmt.Println(step.what, errnoOf(step.do()))
		all.tell()
		fmt.Println("\t--")
		names.tell()
	}
	return nil
}

// watchOften has more instances, one after the other, than a user may have at a time.
func watchOften() error {
	for range 300 {
		w, err := newWatcher()
		if err == nil {
			_, err = unix.InotifyAddWatch(w.fd, ".", unix.IN_CREATE)
		}
		if err == nil {
			err = unix.Close(w.fd)
		}
		if err != nil {
			return err
		}
	}
	fmt.Println("ok")
	return nil
}

// watchOdd watches what has lost its name, or has others, what is executed and replaced, and
// what is moved to where its path is long.
func watchOdd() error {
	w, err := newWatcher()
	if err != nil {
		return err
	}
	const changes = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO
	read := func(path string) {
		text, err := os.ReadFile(path)
		fmt.Printf("%s: %q %v\n", path, text, err)
	}
	write := func(path, text string) error { return os.WriteFile(path, []byte(text), 0o755) }
	long := strings.Repeat("n", 200)
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"a name that another file has got", func() error {
			err := errors.Join(write("f", "first"), os.Link("f", "new"), write("p", "precious"), os.Rename("p", "new"))
			w.add(".", changes)
			w.add("f", unix.IN_MODIFY)
			read("new")
			return err
		}},
		{"a FIFO in a directory, both gone", func() error {
			err := errors.Join(os.Mkdir("gone", 0o777), unix.Mkfifo("gone/fifo", 0o666))
			fd, err2 := unix.Open("gone/fifo", unix.O_PATH, 0)
			dir, err3 := unix.Open("gone", unix.O_RDONLY|unix.O_DIRECTORY, 0)
			err = errors.Join(err, err2, err3, os.Remove("gone/fifo"), os.Remove("gone"))
			w.add(fmt.Sprintf("/proc/self/fd/%d", fd), changes)
			w.add(fmt.Sprintf("/proc/self/fd/%d", dir), changes)
			return err
		}},
		{"a name that is made again", func() error {
			w.add("dir", changes)
			err := unix.Mkfifo("dir/fifo", 0o666)
			fd, err2 := unix.Open("dir/fifo", unix.O_PATH, 0)
			err = errors.Join(err, err2, os.Remove("dir/fifo"))
			w.add(fmt.Sprintf("/proc/self/fd/%d", fd), changes)
			return errors.Join(err, write("dir/fifo", "text"), os.Remove("dir/fifo"))
		}},
		{"a program that is replaced", func() error {
			run := func() { fmt.Println(exec.Command("dir/program").Run()) }
			err := write("dir/program", "#!/bin/true\n")
			run()
			err = errors.Join(err, write("other/program", "#!/bin/false\n"), os.Rename("other/program", "dir/program"))
			run()
			return err
		}},
		{"a long path", func() error {
			deep := "deep"
			err := os.Mkdir(deep, 0o777)
			for range 17 {
				deep += "/" + long
				err = errors.Join(err, os.Mkdir(deep, 0o777))
			}
			err = errors.Join(err, os.MkdirAll("w/"+long+"/"+long, 0o777))
			w.add("w/"+long+"/"+long, changes)
			err = errors.Join(err, write("w/"+long+"/"+long+"/file", "hello"), os.Chdir(deep))
			up := strings.Repeat("../", 18)
			err = errors.Join(err, os.Rename(up+"w", "w"))
			read("w/" + long + "/" + long + "/file")
			return err
		}},
	} {
		fmt.Println(step.what, errnoOf(step.do()))
		if step.what == "a long path" {
			return nil // of what is that deep not all is told
		}
		w.tell()
	}
	return nil
}

// watchThrough watches a directory that is the host's, and a link there to one that nobody
// may see.
func watchThrough(shared, secret string) error {
	w, err := newWatcher()
	if err != nil {
		return err
	}
	link := filepath.Join(shared, "link")
	if err := os.Symlink(secret, link); err != nil {
		return err
	}
	watch := func(name, path string, mask uint32) {
		wd, err := unix.InotifyAddWatch(w.fd, path, mask)
		fmt.Println("watch", name, wd, errnoOf(err))
	}
	watch("shared", shared, unix.IN_CREATE)
	watch("link", link, unix.IN_ALL_EVENTS|unix.IN_DONT_FOLLOW)
	if err := os.WriteFile(filepath.Join(shared, "file"), nil, 0o666); err != nil {
		return err
	}
	w.tell()
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", w.fd))
	if n := strings.Count(string(info), "inotify "); err != nil || n != 2 {
		return fmt.Errorf("%d watches, %v", n, err)
	}
	return nil
}

// watchOutside prints what it is told once its input ends.
func watchOutside() error {
	w, err := newWatcher()
	if err != nil {
		return err
	}
	for _, path := range []string{"dir", "watched", "/proc/self", "/proc/uptime"} {
		w.add(path, unix.IN_ALL_EVENTS)
	}
	os.Stdout.WriteString("ready\n")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	w.tell()
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", w.fd))
	fmt.Print(string(text))
	return err
}

// watchTree makes what watchFiles works on.
func watchTree(t *testing.T) string {
	dir := t.TempDir()
	for _, name := range []string{"dir/sub", "other", "elsewhere"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"dir/old", "dir/log", "dir/read", "dir/b", "dir/c", "dir/d", "elsewhere/f", "elsewhere/g", "elsewhere/h", "watched", "secret"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("some text"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("elsewhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		if err := os.Chmod(filepath.Join(dir, "secret"), 0); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestFileWatches: what happens in a sandbox is told there as on the bare kernel, and
// nobody hears of what happens outside.
func TestFileWatches(t *testing.T) {
	for _, args := range [][]string{nil, {"odd"}} {
		command := func() *exec.Cmd {
			cmd := program(t, "watches", args...)
			cmd.Dir = watchTree(t)
			return cmd
		}
		want, err := command().CombinedOutput()
		if err != nil {
			t.Fatalf("bare: %v\n%s", err, want)
		}
		if diff := cmp.Diff(string(want), output(t, Config{}, command())); diff != "" {
			t.Errorf("%v: bare (-) and in the sandbox (+):\n%s", args, diff)
		}
	}
}

// TestFileWatchesThrough: who may write to a directory of the host hears of what others do
// there, but not of what a link there leads to.
func TestFileWatchesThrough(t *testing.T) {
	shared, secret := t.TempDir(), t.TempDir()
	cmd := program(t, "watches", "through", shared, secret)
	cmd.Dir = t.TempDir()
	cfg := Config{Mounts: []cow.Mount{{At: shared, Host: shared, Through: true}, {At: secret, Host: secret, Denied: true}}}
	got := output(t, cfg, cmd)
	want := "watch shared 1 ok\nwatch link 2 ok\n\t1 CREATE file\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	link := filepath.Join(shared, "link")
	if to, err := os.Readlink(link); err != nil || to != secret {
		t.Errorf("the link leads to %q, %v", to, err)
	}
}

// TestFileWatchesOutside: what others do to the host's files isn't told.
func TestFileWatchesOutside(t *testing.T) {
	cmd := program(t, "watches", "outside")
	cmd.Dir = watchTree(t)
	in, input := io.Pipe()
	out, output := io.Pipe()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, output, output
	var said strings.Builder
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer input.Close()
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if lines.Text() != "ready" {
				said.WriteString(lines.Text() + "\n")
				continue
			}
			for name, text := range map[string]string{"dir/new": "", "dir/old": "other", "watched": "other"} {
				if err := os.WriteFile(filepath.Join(cmd.Dir, name), []byte(text), 0o666); err != nil {
					t.Error(err)
				}
			}
			input.Close()
		}
	}()
	s, err := Start(cmd, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	output.Close()
	<-done
	const want = `watch dir 1 ok
watch watched 2 ok
watch /proc/self 3 ok
watch /proc/uptime 4 ok
pos:	0
flags:	02004000
mnt_id:	1
ino:	NUMBER
inotify wd:4 ino:0 sdev:0 mask:fff ignored_mask:0
inotify wd:3 ino:0 sdev:0 mask:fff ignored_mask:0
inotify wd:2 ino:0 sdev:0 mask:fff ignored_mask:0
inotify wd:1 ino:0 sdev:0 mask:fff ignored_mask:0
`
	got := regexp.MustCompile(`(?m)^ino:\t\d+$`).ReplaceAllString(said.String(), "ino:\tNUMBER") // the kernel's
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

// TestManyFileWatches: an instance that nobody has any more is let go of.
func TestManyFileWatches(t *testing.T) {
	cmd := program(t, "watches", "often")
	cmd.Dir = watchTree(t)
	if got := output(t, Config{}, cmd); got != "ok\n" {
		t.Error(got)
	}
}

// TestFileWatchesTail: a program that waits for a file of the host's to grow is told when
// another writes to it.
func TestFileWatchesTail(t *testing.T) {
	if _, err := exec.LookPath("tail"); err != nil {
		t.Skip("no tail(1)")
	}
	cmd := exec.Command("/bin/sh", "-c", `tail -n +1 -f log | while read -r line; do echo "got $line"; case $line in last) exit;; *) echo last >>log;; esac; done`)
	cmd.Dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(cmd.Dir, "log"), []byte("first\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if got, want := succeeds(t, Config{}, cmd), "got first\ngot last\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestFirstWatchWaits: the first watch waits for a receiver that has yet to close its own
// descriptor of what it has opened for a program, or that it was closed would be told late.
func TestFirstWatchWaits(t *testing.T) {
	perl, err := exec.LookPath("perl")
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(perl, "-e", fmt.Sprintf(`$| = 1; <STDIN>; print syscall(%d, syscall(%d, 0), my $here = ".", %d)`, unix.SYS_INOTIFY_ADD_WATCH, unix.SYS_INOTIFY_INIT1, unix.IN_MODIFY))
	cmd.Dir = t.TempDir()
	in, input := io.Pipe()
	output, out := io.Pipe()
	cmd.Stdin, cmd.Stdout = in, out
	s, err := Start(cmd, Config{})
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string)
	go func() {
		all, _ := io.ReadAll(output)
		told <- string(all)
	}()
	closing := &s.receivers.injecting
	closing.RLock() // as who is putting in a descriptor
	fmt.Fprintln(input)
	for waited := false; !waited; runtime.Gosched() {
		if waited = !closing.TryRLock(); !waited { // somebody waits for all of them
			closing.RUnlock()
			waited = s.watching.Load() && s.receivers.open.Load() == 0
		}
		if waited && closing.TryRLock() {
			closing.RUnlock()
			t.Error("the watch has not waited")
		}
	}
	closing.RUnlock()
	input.Close()
	if _, err := s.Wait(); err != nil {
		t.Error(err)
	}
	out.Close()
	if got := <-told; got != "1" {
		t.Errorf("it has watched %q, want 1", got)
	}
}
