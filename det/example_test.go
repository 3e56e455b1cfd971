package det_test

import (
	"fmt"
	"time"

	"github.com/sandtest/go-sandtest/det"
)

func ExampleLineage_Child() {
	shell := det.Root.Child(2) // the second process that the command started
	fmt.Println(shell)
	fmt.Println(shell.Child(1))
	// Output:
	// 0.2
	// 0.2.1
}

// The bytes of a process follow from who it is, so they don't depend on how many
// bytes its siblings have drawn.
func ExampleNewStream() {
	for _, who := range []det.Lineage{det.Root, det.Root.Child(1), det.Root} {
		b := make([]byte, 4)
		det.NewStream(0, det.GetRandom, who, 0).Read(b)
		fmt.Printf("%-3s %x\n", who, b)
	}
	// Output:
	// 0   97ca5e82
	// 0.1 ea660e66
	// 0   97ca5e82
}

// A virtual clock moves to the earliest deadline of those who wait, and at once.
func ExampleClock() {
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	c := det.NewClock(start, func(now [det.Scales]int64) {
		fmt.Println("clock page:", time.Duration(now[det.Monotonic]))
	})
	c.AdvanceTo(c.Elapsed() + time.Hour) // a program sleeps for an hour
	c.AdvanceTo(30 * time.Minute)        // a deadline that has passed already
	fmt.Println(c.Now().Format(time.TimeOnly))
	fmt.Println(time.Duration(c.Read(det.Monotonic)), "since boot")
	// Output:
	// clock page: 1h0m0s
	// clock page: 2h0m0s
	// 01:00:00
	// 2h0m0s since boot
}
