package script

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/sandtest/go-sandtest/sandtest"
)

// Where a program sees the directory of the script, and directories of its PATH
// that lie below the host's /tmp, such as that of the programs which
// [testscript.Main] registers.
const (
	workAt = sandtest.DefaultWork
	pathAt = "/opt/testscript"
)

// world lets the program see the script's directory at a fixed place, and returns
// the script's environment with that place in it.
func (j *job) world(ts *testscript.TestScript, dir string) ([]string, error) {
	work := ts.Getenv("WORK")
	rel, err := filepath.Rel(work, dir)
	if err != nil {
		return nil, err
	}
	opts := &j.flags.Opts
	replace := []string{}
	if opts.Work == sandtest.DefaultWork && rel != ".." && !strings.HasPrefix(rel, "../") {
		opts.Work = path.Join(workAt, rel)
		opts.Mounts = append(opts.Mounts, sandtest.Mount{Host: work, Path: workAt})
		replace = append(replace, work, workAt)
	}
	for i, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() || !strings.HasPrefix(dir, os.TempDir()+"/") {
			continue
		}
		at := fmt.Sprintf("%s/%d", pathAt, i)
		opts.Mounts = append(opts.Mounts, sandtest.Mount{Host: dir, Path: at})
		replace = append(replace, dir, at)
	}
	env, err := environ(ts)
	if err != nil {
		return nil, err
	}
	r := strings.NewReplacer(replace...)
	for i := range env {
		env[i] = r.Replace(env[i])
	}
	return append(env, j.flags.Env...), nil
}

// environ returns the script's environment. A program is asked for it: testscript
// tells single variables only.
func environ(ts *testscript.TestScript) ([]string, error) {
	if err := ts.Exec("env", "-0"); err != nil {
		return nil, fmt.Errorf("ask env for the script's environment: %w", err)
	}
	return strings.Split(strings.TrimSuffix(ts.ReadFile("stdout"), "\x00"), "\x00"), nil
}
