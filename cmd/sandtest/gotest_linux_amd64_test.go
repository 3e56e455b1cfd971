package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// suites are tests that know nothing of sandboxes: of this module's pure code, and of
// modules that it needs.
var suites = []string{
	"github.com/sandtest/go-sandtest/det",
	"github.com/google/go-cmp/cmp/...",
	"github.com/rogpeppe/go-internal/diff", "github.com/rogpeppe/go-internal/fmtsort", "github.com/rogpeppe/go-internal/imports",
	"github.com/rogpeppe/go-internal/lockedfile/...", "github.com/rogpeppe/go-internal/par", "github.com/rogpeppe/go-internal/renameio", "github.com/rogpeppe/go-internal/cache",
}

var (
	verdict = regexp.MustCompile(`^ *(--- (?:PASS|FAIL|SKIP): \S+)`)
	seconds = regexp.MustCompile(`\t[0-9.]+s`)
)

// goTest runs suites and returns the verdicts: in the order of each package for
// tests, with how often each came.
func goTest(t *testing.T, suites []string, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"test", "-count=1", "-v", "-shuffle=7"}, args...)...)
	cmd.Args = append(cmd.Args, suites...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	var list []string
	for line := range strings.Lines(string(out)) {
		switch m := verdict.FindStringSubmatch(line); {
		case m != nil:
			list = append(list, m[1])
		case strings.HasPrefix(line, "ok "):
			list = append(list, seconds.ReplaceAllString(strings.TrimSpace(line), ""))
		}
	}
	return list
}

// go test -exec runs an existing suite in sandboxes, unmodified, with the same verdicts.
func TestGoTestExec(t *testing.T) {
	suites := suites
	if testing.Short() {
		suites = suites[:2]
	}
	if out, err := exec.Command("go", append([]string{"list"}, suites...)...).CombinedOutput(); err != nil {
		t.Skipf("the suites aren't at hand: %v\n%s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	wrapper := filepath.Join(t.TempDir(), "sandtest")
	if err := os.WriteFile(wrapper, fmt.Appendf(nil, "#!/bin/sh\n%s=1 GORACE=atexit_sleep_ms=0 exec %s run \"$@\"\n", commandVar, self), 0o777); err != nil {
		t.Fatal(err)
	}
	want := goTest(t, suites)
	if len(want) < 100 {
		t.Fatalf("only %d verdicts", len(want))
	}
	runs := 1
	if os.Getenv("SANDTEST_LONG") != "" {
		runs = 10
	}
	// Packages end in any order.
	slices.Sort(want)
	for range runs {
		got := goTest(t, suites, "-exec", wrapper+" --dir . --work= --inherit-env --")
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("verdicts (-bare +sandbox):\n%s", diff)
		}
	}
	cover := filepath.Join(t.TempDir(), "cover")
	cmd := exec.Command("go", "test", "-count=1", "-coverprofile", cover, "-exec", wrapper+" --dir . --write "+os.TempDir()+" --inherit-env --", suites[0])
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "coverage: ") {
		t.Errorf("%v\n%s", err, out)
	}
	if text, err := os.ReadFile(cover); err != nil || !strings.HasPrefix(string(text), "mode: ") {
		t.Errorf("the profile: %v, %.20s", err, text)
	}
}
