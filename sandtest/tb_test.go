package sandtest_test

import (
	"cmp"
	"fmt"
	"runtime"
	"testing"
	"time"
)

// A fakeTB stands in for the test that Run is given, and records what becomes of
// it.
type fakeTB struct {
	testing.TB
	deadline time.Time // zero if there is none

	fatal, skip string
	errors      string
	artifacts   string
	name        string
	cleanups    []func()
}

func (f *fakeTB) Helper()             {}
func (f *fakeTB) Cleanup(fn func())   { f.cleanups = append(f.cleanups, fn) }
func (f *fakeTB) Name() string        { return cmp.Or(f.name, "fake") }
func (f *fakeTB) Logf(string, ...any) {}
func (f *fakeTB) ArtifactDir() string { return f.artifacts }

func (f *fakeTB) Errorf(format string, args ...any) { f.errors += fmt.Sprintf(format, args...) }

func (f *fakeTB) Fatalf(format string, args ...any) {
	f.fatal = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (f *fakeTB) Skipf(format string, args ...any) {
	f.skip = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (f *fakeTB) Deadline() (time.Time, bool) { return f.deadline, !f.deadline.IsZero() }

// run calls fn as a test is called, and then what it has left to clean up.
func (f *fakeTB) run(fn func(testing.TB)) {
	f.inGoroutine(func() { fn(f) })
	for len(f.cleanups) > 0 {
		last := len(f.cleanups) - 1
		cleanup := f.cleanups[last]
		f.cleanups = f.cleanups[:last]
		f.inGoroutine(cleanup)
	}
}

func (f *fakeTB) inGoroutine(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	<-done
}
