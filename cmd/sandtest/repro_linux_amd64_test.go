package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// repro tells what is reproducible by its exit status, and why not.
func TestRepro(t *testing.T) {
	dir := t.TempDir()
	repro := func(args ...string) outcome { return run(t, append([]string{"repro", "--dir", dir}, args...)...) }
	good := repro("--", "sh", "-c", "umask 022; echo hello >out")
	good.check(t, 0, "reproducible: 2 runs, 3 outputs the same\n", "run 1: the first world", "run 2: another world")
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
	repro("--fix", "--", "sh", "-c", "date >out; od -N4 /dev/urandom").check(t, 0, "reproducible: 2 runs, 3 outputs the same\nin one world, that of the sandbox: sandtest run makes it so\n", "run 2: the same world")
	repro("--", "sh", "-c", "echo broken >&2; exit 3").check(t, 125, "", "fails in the first world already: exit status 3", "broken")
	repro("--vary", "moon", "--", "true").check(t, 125, "", `--vary: unknown variation "moon"`, "time, timezone")
	repro("--diff", "--", "true").check(t, 125, "", "--diff and --changes are flags of sandtest run")
	repro().check(t, 125, "", "no command given")
	if out := run(t, "repro", "--help"); out.status != 0 || !strings.Contains(out.stdout, "fileorder") || !strings.Contains(out.stdout, "-against FILE") {
		t.Errorf("help: %+v", out)
	}
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
	if other.status != 1 || strings.Count(text, "\n") != 5 || !strings.Contains(text, "a: sha256 ") || !strings.Contains(text, "b: mode -rw-r--r-- there, -rw------- here\n") ||
		!strings.Contains(text, "c: a there, b here\n") || !strings.Contains(text, "d: missing here\n") || !strings.Contains(text, "e: only here\n") {
		t.Errorf("status %d\n%s", other.status, other.stdout)
	}
	if err := os.WriteFile(file, []byte(`{"version": 7}`), 0o666); err != nil {
		t.Fatal(err)
	}
	repro("true", "--against", file).check(t, 125, "", "is of version 7, and this sandtest knows version 1")
	repro("true", "--against", file+"x").check(t, 125, "", "no such file")
}
