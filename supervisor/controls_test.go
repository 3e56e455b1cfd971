//go:build linux

package supervisor

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

func init() {
	programs["controls"] = controlCalls
	programs["stamps"] = stampCalls
}

// receiveControls says what comes, from whom and with which control messages.
func (n *netTeller) receiveControls(name string, flags int) {
	b, oob := make([]byte, 100), make([]byte, 400)
	got, size, _, from, err := unix.Recvmsg(n.fds[name], b, oob, flags|unix.MSG_DONTWAIT)
	n.say(name+" recvmsg", err, string(b[:max(got, 0)]), from)
	list, err := unix.ParseSocketControlMessage(oob[:size])
	if err != nil {
		fmt.Println(err)
	}
	for _, m := range list {
		fmt.Printf("  %d %d %x\n", m.Header.Level, m.Header.Type, m.Data)
	}
}

// answerFrom answers to port 6000 with a source.
func (n *netTeller) answerFrom(name, to string, oob []byte) {
	_, err := unix.SendmsgN(n.fds[name], []byte("answer"), oob, sockaddrOf(to), 0)
	n.say(name+" answers", err)
}

func pktInfo4(index uint32, source [4]byte) []byte {
	b := binary.NativeEndian.AppendUint64(nil, uint64(unix.CmsgLen(unix.SizeofInet4Pktinfo)))
	b = binary.NativeEndian.AppendUint32(b, unix.IPPROTO_IP)
	b = binary.NativeEndian.AppendUint32(b, unix.IP_PKTINFO)
	b = binary.NativeEndian.AppendUint32(b, index)
	return append(append(b, source[:]...), make([]byte, 8)...)
}

// controlCalls makes calls that tell addresses in control messages and options.
func controlCalls(args []string) error {
	if len(args) > 0 && args[0] == "up" {
		if err := loopbackUp(); err != nil {
			return err
		}
	}
	n := &netTeller{map[string]int{}}
	set := func(name string, level, option, v int) {
		n.say(fmt.Sprint(name, " sets ", level, " ", option), unix.SetsockoptInt(n.fds[name], level, option, v))
	}
	send := func(name, to string) {
		n.say(name+" sends to "+to, unix.Sendto(n.fds[name], []byte("hello"), 0, sockaddrOf(to)))
	}
	n.socket("four", unix.AF_INET, unix.SOCK_DGRAM)
	n.bind("four", "127.0.0.1:6000")
	n.socket("six", unix.AF_INET6, unix.SOCK_DGRAM)
	n.bind("six", "[::1]:6000")
	for _, at := range []string{"0.0.0.0:5000", "127.0.0.2:5001", "[::]:5002"} {
		fmt.Println("---", at)
		n.socket("server", map[bool]int{true: unix.AF_INET6, false: unix.AF_INET}[at[0] == '['], unix.SOCK_DGRAM)
		n.bind("server", at)
		set("server", unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		set("server", unix.IPPROTO_IP, unix.IP_RECVORIGDSTADDR, 1)
		port := at[len(at)-4:]
		if at[0] == '[' {
			set("server", unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			send("six", "[::1]:"+port)
			n.receiveControls("server", 0)
		}
		for _, to := range []string{"127.0.0.1:", "127.0.0.2:", "127.0.0.3:"} {
			send("four", to+port)
			n.receiveControls("server", 0)
		}
		if at[0] != '[' {
			for _, source := range [][4]byte{{127, 0, 0, 3}, {0, 0, 0, 0}, {192, 0, 2, 1}} {
				n.answerFrom("server", "127.0.0.1:6000", pktInfo4(0, source))
				n.receive("four")
			}
			n.answerFrom("server", "127.0.0.1:6000", pktInfo4(1, [4]byte{}))
			n.receive("four")
		}
		n.close("server")
	}
	fmt.Println("--- errors")
	set("four", unix.IPPROTO_IP, unix.IP_RECVERR, 1)
	send("four", "127.0.0.1:9")
	n.receiveControls("four", unix.MSG_ERRQUEUE)
	send("four", "127.0.0.5:9")
	n.receiveControls("four", unix.MSG_ERRQUEUE)
	n.receiveControls("four", unix.MSG_ERRQUEUE)
	fmt.Println("--- options")
	n.socket("listener", unix.AF_INET, unix.SOCK_STREAM)
	n.bind("listener", "0.0.0.0:80")
	n.say("listen", unix.Listen(n.fds["listener"], 5))
	n.socket("client", unix.AF_INET, unix.SOCK_STREAM)
	peer := func(name string) {
		for _, room := range []int{15, 16, 17} {
			b, err := rawOption(n.fds[name], unix.SOL_SOCKET, unix.SO_PEERNAME, room)
			if len(b) > 4 && b[2] >= 0x80 {
				b[2], b[3] = 0, 0 // a port of the kernel's choice
			}
			n.say(fmt.Sprint(name, "'s peer in ", room), err, b)
		}
	}
	peer("client")
	n.connect("client", "127.0.0.3:80")
	n.accept("listener", "end")
	peer("client")
	peer("end")
	n.socket("bound", unix.AF_INET, unix.SOCK_STREAM)
	for _, name := range []string{"nonesuch", "lo", "lo"} {
		device, err := unix.GetsockoptString(n.fds["bound"], unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
		if name == "nonesuch" {
			n.say("device", err, fmt.Sprintf("%q", device))
		}
		n.say("device "+name, unix.SetsockoptString(n.fds["bound"], unix.SOL_SOCKET, unix.SO_BINDTODEVICE, name))
	}
	info, err := unix.GetsockoptTCPInfo(n.fds["client"], unix.IPPROTO_TCP, unix.TCP_INFO)
	n.say("info", err)
	if err == nil {
		fmt.Println(info.State, info.Ca_state, info.Options, info.Snd_mss, info.Advmss, info.Pmtu)
	}
	_, err = rawOption(n.fds["end"], unix.IPPROTO_IP, 80, 16)
	fmt.Println("original destination:", err != nil)
	return nil
}

// Where a socket tells an address besides its messages, it is the sandbox's.
func TestControls(t *testing.T) {
	got := output(t, Config{Clock: det.Running}, program(t, "controls"))
	if diff := cmp.Diff(lines(bareNetwork(t, "controls")), lines(got)); diff != "" {
		t.Errorf("(-bare +sandbox):\n%s", diff)
	}
}

// stampCalls says when messages came.
func stampCalls([]string) error {
	for _, option := range []int{unix.SO_TIMESTAMP, unix.SO_TIMESTAMPNS} {
		var fds [2]int
		for i := range fds {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			fds[i] = fd
		}
		to := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 5000 + option}
		if err := unix.Bind(fds[0], to); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, option, 1); err != nil {
			return err
		}
		if err := unix.Sendto(fds[1], []byte("x"), 0, to); err != nil {
			return err
		}
		oob := make([]byte, 200)
		_, size, _, _, err := unix.Recvmsg(fds[0], make([]byte, 1), oob, 0)
		if err != nil {
			return err
		}
		list, err := unix.ParseSocketControlMessage(oob[:size])
		if err != nil {
			return err
		}
		for _, m := range list {
			for ; len(m.Data) >= 16; m.Data = m.Data[16:] {
				fmt.Println(option, m.Header.Type, binary.NativeEndian.Uint64(m.Data), binary.NativeEndian.Uint64(m.Data[8:]))
			}
		}
	}
	return nil
}

// When a message came is told by the sandbox's clock.
func TestStamps(t *testing.T) {
	got := output(t, Config{Time: time.Unix(1e9, 123456789)}, program(t, "stamps"))
	want := "29 29 1000000000 123456\n35 35 1000000000 123456789\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// Several messages are sent by one call, and received.
func TestManyMessages(t *testing.T) {
	path := compileC(t, "mmsg", false)
	bare, err := cmdC(path).Output()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(lines(string(bare)), lines(output(t, Config{}, cmdC(path)))); diff != "" {
		t.Errorf("(-bare +sandbox):\n%s", diff)
	}
}
