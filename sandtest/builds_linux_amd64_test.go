package sandtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/sandtest"
)

// realBuilds are checked with everything varied. Verdicts were looked into by hand once.
var realBuilds = []struct {
	name   string
	tools  []string
	long   bool // takes too long to be run each time
	script string
	want   string
}{
	{"make and ar", []string{"make", "gcc", "ar"}, false, `
		i=0; while [ $i -lt 5 ]; do echo "int f$i(void) { return $i; }" >f$i.c; i=$((i+1)); done
		echo 'int f1(void); int main(void) { return f1() != 1; }' >main.c
		printf 'prog: main.o lib.a\n\tgcc -g -o $@ $^\nlib.a: f0.o f1.o f2.o f3.o f4.o\n\tar Urc $@ $^\n%%.o: %%.c\n\tgcc -g -c -o $@ $<\n' >Makefile
		make -s && ./prog && rm *.o *.c Makefile`,
		"lib.a: time path\nprog: path\n"},
	{"make and ar, corrected", []string{"make", "gcc", "ar"}, false, `
		i=0; while [ $i -lt 5 ]; do echo "int f$i(void) { return $i; }" >f$i.c; i=$((i+1)); done
		echo 'int f1(void); int main(void) { return f1() != 1; }' >main.c
		printf 'CFLAGS = -g -ffile-prefix-map=$(CURDIR)=.\nprog: main.o lib.a\n\tgcc -g -o $@ $^\nlib.a: f0.o f1.o f2.o f3.o f4.o\n\tar Drc $@ $^\n%%.o: %%.c\n\tgcc $(CFLAGS) -c -o $@ $<\n' >Makefile
		make -s && ./prog && rm *.o *.c Makefile`, ""},
	{"Debian package", []string{"dpkg-deb"}, false, `
		mkdir -p p/DEBIAN p/usr/bin && cp src/a p/usr/bin/tool && chmod 755 p/usr/bin/tool
		printf 'Package: tool\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.com>\nDescription: a tool\n' >p/DEBIAN/control
		dpkg-deb -Zgzip --root-owner-group --build p tool.deb >/dev/null && rm -r p`,
		"tool.deb: time\n"},
	{"Debian package, corrected", []string{"dpkg-deb"}, false, `
		export SOURCE_DATE_EPOCH=0
		mkdir -p p/DEBIAN p/usr/bin && cp src/a p/usr/bin/tool && chmod 755 p/usr/bin/tool
		printf 'Package: tool\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.com>\nDescription: a tool\n' >p/DEBIAN/control
		dpkg-deb -Zgzip --root-owner-group --build p tool.deb >/dev/null && rm -r p`, ""},
	{"static site of 500 pages", []string{"awk", "sed"}, false, `
		mkdir site && awk 'BEGIN { for (i = 0; i < 500; i++) { f = "site/" i ".html"; print "<h1>" i "</h1>" >f; close(f) } }'
		{ echo '<ul>'; ls -U site | sed 's,.*,<li>&</li>,'; echo "</ul><p>made by $USER on $(date -u +%F)</p>"; } >index.html`,
		"index.html: time fileorder environment\n"},
	{"static site of 500 pages, corrected", []string{"awk", "sed"}, false, `
		export LC_ALL=C
		mkdir site && awk 'BEGIN { for (i = 0; i < 500; i++) { f = "site/" i ".html"; print "<h1>" i "</h1>" >f; close(f) } }'
		{ echo '<ul>'; ls site | sed 's,.*,<li>&</li>,'; echo "</ul>"; } >index.html`, ""},
	{"Python wheel", []string{wheelPython}, true, makeWheel, "tool-1-py3-none-any.whl: time\n"},
	{"Python wheel, corrected", []string{wheelPython}, true, "export SOURCE_DATE_EPOCH=315532800 TZ=UTC\n" + makeWheel, ""},
	{"npm pack", []string{"npm"}, true, `
		mkdir p && printf '{ "name": "p", "version": "1.0.0" }\n' >p/package.json && cp src/a p/index.js
		cd p && npm pack --silent >/dev/null && mv p-1.0.0.tgz .. && cd .. && rm -r p`, ""},
	{"jar", []string{"jar"}, true, `
		mkdir c && cp src/a c/A && jar cf out.jar -C c . && rm -r c`,
		"out.jar: time timezone\n"},
	{"jar, corrected", []string{"jar"}, true, `
		mkdir c && cp src/a c/A && touch -d '2001-02-03 04:05:06 UTC' c c/A && TZ=UTC jar cfM out.jar -C c . && rm -r c`, ""},
	{"Go program", []string{"go"}, true, `
		printf 'module example.com/m\n\ngo 1.24\n' >go.mod
		printf 'package main\n\nfunc main() { println("hello") }\n' >main.go
		go build -ldflags=-w=0 -o app . && rm go.mod main.go`,
		"app: path\n"},
	{"Go program with -trimpath", []string{"go"}, true, `
		printf 'module example.com/m\n\ngo 1.24\n' >go.mod
		printf 'package main\n\nfunc main() { println("hello") }\n' >main.go
		go build -trimpath -o app . && rm go.mod main.go`, ""},
}

// wheelPython is the system's, which has Debian's python3-setuptools and python3-wheel.
const wheelPython = "/usr/bin/python3"

const makeWheel = `
	mkdir w && printf 'from setuptools import setup\nsetup(name="tool", version="1", py_modules=["tool"])\n' >w/setup.py && cp src/m.py w/tool.py
	(cd w && ` + wheelPython + ` setup.py -q bdist_wheel -d ..) 2>/dev/null && rm -r w`

func TestReproducibleBuilds(t *testing.T) {
	cache := ""
	if out, err := exec.Command("go", "env", "GOCACHE").Output(); err == nil {
		cache = strings.TrimSpace(string(out))
	}
	for _, b := range realBuilds {
		t.Run(b.name, func(t *testing.T) {
			if b.long && os.Getenv("SANDTEST_LONG") == "" {
				t.Skip("takes long: set SANDTEST_LONG=1")
			}
			if testing.Short() && b.tools[0] != "go" {
				t.Skip("takes seconds")
			}
			for _, tool := range b.tools {
				if _, err := exec.LookPath(tool); err != nil {
					t.Skip(err)
				}
			}
			if b.tools[0] == wheelPython {
				if out, err := exec.Command(wheelPython, "-c", "import setuptools, wheel").CombinedOutput(); err != nil {
					t.Skipf("%v: %s", err, out)
				}
			}
			opts := sandtest.Options{}
			cmd := shellIn(t, "umask 022\n"+b.script)()
			cmd.Env = append(sandtest.Environ(), "GOFLAGS=-buildvcs=false", "GOPROXY=off", "GOTOOLCHAIN=local")
			if _, err := os.Stat(filepath.Join(cache, "README")); err == nil && b.tools[0] == "go" {
				opts.Mounts = append(opts.Mounts, sandtest.Mount{Host: cache, Path: "/gocache"})
				cmd.Env = append(cmd.Env, "GOCACHE=/gocache")
			}
			report, err := sandtest.CheckReproducible(cmd, opts, sandtest.Check{})
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, d := range report.Differences {
				got.WriteString(d.Path + ":")
				for _, c := range d.Causes {
					got.WriteString(" " + c.Variation)
				}
				got.WriteString("\n")
			}
			if diff := cmp.Diff(b.want, got.String()); diff != "" {
				t.Errorf("causes (-want +got):\n%s%s", diff, report)
			}
		})
	}
}
