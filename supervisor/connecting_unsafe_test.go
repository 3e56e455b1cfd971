//go:build linux

package supervisor

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() { programs["room grows"] = acceptWithRoom }

// acceptWithRoom accepts a connection with room for an address of -1 bytes, and makes it
// more while it waits: the kernel looks when there is a connection.
func acceptWithRoom([]string) error {
	listens, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	to := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 8080}
	if err := unix.Bind(listens, to); err != nil {
		return err
	}
	if err := unix.Listen(listens, 1); err != nil {
		return err
	}
	var room atomic.Int32
	var addr [unix.SizeofSockaddrAny]byte
	room.Store(-1)
	tid, accepted := make(chan int), make(chan unix.Errno)
	go func() {
		runtime.LockOSThread()
		tid <- unix.Gettid()
		_, _, errno := unix.Syscall(unix.SYS_ACCEPT, uintptr(listens), uintptr(unsafe.Pointer(&addr)), uintptr(unsafe.Pointer(&room)))
		accepted <- errno
	}()
	stat := fmt.Sprintf("/proc/self/task/%d/stat", <-tid)
	for {
		text, err := os.ReadFile(stat)
		if err != nil {
			return err
		}
		if _, state, _ := strings.Cut(string(text), ") "); strings.HasPrefix(state, "S") {
			break
		}
	}
	room.Store(unix.SizeofSockaddrInet4)
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.Connect(client, to)
	}
	fmt.Println(<-accepted == 0, addr[0] == unix.AF_INET, room.Load())
	return err
}

// TestRoomGrows: how much room there is for an address is what the kernel finds.
func TestRoomGrows(t *testing.T) {
	if got, want := succeeds(t, Config{}, program(t, "room grows")), "true true 16\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
