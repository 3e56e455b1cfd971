//go:build linux && amd64

package sandtest_test

import (
	"fmt"
	"os"
	"os/exec"

	"github.com/sandtest/go-sandtest/sandtest"
)

// What a command does to files is a value; the host's files stay as they are.
func ExampleResult_changes() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(dir+"/draft", []byte("one\n"), 0o644); err != nil {
		panic(err)
	}
	cmd := exec.Command("sh", "-c", "mkdir out; sort draft >out/sorted; rm draft; ln -s out/sorted latest")
	cmd.Dir = dir
	res, err := sandtest.Execute(cmd, sandtest.Options{})
	if err != nil {
		panic(err)
	}
	defer res.Close()
	fmt.Print(res.Changes)
	draft, err := os.ReadFile(dir + "/draft")
	fmt.Printf("on the host: %q %v\n", draft, err)
	// Output:
	// D -rw-r--r-- /work/draft
	// A lrwxrwxrwx /work/latest -> out/sorted
	// A drwxr-xr-x /work/out
	// A -rw-r--r-- /work/out/sorted
	// on the host: "one\n" <nil>
}
