//go:build linux

package supervisor

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/det"
)

// Who waits for a connection is woken by a signal, by the socket's timeout and by the
// server, as natively.
func TestConnecting(t *testing.T) {
	path := compileC(t, "connecting", false)
	bare, err := cmdC(path).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		cfg  Config
	}{
		{"virtual", Config{}}, {"running", Config{Clock: det.Running}}, {"host's network", Config{Clock: det.Running, Net: NetHost}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(lines(string(bare)), lines(output(t, tt.cfg, cmdC(path)))); diff != "" {
				t.Errorf("(-bare +sandbox):\n%s", diff)
			}
		})
	}
}
