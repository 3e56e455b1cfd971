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

// A sandbox that starts from a snapshot finds everything as it was left.
func TestSnapshot(t *testing.T) {
	dir, snap := t.TempDir(), filepath.Join(t.TempDir(), "snap")
	for name, text := range map[string]string{"changed": "old\n", "gone": "x", "kept": "kept\n", "below/a": "a", "below/b": "b", "was-a-directory/f": "f", "mode": "m"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	command := func(script string) *exec.Cmd {
		cmd := exec.Command("sh", "-c", script)
		cmd.Dir = dir
		return cmd
	}
	const make = `set -e
		echo new >>changed; rm gone; mkdir -p d/e; echo in >d/e/f; ln d/e/f hard; ln -s d/e soft; ln -s nowhere dangling
		rm -r below; rm -r was-a-directory; echo file >was-a-directory; chmod 600 mode; mkfifo fifo; touch -d @1000 changed
		printf 'x' >"$(printf 'not\377text')"; truncate -s 100000 holes; echo tmp >/tmp/t; mkdir -m 700 closed; head -c 300000 /dev/urandom >large`
	const look = `set +e
		find . /tmp | sort | while read -r f; do stat -c '%n %A %h %s %Y %i %F' "$f"; done
		cat changed kept d/e/f hard soft/f was-a-directory /tmp/t; sha256sum large holes; readlink soft dangling; ls -q`
	first := sandtest.Run(t, command(make+"\n"+look), sandtest.Options{})
	if first.ExitCode != 0 {
		t.Fatalf("%+v", first)
	}
	if err := first.Snapshot(snap); err != nil {
		t.Fatal(err)
	}
	second := sandtest.Run(t, command(look), sandtest.Options{Lower: snap})
	// The directories in which names have changed have other times, and inode numbers
	// are by who has made what.
	normal := func(s string) (list []string) {
		for line := range strings.Lines(s) {
			if f := strings.Fields(line); len(f) > 6 {
				if strings.HasPrefix(f[1], "d") {
					f[4] = "-"
				}
				f[5] = "-"
				line = strings.Join(f, " ")
			}
			list = append(list, line)
		}
		return list
	}
	if diff := cmp.Diff(normal(first.Stdout), normal(second.Stdout)); diff != "" {
		t.Errorf("from the snapshot it looks otherwise (-before +after):\n%s\n%s", diff, second.Stderr)
	}
	if diff := cmp.Diff(first.Changes.String(), second.Changes.String()); diff != "" {
		t.Errorf("the changes are others (-before +after):\n%s", diff)
	}
	again := filepath.Join(t.TempDir(), "again")
	if err := second.Snapshot(again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(read(t, filepath.Join(snap, "snapshot.json")), read(t, filepath.Join(again, "snapshot.json"))); diff != "" {
		t.Errorf("a snapshot of a snapshot is another one (-first +second):\n%s", diff)
	}
	third := sandtest.Run(t, command("cat hard; echo more >>d/e/f; cat hard; rm -r d; ls"), sandtest.Options{Lower: again})
	if !strings.HasPrefix(third.Stdout, "in\nin\nmore\nchanged\n") {
		t.Errorf("links: %q %q", third.Stdout, third.Stderr)
	}

	if err := first.Snapshot(snap); err == nil || !strings.Contains(err.Error(), "isn't empty") {
		t.Errorf("over another: %v", err)
	}
	for _, tt := range []struct{ text, want string }{
		{"", "no such file"}, {`{"version": 9}`, "format 9: want 1"}, {"{", "unexpected end"},
	} {
		bad := t.TempDir()
		if tt.text != "" {
			if err := os.WriteFile(filepath.Join(bad, "snapshot.json"), []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := sandtest.Execute(exec.Command("true"), sandtest.Options{Lower: bad}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.text, err, tt.want)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
