//go:build !linux

package sandtest

// There is no sandbox to sweep.
func defaultFaults() []Fault { return nil }

func effectOf(*Fault) string { return "" }
