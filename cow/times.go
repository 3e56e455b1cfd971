//go:build linux

package cow

import (
	"cmp"
	"fmt"
	"math"
	"math/big"

	"golang.org/x/sys/unix"
)

// Times to set besides those since 1970 (utimensat(2)).
var (
	TimeNow  = unix.Timespec{Nsec: unix.UTIME_NOW}  // the tree's time
	TimeOmit = unix.Timespec{Nsec: unix.UTIME_OMIT} // what it was
)

const second = 1_000_000_000 // nanoseconds

// earlier returns the earlier of two times.
func earlier(a, b unix.Timespec) unix.Timespec {
	if cmp.Or(cmp.Compare(a.Sec, b.Sec), cmp.Compare(a.Nsec, b.Nsec)) <= 0 {
		return a
	}
	return b
}

// Nanoseconds returns a time in nanoseconds since 1970, for one before 1677 or after 2262 about
// the first or the last that 64 bits can hold.
func Nanoseconds(ts unix.Timespec) int64 {
	const most = math.MaxInt64/second - 1
	return min(max(ts.Sec, -most), most)*second + ts.Nsec
}

// A jsonTime is a time as a number of nanoseconds since 1970, which may have more than 64 bits.
type jsonTime unix.Timespec

func (t jsonTime) MarshalJSON() ([]byte, error) {
	n := big.NewInt(t.Sec)
	n.Mul(n, big.NewInt(second))
	return n.Add(n, big.NewInt(t.Nsec)).MarshalJSON()
}

func (t *jsonTime) UnmarshalJSON(text []byte) error {
	var n, rest big.Int
	if err := n.UnmarshalJSON(text); err != nil {
		return err
	}
	n.DivMod(&n, big.NewInt(second), &rest) // rest isn't negative
	if !n.IsInt64() {
		return fmt.Errorf("cow: the time %s is too far away", text)
	}
	t.Sec, t.Nsec = n.Int64(), rest.Int64()
	return nil
}
