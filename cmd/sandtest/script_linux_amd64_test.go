package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Scenarios run without a line of Go, say the same each time, and are rewritten.
func TestScript(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.txtar"), filepath.Join(dir, "bad.txtar")
	for file, text := range map[string]string{
		good: "sandbox sh -c 'sleep 3600; date >out'\ncmp out want\nchanges changes\n-- want --\nSat Jan  1 01:00:00 UTC 2000\n-- changes --\nA -rw-r--r-- /work/out\n",
		bad:  "# a part\nsandbox sh -c 'pwd; cat input; mkdir new'\ncmp stdout want\nchanges changes\n-- input --\nhello\n-- want --\nnothing\n-- changes --\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "script", good).check(t, 0, "ok   good\n")
	first := run(t, "script", good, bad)
	if first.status != 1 || !strings.HasPrefix(first.stdout, "ok   good\nFAIL bad\n") || !strings.Contains(first.stdout, "+nothing") || strings.Contains(first.stdout, "/go-test-script") {
		t.Errorf("status %d\n%s%s", first.status, first.stdout, first.stderr)
	}
	if again := run(t, "script", good, bad); again != first {
		t.Errorf("it says\n%s\nand another time\n%s", first.stdout, again.stdout)
	}
	run(t, "script", "-update", bad).check(t, 0, "ok   bad\n")
	run(t, "script", bad).check(t, 0, "ok   bad\n")
	if text, err := os.ReadFile(bad); err != nil || !strings.Contains(string(text), "-- want --\n/work\nhello\n-- changes --\nA drwxr-xr-x /work/new\n") {
		t.Errorf("%v, %s", err, text)
	}
	out := run(t, "script", "--hostname", "box", "-v", good)
	if out.status != 0 || !strings.Contains(out.stdout, "> sandbox sh -c") {
		t.Errorf("status %d\n%s", out.status, out.stdout)
	}
	inherits := filepath.Join(dir, "inherits.txtar")
	if err := os.WriteFile(inherits, []byte("sandbox --inherit-env true\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "script", inherits); out.status != 1 || !strings.Contains(out.stdout, "the environment is the script's: use env") {
		t.Errorf("status %d\n%s", out.status, out.stdout)
	}
	run(t, "script").check(t, 125, "", "no scenario given")
	run(t, "script", filepath.Join(dir, "missing.txtar")).check(t, 125, "", "missing.txtar", "no such file")
	run(t, "script", "--no-such-flag", good).check(t, 125, "", "no-such-flag")
}
