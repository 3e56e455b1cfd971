package vdso

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// ErrNone is the error of a process that has no vDSO.
var ErrNone = errors.New("vdso: the process has none")

// FindRange reads /proc/PID/maps (proc_pid_maps(5)) and returns where the vDSO
// lies, or ErrNone.
func FindRange(maps io.Reader) (start, end uint64, err error) {
	sc := bufio.NewScanner(maps)
	for sc.Scan() {
		fields := strings.Fields(sc.Text())
		if len(fields) != 6 || fields[5] != "[vdso]" {
			continue
		}
		lo, hi, ok := strings.Cut(fields[0], "-")
		if start, err = strconv.ParseUint(lo, 16, 64); err == nil {
			end, err = strconv.ParseUint(hi, 16, 64)
		}
		if err != nil || !ok || end <= start || end-start > 1<<20 {
			return 0, 0, fmt.Errorf("vdso: unlikely range %q", fields[0])
		}
		return start, end, nil
	}
	if err := sc.Err(); err != nil {
		return 0, 0, fmt.Errorf("vdso: read maps: %w", err)
	}
	return 0, 0, ErrNone
}
