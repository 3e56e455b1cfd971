package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandtest/go-sandtest/internal/report"
)

// repro tells what is reproducible by its exit status, and why not.
func TestRepro(t *testing.T) {
	dir := t.TempDir()
	repro := func(args ...string) outcome { return run(t, append([]string{"repro", "--dir", dir}, args...)...) }
	good := repro("--", "sh", "-c", "umask 022; echo hello >out")
	good.check(t, 0, "reproducible: 2 runs, 3 outputs the same\n", "run 1 of 2: the first world\n", "run 2 of 2: another world\n")
	bad := repro("--vary", "all,-umask", "--json", filepath.Join(dir, "json"), "--", "sh", "-c", "date -u +%Y >out")
	if bad.status != 1 || !strings.HasPrefix(bad.stdout, "not reproducible: 1 of 3 outputs differ\ntime: out: 2 bytes from offset 2\n") {
		t.Errorf("status %d\n%s%s", bad.status, bad.stdout, bad.stderr)
	}
	var report jsonReport
	text, err := os.ReadFile(filepath.Join(dir, "json"))
	if err == nil {
		err = json.Unmarshal(text, &report)
	}
	if err != nil || report.Reproducible || len(report.Outputs) != 3 || len(report.Differences) != 1 || report.Differences[0].Causes[0].Variation != "time" {
		t.Errorf("%v: %s", err, text)
	}
	repro("--fix", "--", "sh", "-c", "date >out; od -N4 /dev/urandom").check(t, 0, "reproducible: 2 runs, 3 outputs the same\nin one world, that of the sandbox: sandtest run makes it so\n", "run 2 of 2: the same world")
	repro("--", "sh", "-c", "echo broken >&2; exit 3").check(t, 125, "", "fails in the first world already: exit status 3", "broken")
	repro("--vary", "moon", "--", "true").check(t, 125, "", `--vary: unknown variation "moon"`, "time, timezone")
	repro("--diff", "--", "true").check(t, 125, "", "--diff and --changes are flags of sandtest run")
	repro().check(t, 125, "", "no command given")
	if out := run(t, "repro", "--help"); out.status != 0 || !strings.Contains(out.stdout, "fileorder") || !strings.Contains(out.stdout, "-against FILE") || !strings.Contains(out.stdout, "-html FILE") {
		t.Errorf("help: %+v", out)
	}
}

// The page of --html shows what differs and why, every time in the same bytes.
func TestReproHTML(t *testing.T) {
	dir := t.TempDir()
	const script = `echo start >"<b>&'"; date -u +%Y >>"<b>&'"; printf '\0%s' $(date -u +%Y) >bytes`
	page := func(name string, status int, args ...string) string {
		file := filepath.Join(t.TempDir(), name)
		o := run(t, append([]string{"repro", "--dir", dir, "--html", file}, args...)...)
		text, err := os.ReadFile(file)
		if err != nil || o.status != status {
			t.Errorf("status %d, want %d, %v\n%s", o.status, status, err, o.stderr)
		}
		return string(text)
	}
	bad := page("a", 1, "--vary", "time,umask", "--", "sh", "-c", "umask 022; "+script)
	for _, want := range []string{
		"<!DOCTYPE html>", "<h1 class=\"differs\">not reproducible: 2 of 4 outputs differ</h1>", "time, umask", "sh -c &#39;umask 022; echo start &gt;",
		"&lt;b&gt;&amp;&#39;</code>", "2 bytes from offset 8", "SOURCE_DATE_EPOCH",
		`<td class="del">20<mark>00</mark></td><td class="number">2</td><td class="ins">20<mark>39</mark></td>`,
		`<mark>30 30  |00|</mark>`, `<mark>33 39  |39|</mark>`,
	} {
		if !strings.Contains(bad, want) {
			t.Errorf("the page doesn't say %s:\n%s", want, bad)
		}
	}
	if strings.Contains(bad, "<b>") || strings.Contains(bad, dir) {
		t.Errorf("what doesn't belong there is in the page:\n%s", bad)
	}
	if again := page("b", 1, "--vary", "time,umask", "--", "sh", "-c", "umask 022; "+script); again != bad {
		t.Errorf("the second time the page is another one:\n%s", again)
	}
	if good := page("c", 0, "--fix", "--", "sh", "-c", script); !strings.Contains(good, "reproducible: 2 runs, 4 outputs the same</h1>") || !strings.Contains(good, "nothing: each run was in the same world") {
		t.Errorf("what is reproducible has this page:\n%s", good)
	}
	const verdict = "reproducible: 2 runs, 2 outputs the same\n"
	if o := run(t, "repro", "--dir", dir, "--html", "-", "--", "true"); o.status != 0 || !strings.HasPrefix(o.stdout, verdict+"<!DOCTYPE html>") {
		t.Errorf("on standard output: %+v", o)
	}
	missing := filepath.Join(dir, "missing", "page")
	run(t, "repro", "--dir", dir, "--html", missing, "--", "true").check(t, 125, verdict, "sandtest: --html: open "+missing)
}

// What one machine made is compared with what another one makes.
func TestReproManifest(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "manifest")
	repro := func(script string, args ...string) outcome {
		return run(t, append(append([]string{"repro", "--fix", "--dir", dir}, args...), "--", "sh", "-c", script)...)
	}
	repro("echo 1 >a; echo 2 >b; ln -s a c; mkdir d", "--save", file).check(t, 0, "reproducible: 2 runs, 6 outputs the same\nin one world, that of the sandbox: sandtest run makes it so\n", "run 2")
	same := repro("echo 1 >a; echo 2 >b; ln -s a c; mkdir d", "--against", file)
	if same.status != 0 || !strings.HasSuffix(same.stdout, "the same as in "+file+"\n") {
		t.Errorf("%+v", same)
	}
	other := repro("echo 3 >a; echo 2 >b; chmod 600 b; ln -s b c; echo new >e", "--against", file)
	_, text, _ := strings.Cut(other.stdout, "differs from "+file+":\n")
	if other.status != 1 || strings.Count(text, "\n") != 6 || !strings.Contains(text, "a: sha256 ") || !strings.Contains(text, "b: mode -rw-r--r-- there, -rw------- here\n") ||
		!strings.Contains(text, "c: a there, b here\n") || !strings.Contains(text, "d: missing here\n") || !strings.Contains(text, "e: only here\n") {
		t.Errorf("status %d\n%s", other.status, other.stdout)
	}
	reported := repro("echo 3 >a; echo 2 >b; ln -s a c; mkdir d", "--against", file, "--hostname", "other", "--json", "-")
	var found struct{ Against *report.Against }
	if err := json.Unmarshal([]byte(reported.stdout[strings.Index(reported.stdout, "{"):strings.LastIndex(reported.stdout, "}")+1]), &found); err != nil {
		t.Fatalf("%v: %s", err, reported.stdout)
	}
	if a := found.Against; a == nil || a.Same || a.File != file || len(a.Differences) != 1 || len(a.Notes) != 2 || !strings.Contains(a.Notes[1], `"--hostname=other"`) {
		t.Errorf("%+v in %s", a, reported.stdout)
	}
	page := repro("echo 3 >a; echo 2 >b; ln -s a c; mkdir d", "--against", file, "--html", "-").stdout
	if !strings.Contains(page, "Differs from <code>"+file) || !strings.Contains(page, "<td>a: sha256 ") {
		t.Errorf("the page is %s", page)
	}
	if err := os.WriteFile(file, []byte(`{"version": 7}`), 0o666); err != nil {
		t.Fatal(err)
	}
	repro("true", "--against", file).check(t, 125, "", "is of version 7, and this sandtest knows version 1")
	repro("true", "--against", file+"x").check(t, 125, "", "no such file")
}

// On a terminal the progress is one line, which goes away.
func TestReproTerminal(t *testing.T) {
	term := inTerminal(t, "repro", "--dir", t.TempDir(), "--", "true")
	term.expect("run 2 of 2: another world")
	term.expect("\r\x1b[K")
	term.expect("reproducible: 2 runs, 2 outputs the same\r\n")
	if seen := term.seen.String(); strings.Contains(seen[:strings.Index(seen, "reproducible")], "\n") {
		t.Errorf("it takes more than a line:\n%q", seen)
	}
}
