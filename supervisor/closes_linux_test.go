package supervisor

import "testing"

// TestLastClosed: when a program closes its end of a FIFO or a terminal, the other end knows
// at once.
func TestLastClosed(t *testing.T) {
	cmd := cmdC(compileC(t, "closes", false), "200")
	cmd.Dir = t.TempDir()
	if got, want := succeeds(t, Config{}, cmd), "FIFO: 0\nterminal: 0\n"; got != want {
		t.Errorf("it isn't told of so many of 200:\n%s", got)
	}
}
