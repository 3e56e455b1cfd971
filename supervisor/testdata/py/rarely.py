# What is rarely done to files: whiteouts, and opens of what has lost its name.
import ctypes, errno, fcntl, os, re, stat

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
for name in "/proc/self/fd/0", "/proc/self/status", "/proc", "/proc/cpuinfo", "/proc/self/exe", "/dev/null":
    for follow in True, False:
        say("attributes of %s, %s" % (name, follow), lambda: os.listxattr(name, follow_symlinks=follow))
        say("one", lambda: os.getxattr(name, "user.x", follow_symlinks=follow))
        if name.startswith("/proc"):
            say("set", lambda: os.setxattr(name, "user.x", b"v", follow_symlinks=follow) if name != "/proc/self/exe" else None)

device = os.open("/dev/urandom", os.O_RDONLY)
for flags in os.O_RDONLY, os.O_WRONLY, os.O_RDWR:
    say("the device again, %o" % flags, lambda: kind("/proc/self/fd/%d" % again(device, flags))[1:])
say("its bytes", lambda: len(os.read(again(device, os.O_RDONLY), 5000)))
say("its name", lambda: os.readlink("/proc/self/fd/%d" % again(device, os.O_RDONLY)))
say("another's", lambda: os.readlink("/proc/self/fd/%d" % os.open("/dev/random", os.O_RDONLY)))

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

say("its link", lambda: re.sub("#[0-9]+", "#", os.path.relpath(os.readlink("/proc/self/fd/%d" % temporary))))
os.close(temporary)

os.symlink("target", "link")
for flags in os.O_EXCL | os.O_CREAT, os.O_CREAT, os.O_TRUNC | os.O_WRONLY, os.O_NOFOLLOW | os.O_EXCL | os.O_CREAT:
    say("O_PATH and %o" % flags, lambda: os.path.basename(os.readlink("/proc/self/fd/%d" % os.open("link", os.O_PATH | flags))))
os.mkdir("target")
only = os.open("target", os.O_PATH)
say("a directory's", lambda: os.listdir(only))
for fd in only, -1, 99, 1:
    print("syncfs", fd, libc.syncfs(fd), errno.errorcode.get(ctypes.get_errno()))
    ctypes.set_errno(0)
os.rmdir("target")
os.unlink("link")


def execute(text, open_to):
    with open("script", "wb") as f:
        f.write(text)
    os.chmod("script", 0o755)
    held = os.open("script", open_to)
    pid = os.fork()
    if pid == 0:
        try:
            os.execv("./script", ["./script", "an argument"])
        except OSError as e:
            print(errno.errorcode[e.errno], flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(held)


for first in (b"", b"\n", b"  ", b"  \n", b" \t\nx", b"\0", b"\0\n", b"x", b"/bin/echo", b"/bin/echo a", b"/bin/echo\0b c", b"/bin/echo b\0c\n",
              b" /bin/echo  a  \n", b" " * 300, b" " * 252 + b"/x", b"x" * 300, b"/bin/echo " + b"y" * 300):
    print(first[:20], len(first), flush=True)
    execute(b"#!" + first, os.O_RDONLY)
print("open to write", flush=True)
execute(b"#!/bin/echo\n", os.O_WRONLY)
execute(b"#!/bin/echo\n", os.O_RDWR)
os.unlink("script")

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

# What is told of names that are gone.
here = os.getcwd()


def name_of(fd):
    return os.readlink("/proc/self/fd/%d" % fd).replace(here, "W")


os.makedirs("gone/below")
with open("gone/below/file", "w"):
    pass
file, below = os.open("gone/below/file", os.O_RDONLY), os.open("gone/below", os.O_RDONLY)
os.unlink("gone/below/file")
os.rmdir("gone/below")
os.rmdir("gone")
print(name_of(file), name_of(below))
say("opened as a path", lambda: name_of(again(file, os.O_PATH)))
say("its links", lambda: os.fstat(again(file, os.O_PATH)).st_nlink)
say("opened by that", lambda: os.read(again(again(file, os.O_PATH), os.O_RDONLY), 9))
os.makedirs("gone/below")
os.chdir("gone/below")
os.rmdir("../below")
os.rmdir("../../gone")
print(os.readlink("/proc/self/cwd").replace(here, "W"))
os.chdir(here)

# The host's files with several names.
links = lambda *names: [os.lstat(name).st_nlink for name in names]
say("links to a link", lambda: links("s1", "s2", "s3"))
os.unlink("s2")
os.link("s1", "s4", follow_symlinks=False)
say("links to a link", lambda: (links("s1", "s3", "s4"), len({os.lstat(name).st_ino for name in ("s1", "s3", "s4")})))
os.rename("s1", "s5")
os.unlink("s3")
say("links to a link", lambda: (links("s4", "s5"), os.readlink("s5")))
first = os.open("h1", os.O_RDONLY)
os.unlink("h1")
print(name_of(first), os.fstat(first).st_nlink)
print(name_of(os.open("h2", os.O_RDONLY)))

for name, flags in ("fifo2", os.O_RDWR), ("/dev/null", os.O_RDWR), ("/dev/zero", os.O_NONBLOCK):
    if name[0] != "/":
        os.mkfifo(name)
    say("flags of %s" % name, lambda: oct(fcntl.fcntl(os.open(name, flags | os.O_NOFOLLOW), fcntl.F_GETFL)))
UTIMENSAT, UTIMES = 280, 235
wrong = (ctypes.c_long * 4)(1, 2000000000, 1, 1)
for dirfd, name in (AT_FDCWD, b"missing"), (99, b"missing"), (AT_FDCWD, b"fifo2"), (first, None), (99, None):
    ctypes.set_errno(0)
    print("a wrong time", libc.syscall(UTIMENSAT, dirfd, name, wrong, 0), errno.errorcode.get(ctypes.get_errno()))
libc.syscall(UTIMES, b"missing", wrong)
print("a wrong time", errno.errorcode.get(ctypes.get_errno()))

# Who writes loses set-id bits, unless they were set afterwards.
mode = lambda fd: oct(os.fstat(fd).st_mode)
for bits in 0o4755, 0o2755, 0o6777, 0o2745, 0o6666:
    name = "%o" % bits
    fd = os.open(name, os.O_CREAT | os.O_WRONLY, bits)
    print(name, mode(fd), os.write(fd, b"x"), mode(fd))
    os.fchmod(fd, 0o6777)
    print(mode(fd), os.write(fd, b"x"), mode(fd))
    os.fchmod(fd, 0o4711)
    print(mode(fd), os.ftruncate(fd, 0), mode(fd))
    os.write(fd, b"x")
    os.fchmod(fd, 0o4711)
    os.close(fd)
    print(oct(os.stat(name).st_mode))
    fd = os.open(name, os.O_WRONLY)
    os.write(fd, b"xy")
    os.chmod(name, 0o4755)
    os.close(fd)
    print(oct(os.stat(name).st_mode))
fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o4755)
print(mode(fd), os.write(fd, b"x"), mode(fd))

# What a directory's own descriptor leads to needs no right to search it.
for bits in 0, 0o600, 0o100:
    os.mkdir("closed", 0o700)
    fd = os.open("closed", os.O_RDONLY)
    os.mkdir("closed/below")
    path = "/proc/self/fd/%d" % fd
    for what, do in [
        ("stat", lambda: oct(os.stat(path).st_mode)), ("chmod", lambda: os.chmod(path, bits)), ("utime", lambda: os.utime(path)),
        ("access", lambda: os.access(path, os.R_OK)), ("attributes", lambda: os.listxattr(path)), ("open", lambda: os.open(path, os.O_RDONLY) > 0),
        ("as a path", lambda: os.open(path, os.O_PATH) > 0), ("list", lambda: os.listdir(path)), ("to write", lambda: os.open(path, os.O_RDWR)),
        ("truncate", lambda: os.truncate(path, 0)), ("create", lambda: os.open(path, os.O_CREAT | os.O_WRONLY)), ("slash", lambda: os.stat(path + "/").st_nlink > 0),
        ("dot", lambda: os.stat(path + "/.").st_nlink > 0), ("below", lambda: os.stat(path + "/below").st_nlink > 0), ("mkdir", lambda: os.mkdir(path)),
        ("rmdir", lambda: os.rmdir(path)), ("rename", lambda: os.rename(path, "other")), ("rename to", lambda: os.rename("closed", path)),
        ("link", lambda: os.link(path, "other")), ("unlink", lambda: os.unlink(path)), ("without a name", lambda: os.open(path, os.O_TMPFILE | os.O_RDWR) > 0),
    ]:
        os.chmod("closed", bits)
        say("%s of %o" % (what, bits), do)
    os.chmod("closed", 0o700)
    os.rmdir("closed/below")
    os.rmdir("closed")
    os.mkdir("closed", 0o700)
    os.chdir("closed")
    os.chmod(".", bits)
    for path in "/proc/self/cwd", "/proc/self/cwd/", "/proc/self/cwd/.", ".":
        say(path, lambda: oct(os.stat(path).st_mode))
    os.chmod("/proc/self/cwd", 0o700)
    os.chdir(here)
    os.rmdir("closed")
