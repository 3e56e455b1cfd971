//go:build linux

package supervisor

import (
	"strings"
	"sync"

	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
)

// A signature says what the arguments of a system call are, and what it is about.
type signature struct {
	name     string
	category Category
	kinds    []argKind
}

// An argKind is what an argument means.
type argKind string

// The kinds that more is known of than how they are written.
const (
	argFD     argKind = "fd"
	argDirFD  argKind = "at"   // of the path that follows
	argPath   argKind = "path" // followed to its end
	argName   argKind = "name" // a path of which a symbolic link at the end is meant itself
	argOpen   argKind = "open" // flags of open, which may say so of the path before
	argAt     argKind = "atflags"
	argSocket argKind = "addr" // a socket's address; its size follows
	argArgv   argKind = "argv"
	argData   argKind = "data" // bytes that are read; their number follows
	argSize   argKind = "size" // of memory or a file, not of a structure of the call's
)

// signatures is the table of calls: category, name, arguments. Calls that aren't here
// are other, and nothing is known of their arguments. (The section 2 pages of the
// Linux manual, and syscalls(2).)
const signatures = `
file    open               path open mode
file    openat             at path open mode
file    openat2            at path ptr int
file    creat              path mode
file    stat               path ptr
file    lstat              name ptr
file    fstat              fd ptr
file    newfstatat         at path ptr atflags
file    statx              at path atflags hex ptr
file    access             path int
file    faccessat          at path int
file    faccessat2         at path int atflags
file    readlink           name ptr size
file    readlinkat         at name ptr size
file    getdents           fd ptr size
file    getdents64         fd ptr size
file    mkdir              name mode
file    mkdirat            at name mode
file    mknod              name mode int
file    mknodat            at name mode int
file    unlink             name
file    unlinkat           at name atflags
file    rmdir              name
file    rename             name name
file    renameat           at name at name
file    renameat2          at name at name hex
file    link               name name
file    linkat             at name at name atflags
file    symlink            str name
file    symlinkat          str at name
file    chmod              path mode
file    fchmod             fd mode
file    fchmodat           at path mode
file    fchmodat2          at path mode atflags
file    chown              path int int
file    lchown             name int int
file    fchown             fd int int
file    fchownat           at path int int atflags
file    utime              path ptr
file    utimes             path ptr
file    futimesat          at path ptr
file    utimensat          at path ptr atflags
file    truncate           path size
file    ftruncate          fd size
file    statfs             path ptr
file    fstatfs            fd ptr
file    setxattr           path str ptr size int
file    lsetxattr          name str ptr size int
file    fsetxattr          fd str ptr size int
file    getxattr           path str ptr size
file    lgetxattr          name str ptr size
file    fgetxattr          fd str ptr size
file    listxattr          path ptr size
file    llistxattr         name ptr size
file    flistxattr         fd ptr size
file    removexattr        path str
file    lremovexattr       name str
file    fremovexattr       fd str
file    chdir              path
file    fchdir             fd
file    chroot             path
file    getcwd             ptr size
file    umask              mode
file    inotify_add_watch  fd path hex
file    inotify_rm_watch   fd int
file    name_to_handle_at  at path ptr ptr atflags
file    open_by_handle_at  fd ptr open
file    read               fd ptr size
file    write              fd data size
file    pread64            fd ptr size size
file    pwrite64           fd data size size
file    readv              fd ptr int
file    writev             fd ptr int
file    preadv             fd ptr int size
file    pwritev            fd ptr int size
file    preadv2            fd ptr int size
file    pwritev2           fd ptr int size
file    lseek              fd size int
file    fsync              fd
file    fdatasync          fd
file    sync
file    syncfs             fd
file    sync_file_range    fd size size hex
file    fallocate          fd int size size
file    close              fd
file    dup                fd
file    dup2               fd int
file    dup3               fd int open
file    pipe               ptr
file    pipe2              ptr open
file    fcntl              fd int hex
file    flock              fd int
file    ioctl              fd hex ptr
file    sendfile           fd fd ptr size
file    copy_file_range    fd ptr fd ptr size
file    splice             fd ptr fd ptr size hex
file    memfd_create       str hex
file    mount              str name str hex ptr
file    umount2            name hex
file    pivot_root         name name
network socket             family socktype int
network socketpair         family socktype int ptr
network bind               fd addr int
network connect            fd addr int
network listen             fd int
network accept             fd ptr ptr
network accept4            fd ptr ptr hex
network getsockname        fd ptr ptr
network getpeername        fd ptr ptr
network sendto             fd data size hex addr int
network sendmsg            fd ptr hex
network sendmmsg           fd ptr int hex
network recvfrom           fd ptr size hex ptr ptr
network recvmsg            fd ptr hex
network recvmmsg           fd ptr int hex time
network setsockopt         fd int int ptr int
network getsockopt         fd int int ptr ptr
network shutdown           fd int
process execve             path argv envp
process execveat           at path argv envp atflags
process clone              hex ptr ptr ptr ptr
process clone3             ptr int
process fork
process vfork
process exit               int
process exit_group         int
process wait4              pid ptr hex ptr
process waitid             int pid ptr hex ptr
process kill               pid sig
process tkill              pid sig
process tgkill             pid pid sig
process rt_sigqueueinfo    pid sig ptr
process pidfd_open         pid hex
process pidfd_send_signal  fd sig ptr hex
process setuid             int
process setgid             int
process setreuid           int int
process setregid           int int
process setresuid          int int int
process setresgid          int int int
process setfsuid           int
process setfsgid           int
process setgroups          int ptr
process setpgid            pid pid
process setsid
process prctl              int ptr ptr ptr ptr
process personality        hex
process ptrace             int pid ptr ptr
process setrlimit          int ptr
process prlimit64          pid int ptr ptr
process setpriority        int pid int
process sched_setaffinity  pid size ptr
process sched_getaffinity  pid size ptr
process unshare            hex
process setns              fd hex
process seccomp            int hex ptr
memory  mmap               ptr size hex hex fd size
memory  munmap             ptr size
memory  mremap             ptr size size hex ptr
memory  mprotect           ptr size hex
memory  madvise            ptr size int
memory  brk                ptr
memory  shmget             hex size hex
memory  shmat              int ptr hex
memory  mlock              ptr size
memory  msync              ptr size hex
other   nanosleep          time ptr
other   clock_nanosleep    int hex time ptr
other   clock_gettime      int ptr
other   clock_settime      int time
other   clock_getres       int ptr
other   gettimeofday       ptr ptr
other   time               ptr
other   times              ptr
other   getrusage          int ptr
other   alarm              int
other   setitimer          int ptr ptr
other   getitimer          int ptr
other   timer_create       int ptr ptr
other   timer_settime      int hex ptr ptr
other   timer_gettime      int ptr
other   timer_delete       int
other   timerfd_create     int open
other   timerfd_settime    fd hex ptr ptr
other   timerfd_gettime    fd ptr
other   futex              ptr hex int ptr ptr int
other   poll               ptr int int
other   ppoll              ptr int time ptr int
other   select             int ptr ptr ptr ptr
other   pselect6           int ptr ptr ptr time ptr
other   epoll_wait         fd ptr int int
other   epoll_pwait        fd ptr int int ptr int
other   epoll_pwait2       fd ptr int time ptr int
other   rt_sigtimedwait    ptr ptr time size
other   semtimedop         int ptr int time
other   mq_open            str open mode ptr
other   mq_unlink          str
other   getrandom          ptr size hex
other   uname              ptr
other   sysinfo            ptr
other   getcpu             ptr ptr
other   sched_yield
other   sethostname        str size
`

// signatureOf returns what is known of a call.
func signatureOf(nr int) *signature {
	if sig := signatureTable()[nr]; sig != nil {
		return sig
	}
	return &signature{name: seccomp.Name(uint32(nr)), category: OtherCall}
}

// signatureTable is the table by number, of those calls that this architecture has.
var signatureTable = sync.OnceValue(func() map[int]*signature {
	table := map[int]*signature{}
	for line := range strings.Lines(signatures) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		sig := &signature{name: f[1], category: Category(f[0])}
		for _, kind := range f[2:] {
			sig.kinds = append(sig.kinds, argKind(kind))
		}
		if nr, ok := seccomp.Number(sig.name); ok {
			table[int(nr)] = sig
		}
	}
	return table
})
