package script

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/sandtest/go-sandtest/sandtest"
	"golang.org/x/tools/txtar"
)

// Params returns p with the commands and the condition of this package added to its
// own. Unlike [Commands] alone, it also lets "changes FILE" rewrite FILE in the script
// where p.UpdateScripts is set: testscript doesn't tell commands of that.
//
//	testscript.Run(t, script.Params(testscript.Params{Dir: "testdata/script"}, sandtest.Options{}))
//
// p's own commands of the same names stand, and its own condition is asked about
// everything but [sandbox] and [sandbox:FEATURE].
func Params(p testscript.Params, opts sandtest.Options) testscript.Params {
	c := newCommands(opts)
	if p.UpdateScripts {
		c.update = scriptFiles(p)
	}
	cmds := c.table()
	maps.Copy(cmds, p.Cmds)
	p.Cmds = cmds
	own := p.Condition
	p.Condition = func(cond string) (bool, error) {
		if own == nil || cond == "sandbox" || strings.HasPrefix(cond, "sandbox:") {
			return Condition(cond)
		}
		return own(cond)
	}
	return p
}

// scriptFiles maps the names of scripts to their files, as testscript names them: the base
// name without its ending, and with a number if there was one of the name before.
func scriptFiles(p testscript.Params) map[string]string {
	files := p.Files
	if p.Dir != "" {
		entries, _ := os.ReadDir(p.Dir) // testscript says what is wrong with it
		files = slices.Clone(files)
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); ext == ".txt" || ext == ".txtar" {
				files = append(files, filepath.Join(p.Dir, e.Name()))
			}
		}
	}
	list := map[string]string{}
	for _, file := range files {
		base := filepath.Base(file)
		name, ok := strings.CutSuffix(base, ".txt")
		if !ok {
			name = strings.TrimSuffix(base, ".txtar")
		}
		unique := name
		for i := 1; list[unique] != ""; i++ {
			unique = name + "#" + strconv.Itoa(i)
		}
		list[unique] = file
	}
	return list
}

// expects notes what a file of the script's archive is to be. It reports false if the
// file isn't in there, or scripts aren't updated.
func (c *commands) expects(ts *testscript.TestScript, s *script, file, text string) bool {
	path := c.update[ts.Name()]
	if path == "" {
		return false
	}
	archive, err := txtar.ParseFile(path)
	ts.Check(err)
	at := ts.MkAbs(file)
	for _, f := range archive.Files {
		if filepath.Join(ts.Getenv("WORK"), os.Expand(f.Name, ts.Getenv)) == at {
			if s.expected == nil {
				s.expected = map[string]string{}
			}
			s.expected[f.Name] = text
			return true
		}
	}
	return false
}

// rewrite puts what was noted into the script's file, after testscript has done so with
// what it has noted itself.
func (s *script) rewrite(path string) error {
	if len(s.expected) == 0 {
		return nil
	}
	archive, err := txtar.ParseFile(path)
	if err != nil {
		return fmt.Errorf("update script: %w", err)
	}
	for i := range archive.Files {
		f := &archive.Files[i]
		if text, ok := s.expected[f.Name]; ok {
			f.Data = []byte(text)
		}
	}
	if err := os.WriteFile(path, txtar.Format(archive), 0o666); err != nil {
		return fmt.Errorf("update script: %w", err)
	}
	return nil
}
