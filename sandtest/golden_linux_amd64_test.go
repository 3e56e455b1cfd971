package sandtest_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/sandtest"
)

// edit is a command that does a little of everything to a directory.
func edit(t *testing.T) *exec.Cmd {
	dir := t.TempDir()
	for name, text := range map[string]string{"old": "1\n2\n3\n", "same": "same\n", "gone": "gone\n", "mode": "mode\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := sh(`
		echo out; echo error >&2
		sed -i s/2/two/ old
		echo changed >same; echo same >same
		rm gone
		chmod 600 mode
		mkdir dir && printf 'no end' >dir/file && head -c 8 /dev/urandom >dir/bytes && ln -s ../old dir/link
		printf -- '-- not a file --\n' >marker
		exit 3`)
	cmd.Dir = dir
	return cmd
}

func TestGolden(t *testing.T) {
	for range 3 {
		sandtest.Golden(t, sandtest.Run(t, edit(t), sandtest.Options{}), "testdata/edit.golden")
	}
}

// A golden file that differs fails the test and says how, and is written anew when
// that is asked for, and only then.
func TestGoldenDiffers(t *testing.T) {
	res := sandtest.Run(t, edit(t), sandtest.Options{})
	right, err := os.ReadFile("testdata/edit.golden")
	if err != nil {
		t.Fatal(err)
	}
	keep := func(on string) {
		if err := flag.Set("test.artifacts", on); err != nil {
			t.Fatal(err)
		}
	}
	was := flag.Lookup("test.artifacts").Value.String()
	defer keep(was)
	compare := func(file string, opts ...cmp.Option) *fakeTB {
		fake := &fakeTB{artifacts: t.TempDir()}
		fake.run(func(t testing.TB) { sandtest.Golden(t, res, file, opts...) })
		return fake
	}
	file := filepath.Join(t.TempDir(), "deep", "edit.golden")
	keep("true")
	fake := compare(file)
	for _, want := range []string{"has no golden file " + file, "+exit 3", "-sandtest.update", filepath.Join(fake.artifacts, "edit.golden")} {
		if !strings.Contains(fake.errors, want) {
			t.Errorf("no %q in the failure:\n%s", want, fake.errors)
		}
	}
	if kept, err := os.ReadFile(filepath.Join(fake.artifacts, "edit.golden")); err != nil || string(kept) != string(right) {
		t.Errorf("the result isn't kept: %v\n%s", err, cmp.Diff(string(right), string(kept)))
	}
	keep("false") // then the directory is gone with the test
	if fake := compare(file); !strings.Contains(fake.errors, "+exit 3") || strings.Contains(fake.errors, fake.artifacts) ||
		!strings.Contains(fake.errors, "with go test -artifacts it is kept") {
		t.Errorf("the failure without -artifacts says:\n%s", fake.errors)
	}
	keep(was)
	if _, err := os.Stat(file); err == nil {
		t.Error("the golden file was written without being asked for")
	}
	t.Setenv("SANDTEST_UPDATE", "1")
	if fake := compare(file); fake.errors != "" {
		t.Errorf("an update fails: %s", fake.errors)
	}
	if now, err := os.ReadFile(file); err != nil || string(now) != string(right) {
		t.Errorf("after an update: %v\n%s", err, now)
	}
	before, _ := os.Stat(file)
	compare(file)
	if after, _ := os.Stat(file); after.ModTime() != before.ModTime() {
		t.Error("a golden file that is right was written")
	}
	t.Setenv("SANDTEST_UPDATE", "")
	wrong := strings.Replace(string(right), "two", "zwei", 1)
	if err := os.WriteFile(file, []byte(wrong), 0o666); err != nil {
		t.Fatal(err)
	}
	if fake := compare(file); !strings.Contains(fake.errors, "-zwei\n+two\n") {
		t.Errorf("the failure doesn't show the line:\n%s", fake.errors)
	}
	number := regexp.MustCompile("two|zwei")
	numbers := cmp.Comparer(func(a, b string) bool { return number.ReplaceAllString(a, "2") == number.ReplaceAllString(b, "2") })
	if fake := compare(file, numbers); fake.errors != "" {
		t.Errorf("with an option that leaves the difference out:\n%s", fake.errors)
	}
}

// What a command writes is gone when its test ends.
func TestChangesEnd(t *testing.T) {
	var res *sandtest.Result
	t.Run("test", func(t *testing.T) { res = sandtest.Run(t, edit(t), sandtest.Options{}) })
	for i := range res.Changes {
		if c := &res.Changes[i]; c.Regular() && c.Kind == 'A' {
			if f, err := c.Open(); err == nil {
				f.Close()
				t.Errorf("%v can still be opened", c)
			}
		}
	}
}

// With Write, changes reach the host.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	cmd := sh(`cd "$1" && echo one >a && mkdir d && mv a d/b && ln d/b c && chmod 640 c && ln -s c l && touch -d @5 d/b && rm -f x && : >t && echo more >>t && rmdir nothing 2>/dev/null; cat l`, dir)
	res := sandtest.Run(t, cmd, sandtest.Options{Write: []string{dir}})
	if res.Stdout != "one\n" || len(res.Changes) != 0 {
		t.Errorf("output %q, changes %v", res.Stdout+res.Stderr, res.Changes)
	}
	out, err := exec.Command("sh", "-c", `cd "$0" && cat d/b c t && stat -c '%a %h %Y' d/b && readlink l`, dir).CombinedOutput()
	if want := "one\none\nmore\n640 2 5\nc\n"; err != nil || string(out) != want {
		t.Errorf("the host has %q, %v, want %q", out, err, want)
	}
}

// Any name can stand in a golden file, and none changes how others do.
func TestGoldenNames(t *testing.T) {
	cmd := exec.Command("bash", "-c", `for n in $'a\nb' 'a ' $'a\xff' '"a"' 'a -- b' plain; do echo "$n" | od -An -c >"$n"; done; ln -s $'t\xfe' l`)
	cmd.Dir = t.TempDir()
	res := sandtest.Run(t, cmd, sandtest.Options{})
	file := filepath.Join(t.TempDir(), "names.golden")
	t.Setenv("SANDTEST_UPDATE", "1")
	sandtest.Golden(t, res, file)
	t.Setenv("SANDTEST_UPDATE", "")
	sandtest.Golden(t, res, file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`A -rw-r--r-- "/work/a\nb"`, `A -rw-r--r-- "/work/a "`, `A -rw-r--r-- "/work/a\xff"`, `A -rw-r--r-- /work/"a"`, `A -rw-r--r-- /work/plain`,
		`A lrwxrwxrwx /work/l -> "t\xfe"`, `-- "work/a\nb" --`, `-- "work/a " --`, `-- "work/a\xff" --`, `-- work/"a" --`, `-- work/a -- b --`, `-- work/plain --`,
	} {
		if !strings.Contains("\n"+string(text), "\n"+line+"\n") {
			t.Errorf("no line %s in\n%s", line, text)
		}
	}
}

// Nothing in a golden file can be taken for something else.
func TestGoldenIsPlain(t *testing.T) {
	golden := func(script string) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "golden")
		t.Setenv("SANDTEST_UPDATE", "1")
		sandtest.Golden(t, sandtest.Run(t, sh(script), sandtest.Options{}), file)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	long := golden("head -c 1100000 /dev/zero >/tmp/f")
	line := regexp.MustCompile("(?m)^sha256 [0-9a-f]{64}$").FindString(long)
	if line == "" {
		t.Fatalf("a long file stands as:\n%.400s", long)
	}
	for _, script := range [][2]string{
		{`printf x >/tmp/f`, `printf 'x\n\\ no newline at end of file\n' >/tmp/f`},
		{`printf x`, `printf 'x\n\\ no newline at end of file\n'`},
		{`head -c 1100000 /dev/zero >/tmp/f`, `echo ` + line + ` >/tmp/f`},
		{`echo out`, `echo out >/tmp/out`},
	} {
		if a, b := golden(script[0]), golden(script[1]); a == b {
			t.Errorf("%s and %s: the same golden file:\n%s", script[0], script[1], a)
		}
	}
	cmd := sh("echo a; echo b >/stdout; echo c >/stderr; echo d >/changes")
	if os.Getuid() != 0 {
		return // who may not write there
	}
	file := filepath.Join(t.TempDir(), "golden")
	sandtest.Golden(t, sandtest.Run(t, cmd, sandtest.Options{}), file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"-- stdout --\na\n", "-- /stdout --\nb\n", "-- /stderr --\nc\n", "-- /changes --\nd\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// The command that a failure shows runs that test alone, and what it keeps doesn't replace
// what another golden file of the same name has left.
func TestGoldenCommand(t *testing.T) {
	was := flag.Lookup("test.artifacts").Value.String()
	if err := flag.Set("test.artifacts", "true"); err != nil {
		t.Fatal(err)
	}
	defer flag.Set("test.artifacts", was)
	res := sandtest.Run(t, sh("echo out"), sandtest.Options{})
	fake := &fakeTB{artifacts: t.TempDir(), name: "TestA/a+b (it's)/c"}
	fake.run(func(t testing.TB) {
		sandtest.Golden(t, res, "testdata/none/a/x.golden")
		sandtest.Golden(t, res, "testdata/none/b/x.golden")
	})
	for _, want := range []string{
		`go test -run '^TestA$/^a\+b \(it'\''s\)$/^c$' -sandtest.update`,
		filepath.Join(fake.artifacts, "testdata/none/a/x.golden"), filepath.Join(fake.artifacts, "testdata/none/b/x.golden"),
	} {
		if !strings.Contains(fake.errors, want) {
			t.Errorf("no %q in the failure:\n%s", want, fake.errors)
		}
	}
	if _, err := os.Stat(filepath.Join(fake.artifacts, "testdata/none/a/x.golden")); err != nil {
		t.Error(err)
	}
	long := &fakeTB{artifacts: t.TempDir()}
	long.run(func(t testing.TB) {
		sandtest.Golden(t, sandtest.Run(t, sh("seq 100000"), sandtest.Options{}), "testdata/none/long.golden")
	})
	if n := strings.Count(long.errors, "\n"); n > 450 || !strings.Contains(long.errors, "... and 99604 lines more\n") {
		t.Errorf("the failure has %d lines, and ends in:\n%s", n, long.errors[max(0, len(long.errors)-400):])
	}
}
