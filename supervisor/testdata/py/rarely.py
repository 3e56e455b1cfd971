# What is rarely done to files: whiteouts, and opens of what has lost its name.
import ctypes, errno, fcntl, os, stat

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, RENAMEAT2 = -100, 316
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4


def say(what, do):
    try:
        print(what, do())
    except OSError as e:
        print(what, errno.errorcode[e.errno])


def rename(old, new, flags):
    if libc.syscall(RENAMEAT2, AT_FDCWD, old.encode(), AT_FDCWD, new.encode(), ctypes.c_long(flags)) < 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def kind(name):
    st = os.lstat(name)
    return oct(st.st_mode), st.st_rdev, 0 if stat.S_ISDIR(st.st_mode) else st.st_nlink


def files():
    return [(name, kind(name)) for name in sorted(os.listdir("."))]


def again(fd, flags):
    return os.open("/proc/self/fd/%d" % fd, flags)


os.umask(0o022)
os.mkfifo("fifo")
fifo = os.open("fifo", os.O_RDWR)
os.unlink("fifo")
for flags in os.O_WRONLY, os.O_WRONLY | os.O_NONBLOCK, os.O_RDWR:
    say("a FIFO without a name, %o" % flags, lambda: (os.write(again(fifo, flags), b"text"), os.read(again(fifo, os.O_RDONLY), 9)))
say("its links", lambda: os.fstat(fifo).st_nlink)
os.mkfifo("fifo")
say("another of its name", lambda: kind("fifo"))
os.unlink("fifo")

for excl in 0, os.O_EXCL:
    temporary = os.open(".", os.O_TMPFILE | os.O_RDWR | excl, 0o600)
    say("flags", lambda: oct(fcntl.fcntl(temporary, fcntl.F_GETFL)))
    os.write(temporary, b"text")
    say("again", lambda: os.read(again(temporary, os.O_RDONLY), 9))
    say("linked", lambda: os.link("/proc/self/fd/%d" % temporary, "linked", follow_symlinks=True))
    say("files", files)

say("a whiteout", lambda: os.mknod("w", 0o20644, 0))
say("files", files)
say("opened", lambda: os.open("w", os.O_RDONLY))
say("another device", lambda: os.mknod("d", 0o60644, os.makedev(7, 7)) if os.getuid() else None)
for name in "xy":
    with open(name, "w") as f:
        f.write(name)
os.mkdir("dir")
for flags in WHITEOUT, WHITEOUT | NOREPLACE, WHITEOUT | EXCHANGE, WHITEOUT | NOREPLACE | EXCHANGE, 8:
    for old, new in ("x", "z"), ("y", "z"), ("z", "y"), ("w", "v"), ("dir", "e"), ("none", "n"), ("v", "dir"):
        say("%s to %s, %d" % (old, new, flags), lambda: rename(old, new, flags))
        say("files", files)
