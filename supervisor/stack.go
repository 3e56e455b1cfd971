//go:build linux

package supervisor

import "runtime"

// usualStack is about what the goroutines of a sandbox need, in bytes.
const usualStack = 16 << 10

// growStack makes the calling goroutine's stack that large at its beginning: whenever it grows
// later, all that lies there has to be looked at and moved.
//
//go:noinline
func growStack() {
	var room [usualStack]byte
	runtime.KeepAlive(room[runtime.NumGoroutine()%len(room)]) // by an index that the compiler doesn't know
}
