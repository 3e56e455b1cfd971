package sandtest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/sandtest"
	"golang.org/x/tools/txtar"
)

// The inputs of every build in testdata/repro.
var buildInputs = map[string]string{
	"src/a": "one\n", "src/b": "two\n", "src/c": "three\n", "src/d": "four\n",
	"src/m.py": "def f():\n    return 1\n", "src/list": "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n",
}

// A tinyBuild is a build that isn't reproducible for one reason, and its corrected twin.
type tinyBuild struct {
	name, build, fixed string
	causes             []string
	needs              []string
}

func readTinyBuilds(t *testing.T) (list []tinyBuild) {
	files, err := filepath.Glob("testdata/repro/*.txtar")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d builds, %v", len(files), err)
	}
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b := tinyBuild{name: strings.TrimSuffix(filepath.Base(file), ".txtar")}
		for line := range strings.Lines(string(ar.Comment)) {
			if s, ok := strings.CutPrefix(line, "cause: "); ok {
				b.causes = strings.Fields(s)
			}
			if s, ok := strings.CutPrefix(line, "needs: "); ok {
				b.needs = strings.Fields(s)
			}
		}
		for _, f := range ar.Files {
			switch f.Name {
			case "build":
				b.build = string(f.Data)
			case "fixed":
				b.fixed = string(f.Data)
			}
		}
		if b.causes == nil || b.build == "" || b.fixed == "" {
			t.Fatalf("%s lacks something", file)
		}
		list = append(list, b)
	}
	return list
}

// shellIn returns a script to be run in a directory that holds the inputs.
func shellIn(t *testing.T, script string) func() *exec.Cmd {
	dir := t.TempDir()
	for name, text := range buildInputs {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return func() *exec.Cmd {
		cmd := exec.Command("/bin/sh", "-ec", script)
		cmd.Dir = dir
		return cmd
	}
}

// Each build is called what it is, with its cause, and its twin reproducible.
func TestReproducibleCorpus(t *testing.T) {
	times := 1
	if os.Getenv("SANDTEST_LONG") != "" {
		times = 10
	}
	namespaces := hasNamespaces(t)
	for i, b := range readTinyBuilds(t) {
		t.Run(b.name, func(t *testing.T) {
			if testing.Short() && i%2 == 1 {
				t.Skip("every other one will do")
			}
			t.Parallel()
			for _, tool := range b.needs {
				if _, err := exec.LookPath(tool); err != nil {
					t.Skip(err)
				}
			}
			build, fixed := shellIn(t, b.build), shellIn(t, b.fixed)
			if b.causes[0] == "pids" && !namespaces {
				b.causes = []string{sandtest.Race} // they are the host's
			}
			for range times {
				report, err := sandtest.CheckReproducible(build(), sandtest.Options{}, sandtest.Check{})
				if err != nil {
					t.Fatal(err)
				}
				var causes []string
				for _, d := range report.Differences {
					for _, c := range d.Causes {
						if !slices.Contains(causes, c.Variation) {
							causes = append(causes, c.Variation)
						}
						if c.Hint == "" {
							t.Errorf("no hint for %s", c.Variation)
						}
					}
				}
				slices.Sort(causes)
				if diff := cmp.Diff(b.causes, causes); diff != "" || report.Reproducible {
					t.Errorf("causes (-want +got):\n%s%s", diff, report)
				}
				report, err = sandtest.CheckReproducible(fixed(), sandtest.Options{}, sandtest.Check{Runs: 3})
				if err != nil {
					t.Fatal(err)
				}
				if !report.Reproducible || report.Runs != 3 {
					t.Errorf("the corrected one: %s", report)
				}
				if b.causes[0] == sandtest.Race {
					continue
				}
				report, err = sandtest.CheckReproducible(build(), sandtest.Options{}, sandtest.Check{Frozen: true})
				if err != nil || !report.Reproducible {
					t.Errorf("in a frozen world: %v, %s", err, report)
				}
			}
		})
	}
}

// The report says where, why, and what helps.
func TestReproducibleReport(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip(err)
	}
	cmd := shellIn(t, "umask 022; tar --owner=0 --group=0 --mtime=@0 -cf - src | gzip -n >out.tar.gz; date -u +%Y >out")
	report, err := sandtest.CheckReproducible(cmd(), sandtest.Options{}, sandtest.Check{Vary: []string{"time", "fileorder", "path"}})
	if err != nil {
		t.Fatal(err)
	}
	const want = `not reproducible: 2 of 4 outputs differ
time: out: 2 bytes from offset 2
    diff a b
    --- a
    +++ b
    @@ -1,1 +1,1 @@
    -2000
    +2039
    hint: take the time from SOURCE_DATE_EPOCH instead of the clock (date, __DATE__, time.Now)
fileorder: out.tar.gz: order of members: src/a, src/m.py
    hint: tar --sort=name
`
	if diff := cmp.Diff(want, report.String()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

// A time in an image is reported as what it is there.
func TestReproducibleImage(t *testing.T) {
	list := readTinyBuilds(t)
	i := slices.IndexFunc(list, func(b tinyBuild) bool { return b.name == "png-times" })
	for _, tool := range list[i].needs {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	report, err := sandtest.CheckReproducible(shellIn(t, list[i].build)(), sandtest.Options{}, sandtest.Check{Vary: []string{"time"}})
	if err != nil {
		t.Fatal(err)
	}
	const want = `not reproducible: 1 of 3 outputs differ
time: out.png: chunk tIME: 2000-01-01T00:00:00Z, 2039-11-23T17:41:13Z
time: out.png: chunk tEXt date:create: 2000-01-01T00:00:00Z, 2039-11-23T17:41:13Z
    hint: take the time from SOURCE_DATE_EPOCH, or leave it out of images (ImageMagick: -define png:exclude-chunks=date,time)
`
	if diff := cmp.Diff(want, report.String()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

// A cause has a text for each place, where there is one.
func TestReproducibleDiffs(t *testing.T) {
	cmd := shellIn(t, "echo $TZ >out; [ $(umask) != 0027 ] || exit 4")
	report, err := sandtest.CheckReproducible(cmd(), sandtest.Options{}, sandtest.Check{Vary: []string{"timezone", "umask"}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, d := range report.Differences {
		for _, c := range d.Causes {
			for i, where := range c.Where {
				got[d.Path+" "+c.Variation] = append(got[d.Path+" "+c.Variation], where, c.Diffs[i])
			}
		}
	}
	want := map[string][]string{
		"out timezone":      {"12 bytes from offset 0", "diff a b\n--- a\n+++ b\n@@ -1,1 +1,1 @@\n-UTC\n+<+0545>-5:45\n"},
		"out umask":         {"mode: -rw-r--r--, -rw-r-----", ""},
		"exit status umask": {"0, 4", "exit status 4\n"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A file named as what isn't a file doesn't hide that.
func TestReproducibleNames(t *testing.T) {
	cmd := shellIn(t, "umask 022; date; echo same >stdout; date >'exit status'")
	report, err := sandtest.CheckReproducible(cmd(), sandtest.Options{}, sandtest.Check{Vary: []string{"time"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range report.Differences {
		got = append(got, d.Path)
	}
	if diff := cmp.Diff([]string{"./exit status", "stdout"}, got); diff != "" {
		t.Errorf("what differs (-want +got):\n%s", diff)
	}
}

// What can't be checked is an error that says why.
func TestReproducibleErrors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		script string
		check  sandtest.Check
		want   string
	}{
		{"fails", "echo broken >&2; exit 3", sandtest.Check{}, "fails in the first world already: exit status 3\nbroken"},
		{"variation", "true", sandtest.Check{Vary: []string{"moon"}}, `unknown variation "moon"`},
		{"nothing left", "true", sandtest.Check{Vary: []string{"time", "-time"}}, "nothing is left to vary"},
		{"runs", "true", sandtest.Check{Runs: 1}, "want at least 2"},
		{"pattern", "true", sandtest.Check{Outputs: []string{"["}}, "syntax error in pattern"},
		{"waits", "sleep 4000000000", sandtest.Check{}, "waited for something else"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := sandtest.CheckReproducible(shellIn(t, tt.script)(), sandtest.Options{}, tt.check)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// Only some outputs count, and a command that fails in one world says how.
func TestReproducibleOutputs(t *testing.T) {
	cmd := shellIn(t, "umask 022; date >log; echo 1 >out; [ $(nproc) = 1 ] || { echo no such machine >&2; exit 4; }")
	check := func(c sandtest.Check) *sandtest.Report {
		report, err := sandtest.CheckReproducible(cmd(), sandtest.Options{}, c)
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	if r := check(sandtest.Check{Outputs: []string{"out"}, Vary: []string{"time"}}); !r.Reproducible {
		t.Error(r)
	}
	r := check(sandtest.Check{Vary: []string{"cpus"}})
	if text := fmt.Sprint(r); r.Reproducible || !strings.Contains(text, "cpus: exit status: 0, 4\n    exit status 4\n    no such machine\n") {
		t.Error(text)
	}
}

func TestReproducible(t *testing.T) {
	sandtest.Reproducible(t, shellIn(t, "umask 022; cat src/* >out")(), sandtest.Options{})
	tb := &fakeTB{TB: t}
	tb.run(func(tb testing.TB) { sandtest.Reproducible(tb, shellIn(t, "date >out")(), sandtest.Options{}) })
	if !strings.Contains(tb.errors, "isn't reproducible") || !strings.Contains(tb.errors, "time: out") {
		t.Errorf("it says %q", tb.errors)
	}
}

// A large output is compared without being held in memory.
func TestReproducibleLarge(t *testing.T) {
	size := 80 << 20
	if os.Getenv("SANDTEST_LONG") != "" {
		size = 2 << 30
	}
	debug.FreeOSMemory()                                                          // what other tests have left
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // forgets the peak
		t.Skip(err)
	}
	before := ownMemory(t, "VmRSS:")
	cmd := exec.Command("sh", "-c", fmt.Sprintf("head -c %d /dev/zero >out; date >>out", size))
	cmd.Dir = t.TempDir()
	report, err := sandtest.CheckReproducible(cmd, sandtest.Options{}, sandtest.Check{Vary: []string{"time"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("time: out: 28 bytes from offset %d\n", size); !strings.Contains(report.String(), want) {
		t.Errorf("%q isn't in\n%s", want, report)
	}
	const most = 60 << 10 // in kB
	if peak := ownMemory(t, "VmHWM:"); peak-before > most {
		t.Errorf("the peak of memory was %d kB above what it was before, want at most %d", peak-before, most)
	}
}

// ownMemory returns a size in kB that the kernel tells of this process.
func ownMemory(t *testing.T, name string) (kB int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), name)
	if _, err := fmt.Sscan(rest, &kB); err != nil {
		t.Fatal(err)
	}
	return kB
}
