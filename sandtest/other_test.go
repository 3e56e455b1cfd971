//go:build !linux || !amd64

package sandtest_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/sandtest/go-sandtest/sandtest"
)

func TestUnsupported(t *testing.T) {
	if _, err := sandtest.Execute(exec.Command("true"), sandtest.Options{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Execute: %v, want errors.ErrUnsupported", err)
	}
	var fake fakeTB
	fake.run(func(t testing.TB) { sandtest.Run(t, exec.Command("true"), sandtest.Options{}) })
	if fake.fatal != "" || !strings.Contains(fake.skip, "needs Linux") {
		t.Errorf("Run: failed with %q, skipped with %q, want it skipped with the reason", fake.fatal, fake.skip)
	}
}
