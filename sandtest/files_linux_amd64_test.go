package sandtest_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/sandtest"
	"golang.org/x/sys/unix"
)

// A fileProgram is a shell script that uses real programs on files: it prints what
// must be the same as natively.
type fileProgram struct {
	name   string
	tools  []string
	script string
}

var filePrograms = []fileProgram{
	{"git", []string{"git"}, `
		export GIT_AUTHOR_DATE='2001-02-03T04:05:06Z' GIT_COMMITTER_DATE='2001-02-03T04:05:06Z' GIT_CONFIG_COUNT=0
		git init -q -b main repo && cd repo && git config user.email a@example.com && git config user.name A
		i=0; while [ $i -lt $FILES ]; do mkdir -p d$((i%10)); echo file $i >d$((i%10))/f$i; i=$((i+1)); done
		git add . && git commit -qm one
		echo more >>d1/f1 && git commit -qam two
		git checkout -q -b side HEAD~1 && echo other >d2/f2 && git mv d3/f3 d4/moved && git commit -qam three
		git rebase -q main && git gc -q && git fsck --no-progress --no-dangling && git status --short
		git log --format='%H %s' && git ls-tree -r HEAD | sort | sha256sum && git stash list && ls .git/refs/heads`},
	{"make and gcc", []string{"make", "gcc", "ar"}, `
		n=20; [ $FILES -lt 1000 ] || n=100
		i=0; while [ $i -lt $n ]; do echo "int f$i(void) { return $i; }" >f$i.c; i=$((i+1)); done
		{ for i in 3 7 19; do echo "int f$i(void);"; done; echo 'int main(void) { return f3() + f7() + f19(); }'; } >main.c
		printf 'OBJ = $(patsubst %%.c,%%.o,$(wildcard f*.c))\nprog: main.o libf.a\n\tgcc -o $@ main.o -L. -lf\nlibf.a: $(OBJ)\n\tar rcs $@ $^\n%%.o: %%.c\n\tgcc -O0 -c -o $@ $<\n' >Makefile
		make -j2 >log 2>&1 || cat log; ./prog; echo $?; make; make -q && echo up to date
		touch f3.c && make 2>&1 | grep -c gcc; ./prog; echo $?; rm -f *.o log && ls`},
	{"go build and test", []string{"go"}, `
		export GOFLAGS=-mod=mod GOPROXY=off GOTOOLCHAIN=local GOPATH=$PWD/go
		mkdir m && cd m && printf 'module example.com/m\n\ngo 1.24\n' >go.mod
		printf 'package m\n\nfunc Add(a, b int) int { return a + b }\n' >m.go
		printf 'package m\n\nimport "testing"\n\nfunc TestAdd(t *testing.T) {\n\tif Add(1, 2) != 3 {\n\t\tt.Fail()\n\t}\n}\n' >m_test.go
		go vet . && go test . | cut -f1,2 && go test . | cut -f1,2 && go build . && ls; rm -rf ../go`},
	{"archives", []string{"tar", "gzip", "cpio"}, `
		mkdir -p t/a/b && echo one >t/a/one && echo two >t/a/b/two && chmod 640 t/a/one && ln t/a/one t/hard && ln -s a/b t/soft && mkfifo t/fifo
		truncate -s 1M t/sparse && echo end >>t/sparse && touch -d @1000000000.123456789 t/a/one
		tar --sort=name -czf t.tar.gz t && mkdir out && tar -xzf t.tar.gz -C out && diff -r --no-dereference t/a out/t/a && cmp t/sparse out/t/sparse
		cp -a t copy && stat -c '%A %h %s %n' $(find copy | sort) | sed 's/ 4096 / DIR /; s/^d\(.*\) [0-9]* DIR/d\1 DIR/' && stat -c '%Y' copy/a/one
		(cd t && find . ! -type p | cpio -o --quiet -H newc) | (mkdir fromcpio && cd fromcpio && cpio -id --quiet) && cat fromcpio/a/b/two fromcpio/soft/two
		stat -c %h fromcpio/hard`},
	{"zip", []string{"zip", "unzip"}, `
		mkdir z && echo one >z/one && echo two >z/two && zip -qr z.zip z && rm -r z && unzip -q z.zip && cat z/one z/two && unzip -l z.zip | tail -1 | cut -c30-`},
	{"rsync", []string{"rsync"}, `
		mkdir -p from/d && echo one >from/d/one && ln -s d/one from/link && chmod 750 from/d
		rsync -a from/ to/ && rsync -ai from/ to/ && echo two >>from/d/one && rsync -ai --checksum --delete from/ to/ | wc -l && cat to/link && stat -c %a to/d`},
	{"sqlite", []string{"python3"}, `
		python3 -c '
import sqlite3, subprocess, sys
code = "import sqlite3,sys\nc=sqlite3.connect(\"db\",timeout=60,isolation_level=None)\nfor i in range(50):\n c.execute(\"begin immediate\");c.execute(\"insert into t values(?,?)\",(sys.argv[1],i));c.execute(\"commit\")"
c = sqlite3.connect("db", isolation_level=None)
print(c.execute("pragma journal_mode=wal").fetchone())
c.execute("create table t(who, n)")
ps = [subprocess.Popen([sys.executable, "-c", code, w]) for w in "ab"]
print([p.wait() for p in ps], c.execute("select who, count(*), sum(n) from t group by who").fetchall())
print(c.execute("pragma integrity_check").fetchone(), c.execute("pragma wal_checkpoint(truncate)").fetchone()[0])
c.close()
'; ls; rm db # which process was first shows in it`},
	{"python", []string{"python3"}, `
		mkdir app && printf 'import sys\nprint("app", sys.argv[1:])\n' >app/__main__.py && python3 -m zipapp app -o app.pyz -p /usr/bin/env\ python3 && ./app.pyz x 2>&1 || python3 app.pyz x
		mkdir pkg && echo 'x = 1' >pkg/__init__.py && python3 -c 'import pkg; print(pkg.x)' && ls pkg pkg/__pycache__ | sed 's/cpython-[0-9]*/V/'
		python3 -c '
import os, shutil, tempfile, mmap, fcntl
with tempfile.TemporaryDirectory() as d:
    p = os.path.join(d, "m"); open(p, "wb").write(b"x" * 5000)
    f = open(p, "r+b"); m = mmap.mmap(f.fileno(), 0); m[4999:5000] = b"y"; m.flush()
    print(open(p, "rb").read()[-2:])
    fcntl.flock(f, fcntl.LOCK_EX); g = open(p, "rb")
    try: fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError: print("locked")
    shutil.copytree(d, "copied"); os.rename("copied", "moved"); print(os.listdir("moved")); shutil.rmtree("moved")
'; ls`},
	{"venv", []string{"python3"}, `
		[ $FILES -ge 1000 ] || without=--without-pip
		python3 -m venv $without v && v/bin/python -c 'import sys; print(sys.prefix != sys.base_prefix, sys.prefix.endswith("/v"))'
		[ -n "$without" ] || v/bin/pip --version | cut -d' ' -f1,2
		find v ! -name '*.pyc' | sort | sha256sum; sed '/^home\|^version\|^exec\|^command/d' v/pyvenv.cfg`},
	{"program without a name", []string{"python3"}, `
		python3 -c '
import os
fd = os.memfd_create("x", 0); os.write(fd, open("/bin/echo", "rb").read()); os.symlink("/proc/self/fd/%d" % fd, "link")
for args in ("./link", ["echo", "through a link"]), (fd, ["echo", "by its descriptor"]):
    if os.fork() == 0: os.execve(*args, {})
    print(os.wait()[1], flush=True)
'`},
	{"node", []string{"node"}, `
		node -e '
const fs = require("fs"), path = require("path");
fs.mkdirSync("a/b/c", {recursive: true}); fs.writeFileSync("a/b/c/f", "text");
fs.cpSync("a", "z", {recursive: true}); fs.renameSync("z/b", "b"); console.log(fs.readdirSync(".", {recursive: true}).sort().join(" "));
fs.symlinkSync("a", "l"); console.log(fs.realpathSync("l/b") === path.resolve("a/b"), fs.lstatSync("l").isSymbolicLink());
fs.rmSync("a", {recursive: true}); console.log(fs.existsSync("l"), fs.existsSync("b/c/f"));'`},
	{"npm pack", []string{"npm"}, `
		mkdir p && cd p && printf '{"name": "p", "version": "1.0.0", "main": "i.js"}\n' >package.json && echo 'module.exports = 1' >i.js
		npm pack --offline --silent --logs-max=0 --cache $PWD/../cache && tar -tzf p-1.0.0.tgz | sort`},
	{"tools", []string{"sed", "patch", "install", "find", "diff"}, `
		printf 'a\nb\nc\n' >f && sed -i s/b/B/ f && cat f && cp f g && sed -i s/B/beta/ g && diff -u f g | sed 's/\t.*//' >p; patch -s f p && cat f
		install -D -m 750 f bin/deep/f && stat -c '%a %n' bin/deep/f && touch -d @1000 old && touch new && find . -newer old -type f | sort
		ln f h && ln -s f s && stat -c %h f && d=$(mktemp -d) && test -d "$d" && rmdir "$d" && mkdir -m 700 m && stat -c %a m
		find . -type f | sort | xargs sha256sum | sha256sum && mv bin m/ && rm -r m && ls && echo x >>f && cat h && rm h && cat f && df . >/dev/null && du -s . >/dev/null && realpath --relative-to=. s`},
	{"configure", []string{"gcc"}, `
		cat >configure <<'EOF'
#!/bin/sh -e
for h in stdio.h nosuch.h sys/stat.h; do
	printf '#include <%s>\nint main(void) { return 0; }\n' $h >conftest.c
	if gcc -o conftest conftest.c 2>/dev/null && ./conftest; then echo "$h yes"; else echo "$h no"; fi
	rm -f conftest conftest.c
done
EOF
		chmod +x configure && ./configure && ls`},
}

// hostTree tells all about a directory that a program must not change.
func hostTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		got[path] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime())
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return got
}

// Programs that work with files end as natively, leave the host alone, and leave
// the same changes in every run.
func TestFilePrograms(t *testing.T) {
	runs, files := 2, 300
	switch {
	case os.Getenv("SANDTEST_LONG") != "":
		runs, files = 10, 1000
	case testing.Short():
		files = 50
	}
	for _, p := range filePrograms {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			for _, tool := range p.tools {
				if _, err := exec.LookPath(tool); err != nil {
					t.Skip(err)
				}
			}
			native := exec.Command("sh", "-c", "umask 022; "+p.script)
			// A build cache that is warm makes the go tool quick. Who can't write there has none.
			more := []string{fmt.Sprint("FILES=", files)}
			var opts sandtest.Options
			if p.tools[0] == "go" {
				dir := strings.TrimSpace(tool(t, exec.Command("go", "env", "GOCACHE")))
				if err := unix.Access(dir, unix.W_OK); err != nil {
					t.Skipf("the build cache %s: %v", dir, err)
				}
				more, opts.Mounts = append(more, "GOCACHE="+dir), []sandtest.Mount{{Host: dir}}
			}
			native.Dir, native.Env = t.TempDir(), append(append(sandtest.Environ(), "HOME="+t.TempDir(), "TMPDIR="+t.TempDir()), more...)
			want, err := native.Output()
			if err != nil {
				t.Skipf("natively it fails: %v\n%s", err, stderrOf(err))
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "present"), []byte("before\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			before := hostTree(t, dir)
			var first string
			for i := range runs {
				cmd := exec.Command("sh", "-c", "rm present; "+p.script)
				cmd.Dir, cmd.Env = dir, append(sandtest.Environ(), more...)
				opts.Timeout = 2 * time.Minute
				res := sandtest.Run(t, cmd, opts)
				if diff := cmp.Diff(string(want), res.Stdout); diff != "" || res.ExitCode != 0 {
					t.Fatalf("run %d: exit code %d, timed out %v, output (-bare +sandbox):\n%s\nstandard error:\n%s\n%v", i, res.ExitCode, res.TimedOut, diff, res.Stderr, res.Deadlock)
				}
				switch left := digest(t, res); {
				case i == 0:
					first = left
				case left != first:
					t.Fatalf("run %d leaves other changes (-first +other):\n%s", i, cmp.Diff(first, left))
				}
			}
			if diff := cmp.Diff(before, hostTree(t, dir)); diff != "" {
				t.Errorf("the host's directory has changed (-before +after):\n%s", diff)
			}
		})
	}
}

func stderrOf(err error) string {
	if exit, ok := err.(*exec.ExitError); ok {
		return string(exit.Stderr)
	}
	return ""
}

// digest is what a command changed in its directory, with the bytes of each file.
func digest(t *testing.T, res *sandtest.Result) string {
	t.Helper()
	var b strings.Builder
	for i := range res.Changes {
		c := &res.Changes[i]
		if !strings.HasPrefix(c.Path, "/work/") {
			continue
		}
		fmt.Fprint(&b, c, " ", c.Size)
		if c.Regular() {
			f, err := c.Open()
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.New()
			_, err = io.Copy(sum, f)
			f.Close()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, " %x", sum.Sum(nil))
		}
		b.WriteByte('\n')
	}
	return b.String()
}
