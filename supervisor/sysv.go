//go:build linux

package supervisor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// systemV gives a sandbox shared memory, semaphores and message queues of its own
// (sysvipc(7)).
//
// Source: the host's, which all processes of a user share and which outlive them.
// Eliminated: the supervisor makes them for the program, and knows which key they have in
// the sandbox; their numbers are the sandbox's and depend on the
// process that has made them. What the sandbox hasn't made isn't there. Shared memory
// ends with the sandbox however that ends, the rest is removed when it does, or where the
// supervising process was killed, after that (sysvleft.go).
//
// What remains: who may use what is judged where it is used, not already where it is looked up
// by its key. The command *_INFO and *_STAT, which tell of all there are, fail.
func systemV(s *Sandbox) feature {
	s.systemV = &systemVObjects{s: s, keys: map[systemVKey]*systemVObject{}, ids: map[systemVKey]*systemVObject{}, nums: map[*systemVObject]int32{}}
	v := s.systemV
	f := feature{name: "sysv", close: v.remove}
	for kind, names := range systemVCalls {
		f.calls = append(f.calls, call{name: names.get, notify: func(c *Call) Answer { return v.get(c, systemVKind(kind)) }})
		for _, name := range names.use {
			f.calls = append(f.calls, call{name: name, stop: func(st *Stop) { v.use(st, systemVKind(kind)) }})
		}
		f.calls = append(f.calls, call{name: names.control, stop: func(st *Stop) { v.control(st, systemVKind(kind)) }})
	}
	return f
}

// A systemVKind is a kind of what System V has brought.
type systemVKind int

const (
	sharedMemory systemVKind = iota
	semaphores
	messageQueue
)

var systemVCalls = [...]struct {
	get, control string
	use          []string
	flags        int // which argument of get they are
	controls     uintptr
	times        []int // where in its struct times are, see linux/shmbuf.h and its like
}{
	sharedMemory: {"shmget", "shmctl", []string{"shmat"}, 2, unix.SYS_SHMCTL, []int{56, 64, 72}},
	semaphores:   {"semget", "semctl", []string{"semop", "semtimedop"}, 2, unix.SYS_SEMCTL, []int{48, 64}},
	messageQueue: {"msgget", "msgctl", []string{"msgsnd", "msgrcv"}, 1, unix.SYS_MSGCTL, []int{48, 56, 64}},
}

// Commands and flags that package unix hasn't, and parts of the structs that they fill
// (linux/ipc.h, linux/ipcbuf.h).
const (
	ipcInfo       = 3
	shmDest       = 0o1000
	systemVStruct = 128
	offUID        = 4
	offGID        = 8
	offMode       = 20
	offShmSize    = 48
	offShmAttach  = 88
	offSems       = 80
)

type systemVKey struct {
	kind systemVKind
	n    int32 // a key, or a number of the sandbox's
}

// A systemVObject is a segment, a set of semaphores or a queue.
type systemVObject struct {
	id   int32 // the host's
	key  int32
	held uintptr // where the supervisor has a segment attached, 0 if it hasn't
}

type systemVObjects struct {
	s    *Sandbox
	mu   sync.Mutex
	keys map[systemVKey]*systemVObject
	ids  map[systemVKey]*systemVObject
	nums map[*systemVObject]int32
	left *os.File // see sysvleft.go, nil until it is needed
}

// get answers shmget, semget and msgget.
func (v *systemVObjects) get(c *Call, kind systemVKind) Answer {
	v.mu.Lock()
	defer v.mu.Unlock()
	key, flags := systemVKey{kind, c.Int(0)}, c.Int(systemVCalls[kind].flags)
	if key.n != unix.IPC_PRIVATE {
		if o := v.keys[key]; o != nil {
			return v.found(c, kind, o, flags)
		}
		if flags&unix.IPC_CREAT == 0 {
			return Errno(unix.ENOENT)
		}
	}
	o, err := v.create(c, kind, flags)
	if err != nil {
		return c.refusedWith(err)
	}
	o.key = key.n
	if key.n != unix.IPC_PRIVATE {
		v.keys[key] = o
	}
	n := c.Process.random.count("sysv")
	h := fnv.New32a()
	fmt.Fprintf(h, "%s/%d", c.Process.Lineage, n)
	for num := int32(h.Sum32() >> 1); ; num = (num + 1) & (1<<31 - 1) {
		if at := (systemVKey{kind, num}); v.ids[at] == nil {
			v.ids[at], v.nums[o] = o, num
			return Return(int64(num))
		}
	}
}

// found answers for what is there already.
func (v *systemVObjects) found(c *Call, kind systemVKind, o *systemVObject, flags int32) Answer {
	const exclusive = unix.IPC_CREAT | unix.IPC_EXCL
	if flags&exclusive == exclusive {
		return Errno(unix.EEXIST)
	}
	st, err := systemVStat(kind, o.id)
	if err != nil {
		return c.refusedWith(err)
	}
	switch {
	case kind == sharedMemory && c.Arg(1) > binary.NativeEndian.Uint64(st[offShmSize:]),
		kind == semaphores && uint64(uint32(c.Arg(1))) > binary.NativeEndian.Uint64(st[offSems:]):
		return Errno(unix.EINVAL)
	}
	return Return(int64(v.nums[o]))
}

// create makes an object that belongs to the caller.
func (v *systemVObjects) create(c *Call, kind systemVKind, flags int32) (*systemVObject, error) {
	creds, err := v.s.view.creds(c.thread)
	if err != nil {
		return nil, err
	}
	o := new(systemVObject)
	if o.id, err = v.make(kind, c.Arg(1), flags); err != nil {
		return nil, err
	}
	if err = o.give(kind, creds.fs.UID, creds.fs.GID); err == nil && kind == sharedMemory {
		err = o.hold()
	}
	if err != nil {
		return nil, errors.Join(err, systemVControl(kind, o.id, unix.IPC_RMID, nil))
	}
	return o, nil
}

// give makes somebody the owner.
func (o *systemVObject) give(kind systemVKind, uid, gid uint32) error {
	if int(uid) == unix.Geteuid() && int(gid) == unix.Getegid() {
		return nil
	}
	b, err := systemVStat(kind, o.id)
	if err != nil {
		return err
	}
	binary.NativeEndian.PutUint32(b[offUID:], uid)
	binary.NativeEndian.PutUint32(b[offGID:], gid)
	return systemVControl(kind, o.id, unix.IPC_SET, b)
}

// hold attaches a segment to the supervisor and removes it: it stays as long as
// somebody has it attached, and no longer than the supervisor lives.
func (o *systemVObject) hold() (err error) {
	if o.held, err = shmAttach(o.id); err != nil {
		return err
	}
	return systemVControl(sharedMemory, o.id, unix.IPC_RMID, nil)
}

func systemVStat(kind systemVKind, id int32) ([]byte, error) {
	b := make([]byte, systemVStruct)
	return b, systemVControl(kind, id, unix.IPC_STAT, b)
}

// use lets a call have the host's object that a number stands for.
func (v *systemVObjects) use(st *Stop, kind systemVKind) *systemVObject {
	v.mu.Lock()
	defer v.mu.Unlock()
	given := st.Arg(0)
	o := v.ids[systemVKey{kind, int32(given)}]
	if o == nil {
		st.skip(unix.EINVAL)
		return nil
	}
	st.setArg(0, uint64(o.id))
	st.OnExit(func(st *Stop) { st.setArg(0, given) })
	return o
}

// control answers shmctl, semctl and msgctl.
func (v *systemVObjects) control(st *Stop, kind systemVKind) {
	at := 1
	if kind == semaphores {
		at = 2
	}
	const libc64 = 0x100 // IPC_64, which means nothing on 64-bit machines
	command, buf := int32(st.Arg(at))&^libc64, st.Arg(at+1)
	known := []int32{unix.IPC_STAT, unix.IPC_SET, unix.IPC_RMID}
	switch {
	case command == ipcInfo:
		return // limits
	case kind == sharedMemory:
		known = append(known, 11, 12) // SHM_LOCK, SHM_UNLOCK
	case kind == semaphores:
		known = append(known, 11, 12, 13, 14, 15, 16, 17) // GETPID to SETALL
	}
	if !slices.Contains(known, command) {
		st.skip(unix.EINVAL)
		return
	}
	o := v.use(st, kind)
	switch {
	case o == nil:
	case command == unix.IPC_RMID:
		v.removed(st, kind, o)
	case command == unix.IPC_STAT:
		st.OnExit(func(st *Stop) {
			if st.Result() == 0 {
				v.describe(st, kind, o, buf)
			}
		})
	}
}

// removed answers the removal of an object. A segment stays for those who have it
// attached.
func (v *systemVObjects) removed(st *Stop, kind systemVKind, o *systemVObject) {
	creds, err := v.s.view.creds(st.th)
	if err != nil {
		st.refuse(err)
		return
	}
	b, err := systemVStat(kind, o.id)
	if err != nil {
		st.refuse(err)
		return
	}
	if uid := creds.fs.UID; uid != 0 && uid != binary.NativeEndian.Uint32(b[offUID:]) {
		st.skip(unix.EPERM)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if o.key != unix.IPC_PRIVATE {
		delete(v.keys, systemVKey{kind, o.key})
		o.key = unix.IPC_PRIVATE
	}
	if kind == sharedMemory {
		if err := o.letGo(); err != nil {
			st.refuse(err)
			return
		}
		st.skip(0)
		return
	}
	delete(v.ids, systemVKey{kind, v.nums[o]})
	delete(v.nums, o)
}

func (o *systemVObject) letGo() error {
	if o.held == 0 {
		return nil
	}
	at := o.held
	o.held = 0
	return shmDetach(at)
}

// describe shows the caller the sandbox's clock and key, and hides what the supervisor
// has done to a segment.
func (v *systemVObjects) describe(st *Stop, kind systemVKind, o *systemVObject, at uint64) {
	b := make([]byte, systemVStruct)
	if kind == messageQueue || kind == sharedMemory {
		b = b[:112] // no more is theirs
	} else {
		b = b[:104]
	}
	if st.Read(at, b) != nil {
		return // another thread has taken the memory away
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	binary.NativeEndian.PutUint32(b, uint32(o.key))
	for _, off := range systemVCalls[kind].times {
		if binary.NativeEndian.Uint64(b[off:]) != 0 {
			binary.NativeEndian.PutUint64(b[off:], uint64(v.s.clock.startsAt()/1e9)+uint64(v.s.clock.elapsed()/1e9))
		}
	}
	if kind == sharedMemory && o.held != 0 {
		binary.NativeEndian.PutUint32(b[offMode:], binary.NativeEndian.Uint32(b[offMode:])&^shmDest)
		binary.NativeEndian.PutUint64(b[offShmAttach:], binary.NativeEndian.Uint64(b[offShmAttach:])-1)
	}
	_, _ = tracee.WriteMem(st.th.tid, at, b) // it could be read, and was written
}

// remove removes what is left at the end.
func (v *systemVObjects) remove() (err error) {
	for at, o := range v.ids {
		var failed error
		if at.kind == sharedMemory {
			failed = o.letGo()
		} else {
			failed = systemVControl(at.kind, o.id, unix.IPC_RMID, nil)
		}
		if failed != nil && failed != unix.EINVAL && failed != unix.EIDRM {
			err = errors.Join(err, fmt.Errorf("remove %s %d: %w", systemVCalls[at.kind].get, at.n, failed))
		}
	}
	if err == nil {
		err = v.forgetLeft()
	}
	return err
}

// segments calls do with each of the sandbox's segments that the kernel lists, and with the
// fields of its line (sysvipc(7)).
func (v *systemVObjects) segments(do func(id int32, fields []string)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	ids := map[int32]bool{}
	for at, o := range v.ids {
		if at.kind == sharedMemory {
			ids[o.id] = true
		}
	}
	if len(ids) == 0 {
		return
	}
	text, err := readKernelFile("/proc/sysvipc/shm")
	if err != nil {
		return // then the processes that have them attached count
	}
	for line := range strings.Lines(string(text)) {
		const number, resident = 1, 14
		f := strings.Fields(line)
		if len(f) <= resident {
			continue
		}
		if id, err := strconv.ParseInt(f[number], 10, 32); err == nil && ids[int32(id)] {
			do(int32(id), f)
		}
	}
}

// resident returns how much memory the sandbox's segments have.
func (v *systemVObjects) resident() (sum int64) {
	v.segments(func(_ int32, fields []string) {
		const resident = 14
		n, _ := strconv.ParseInt(fields[resident], 10, 64)
		sum += n
	})
	return sum
}
