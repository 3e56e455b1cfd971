// Sleeps for an hour beside goroutines that tick, time out and retry, and prints
// what the clock says to it.
package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

func main() {
	start := time.Now()
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() {
			tick := time.NewTicker(time.Duration(i+1) * time.Minute)
			defer tick.Stop()
			for range 10 {
				<-tick.C
			}
		})
	}
	all.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
		defer cancel()
		<-ctx.Done()
	})
	time.Sleep(time.Hour)
	all.Wait()
	fmt.Println(time.Since(start))
}
