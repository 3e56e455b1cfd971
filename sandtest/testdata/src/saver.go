//go:build ignore

// Saver replaces a file, and checks every error but one: that of Sync is thrown away, and
// with -careful it isn't.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	careful := flag.Bool("careful", false, "look at every error")
	flag.Parse()
	if err := save("config", []byte("new contents\n"), *careful); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("saved")
}

func save(file string, text []byte, careful bool) error {
	tmp, err := os.OpenFile(file+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(text)
	if syncErr := tmp.Sync(); careful && err == nil {
		err = syncErr
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}
