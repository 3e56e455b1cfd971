package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A command edits a directory; what becomes of that is the caller's to say.
func TestChanges(t *testing.T) {
	const script = "sed -i s/b/B/ f; rm gone; mkdir -p new; echo text >new/file; ln -s ../f new/link; echo >>/tmp/x"
	setUp := func(t *testing.T) string {
		dir := t.TempDir()
		for name, text := range map[string]string{"f": "a\nb\nc\n", "gone": "x\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	contents := func(t *testing.T, dir string) map[string]string {
		got := map[string]string{}
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rel, _ := filepath.Rel(dir, path)
			if d.Type()&os.ModeSymlink != 0 {
				got[rel], err = os.Readlink(path)
				return err
			}
			text, err := os.ReadFile(path)
			got[rel] = string(text)
			return err
		})
		if err != nil {
			t.Error(err)
		}
		return got
	}
	before := map[string]string{"f": "a\nb\nc\n", "gone": "x\n"}
	after := map[string]string{"f": "a\nB\nc\n", "new/file": "text\n", "new/link": "../f"}
	t.Run("discard", func(t *testing.T) {
		dir := setUp(t)
		run(t, "run", "--dir", dir, "sh", "-c", script).check(t, 0, "")
		if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
			t.Errorf("the host's files (-want +got):\n%s", diff)
		}
	})
	t.Run("commit", func(t *testing.T) {
		dir := setUp(t)
		run(t, "run", "--dir", dir, "--changes", "commit", "sh", "-c", script).check(t, 0, "")
		if diff := cmp.Diff(after, contents(t, dir)); diff != "" {
			t.Errorf("the host's files (-want +got):\n%s", diff)
		}
	})
	t.Run("keep", func(t *testing.T) {
		dir, kept := setUp(t), filepath.Join(t.TempDir(), "kept")
		run(t, "run", "--dir", dir, "--changes", "keep="+kept, "sh", "-c", script).check(t, 0, "")
		if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
			t.Errorf("the host's files (-want +got):\n%s", diff)
		}
		want := map[string]string{
			"changes": "A -rw-r--r-- /tmp/x\nM -rw-r--r-- /work/f\nD -rw-r--r-- /work/gone\nA drwxr-xr-x /work/new\n" +
				"A -rw-r--r-- /work/new/file\nA lrwxrwxrwx /work/new/link -> ../f\n",
			"files/tmp/x": "\n", "files/work/f": "a\nB\nc\n", "files/work/new/file": "text\n", "files/work/new/link": "../f",
		}
		if diff := cmp.Diff(want, contents(t, kept)); diff != "" {
			t.Errorf("what was kept (-want +got):\n%s", diff)
		}
	})
	t.Run("keep where something is", func(t *testing.T) {
		for _, word := range []string{"keep", "snapshot"} {
			kept := t.TempDir()
			if err := os.WriteFile(filepath.Join(kept, "before"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			o := run(t, "run", "--dir", setUp(t), "--changes", word+"="+kept, "echo", "ran")
			o.check(t, 125, "", "it isn't empty, it has before")
		}
	})
	t.Run("commit after one that was killed", func(t *testing.T) {
		dir := setUp(t)
		// What it leaves behind, with the mark that it is this user's.
		t.Setenv("XDG_CACHE_HOME", t.TempDir())
		text := []byte(`[{"do":"remove","path":"` + filepath.Join(dir, "gone") + `"}]`)
		sum := sha256.Sum256(append([]byte(dir+"\x00"), text...))
		for _, make := range []error{
			os.Mkdir(filepath.Join(dir, ".sandtest-commit"), 0o700), os.WriteFile(filepath.Join(dir, ".sandtest-commit", "journal"), text, 0o600),
			os.MkdirAll(filepath.Join(os.Getenv("XDG_CACHE_HOME"), "sandtest-commits-"+strconv.Itoa(os.Getuid())), 0o700),
			os.WriteFile(filepath.Join(os.Getenv("XDG_CACHE_HOME"), "sandtest-commits-"+strconv.Itoa(os.Getuid()), hex.EncodeToString(sum[:])), nil, 0o600),
		} {
			if make != nil {
				t.Fatal(make)
			}
		}
		run(t, "run", "--dir", dir, "ls").check(t, 125, "", "changed in part: a commit was killed there; to finish it, run: sandtest run --dir "+dir+" --changes commit -- true")
		run(t, "run", "--dir", dir, "--changes", "commit", "ls").check(t, 0, "f\n")
		run(t, "run", "--dir", dir, "ls", "-A").check(t, 0, "f\n")
	})
	t.Run("diff", func(t *testing.T) {
		o := run(t, "run", "--dir", setUp(t), "--diff", "sh", "-c", "sed -i s/b/B/ f; rm gone")
		want := "M -rw-r--r-- /work/f\ndiff a/work/f b/work/f\n--- a/work/f\n+++ b/work/f\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n" +
			"D -rw-r--r-- /work/gone\ndiff a/work/gone /dev/null\n--- a/work/gone\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-x\n"
		if o.stderr != want || o.status != 0 {
			t.Errorf("status %d, standard error (-want +got):\n%s", o.status, cmp.Diff(want, o.stderr))
		}
	})
	t.Run("diff is a patch", func(t *testing.T) {
		const edit = `sed -i s/b/B/ f; rm gone; echo new >"new file"; mkdir d; printf 'no end' >d/f; echo more >>"$(printf 'q"u\\o\tt\377')"`
		for _, apply := range [][]string{{"patch", "-s", "-p2"}, {"git", "apply", "-p2"}} {
			t.Run(apply[0], func(t *testing.T) {
				if _, err := exec.LookPath(apply[0]); err != nil {
					t.Skip(err)
				}
				dir := setUp(t)
				if err := os.WriteFile(filepath.Join(dir, "q\"u\\o\tt\xff"), []byte("text\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				o := run(t, "run", "--dir", dir, "--diff", "sh", "-c", edit)
				cmd := exec.Command(apply[0], apply[1:]...)
				cmd.Dir, cmd.Stdin = dir, strings.NewReader(o.stderr)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s\n%s", err, out, o.stderr)
				}
				want := map[string]string{"f": "a\nB\nc\n", "new file": "new\n", "d/f": "no end", "q\"u\\o\tt\xff": "text\nmore\n"}
				if diff := cmp.Diff(want, contents(t, dir)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	})
	t.Run("json", func(t *testing.T) {
		o := run(t, "run", "--dir", setUp(t), "--json", "-", "sh", "-c", "echo text >new; ln -s f link; rm gone")
		want := []any{
			map[string]any{"kind": "D", "path": "/work/gone", "mode": "-rw-r--r--", "size": 2.0},
			map[string]any{"kind": "A", "path": "/work/link", "mode": "lrwxrwxrwx", "size": 1.0, "target": "f"},
			map[string]any{"kind": "A", "path": "/work/new", "mode": "-rw-r--r--", "size": 5.0,
				"sha256": "b9e68e1bea3e5b19ca6b2f98b73a54b73daafaa250484902e09982e07a12e733"},
		}
		if diff := cmp.Diff(any(want), result(t, o.stdout)["changes"]); diff != "" {
			t.Errorf("changes (-want +got):\n%s", diff)
		}
	})
	t.Run("json of names that aren't UTF-8", func(t *testing.T) {
		o := run(t, "run", "--dir", t.TempDir(), "--json", "-", "bash", "-c", `ln -s $'t\xfe' $'l\xff'; mkdir $'l\xfd'`)
		want := []any{
			map[string]any{"kind": "A", "path": "/work/l\ufffd", "path_bytes": "L3dvcmsvbP0=", "mode": "drwxr-xr-x", "size": 4096.0},
			map[string]any{"kind": "A", "path": "/work/l\ufffd", "path_bytes": "L3dvcmsvbP8=", "mode": "lrwxrwxrwx", "size": 2.0, "target": "t\ufffd", "target_bytes": "dP4="},
		}
		if diff := cmp.Diff(any(want), result(t, o.stdout)["changes"]); diff != "" {
			t.Errorf("changes (-want +got):\n%s", diff)
		}
	})
	run(t, "run", "--changes", "keep=", "true").check(t, 125, "", "discard, commit, keep=DIR or snapshot=DIR")
}
