package supervisor

import "testing"

// TestStandIns: what is open of a synthetic file or a random device is that file, for who asks
// by the descriptor.
func TestStandIns(t *testing.T) {
	const script = `for f in /proc/uptime /proc/cpuinfo /proc/self/limits /dev/urandom /dev/random /sys/devices/system/cpu/online /proc/sys/kernel/random/boot_id /etc/hostname; do
	by=$(stat -c "%a %f %h %u %g %s %t:%T %i %d %X %Y %Z" "$f"); of=$(stat -L -c "%a %f %h %u %g %s %t:%T %i %d %X %Y %Z" /dev/fd/3 3<"$f")
	case $f in /proc/self/*) by=${by%% *} of=${of%% *} ;; esac # that of another process
	[ "$by" = "$of" ] || echo "$f: $by, open $of"
done
for f in /proc/cpuinfo /sys/devices/system/cpu/online /proc/sys/kernel/osrelease; do cp "$f" copy && cmp "$f" copy; rm -f copy; done
for f in /proc/uptime /sys/devices/system/cpu/online; do readlink /proc/self/fd/3 3<"$f"; done
[ -c /dev/fd/3 ] 3</dev/urandom && echo device`
	cmd := sh(script)
	cmd.Dir = t.TempDir()
	if got, want := output(t, Config{}, cmd), "/proc/uptime\n/sys/devices/system/cpu/online\ndevice\n"; got != want {
		t.Errorf("it says\n%swant\n%s", got, want)
	}
}
