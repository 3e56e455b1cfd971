package supervisor

import (
	"fmt"
	"os/exec"
	"testing"
)

// TestManyArguments: a program may have so many that their places fill the part of its stack
// that the kernel has made, and has each of them.
func TestManyArguments(t *testing.T) {
	for _, n := range []int{10_000, 12_000, 17_000, 100_000} {
		args := []string{"-c", `echo "$#" "$@" | cksum; exec sh -c 'echo "$#" "$@" | cksum' "$@"`, "sh"}
		for i := range n {
			args = append(args, fmt.Sprint(i))
		}
		want, err := exec.Command("sh", args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := output(t, Config{}, exec.Command("sh", args...)); got != string(want) {
			t.Errorf("with %d arguments it has %s, want %s", n, got, want)
		}
	}
}
