# Corners of calls that take paths and descriptors: what each returns.
import ctypes, errno, fcntl, os, pty, struct
libc = ctypes.CDLL(None, use_errno=True)
def call(nr, *args):
    r = libc.syscall(nr, *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    return r if r >= 0 else errno.errorcode[ctypes.get_errno()]
def show(what, f):
    try: print(what, f())
    except OSError as e: print(what, errno.errorcode[e.errno])

open("f", "w").write("text")
os.mkdir("d")
os.symlink("d", "link")

# A descriptor that is only a path's.
p = os.open("f", os.O_PATH)
show("fchmod", lambda: os.fchmod(p, 0o600))
show("fchown", lambda: os.fchown(p, os.getuid(), -1))
show("futimens", lambda: os.utime(p, (1, 1)))
show("fsetxattr", lambda: os.setxattr(p, "user.a", b"x"))
show("fgetxattr", lambda: os.getxattr(p, "user.a"))
show("flistxattr", lambda: os.listxattr(p))
show("fremovexattr", lambda: os.removexattr(p, "user.a"))
show("ftruncate", lambda: os.ftruncate(p, 0))
show("fstat", lambda: os.fstat(p).st_size)
show("fchdir", lambda: os.fchdir(p))
show("fsync", lambda: os.fsync(p))
show("by its name", lambda: os.chmod("/proc/self/fd/%d" % p, 0o640))
print(oct(os.stat("f").st_mode), os.stat("f").st_mtime > 1e6)

# Names.
buf = ctypes.create_string_buffer(100)
print("readlinkat", call(267, -100, b"", buf, 100), call(267, p, b"", buf, 100), call(267, -100, b"f", buf, 100), call(267, -100, b"link", buf, 0))
show("no link but a directory", lambda: os.open("link", os.O_DIRECTORY | os.O_NOFOLLOW))
show("no link", lambda: os.open("link", os.O_NOFOLLOW))
how = lambda flags, mode=0, resolve=0: struct.pack("QQQ", flags, mode, resolve)
for flags in os.O_PATH | os.O_RDWR, os.O_PATH | os.O_APPEND, os.O_PATH | os.O_CREAT, os.O_RDONLY | 1 << 30, os.O_DIRECTORY | os.O_CREAT:
    print("openat2", flags, call(437, -100, b"f", how(flags), 24))
omit = struct.pack("qqqq", 0, (1 << 30) - 2, 0, (1 << 30) - 2)
print("utimensat", call(280, -100, b"missing", omit, 0), call(280, -100, b"", omit, 0), call(280, -100, b"missing", None, 0))
print("linkat", call(265, -100, b"missing", 99, b"new", 0), call(265, 99, b"f", -100, b"new", 0), call(265, -100, b"f", 99, b"new", 0))
print("renameat", call(264, -100, b"missing", 99, b"new"), call(264, 99, b"f", -100, b"new"))
print("symlinkat", call(266, b"", 99, b"new"), call(266, b"x", 99, b"new"))

# A file without a name.
t = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_EXCL)
show("linkat of a temporary", lambda: os.link("/proc/self/fd/%d" % t, "temporary", follow_symlinks=True))
t = os.open(".", os.O_TMPFILE | os.O_RDWR)
show("linkat of another", lambda: os.link("/proc/self/fd/%d" % t, "temporary", follow_symlinks=True))

# Flags, as the program gave them.
KEPT = os.O_APPEND | os.O_NONBLOCK | os.O_NOATIME | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_ACCMODE | os.O_DSYNC
for name, flags in ("f", os.O_RDONLY), ("f", os.O_RDWR | os.O_APPEND), ("f", os.O_RDONLY | os.O_NOFOLLOW), ("f", os.O_WRONLY | os.O_NOATIME | os.O_DSYNC), ("d", os.O_RDONLY | os.O_DIRECTORY), ("d", os.O_RDONLY), \
        ("/etc/passwd", os.O_RDONLY), ("/etc/passwd", os.O_RDONLY | os.O_NOFOLLOW), ("/etc", os.O_RDONLY), ("new", os.O_RDWR | os.O_CREAT | os.O_NONBLOCK):
    print("flags", name, oct(fcntl.fcntl(os.open(name, flags, 0o644), fcntl.F_GETFL) & KEPT))

# Another's file, which links could keep from being removed.
if os.getuid():
    show("link to another's", lambda: os.link("/etc/passwd", "mine"))

# A terminal has a name, at which there is the same one.
master, slave = pty.openpty()
print(os.stat(os.ttyname(slave)) == os.fstat(slave), os.isatty(master))
