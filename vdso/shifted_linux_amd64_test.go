package vdso_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/vdso"
)

// shiftedOverFrozen returns shifted functions whose original is a frozen clock,
// so that what they must say is known to the nanosecond.
func shiftedOverFrozen(t *testing.T) (shifted, host *region) {
	t.Helper()
	host = newRegion(t, vdso.Frozen, nil)
	return newRegion(t, vdso.Shifted, map[string]uintptr{"clock_gettime": host.fn("clock_gettime")}), host
}

func TestShiftedAdds(t *testing.T) {
	shifted, host := shiftedOverFrozen(t)
	m := newMemory(t)
	tests := []struct {
		name         string
		host, offset int64
	}{
		{"nothing", 1700000000_123456789, 0},
		{"seconds", 1700000000_123456789, 1000e9},
		{"nanoseconds", 1700000000_123456789, 1},
		{"just below a second", 5_500000000, 499_999_999},
		{"just a second", 5_500000000, 500_000_000},
		{"the most to carry", 5_999999999, 999_999_999},
		{"back by seconds", 1700000000_000000000, -1000e9},
		{"back by a nanosecond", 1700000000_000000000, -1},
		{"back by less than there is", 5_500000000, -400_000_000},
		{"back by more", 5_500000000, -600_000_000},
		{"to before 1970", 5_500000000, -6e9},
		{"to 2000", 1700000000_987654321, 946684800e9 - 1700000000_987654321},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// Each scale has an offset of its own.
			var hosts, offsets []int64
			for scale := range int64(len(scales)) {
				hosts = append(hosts, tt.host+scale*7e9)
				offsets = append(offsets, tt.offset+scale*1000e9)
			}
			host.data.Set(hosts...)
			shifted.data.Set(offsets...)
			for _, c := range clocks {
				if c.scale == noScale {
					continue // TestKernelClocks
				}
				if ret := shifted.call("clock_gettime", id(c.id), m.at(resultAt)); ret != 0 {
					t.Errorf("clock_gettime(%d) = %d", c.id, ret)
				}
				checkTimespec(t, m, fmt.Sprintf("clock_gettime(%d)", c.id), hosts[c.scale]+offsets[c.scale])
			}
			checkWallClock(t, shifted, m, tt.host+tt.offset)
		})
	}
}

func TestShiftedAddsAny(t *testing.T) {
	shifted, host := shiftedOverFrozen(t)
	m := newMemory(t)
	rng := rand.New(rand.NewPCG(3, 4))
	for range 10_000 {
		now, offset := rng.Int64N(1<<61), rng.Int64N(1<<61)-1<<60
		host.data.Set(now)
		shifted.data.Set(offset)
		shifted.call("clock_gettime", clockRealtime, m.at(resultAt))
		sec, nsec := split(now + offset)
		if gotSec, gotNsec := m.int64(resultAt), m.int64(resultAt+8); gotSec != sec || gotNsec != nsec {
			t.Fatalf("%d ns + %d ns = %d s %d ns, want %d s %d ns", now, offset, gotSec, gotNsec, sec, nsec)
		}
	}
}

// An original may use every register that the ABI leaves to it, and expects an
// aligned stack.
func TestShiftedCallsOriginal(t *testing.T) {
	original := machineCode(t,
		0x48, 0xc7, 0x06, 5, 0, 0, 0, // mov qword [rsi], 5
		0x48, 0xc7, 0x46, 0x08, 7, 0, 0, 0, // mov qword [rsi+8], 7
		0x48, 0x8d, 0x44, 0x24, 0xf8, // lea rax, [rsp-8]
		0x83, 0xe0, 0x0f, // and eax, 15: the result, 0 if aligned
		0x48, 0x83, 0xc9, 0xff, // or rcx, -1
		0x48, 0x83, 0xca, 0xff, // or rdx, -1
		0x48, 0x83, 0xce, 0xff, // or rsi, -1
		0x48, 0x83, 0xcf, 0xff, // or rdi, -1
		0x49, 0x83, 0xc8, 0xff, // or r8, -1
		0x49, 0x83, 0xc9, 0xff, // or r9, -1
		0x49, 0x83, 0xca, 0xff, // or r10, -1
		0x49, 0x83, 0xcb, 0xff, // or r11, -1
		0xc3, // ret
	)
	r, m := newRegion(t, vdso.Shifted, map[string]uintptr{"clock_gettime": original}), newMemory(t)
	r.data.Set(100e9+100_000, 200e9, 300e9, 400e9)
	if ret := r.call("clock_gettime", clockBoottime, m.at(resultAt)); ret != 0 {
		t.Errorf("clock_gettime = %d: the stack was not aligned", ret)
	}
	checkTimespec(t, m, "clock_gettime", 305_000000007)
	checkWallClock(t, r, m, 105_000100007)
}

func TestShiftedOriginalFails(t *testing.T) {
	original := machineCode(t,
		0xb8, 0xea, 0xff, 0xff, 0xff, // mov eax, -EINVAL
		0xc3, // ret
	)
	r, m := newRegion(t, vdso.Shifted, map[string]uintptr{"clock_gettime": original}), newMemory(t)
	r.data.Set(scales[:]...)
	if ret := r.call("clock_gettime", clockRealtimeAlarm, m.at(resultAt)); ret != -int32(unix.EINVAL) {
		t.Errorf("clock_gettime = %d, want -EINVAL", ret)
	}
	checkWritten(t, m, "failing clock_gettime", 0, 0)
}

// Over the host's own vDSO, a shifted read lies between two reads of the host's
// clock for its scale taken around it: coarse and raw clocks read what the fine
// one does, and an alarm clock needs no device.
func TestShiftedOnHost(t *testing.T) {
	r, m := hostRegion(t, vdso.Shifted), newMemory(t)
	hostGettime := hostFunction(t, "clock_gettime")
	host := func(clock int32) (int64, int32) {
		ret := int32(callC(hostGettime, uintptr(uint32(clock)), m.at(resultAt)))
		defer m.poison()
		return m.int64(resultAt)*1e9 + m.int64(resultAt+8), ret
	}
	hostOf := [...]int32{unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME, unix.CLOCK_TAI}
	for _, offset := range []int64{0, 1, 999_999_999, 86400e9 + 500_000_000, -1, -86400e9 - 1} {
		// Scales are told apart by hours, which no test takes.
		var offsets []int64
		for scale := range int64(len(scales)) {
			offsets = append(offsets, offset+scale*3600e9)
		}
		r.data.Set(offsets...)
		for _, c := range clocks {
			if c.scale == noScale {
				continue
			}
			t.Run(fmt.Sprintf("%d/%d", offset, c.id), func(t *testing.T) {
				for range 100 {
					before, _ := host(hostOf[c.scale])
					if got := r.call("clock_gettime", id(c.id), m.at(resultAt)); got != 0 {
						t.Fatalf("clock_gettime = %d, want 0", got)
					}
					sec, nsec := m.int64(resultAt), m.int64(resultAt+8)
					checkWritten(t, m, "clock_gettime", resultAt, resultAt+16)
					after, _ := host(hostOf[c.scale])
					if after < before {
						continue // somebody has set the machine's clock back
					}
					if nsec < 0 || nsec >= 1e9 {
						t.Fatalf("%d nanoseconds", nsec)
					}
					if now := sec*1e9 + nsec - offsets[c.scale]; now < before || now > after {
						t.Fatalf("clock_gettime less its offset = %d, want %d to %d", now, before, after)
					}
				}
			})
		}
	}
}

func TestShiftedWallClockOnHost(t *testing.T) {
	r, m := hostRegion(t, vdso.Shifted), newMemory(t)
	hostGettime := hostFunction(t, "clock_gettime")
	const offset = -3600e9 + 999_999_999
	r.data.Set(offset)
	shifted := func() int64 {
		callC(hostGettime, clockRealtime, m.at(resultAt))
		defer m.poison()
		return m.int64(resultAt)*1e9 + m.int64(resultAt+8) + offset
	}
	for range 1000 {
		before := shifted()
		r.call("gettimeofday", m.at(resultAt), 0)
		us := m.int64(resultAt)*1e6 + m.int64(resultAt+8)
		sec := int64(callC(r.fn("time"), 0))
		after := shifted()
		if after < before {
			continue // somebody has set the machine's clock back
		}
		if us < before/1000 || us > after/1000 {
			t.Fatalf("gettimeofday = %d us, want %d to %d", us, before/1000, after/1000)
		}
		if sec < before/1e9 || sec > after/1e9 {
			t.Fatalf("time = %d, want %d to %d", sec, before/1e9, after/1e9)
		}
	}
}
