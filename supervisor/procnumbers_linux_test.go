package supervisor

import (
	"strings"
	"testing"
)

// TestNumbersInProc: what is in /proc has numbers of its own, by whatever call they are told.
func TestNumbersInProc(t *testing.T) {
	const script = "stat -c '%n %i %d' /proc /proc/self /proc/cpuinfo /proc/uptime /proc/sys; ls -i /proc | grep -E ' (cpuinfo|self|uptime|sys)$'"
	first := output(t, Config{}, sh(script))
	if host, err := sh("stat -c '%n %i %d' /proc/cpuinfo").Output(); err != nil || strings.Contains(first, string(host)) {
		t.Errorf("it is told the host's number (%v): %s", err, host)
	}
	if !strings.HasPrefix(first, "/proc 1 2\n") {
		t.Errorf("/proc isn't what its mountinfo says:\n%s", first)
	}
	for range 3 {
		if got := output(t, Config{}, sh(script)); got != first {
			t.Errorf("it says\n%sand before\n%s", got, first)
		}
	}
	const same = `for name in cpuinfo uptime sys; do by=$(stat -c %i /proc/$name); ls -i /proc | grep -q "^ *$by $name\$" || echo $name: $by; done
cd /proc/self/; for name in status fd . ..; do by=$(stat -c %i $name); ls -ia | grep -q "^ *$by $name\$" || echo $name: $by; done`
	if got := output(t, Config{}, sh(same)); got != "" {
		t.Errorf("listed otherwise than told: %s", got)
	}
}
