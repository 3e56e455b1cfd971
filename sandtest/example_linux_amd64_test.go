package sandtest_test

import (
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/sandtest/go-sandtest/sandtest"
)

func ExampleExecute() {
	res, err := sandtest.Execute(exec.Command("sh", "-c", "date -u; hostname; exit 3"), sandtest.Options{
		Time:     time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC),
		Hostname: "build-1",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(res.Stdout)
	fmt.Println("exit status", res.ExitCode)
	// Output:
	// Thu Feb 29 12:00:00 UTC 2024
	// build-1
	// exit status 3
}

// A sleep moves the clock on by what was asked for, and nothing else does.
func ExampleExecute_clock() {
	res, err := sandtest.Execute(exec.Command("sleep", "0.25"), sandtest.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(res.Clock.Format(time.RFC3339Nano))
	// Output:
	// 2000-01-01T00:00:00.25Z
}

// The same seed gives the same bytes, another one gives others.
func ExampleOptions_seed() {
	var outputs []string
	for _, seed := range []uint64{1, 1, 2} {
		res, err := sandtest.Execute(exec.Command("od", "-An", "-N8", "-tx1", "/dev/urandom"), sandtest.Options{Seed: seed})
		if err != nil {
			fmt.Println(err)
			return
		}
		outputs = append(outputs, res.Stdout)
	}
	fmt.Println(outputs[0] == outputs[1], outputs[1] == outputs[2])
	// Output:
	// true false
}

// A command that is started by hand runs in the environment that a sandbox gives
// by default, with something added to it.
func ExampleEnviron() {
	cmd := exec.Command("sh", "-c", "echo $USER $GREETING")
	cmd.Env = append(sandtest.Environ(), "GREETING=hello")
	cmd.Stdin = strings.NewReader("")
	res, err := sandtest.Execute(cmd, sandtest.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(res.Stdout)
	// Output:
	// sandtest hello
}
