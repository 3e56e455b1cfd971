# Files that lose their names while they are open: what their descriptors still do.
import mmap, os, subprocess, sys
def show(what, f):
    try: print(what, f())
    except OSError as e: print(what, type(e).__name__, e.errno)
def writes(n, t):
    with open(n, "w") as f: f.write(t)
# of the host's, and of the layer's
for kind in "old", "new":
    a = kind + "_a"; b = kind + "_b"
    if kind == "new":
        writes(a, "text of a"); writes(b, "text of b")
    fd = os.open(a, os.O_RDONLY)
    os.rename(b, a)
    show("fchmod", lambda: os.fchmod(fd, 0o600))
    show("utime", lambda: os.utime(fd, (5, 5)))
    show("xattr", lambda: os.setxattr(fd, "user.x", b"1"))
    def wr():
        w = os.open("/proc/self/fd/%d" % fd, os.O_RDWR); os.write(w, b"WRITTEN"); os.close(w)
    show("reopened", wr)
    st = os.fstat(fd)
    print(kind, oct(st.st_mode), st.st_size, st.st_nlink, int(st.st_mtime) == 5)
    st = os.stat(a)
    print("by name", oct(st.st_mode), open(a).read(), st.st_nlink, os.listxattr(a), int(st.st_mtime) == 5)
    show("linkat", lambda: os.link("/proc/self/fd/%d" % fd, "again", follow_symlinks=True))
    c = kind + "_c"
    if kind == "new": writes(c, "text of c")
    fd = os.open(c, os.O_RDWR | os.O_CREAT)
    os.unlink(c)
    os.write(fd, b"12345678901234")
    show("size", lambda: os.fstat(fd).st_size)
    os.ftruncate(fd, 5)
    show("cut", lambda: os.fstat(fd).st_size)
    show("truncate", lambda: os.truncate("/proc/self/fd/%d" % fd, 4))
    show("cut", lambda: os.stat("/proc/self/fd/%d" % fd).st_size)
    show("read", lambda: open("/proc/self/fd/%d" % fd).read())
    show("mapped", lambda: bytes(mmap.mmap(fd, 0)))
    show("emptied", lambda: open("/proc/self/fd/%d" % fd, "w").close())
    show("cut", lambda: os.fstat(fd).st_size)
    os.set_inheritable(fd, True)
    os.write(fd, b"late"); os.lseek(fd, 0, 0)
    print(subprocess.run(["cat", "/proc/self/fd/%d" % fd], pass_fds=[fd], capture_output=True))
    # a program that has lost its name
    subprocess.run(["cp", "/bin/echo", kind + "_prog"])
    p = os.open(kind + "_prog", os.O_RDONLY)
    os.set_inheritable(p, True)
    os.unlink(kind + "_prog")
    show("runs", lambda: subprocess.run(["x", "by path"], executable="/proc/self/fd/%d" % p, pass_fds=[p], capture_output=True).stdout)
    sys.stdout.flush()
    if not os.fork():
        os.execve(p, ["x", "by descriptor"], os.environ)
    os.wait()
    writes(kind + "_s", "#!/bin/sh\necho script $*\n")
    os.chmod(kind + "_s", 0o755)
    p = os.open(kind + "_s", os.O_RDONLY); os.set_inheritable(p, True); os.unlink(kind + "_s")
    show("runs", lambda: subprocess.run(["x", "it"], executable="/proc/self/fd/%d" % p, pass_fds=[p], capture_output=True).stdout)
