//go:build linux

package supervisor

import "sync"

// A wakingMutex is a lock for what wakes threads. Who is woken gets the CPU at once, more
// often than not wants the lock, and would have to lie down again: a thread of the Go
// runtime's that does so, and is bound to its goroutine, is back tens of microseconds
// later. So it is woken when the lock is free.
type wakingMutex struct {
	sync.Mutex
	wakes []func()
}

// afterwards calls f when the lock, which the caller holds, has been given back.
func (m *wakingMutex) afterwards(f func()) { m.wakes = append(m.wakes, f) }

// Unlock gives the lock back, and wakes.
func (m *wakingMutex) Unlock() {
	var few [4]func()
	wakes := append(few[:0], m.wakes...)
	clear(m.wakes)
	m.wakes = m.wakes[:0]
	m.Mutex.Unlock()
	for _, f := range wakes {
		f()
	}
}
