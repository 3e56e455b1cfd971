//go:build linux

package supervisor

import (
	"golang.org/x/sys/unix"
)

// An Answer is what a feature makes of a notified call. The zero Answer goes on
// to the next feature.
type Answer struct {
	kind  answerKind
	value int64 // result, errno, or target descriptor
	file  *injected
	err   error
}

type injected struct {
	fd       int // the supervisor's; closed after it was put into the process
	cloexec  bool
	forkless bool // then this process may start others again, see cow.Walk.NoForks
	last     bool // the program's is to be the last that is closed
}

type answerKind uint8

const (
	answerGoOn answerKind = iota
	answerContinue
	answerErrno
	answerReturn
	answerInject
	answerInjectAt
	answerHold
	answerKill
	answerFatal
	answerJudge // it is to be judged anew
)

// goOn leaves the call to the next feature, and in the end to the kernel.
var goOn = Answer{}

// Continue lets the kernel run the call as it stands. What the supervisor read
// from memory may have changed since, so it is for calls whose arguments don't
// matter to the sandbox.
func Continue() Answer { return Answer{kind: answerContinue} }

// Errno fails the call.
func Errno(e unix.Errno) Answer { return Answer{kind: answerErrno, value: int64(e)} }

// Return ends the call with a result.
func Return(v int64) Answer { return Answer{kind: answerReturn, value: v} }

// InjectFD ends the call with a new descriptor in the process, at once and
// atomically, for the same open file as fd, which is closed.
func InjectFD(fd int, cloexec bool) Answer {
	return Answer{kind: answerInject, file: &injected{fd: fd, cloexec: cloexec}}
}

// InjectLast is InjectFD for a FIFO or a terminal: fd is closed before the call ends, because
// somebody may wait for the last descriptor to be closed, and that is to be the program's.
func InjectLast(fd int, cloexec bool) Answer {
	return Answer{kind: answerInject, file: &injected{fd: fd, cloexec: cloexec, last: true}}
}

// InjectFDAt puts a descriptor for the same open file as fd, which is closed, at
// number target of the process, then lets the kernel run the call.
func InjectFDAt(target, fd int, cloexec bool) Answer {
	return Answer{kind: answerInjectAt, value: int64(target), file: &injected{fd: fd, cloexec: cloexec}}
}

// Kill ends the whole sandbox: the command gets the signal, and when that has
// ended it, as SIGKILL always does, everything else is killed. The call fails
// with EINTR should the caller live to see it.
func Kill(sig unix.Signal) Answer { return Answer{kind: answerKill, value: int64(sig)} }

// Fatal ends the whole sandbox because something couldn't be virtualised; err
// says what, and becomes the error of the run.
func Fatal(err error) Answer { return Answer{kind: answerFatal, err: err} }
