// Sleeps for the times given, and prints what the clock says to each.
package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	for _, arg := range os.Args[1:] {
		d, err := time.ParseDuration(arg)
		if err != nil {
			panic(err)
		}
		start := time.Now()
		time.Sleep(d)
		fmt.Println(time.Since(start) >= d)
	}
}
