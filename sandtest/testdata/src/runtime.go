// Draws on the random generators of Go's runtime, which has one for each thread.
package main

import (
	"fmt"
	"hash/maphash"
	mathrand "math/rand"
	mathrandv2 "math/rand/v2"
)

func main() {
	m := map[string]bool{}
	for i := range 20 {
		m[fmt.Sprint(i)] = true
	}
	for range 2 {
		fmt.Print("~ map")
		for k := range m {
			fmt.Print(" ", k)
		}
		fmt.Println()
	}
	fmt.Println("~ math/rand", mathrand.Int63(), mathrandv2.Uint64())
	fmt.Println("~ maphash", maphash.String(maphash.MakeSeed(), "x"))
	fmt.Println("~ select", picks())
}

// picks tells which of two channels that are ready select takes.
func picks() string {
	a, b := make(chan int, 16), make(chan int, 16)
	for range 16 {
		a <- 0
		b <- 0
	}
	order := ""
	for range 16 {
		select {
		case <-a:
			order += "a"
		case <-b:
			order += "b"
		}
	}
	return order
}
