package vdso

import (
	"fmt"
	"os"
)

// Self returns the image that the kernel maps into this process: the one that
// every process of the same architecture has.
func Self() (*Image, error) {
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil, fmt.Errorf("vdso: %w", err)
	}
	defer maps.Close()
	start, end, err := FindRange(maps)
	if err != nil {
		return nil, err
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		return nil, fmt.Errorf("vdso: %w", err)
	}
	defer mem.Close()
	raw := make([]byte, end-start)
	if _, err := mem.ReadAt(raw, int64(start)); err != nil {
		return nil, fmt.Errorf("vdso: read the image at %#x: %w", start, err)
	}
	return Parse(raw)
}
