package supervisor

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

func init() {
	programs["unixnames"] = tellUnixNames
	programs["ports"] = tellPorts
	programs["nosockets"] = connectNoSockets
	programs["foreign"] = bindForeign
	programs["netspaced"] = acceptOne
	programs["nonetworks"] = withoutNetworks
}

// acceptOne accepts a connection of its own, and tells from where.
func acceptOne([]string) error {
	server, err := net.Listen("tcp4", "127.0.0.1:80")
	if err != nil {
		return err
	}
	client, err := net.Dial("tcp4", "127.0.0.1:80")
	if err != nil {
		return err
	}
	end, err := server.Accept()
	if err == nil {
		fmt.Println(client.LocalAddr(), end.RemoteAddr())
	}
	return err
}

// withoutNetworks runs a command where there can be no more namespaces of the network, and
// tells what its sandbox was made of.
func withoutNetworks([]string) error {
	if err := os.WriteFile("/proc/sys/user/max_net_namespaces", []byte("0"), 0); err != nil {
		return err
	}
	var out strings.Builder
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stdout = append(environ(), programVar+"=netspaced"), &out
	s, err := Start(cmd, Config{Backend: BackendNamespaces})
	if err != nil {
		return err
	}
	state, err := s.Wait()
	if err != nil {
		return err
	}
	fmt.Printf("%s %v %s", state.Stats.Backend, strings.Contains(state.Stats.NoNetspace, unix.ENOSPC.Error()), out.String())
	return nil
}

// Where there is no more namespace of the network a sandbox goes without, and has the others.
func TestNoMoreNetworks(t *testing.T) {
	inNamespaced(t)
	cmd := program(t, "nonetworks")
	cmd.Env = append(cmd.Env, "TMPDIR="+t.TempDir()) // where there is no other root's directory
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		t.Skip("no user namespaces: ", err)
	}
	if want := "namespaces true " + succeeds(t, Config{}, program(t, "netspaced")); err != nil || string(out) != want {
		t.Errorf("%v, %q, want %q", err, out, want)
	}
}

// connectNoSockets connects what is no socket, before there has been one.
func connectNoSockets([]string) error {
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		return err
	}
	path, err := unix.Open("/", unix.O_PATH, 0)
	if err != nil {
		return err
	}
	for _, to := range []string{"127.0.0.1:80", "[::1]:80", "192.0.2.1:80", "/x", "@x"} {
		for _, fd := range []int{0, pipe[0], path, 77, -1} {
			fmt.Println(to, errnoName(unix.Connect(fd, sockaddrOf(to))), errnoName(unix.Sendto(fd, []byte("x"), 0, sockaddrOf(to))))
		}
	}
	return nil
}

// bindForeign binds the supervisor's sockets, of which the sandbox has the other ends, to an
// abstract name, and says when it is done.
func bindForeign(args []string) error {
	random, err := unix.Open("/dev/urandom", unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	netlink, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	for i, fd := range []int{random, netlink} {
		_ = unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + args[0] + fmt.Sprint(i)})
	}
	fmt.Println("bound")
	_, err = os.Stdin.Read(make([]byte, 1))
	return err
}

// What is no socket isn't taken for one.
func TestConnectNoSockets(t *testing.T) {
	sameAsBare(t, Config{}, func() *exec.Cmd { return program(t, "nosockets") })
}

// No socket of a sandbox takes an abstract name on the host.
func TestForeignSockets(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	name := fmt.Sprintf("sandtest-foreign-%d-", os.Getpid())
	cmd := program(t, "foreign", name)
	cmd.Stdin = in
	s, r := startPiped(t, Config{Clock: det.Host}, cmd)
	in.Close()
	if line, err := bufio.NewReader(r).ReadString('\n'); line != "bound\n" {
		t.Fatalf("it says %q, %v", line, err)
	}
	text, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), name) {
		t.Errorf("the host has a socket @%s...", name)
	}
	if _, err := out.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Wait(); err != nil {
		t.Error(err)
	}
}

// tellUnixNames binds clients and servers in the working directory to names of all kinds,
// and prints what each end of a connection says of both.
func tellUnixNames([]string) error {
	at, err := os.Getwd()
	if err != nil {
		return err
	}
	for _, dir := range []string{"d", "d/e"} {
		if err := os.Mkdir(dir, 0o777); err != nil {
			return err
		}
	}
	if err := os.Symlink("d", "l"); err != nil {
		return err
	}
	const most = 107 // struct sockaddr_un, without a zero byte
	long := strings.Repeat("./", 50)
	long += strings.Repeat("x", most-len(long))
	for _, name := range []string{"x", "d/x", "./d//y", "l/z", "l/e/../../d/w", "d/../../" + filepath.Base(at) + "/up", at + "/d/absolute", "//" + at + "/l/slashes", long, "@abstract", "@with\x00zero"} {
		for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET} {
			fmt.Println(strings.ReplaceAll(strings.ReplaceAll(name, "\x00", "~"), at, "AT"), kind)
			if err := tellNames(name, kind, at); err != nil {
				return err
			}
			if name[0] != '@' {
				if err := os.Remove(name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// tellNames lets a client that is bound to name connect to a server at another one.
func tellNames(name string, kind int, at string) error {
	say := func(what string) func(unix.Sockaddr, error) {
		return func(sa unix.Sockaddr, err error) {
			text := errnoName(err)
			if a, ok := sa.(*unix.SockaddrUnix); ok {
				text += " " + strings.ReplaceAll(strings.ReplaceAll(a.Name, at, "AT"), "\x00", "~")
			}
			fmt.Println(what, text)
		}
	}
	server, err := unix.Socket(unix.AF_UNIX, kind, 0)
	if err != nil {
		return err
	}
	defer unix.Close(server)
	client, err := unix.Socket(unix.AF_UNIX, kind, 0)
	if err != nil {
		return err
	}
	defer unix.Close(client)
	defer os.Remove("server")
	for _, err := range []error{
		unix.Bind(server, &unix.SockaddrUnix{Name: "server"}), unix.Listen(server, 1),
		unix.Bind(client, &unix.SockaddrUnix{Name: name}), unix.Connect(client, &unix.SockaddrUnix{Name: "server"}),
	} {
		fmt.Println(errnoName(err))
		if err != nil {
			return nil
		}
	}
	end, from, err := unix.Accept(server)
	if err != nil {
		return err
	}
	defer unix.Close(end)
	say("accept")(from, nil)
	say("server")(unix.Getsockname(server))
	say("end")(unix.Getsockname(end))
	say("its peer")(unix.Getpeername(end))
	say("client")(unix.Getsockname(client))
	say("its peer")(unix.Getpeername(client))
	return nil
}

// The names of Unix sockets are those that programs have given them.
func TestNamesOfUnixSockets(t *testing.T) {
	sameAsBare(t, Config{}, func() *exec.Cmd {
		cmd := program(t, "unixnames")
		cmd.Dir = filepath.Join(t.TempDir(), "within")
		if err := os.Mkdir(cmd.Dir, 0o777); err != nil {
			t.Fatal(err)
		}
		return cmd
	})
}

// tellPorts prints the ports that sockets are given which ask for none.
func tellPorts([]string) error {
	open := func(kind int) int {
		fd, err := unix.Socket(unix.AF_INET, kind, 0)
		if err != nil {
			panic(err)
		}
		return fd
	}
	say := func(what string, fd int, err error) {
		name, _ := localName(fd)
		fmt.Println(what, errnoName(err), name)
	}
	server := open(unix.SOCK_STREAM)
	say("listen", server, unix.Listen(server, 20))
	to, err := unix.Getsockname(server)
	if err != nil {
		return err
	}
	for range 3 {
		fd := open(unix.SOCK_STREAM)
		say("connect", fd, unix.Connect(fd, to))
		say("once more", fd, unix.Connect(fd, to))
	}
	for range 2 { // a connection that has begun takes no other port, and gives none back
		fd := open(unix.SOCK_STREAM)
		say("connect", fd, unix.Connect(fd, to))
		for range 3 {
			say("again", fd, unix.Connect(fd, to))
		}
		unix.Close(fd)
	}
	refused := open(unix.SOCK_STREAM)
	fmt.Println("refused", errnoName(unix.Connect(refused, sockaddrOf("127.0.0.1:9"))))
	fmt.Println("unreachable", errnoName(unix.Connect(refused, sockaddrOf("192.0.2.1:9"))))
	say("after that", refused, unix.Connect(refused, to))
	bound := open(unix.SOCK_STREAM)
	say("bind", bound, unix.Bind(bound, sockaddrOf("127.0.0.1:4000")))
	say("connect", bound, unix.Connect(bound, to))
	wants := open(unix.SOCK_STREAM)
	say("bind to none", wants, unix.Bind(wants, sockaddrOf("127.0.0.1:0")))
	say("connect", wants, unix.Connect(wants, to))
	datagrams := open(unix.SOCK_DGRAM)
	say("send", datagrams, unix.Sendto(datagrams, []byte("x"), 0, sockaddrOf("127.0.0.1:9")))
	other := open(unix.SOCK_DGRAM)
	say("connect", other, unix.Connect(other, sockaddrOf("127.0.0.1:9")))
	say("connect", other, unix.Connect(other, sockaddrOf("127.0.0.1:10")))
	outside := open(unix.SOCK_DGRAM)
	fmt.Println("connect to outside", errnoName(unix.Connect(outside, sockaddrOf("192.0.2.1:9"))))
	say("bind twice", other, unix.Bind(other, sockaddrOf("127.0.0.1:0")))
	nowhere := open(unix.SOCK_STREAM)
	say("bind to nobody's", nowhere, unix.Bind(nowhere, sockaddrOf("192.0.2.1:0")))
	say("bind to any", nowhere, unix.Bind(nowhere, sockaddrOf("0.0.0.0:0")))
	last, err := localName(nowhere)
	if err != nil {
		return err
	}
	lucky := open(unix.SOCK_STREAM) // not with itself
	fmt.Println("to the next one", errnoName(unix.Connect(lucky, sockaddrOf(fmt.Sprint("127.0.0.1:", last.Port()+1)))))
	say("no socket", -1, unix.Connect(0, to))
	taken := open(unix.SOCK_DGRAM)
	say("bind", taken, unix.Bind(taken, sockaddrOf("127.0.0.1:32781")))
	for range 6 {
		fd := open(unix.SOCK_STREAM)
		say("connect", fd, unix.Connect(fd, to))
	}
	return nil
}

// Ports depend on the process alone, not on what the sandbox's network is.
func TestPortsOfBackends(t *testing.T) {
	inNamespaced(t)
	want := succeeds(t, Config{Backend: BackendSeccomp}, program(t, "ports"))
	if got := succeeds(t, Config{Backend: BackendNamespaces}, program(t, "ports")); got != want {
		t.Errorf("(-seccomp +namespaces):\n%s", cmp.Diff(lines(want), lines(got)))
	}
	for _, line := range []string{"connect ok 127.0.0.1:32769\n", "to the next one ECONNREFUSED\n"} {
		if !strings.Contains(want, line) {
			t.Errorf("got\n%s\nwant %q in it", want, line)
		}
	}
}

// A sandbox has a network of its own where nothing of the host's is wanted, and says so
// otherwise.
func TestNetspace(t *testing.T) {
	cfg := inNamespaced(t)
	state, _ := run(t, cfg, program(t, "netspaced"))
	switch why := state.Stats.NoNetspace; {
	case why != "" && (!kernelAtLeast(6, 3) || inheritsSockets() || netspacesExhausted(os.Geteuid() != 0) != nil):
		t.Skip(why)
	case why != "":
		t.Fatalf("it has none because %s", why)
	case state.Stats.Stops["accept"]+state.Stats.Stops["accept4"]+state.Stats.Notifications["accept4"] != 0:
		t.Errorf("to accept a connection is trapped: %v", state.Stats)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	socket := os.NewFile(uintptr(pair[0]), "socket")
	defer socket.Close()
	defer unix.Close(pair[1])
	for _, tt := range []struct {
		why    string
		change func(*Config, *exec.Cmd)
	}{
		{"Publish", func(cfg *Config, _ *exec.Cmd) { cfg.Publish = []uint16{80} }},
		{"AllowNet", func(cfg *Config, _ *exec.Cmd) { cfg.AllowNet = []string{"192.0.2.1"} }},
		{"Trace", func(cfg *Config, _ *exec.Cmd) { cfg.Trace = true }},
		{"standard input", func(_ *Config, cmd *exec.Cmd) { cmd.Stdin = socket }},
		{"ExtraFiles", func(_ *Config, cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{socket} }},
	} {
		cfg, cmd := cfg, exec.Command("true")
		tt.change(&cfg, cmd)
		s, err := Start(cmd, cfg)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdin, cmd.ExtraFiles = nil, nil // which are the caller's again
		state, err := s.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(state.Stats.NoNetspace, tt.why) {
			t.Errorf("NoNetspace is %q, want something about %s", state.Stats.NoNetspace, tt.why)
		}
	}
}
