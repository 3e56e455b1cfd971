package supervisor

import "testing"

// TestExecuteWritten: what a process has written and closed it can execute, however soon.
func TestExecuteWritten(t *testing.T) {
	times := "200"
	if long {
		times = "5000"
	}
	cmd := cmdC(compileC(t, "written", true), times)
	cmd.Dir = t.TempDir()
	if got := succeeds(t, Config{}, cmd); got != "0 failed\n" {
		t.Errorf("of %s: %s", times, got)
	}
}
