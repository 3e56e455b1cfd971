//go:build linux

package supervisor

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

func init() {
	programs["net"] = netCalls
	programs["interfaces"] = interfaceCalls
	programs["sockets"] = socketList
}

// A netTeller makes calls on sockets and says what came of them.
type netTeller struct{ fds map[string]int }

// say prints a result. Ports that the kernel has chosen are E.
func (n *netTeller) say(what string, err error, more ...any) {
	fmt.Print(what, ": ", errnoName(err))
	for _, m := range more {
		switch m := m.(type) {
		case *unix.SockaddrInet4:
			fmt.Printf(" %v:%s", netip.AddrFrom4(m.Addr), portText(m.Port))
		case *unix.SockaddrInet6:
			fmt.Printf(" [%v]:%s", netip.AddrFrom16(m.Addr), portText(m.Port))
		case *unix.SockaddrUnix:
			fmt.Printf(" %q", m.Name)
		default:
			fmt.Printf(" %v", m)
		}
	}
	fmt.Println()
}

func portText(port int) string {
	if port >= 32768 {
		return "E"
	}
	return fmt.Sprint(port)
}

func errnoName(err error) string {
	var errno unix.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

func (n *netTeller) socket(name string, domain, kind int) int {
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		n.say("socket "+name, err)
	}
	n.fds[name] = fd
	return fd
}

func (n *netTeller) close(names ...string) {
	for _, name := range names {
		unix.Close(n.fds[name])
	}
}

func (n *netTeller) names(name string) {
	near, err := unix.Getsockname(n.fds[name])
	n.say(name+" is", err, near)
	far, err := unix.Getpeername(n.fds[name])
	n.say(name+" is connected to", err, far)
}

func (n *netTeller) bind(name, to string) {
	n.say(name+" bind "+to, unix.Bind(n.fds[name], sockaddrOf(to)))
}

func (n *netTeller) connect(name, to string) {
	n.say(name+" connect "+to, unix.Connect(n.fds[name], sockaddrOf(to)))
}

func (n *netTeller) accept(name, as string) {
	fd, from, err := unix.Accept4(n.fds[name], unix.SOCK_CLOEXEC)
	n.say(name+" accept", err, from)
	n.fds[as] = fd
}

func (n *netTeller) receive(name string) {
	b, oob := make([]byte, 100), make([]byte, 100)
	got, from, err := unix.Recvfrom(n.fds[name], b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	n.say(name+" recvfrom", err, string(b[:max(got, 0)]), from)
	got, _, _, from, err = unix.Recvmsg(n.fds[name], b, oob, unix.MSG_DONTWAIT)
	n.say(name+" recvmsg", err, string(b[:max(got, 0)]), from)
}

func sockaddrOf(s string) unix.Sockaddr {
	if a, err := netip.ParseAddrPort(s); err == nil {
		if a.Addr().Is4() {
			return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
		}
		return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
	}
	return &unix.SockaddrUnix{Name: s}
}

// netCalls makes calls that tell, or are told, addresses.
func netCalls(args []string) error {
	if len(args) > 0 && args[0] == "up" {
		if err := loopbackUp(); err != nil {
			return err
		}
	}
	n := &netTeller{map[string]int{}}
	const stream, datagram = unix.SOCK_STREAM, unix.SOCK_DGRAM
	for _, tt := range []struct{ name, server, client string }{
		{"all", "0.0.0.0:8080", "127.0.0.1:8080"},
		{"one", "127.0.0.1:8081", "127.0.0.1:8081"},
		{"another", "127.0.0.2:8081", "127.0.0.2:8081"},
		{"nowhere", "127.0.0.1:8083", "0.0.0.0:8083"},
		{"both", "[::]:8084", "127.0.0.1:8084"},
		{"both, six", "[::]:8085", "[::1]:8085"},
		{"six", "[::1]:8086", "[::1]:8086"},
		{"mapped", "[::ffff:127.0.0.1]:8087", "127.0.0.1:8087"},
		{"mapped client", "0.0.0.0:8088", "[::ffff:127.0.0.1]:8088"},
		{"privileged", "127.0.0.1:80", "127.0.0.1:80"},
	} {
		family := func(a string) int {
			if strings.HasPrefix(a, "[") {
				return unix.AF_INET6
			}
			return unix.AF_INET
		}
		fmt.Println("---", tt.name)
		n.socket("server", family(tt.server), stream)
		n.names("server")
		n.bind("server", tt.server)
		n.bind("server", tt.server)
		n.socket("rival", family(tt.server), stream)
		n.bind("rival", tt.server)
		n.say("listen", unix.Listen(n.fds["server"], 5))
		n.names("server")
		n.socket("client", family(tt.client), stream)
		n.connect("client", tt.client)
		n.names("client")
		n.accept("server", "end")
		n.names("end")
		n.connect("client", tt.client)
		unix.Close(n.fds["server"])
		n.socket("late", family(tt.client), stream)
		n.connect("late", tt.client)
		n.close("rival", "client", "end", "late")

		n.socket("receiver", family(tt.server), datagram)
		n.bind("receiver", tt.server)
		n.names("receiver")
		n.socket("sender", family(tt.client), datagram)
		n.say("sendto", unix.Sendto(n.fds["sender"], []byte("one"), 0, sockaddrOf(tt.client)))
		n.receive("receiver")
		_, err := unix.SendmsgN(n.fds["sender"], []byte("two"), nil, sockaddrOf(tt.client), 0)
		n.say("sendmsg", err)
		n.receive("receiver")
		n.connect("sender", tt.client)
		n.names("sender")
		_, err = unix.Write(n.fds["sender"], []byte("three"))
		n.say("write", err)
		b := make([]byte, 9)
		got, from, err := unix.Recvfrom(n.fds["receiver"], b, unix.MSG_DONTWAIT)
		n.say("recvfrom", err, got)
		n.say("answer", unix.Sendto(n.fds["receiver"], []byte("four"), 0, from))
		n.receive("sender")
		n.close("receiver", "sender")
	}
	n.errors()
	return nil
}

// errors makes calls that fail, or nearly.
func (n *netTeller) errors() {
	const stream, datagram = unix.SOCK_STREAM, unix.SOCK_DGRAM
	fmt.Println("--- errors")
	n.socket("tcp", unix.AF_INET, stream)
	n.connect("tcp", "127.0.0.1:9")
	n.connect("tcp", "192.0.2.1:9")
	n.connect("tcp", "[::1]:9")
	n.connect("tcp", "/nonexistent")
	n.bind("tcp", "192.0.2.1:9")
	n.bind("tcp", "[::1]:9")
	n.bind("tcp", "127.0.0.1:0")
	n.names("tcp")
	n.say("listen", unix.Listen(n.fds["tcp"], 1))
	n.names("tcp")
	n.socket("unbound", unix.AF_INET, stream)
	n.say("listen unbound", unix.Listen(n.fds["unbound"], 1))
	n.names("unbound")
	n.socket("six", unix.AF_INET6, stream)
	n.connect("six", "[2001:db8::1]:9")
	n.connect("six", "127.0.0.1:9")
	n.say("six only", unix.SetsockoptInt(n.fds["six"], unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1))
	n.bind("six", "[::]:8090")
	n.say("listen six", unix.Listen(n.fds["six"], 1))
	n.names("six")
	n.socket("four", unix.AF_INET, stream)
	n.connect("four", "127.0.0.1:8090")
	n.bind("four", "0.0.0.0:8090")
	n.socket("udp", unix.AF_INET, datagram)
	n.connect("udp", "127.0.0.1:9")
	n.names("udp")
	_, err := unix.Write(n.fds["udp"], []byte("x"))
	n.say("write", err)
	_, err = unix.Read(n.fds["udp"], make([]byte, 1))
	n.say("read", err)
	n.say("sendto", unix.Sendto(n.fds["udp"], []byte("x"), 0, sockaddrOf("192.0.2.1:9")))
	n.say("sendto nobody", unix.Sendto(n.fds["unbound"], []byte("x"), unix.MSG_NOSIGNAL, sockaddrOf("127.0.0.1:9")))
	n.say("disconnect", disconnect(n.fds["udp"]))
	n.names("udp")
	n.say("group", unix.SetsockoptIPMreq(n.fds["udp"], unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreq{Multiaddr: [4]byte{224, 0, 0, 5}}))
	n.socket("pending", unix.AF_INET, stream|unix.SOCK_NONBLOCK)
	n.connect("pending", "127.0.0.1:9")
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(n.fds["pending"]), Events: unix.POLLOUT}}, -1)
	v, _ := unix.GetsockoptInt(n.fds["pending"], unix.SOL_SOCKET, unix.SO_ERROR)
	n.say("poll", err, unix.ErrnoName(unix.Errno(v)))
	n.socket("local", unix.AF_UNIX, datagram)
	n.bind("local", "127.0.0.1:9")
	n.say("sendto a path", unix.Sendto(n.fds["local"], []byte("x"), 0, sockaddrOf("/nonexistent/socket")))
	for _, kind := range []struct{ domain, kind, protocol int }{
		{unix.AF_INET, stream, unix.IPPROTO_UDP}, {unix.AF_INET, datagram, unix.IPPROTO_TCP}, {unix.AF_INET, 77, 0}, {unix.AF_INET, unix.SOCK_SEQPACKET, 0},
	} {
		_, err := unix.Socket(kind.domain, kind.kind, kind.protocol)
		n.say(fmt.Sprintf("socket %v", kind), err)
	}
}

// loopbackUp switches the loopback interface of a new network namespace on.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// bareNetwork runs a program of the test's on the bare kernel, in a network namespace
// of its own.
func bareNetwork(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := program(t, name, append([]string{"up"}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	err := cmd.Start()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EACCES) {
		t.Skipf("no network namespace to compare with: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(ending, func() { _ = cmd.Process.Kill() }).Stop()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return out.String()
}

// Sockets behave as on a machine that has a loopback interface alone.
func TestNetworkCalls(t *testing.T) {
	got := output(t, Config{Clock: det.Running}, program(t, "net"))
	if diff := cmp.Diff(lines(bareNetwork(t, "net")), lines(got)); diff != "" {
		t.Errorf("(-bare +sandbox):\n%s", diff)
	}
}

// Sandboxes have the same ports at the same time, reach nobody else's, and get the same
// ports from the kernel each time.
func TestNetworksApart(t *testing.T) {
	host, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	taken := host.Addr().(*net.TCPAddr).Port
	const script = `
import socket, sys
s = socket.socket()
s.bind(("", 8080))
s.listen()
taken = socket.socket()
taken.bind(("127.0.0.1", int(sys.argv[1])))
for port in (8080, int(sys.argv[1])):
    c = socket.socket()
    try:
        c.connect(("127.0.0.1", port))
        print(c.getsockname(), s.accept()[1])
    except OSError as e:
        print(e)
`
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip(err)
	}
	n := 8
	switch {
	case long:
		n = 20
	case testing.Short():
		n = 4
	}
	var wg sync.WaitGroup
	out := make([]string, n)
	for i := range n {
		wg.Go(func() { out[i] = output(t, Config{}, exec.Command(python, "-c", script, fmt.Sprint(taken))) })
	}
	wg.Wait()
	for i := range n {
		if want := "('127.0.0.1', 32768) ('127.0.0.1', 32768)\n[Errno 111] Connection refused\n"; out[i] != want {
			t.Errorf("sandbox %d: got\n%swant\n%s", i, out[i], want)
		}
	}
}

// A published port is reached from outside, another one isn't: nothing comes of a
// connection to that, be it open still or not.
func TestPublish(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(python, "-u", "-c", `
import socket
s = socket.socket(); s.bind(("", 8080)); s.listen()
h = socket.socket(); h.bind(("", 8081)); h.listen()
print("ready")
c, a = s.accept()
print(a, c.getsockname(), c.getpeername() == a)
c.sendall(c.recv(5))
h.setblocking(False)
try:
    print(h.accept())
except BlockingIOError:
    print("nobody")
c.sendall(b"again")
c.recv(5)
h.setblocking(True)
inner = socket.socket()
inner.connect(("127.0.0.1", 8081))
inner.sendall(b"inner")
d, a = h.accept()
print(a == inner.getsockname(), d.fileno() - inner.fileno(), d.recv(5))
`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = environ()
	s, err := Start(cmd, Config{Publish: []uint16{8080}})
	if err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(ending, s.Kill).Stop()
	if _, err := s.Address(8081); err == nil || !strings.Contains(err.Error(), "Publish") {
		t.Errorf("the address of a port that isn't published: %v", err)
	}
	at, err := s.Address(8080)
	if err != nil {
		t.Fatal(err)
	}
	var text string
	_, _ = fmt.Fscanln(out, &text)
	s.loopbacks.mu.Lock()
	server, err := s.loopbacks.server(tcp, netip.AddrPortFrom(loopback4, 8081))
	s.loopbacks.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	// Of those that aren't invited one stays, one has ended, and one was reset.
	var uninvited [3]net.Conn
	intrude := func() {
		for i := range uninvited {
			if uninvited[i], err = net.Dial("tcp", server.real.String()); err != nil {
				t.Fatal(err)
			}
			_, _ = uninvited[i].Write([]byte("hello"))
			if i > 0 {
				_ = uninvited[i].(*net.TCPConn).SetLinger(1 - i)
				uninvited[i].Close()
			}
		}
	}
	intrude()
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write([]byte("hello"))
	b := make([]byte, 10)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "helloagain" {
		t.Errorf("read %q, %v", b, err)
	}
	if n, err := uninvited[0].Read(b); err == nil {
		t.Errorf("a port that isn't published answers %q", b[:n])
	}
	uninvited[0].Close()
	intrude()
	_, _ = c.Write([]byte("hello"))
	rest, _ := io.ReadAll(out)
	if want := "('127.0.0.1', 32768) ('127.0.0.1', 8080) True\nnobody\nTrue 1 b'inner'\n"; string(rest) != want {
		t.Errorf("got %swant %s", rest, want)
	}
	uninvited[0].Close()
	if _, err := s.Wait(); err != nil {
		t.Error(err)
	}
}

// The network of a sandbox may be none, or the host's.
func TestNets(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip(err)
	}
	host, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	port := host.Addr().(*net.TCPAddr).Port
	const script = `
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])))
    print("connected")
except OSError as e:
    print(e)
`
	for _, tt := range []struct {
		name string
		cfg  Config
		to   string
		want string
	}{
		{"loopback", Config{}, "127.0.0.1", "[Errno 111] Connection refused\n"},
		{"none", Config{Net: NetNone}, "127.0.0.1", "[Errno 97] Address family not supported by protocol\n"},
		{"host", Config{Net: NetHost}, "127.0.0.1", "connected\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := output(t, tt.cfg, exec.Command(python, "-c", script, tt.to, fmt.Sprint(port))); got != tt.want {
				t.Errorf("got %swant %s", got, tt.want)
			}
		})
	}
	for _, cfg := range []Config{{Net: 9}, {Net: NetHost, AllowNet: []string{"192.0.2.1"}}, {AllowNet: []string{"host:99999"}}, {AllowNet: []string{""}}} {
		if s, err := Start(sh("true"), cfg); err == nil {
			t.Errorf("%+v starts", cfg)
			s.Kill()
			_, _ = s.Wait()
		}
	}
}

// interfaceCalls asks in each way what interfaces and sockets there are.
func interfaceCalls(args []string) error {
	if len(args) > 0 && args[0] == "up" {
		if err := loopbackUp(); err != nil {
			return err
		}
	}
	list, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range list {
		addrs, err := i.Addrs()
		fmt.Println(i.Index, i.Name, i.MTU, i.Flags, i.HardwareAddr, addrs, err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for _, name := range []string{"lo", "eth0"} {
		for _, request := range []uint{
			unix.SIOCGIFINDEX, unix.SIOCGIFFLAGS, unix.SIOCGIFADDR, unix.SIOCGIFNETMASK, unix.SIOCGIFBRDADDR, unix.SIOCGIFDSTADDR, unix.SIOCGIFMTU,
			unix.SIOCGIFTXQLEN, unix.SIOCGIFHWADDR, unix.SIOCGIFMETRIC,
		} {
			ifr, err := unix.NewIfreq(name)
			if err == nil {
				err = unix.IoctlIfreq(fd, request, ifr)
			}
			if request == unix.SIOCGIFTXQLEN && err == nil {
				ifr.SetUint32(ifr.Uint32())
			}
			fmt.Printf("%s %#x: %s %d\n", name, request, errnoName(err), ifr.Uint32())
		}
	}
	if err := someSockets(); err != nil {
		return err
	}
	for _, name := range []string{"tcp", "tcp6", "udp", "udp6", "if_inet6", "route", "unix"} {
		text, err := os.ReadFile("/proc/self/net/" + name)
		fmt.Println(name, err)
		var list []string
		for line := range strings.Lines(string(text)) {
			list = append(list, withoutHost(line))
		}
		slices.Sort(list)
		fmt.Print(strings.Join(list, ""))
	}
	return nil
}

// someSockets opens sockets that stay.
func someSockets() error {
	for _, at := range []struct{ network, address string }{{"tcp4", "127.0.0.1:8080"}, {"tcp4", "0.0.0.0:8081"}, {"tcp6", "[::1]:8082"}, {"tcp", "[::]:8083"}} {
		l, err := net.Listen(at.network, at.address)
		if err != nil {
			return err
		}
		keep = append(keep, l)
	}
	for _, at := range []struct{ network, address string }{{"udp4", "127.0.0.1:53"}, {"udp6", "[::1]:54"}} {
		l, err := net.ListenPacket(at.network, at.address)
		if err != nil {
			return err
		}
		keep = append(keep, l)
	}
	for _, to := range []string{"127.0.0.1:8080", "[::1]:8083"} {
		c, err := net.Dial("tcp", to)
		if err != nil {
			return err
		}
		keep = append(keep, c)
	}
	return nil
}

// keep holds what is to stay open.
var keep []any

var (
	ephemeralPort = regexp.MustCompile(`:[89A-E][0-9A-F]{3}\b`)
	slot          = regexp.MustCompile(`^ *[0-9]+: `)
)

// withoutHost takes out of a line of /proc/net what differs: the place in the kernel's
// table, ports that the kernel has chosen, who it is, the inode and what follows.
func withoutHost(line string) string {
	line = ephemeralPort.ReplaceAllString(slot.ReplaceAllString(line, ""), ":E")
	f := strings.Fields(line)
	const uid = 6
	if len(f) > uid && strings.Contains(f[0], ":") {
		return strings.Join(f[:3], " ") + "\n"
	}
	return line
}

// There is one interface, and of the sockets those of the sandbox.
func TestInterfaces(t *testing.T) {
	got := output(t, Config{}, program(t, "interfaces"))
	if diff := cmp.Diff(lines(bareNetwork(t, "interfaces")), lines(got)); diff != "" {
		t.Errorf("(-bare +sandbox):\n%s", diff)
	}
}

// Names are those of the sandbox, whatever the host knows.
func TestNetFiles(t *testing.T) {
	got := output(t, Config{Identity: det.Identity{Hostname: "box"}}, sh("cat /etc/hosts; grep hosts /etc/nsswitch.conf; getent hosts box; ls /sys/class/net; cat /proc/net/fib_trie 2>&1; true"))
	want := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tbox\nhosts: files dns\n127.0.1.1       box\nlo\ncat: /proc/net/fib_trie: No such file or directory\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A thread that rewrites addresses while others send gains nothing.
func TestNetworkRace(t *testing.T) {
	times := "3000"
	if os.Getenv("SANDTEST_LONG") != "" {
		times = "100000"
	}
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	dir, err := os.MkdirTemp("", "host")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "socket")
	local, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	port := udp.LocalAddr().(*net.UDPAddr).Port
	program := compileC(t, "netrace", false)
	if got := output(t, Config{Clock: det.Running}, cmdC(program, fmt.Sprint(port), path, times)); got != "end\n" {
		t.Errorf("it says %q", got)
	}
	for _, c := range []net.PacketConn{udp, local} {
		if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 16)
		if n, _, err := c.ReadFrom(b); err == nil {
			t.Errorf("%v has heard %q", c.LocalAddr(), b[:n])
		}
	}
}

// Naming many ports takes few descriptors of the supervisor's.
func TestManyPorts(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(python, "-u", "-c", `
import socket
refused = 0
for port in range(1, 2001):
    s = socket.socket()
    refused += s.connect_ex(("127.0.0.1", port)) == 111
    s.close()
s = socket.socket(); s.bind(("", 1)); s.listen()
c = socket.socket()
print(refused, c.connect_ex(("127.0.0.1", 1)), c.getpeername())
input()
`)
	cmd.Env = environ()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Start(cmd, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(ending, s.Kill).Stop()
	line, err := bufio.NewReader(out).ReadString('\n')
	if want := "2000 0 ('127.0.0.1', 1)\n"; line != want {
		t.Errorf("got %q, %v, want %q", line, err, want)
	}
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil || len(list) > 2*mostHeld {
		t.Errorf("%d descriptors, %v", len(list), err)
	}
	in.Close()
	s.Kill()
	if _, err := s.Wait(); err != nil {
		t.Error(err)
	}
}

// socketList opens sockets, and lets ss say which there are.
func socketList(args []string) error {
	if len(args) > 0 && args[0] == "up" {
		if err := loopbackUp(); err != nil {
			return err
		}
	}
	if err := someSockets(); err != nil {
		return err
	}
	only := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1) }), err)
	}}
	l, err := only.Listen(context.Background(), "tcp6", "[::]:8084")
	if err != nil {
		return err
	}
	keep = append(keep, l)
	n := &netTeller{map[string]int{}}
	n.socket("seven", unix.AF_INET, unix.SOCK_STREAM)
	n.bind("seven", "127.0.0.1:8085")
	n.say("listen", unix.Listen(n.fds["seven"], 7))
	ephemeral := regexp.MustCompile(`:(3[2-9]|[4-6][0-9])[0-9]{3}\b`)
	// How many wait is told as none, and how many may is a setting of the machine's.
	backlog := regexp.MustCompile(`LISTEN [0-9]+ (128|4096) `)
	for _, flags := range []string{"-ltn", "-lun", "-tn", "-tuan", "-tn sport = :8080", "-ltn6", "-x", "-w"} {
		text, err := exec.Command("ss", strings.Fields(flags)...).CombinedOutput()
		var list []string
		for line := range strings.Lines(string(text)) {
			list = append(list, backlog.ReplaceAllString(strings.Join(strings.Fields(ephemeral.ReplaceAllString(line, ":E")), " "), "LISTEN ")+"\n")
		}
		slices.Sort(list)
		fmt.Println(flags, err)
		fmt.Print(strings.Join(list, ""))
	}
	return nil
}

// Who asks the kernel for its sockets is told of the sandbox's.
func TestSocketList(t *testing.T) {
	if _, err := exec.LookPath("ss"); err != nil {
		t.Skip(err)
	}
	got := output(t, Config{}, program(t, "sockets"))
	if diff := cmp.Diff(lines(bareNetwork(t, "sockets")), lines(got)); diff != "" {
		t.Errorf("(-bare +sandbox):\n%s", diff)
	}
}
