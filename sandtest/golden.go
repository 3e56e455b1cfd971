package sandtest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/diff"
	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/tools/txtar"
)

var updateGolden = flag.Bool("sandtest.update", false, "rewrite the golden files of package sandtest")

// updating reports whether golden files are to be rewritten.
func updating() bool {
	if on, err := strconv.ParseBool(os.Getenv("SANDTEST_UPDATE")); err == nil && on || *updateGolden {
		return true
	}
	f := flag.Lookup("update")
	if f == nil {
		return false
	}
	g, ok := f.Value.(flag.Getter)
	if !ok {
		return false
	}
	on, ok := g.Get().(bool)
	return ok && on
}

// Golden compares what a command did with a golden file: its exit status, what it
// wrote to standard output and error, and the files it added, modified or deleted,
// with their contents. t fails, and goes on, if they differ; the failure shows how,
// and with go test -artifacts the result is kept in [testing.TB.ArtifactDir].
//
// The golden file is rewritten when the test runs with -sandtest.update, with
// SANDTEST_UPDATE=1 in the environment, or with a flag -update of the test binary's
// own; it is left alone when it is right.
//
// It is a txtar archive. Its comment says "exit N", or "signal NAME". The files
// stdout, stderr and changes come first, the latter with a line for each change;
// then each regular file that was added or modified, named by its path without the
// leading slash (with it, if that is one of the three names before). Names that a line
// can't hold are quoted ([cow.Quote]). A file that isn't text, that txtar couldn't hold,
// or whose text could be taken for one of the lines that follow, stands as a line with
// its SHA-256; one whose last line doesn't end says so in a line more.
//
// opts are options for comparing the texts, by [cmp.Equal] of two strings: one that
// transforms them ([cmp.Transformer]) can leave out what differs.
func Golden(t testing.TB, res *Result, file string, opts ...cmp.Option) {
	t.Helper()
	got, err := archive(res)
	if err != nil {
		t.Fatalf("sandtest: %v", err)
	}
	text := txtar.Format(got)
	old, err := os.ReadFile(file)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		t.Fatalf("sandtest: read the golden file: %v", err)
	}
	differs := compareGolden(txtar.Parse(old), got, opts)
	switch {
	case !missing && differs == "":
	case updating():
		if err := write(file, text); err != nil {
			t.Fatalf("sandtest: update the golden file: %v", err)
		}
	default:
		reason := fmt.Sprintf("differs from %s (-want +got)", file)
		if missing {
			reason = fmt.Sprintf("has no golden file %s", file)
		}
		t.Errorf("sandtest: the result %s:\n%s%s\nto accept it, run: go test -run %s -sandtest.update (or SANDTEST_UPDATE=1 go test)",
			reason, differs, keepGolden(t, file, text), runPattern(t.Name()))
	}
}

// runPattern is what go test -run takes for one test alone, in quotation marks for a shell.
func runPattern(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = "^" + regexp.QuoteMeta(part) + "$"
	}
	return "'" + strings.ReplaceAll(strings.Join(parts, "/"), "'", `'\''`) + "'"
}

// keepGolden keeps a golden file that would be right, if that outlives the test, and says
// where: under the name that it has below the package's directory.
func keepGolden(t testing.TB, file string, text []byte) string {
	if f := flag.Lookup("test.artifacts"); f == nil || f.Value.String() != "true" {
		return "with go test -artifacts it is kept"
	}
	name := file
	if !filepath.IsLocal(file) {
		name = filepath.Base(file)
	}
	kept := filepath.Join(t.ArtifactDir(), name)
	if err := write(kept, text); err != nil {
		return fmt.Sprintf("it can't be kept: %v", err)
	}
	return "it is kept in " + kept
}

func write(file string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o666)
}

// archive makes the golden file of a result.
func archive(res *Result) (*txtar.Archive, error) {
	a := &txtar.Archive{Comment: []byte(ending(res) + "\n")}
	add := func(name, text string) {
		a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(text)})
	}
	add("stdout", holdable(res.Stdout))
	add("stderr", holdable(res.Stderr))
	add("changes", holdable(res.Changes.String()))
	for i := range res.Changes {
		c := &res.Changes[i]
		if !c.Regular() {
			continue
		}
		f, err := c.Open()
		if err != nil {
			return nil, err
		}
		text, err := contents(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", c.Path, err)
		}
		add(section(c.Path), text)
	}
	return a, nil
}

// section is the name under which a file stands in a golden file.
func section(path string) string {
	switch path {
	case "/stdout", "/stderr", "/changes":
		return path
	}
	return cow.Quote(strings.TrimPrefix(path, "/"))
}

// maxGolden is how long a file may be to stand in a golden file.
const maxGolden = 1 << 20

// contents reads a file as an archive can hold it.
func contents(f *os.File) (string, error) {
	head, err := io.ReadAll(io.LimitReader(f, maxGolden+1))
	if err != nil || len(head) <= maxGolden {
		return holdable(string(head)), err
	}
	h := sha256.New()
	h.Write(head)
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hashLine(h.Sum(nil)), nil
}

// hashLine stands for a file that an archive doesn't hold.
func hashLine(sum []byte) string { return fmt.Sprintf("sha256 %x\n", sum) }

// stands finds texts that would be taken for what the lines of this file's own mean.
var stands = regexp.MustCompile(`\Asha256 [0-9a-f]{64}\n?\z|(?m:^)` + regexp.QuoteMeta(unfinished) + `?\z`)

// ending says how a command ended.
func ending(res *Result) string {
	if res.Signal != 0 {
		return "signal " + SignalName(res.Signal)
	}
	return "exit " + strconv.Itoa(res.ExitCode)
}

const unfinished = "\\ no newline at end of file\n"

// holdable returns a text as an archive can hold it.
func holdable(text string) string {
	parsed := txtar.Parse([]byte("-- x --\n" + text))
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) || len(parsed.Files) != 1 || stands.MatchString(text) {
		sum := sha256.Sum256([]byte(text))
		return hashLine(sum[:])
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n" + unfinished
	}
	return text
}

// mostLines is how much a failure shows of one file.
const mostLines = 400

// cutShort leaves out what nobody reads of a difference.
func cutShort(text string) string {
	lines := strings.SplitAfter(text, "\n")
	if len(lines) <= mostLines {
		return text
	}
	return strings.Join(lines[:mostLines], "") + fmt.Sprintf("... and %d lines more\n", len(lines)-mostLines-1)
}

// compareGolden returns the difference between two archives, empty if there is none.
func compareGolden(want, got *txtar.Archive, opts []cmp.Option) string {
	var out bytes.Buffer
	show := func(name string, a, b []byte) {
		if !cmp.Equal(string(a), string(b), opts...) {
			out.WriteString(cutShort(string(diff.Diff("want "+name, a, "got "+name, b))))
		}
	}
	show("exit status", want.Comment, got.Comment)
	data := func(a *txtar.Archive, name string) []byte {
		i := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == name })
		if i < 0 {
			return nil
		}
		return a.Files[i].Data
	}
	var names []string
	for _, f := range slices.Concat(want.Files, got.Files) {
		if !slices.Contains(names, f.Name) {
			names = append(names, f.Name)
		}
	}
	for _, name := range names {
		show(name, data(want, name), data(got, name))
	}
	return out.String()
}
