package vdso

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"
)

// A Data is the data page as the supervisor writes it. One goroutine at a time
// may call its methods. Frozen functions in other processes always see a
// consistent pair; Shifted ones expect it to be set once, before they run.
type Data struct{ mem []byte }

// NewData lays out a data page in mem, PageSize bytes that are mapped shared.
func NewData(mem []byte) *Data {
	_ = mem[PageSize-1]
	copy(mem[offTable:], clockScale[:])
	copy(mem[offHost:], hostClock[:])
	binary.NativeEndian.PutUint64(mem[NapOffset+8:], 1e6)
	return &Data{mem: mem}
}

func (d *Data) seq() *uint32 { return (*uint32)(unsafe.Pointer(&d.mem[offSeq])) }

// Set stores the pairs of the scales, four at most, given in nanoseconds; a negative
// value gives negative seconds and nanoseconds from 0 to 999,999,999.
func (d *Data) Set(scales ...int64) {
	seq := d.seq()
	atomic.AddUint32(seq, 1)
	for i, ns := range scales[:min(len(scales), pairs)] {
		sec, nsec := ns/1e9, ns%1e9
		if nsec < 0 {
			sec, nsec = sec-1, nsec+1e9
		}
		pair := (*[2]int64)(unsafe.Pointer(&d.mem[offPairs+16*i]))
		atomic.StoreInt64(&pair[0], sec)
		atomic.StoreInt64(&pair[1], nsec)
	}
	atomic.AddUint32(seq, 1)
}
