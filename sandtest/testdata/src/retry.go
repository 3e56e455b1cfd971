// Retry starts itself as an HTTP server that answers only the third request, and
// asks it with a timeout and a growing pause after each failure.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync/atomic"
	"time"
)

func main() {
	if len(os.Args) > 1 {
		check(serve())
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	f, err := l.(*net.TCPListener).File()
	check(err)
	server := exec.Command(os.Args[0], "serve")
	server.ExtraFiles = []*os.File{f}
	server.Stderr = os.Stderr
	check(server.Start())
	ask("http://" + l.Addr().String())
	check(server.Process.Kill())
	_ = server.Wait()
}

func ask(url string) {
	client := http.Client{Timeout: 5 * time.Second}
	start := time.Now()
	for pause := time.Second; ; pause *= 2 {
		text, err := get(&client, url)
		fmt.Println(time.Since(start), text)
		if err == nil {
			return
		}
		time.Sleep(pause)
	}
}

func get(client *http.Client, url string) (string, error) {
	resp, err := client.Get(url)
	if err != nil {
		var timeout net.Error
		return fmt.Sprintf("timeout %v", errors.As(err, &timeout) && timeout.Timeout()), err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func serve() error {
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	var asked atomic.Int32
	server := http.Server{ReadTimeout: 10 * time.Second, WriteTimeout: time.Hour, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := asked.Add(1); n < 3 {
			<-r.Context().Done()
			return
		}
		time.Sleep(2 * time.Second)
		fmt.Fprint(w, "hello")
	})}
	return server.Serve(l)
}

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
