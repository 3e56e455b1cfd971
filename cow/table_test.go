//go:build linux

package cow_test

import (
	"os"
	"testing"

	"github.com/sandtest/go-sandtest/internal/conformance"
)

// Every operation on every kind of file does in a tree what it does on the host.
func TestTable(t *testing.T) {
	failed := 0
	for _, s := range conformance.Table(os.Getenv("SANDTEST_LONG") != "") {
		if wrong := both(t, conformance.Sample, s.Ops); wrong != "" {
			t.Errorf("%s: %s", s.Name, wrong)
			if failed++; failed > 20 {
				t.Fatal("and so on")
			}
		}
	}
}
