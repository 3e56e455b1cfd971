//go:build linux && amd64

package script_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/sandtest/go-sandtest/internal/runflags"
	"github.com/sandtest/go-sandtest/sandtest"
	"github.com/sandtest/go-sandtest/sandtest/script"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"registered": func() {
			exe, _ := os.Executable()
			fmt.Println(time.Now().UTC().Format(time.RFC3339), exe, os.Args[1:])
		},
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, script.Params(testscript.Params{
		Dir:           "testdata",
		UpdateScripts: os.Getenv("SANDTEST_UPDATE") != "",
	}, sandtest.Options{}))
}

// Each flag of sandbox stands in a scenario.
func TestScenariosOfFlags(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %d scenarios", err, len(files))
	}
	var all []byte
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	fs := flag.NewFlagSet("sandbox", flag.ContinueOnError)
	new(runflags.Flags).Register(fs)
	fs.VisitAll(func(f *flag.Flag) {
		if f.Name == "inherit-env" {
			return // an error here, see TestScript of cmd/sandtest
		}
		if !regexp.MustCompile(`(?m)^(! |\[.*\] )?sandbox .*-` + f.Name + `\b`).Match(all) {
			t.Errorf("no scenario for -%s", f.Name)
		}
	})
}

// What cmp and changes expect is rewritten together, also in scripts of the same name, and
// what is as expected isn't touched.
func TestUpdate(t *testing.T) {
	const text = "sandbox sh -c 'echo text >$NAME'\ncmp file sub/other\nchanges $WORK/${TMPL}want\nsandbox true\nchanges none\n" +
		"-- file --\ntext\n-- sub/other --\n%s-- want --\n%s-- none --\n%s-- kept --\nkept\n"
	dir := t.TempDir()
	var files []string
	for _, name := range []string{"a/same.txtar", "b/same.txt"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		wrong := strings.ReplaceAll(fmt.Sprintf(text, "wrong\n", "wrong\n", "wrong\n"), "$NAME", filepath.Dir(name))
		if err := os.WriteFile(file, []byte(wrong), 0o666); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	for _, update := range []bool{true, false} {
		t.Run(fmt.Sprint("update ", update), func(t *testing.T) {
			testscript.Run(t, script.Params(testscript.Params{Files: files, UpdateScripts: update}, sandtest.Options{}))
		})
	}
	for i, name := range []string{"a", "b"} {
		want := strings.ReplaceAll(fmt.Sprintf(text, "text\n", "A -rw-r--r-- /work/"+name+"\n", ""), "$NAME", name)
		if got, err := os.ReadFile(files[i]); err != nil || string(got) != want {
			t.Errorf("%v, %s", err, got)
		}
	}
}

// The commands and the condition of this package stand beside those that are there.
func TestParams(t *testing.T) {
	called := false
	p := script.Params(testscript.Params{
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"own":     func(*testscript.TestScript, bool, []string) {},
			"changes": func(*testscript.TestScript, bool, []string) { called = true },
		},
		Condition: func(cond string) (bool, error) { return cond == "mine", nil },
	}, sandtest.Options{})
	p.Cmds["changes"](nil, false, nil)
	if !called || p.Cmds["own"] == nil || p.Cmds["sandbox"] == nil {
		t.Errorf("the commands are %v; the own one was called: %v", p.Cmds, called)
	}
	for cond, want := range map[string]bool{"mine": true, "sandbox": true, "other": false} {
		if ok, err := p.Condition(cond); ok != want || err != nil {
			t.Errorf("[%s]: %v, %v", cond, ok, err)
		}
	}
}

func TestCondition(t *testing.T) {
	res, err := sandtest.Execute(exec.Command("true"), sandtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	namespaces := res.Stats.Backend == sandtest.BackendNamespaces.String()
	for _, tt := range []struct {
		cond string
		ok   bool
		fail bool
	}{{"sandbox", true, false}, {"sandbox:virtual-time", true, false}, {"sandbox:namespaces", namespaces, false}, {"sandbox:magic", false, true}, {"other", false, true}} {
		ok, err := script.Condition(tt.cond)
		if ok != tt.ok || (err != nil) != tt.fail {
			t.Errorf("[%s]: %v, %v", tt.cond, ok, err)
		}
	}
}
