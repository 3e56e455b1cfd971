package dcache

import "golang.org/x/sys/unix"

// populate makes memory before it is touched (madvise(2), Linux 5.14). Where that can't be, it
// is made then.
func populate(mem []byte) { _ = unix.Madvise(mem, unix.MADV_POPULATE_WRITE) }
