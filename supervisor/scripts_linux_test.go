package supervisor

import (
	"os"
	"path/filepath"
	"testing"
)

// TestScriptsName: the process of a script has the script's name, however it is executed.
func TestScriptsName(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"script": "#!/bin/sh\nread name </proc/$$/comm; echo $name\n", "outer": "#!./script\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const commands = `./script; sh -c 'exec ./script'; PATH=$PWD:$PATH; script; ln -s script link; ./link; ./outer; cat script >a-very-long-name-of-a-script; chmod +x a-*; ./a-very-long-name-of-a-script; sh ./script`
	bare := sh(commands)
	bare.Dir = t.TempDir()
	for _, name := range []string{"script", "outer"} {
		if err := os.Link(filepath.Join(dir, name), filepath.Join(bare.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := bare.Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := sh(commands)
	cmd.Dir = dir
	if got := output(t, Config{}, cmd); got != string(want) {
		t.Errorf("they are called\n%swant\n%s", got, want)
	}
}
