package sandtest_test

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/sandtest/go-sandtest/sandtest"
)

// inEmptyDir returns a shell command that runs in a directory of its own, and what removes
// that.
func inEmptyDir(script string) (cmd *exec.Cmd, remove func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	cmd = exec.Command("sh", "-c", script)
	cmd.Dir = dir
	return cmd, func() { os.RemoveAll(dir) }
}

// A callback refuses one directory, and has the program that makes others listed.
func ExampleOptions_onSyscall() {
	cmd, remove := inEmptyDir("mkdir secret 2>/dev/null || echo refused; mkdir public; ls")
	defer remove()
	res, err := sandtest.Execute(cmd, sandtest.Options{OnSyscall: func(e *sandtest.Event) sandtest.Verdict {
		switch {
		case e.Name != "mkdir":
			return sandtest.Allow
		case e.Path == "/work/secret":
			return sandtest.DenyWith(syscall.EACCES)
		}
		return sandtest.Audit
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Close()
	fmt.Print(res.Stdout)
	for _, entry := range res.Audit {
		fmt.Println(entry)
	}
	// Output:
	// refused
	// public
	// 0.2 mkdir /work/public
}

// The second directory finds the disk full.
func ExampleOptions_faults() {
	cmd, remove := inEmptyDir("mkdir a b c 2>/dev/null || ls")
	defer remove()
	res, err := sandtest.Execute(cmd, sandtest.Options{Faults: []sandtest.Fault{
		{Calls: []string{"mkdir"}, First: 2, Last: 2, Error: syscall.ENOSPC},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Close()
	fmt.Print(res.Stdout)
	for _, hit := range res.Faults {
		fmt.Println(hit.Process, hit.Text)
	}
	// Output:
	// a
	// c
	// 0.1 mkdir("b", 0777)
}

// A trace tells what a program did, and at which instant of the virtual clock.
func ExampleOptions_trace() {
	cmd, remove := inEmptyDir("mkdir a; sleep 2; rmdir b 2>/dev/null")
	defer remove()
	res, err := sandtest.Execute(cmd, sandtest.Options{Trace: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Close()
	for _, e := range res.Trace {
		if e.Name == "mkdir" || e.Name == "rmdir" {
			fmt.Println(e.Began, e.Process, e.Text, "=", e.Result)
		}
	}
	// Output:
	// 0s 0.1 mkdir("a", 0777) = 0
	// 2s 0.3 rmdir("b") = -1 ENOENT
}

// What a command has written at one moment, another starts from.
func ExampleProcess_Snapshot() {
	snapshot, err := os.MkdirTemp("", "snapshot")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(snapshot)
	cmd, remove := inEmptyDir("echo one >state; echo written; read answer; echo two >state")
	defer remove()
	// It says that it has written, and waits for an answer.
	stdin, answer, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	defer answer.Close()
	written, stdout, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	defer written.Close()
	cmd.Stdin, cmd.Stdout = stdin, stdout
	p, err := sandtest.Begin(cmd, sandtest.Options{})
	stdin.Close()
	stdout.Close()
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = fmt.Fscanln(written, new(string))
	if err == nil {
		err = p.Freeze()
	}
	if err == nil {
		err = p.Snapshot(snapshot)
		p.Thaw()
	}
	if err != nil {
		fmt.Println(err)
	}
	fmt.Fprintln(answer)
	res, err := p.Result()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Close()

	cat := exec.Command("cat", "state")
	cat.Dir = cmd.Dir
	again, err := sandtest.Execute(cat, sandtest.Options{Lower: snapshot})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer again.Close()
	fmt.Print(again.Stdout)
	// Output:
	// one
}
