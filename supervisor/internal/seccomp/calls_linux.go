package seccomp

import "strconv"

var numbers = func() map[string]uint32 {
	m := make(map[string]uint32, len(names))
	for nr, name := range names {
		m[name] = nr
	}
	return m
}()

// Number returns the number of a call by its name, and false where this
// architecture has none of that name (arm64 has no open, only openat).
func Number(name string) (uint32, bool) {
	nr, ok := numbers[name]
	return nr, ok
}

// Name returns the name of a call, or its number in digits.
func Name(nr uint32) string {
	if name, ok := names[nr]; ok {
		return name
	}
	return strconv.Itoa(int(nr))
}
