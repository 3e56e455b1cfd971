//go:build linux && amd64

package script_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
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
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		Cmds:          script.Commands(sandtest.Options{}),
		Condition:     script.Condition,
		UpdateScripts: os.Getenv("SANDTEST_UPDATE") != "",
	})
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
