// Draws on the sources of randomness and time that a Go program asks the kernel
// for.
package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"runtime"
	"time"
)

func main() {
	fmt.Println(time.Now().UTC().Format(time.RFC3339Nano))
	fmt.Println("CPUs", runtime.NumCPU(), runtime.GOMAXPROCS(0))
	host, err := os.Hostname()
	fmt.Println("host", host, err)
	b := make([]byte, 16)
	rand.Read(b)
	fmt.Printf("crypto/rand %x\n", b)
	start := time.Now()
	sum := 0
	for i := range 300_000_000 {
		sum += i
	}
	fmt.Println("sum", sum, "took", time.Since(start))
	start = time.Now()
	time.Sleep(25 * time.Millisecond)
	fmt.Println("slept", time.Since(start))
}
