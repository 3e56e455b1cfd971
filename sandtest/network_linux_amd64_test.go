package sandtest_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandtest/go-sandtest/sandtest"
)

// A server is a shell script that starts a real server on its own port, uses it, and
// prints what must be the same each time.
var servers = []struct {
	name   string
	tools  []string
	script string
	want   string
}{
	{"http.server", []string{"python3", "curl"}, `
		mkdir site && echo hello >site/index.html
		python3 -m http.server 8000 --directory site 2>log & pid=$!
		curl -s --retry 20 --retry-connrefused --retry-delay 1 http://localhost:8000/ && curl -s -o /dev/null -w '%{http_code} %{remote_ip} %{local_port}\n' http://127.0.0.1:8000/none
		kill $pid; wait $pid; cut -d'"' -f1-2 log | grep -v message`,
		"hello\n404 127.0.0.1 35277\n127.0.0.1 - - [01/Jan/2000 00:00:01] \"GET / HTTP/1.1\n127.0.0.1 - - [01/Jan/2000 00:00:01] \"GET /none HTTP/1.1\n"},
	{"redis", []string{"redis-server", "redis-cli", "redis-benchmark"}, `
		redis-server --save '' --daemonize no >log & pid=$!
		until redis-cli ping 2>/dev/null; do sleep 0.1; done
		redis-cli set k v; redis-cli get k; redis-benchmark -q -n 2000 -P 16 -t set,get >/dev/null && echo done; redis-cli dbsize
		redis-cli shutdown nosave; wait $pid; echo $?`,
		"PONG\nOK\nv\ndone\n2\n0\n"},
	{"nginx", []string{"nginx", "curl"}, `
		mkdir -p run html && echo static >html/index.html
		printf 'worker_processes 2; daemon off; master_process on; pid run/pid; error_log run/error.log;\nevents { worker_connections 64; }\nhttp { access_log run/access.log; client_body_temp_path run/b; proxy_temp_path run/p; fastcgi_temp_path run/f; uwsgi_temp_path run/u; scgi_temp_path run/s; server { listen 80; root html; } }\n' >conf
		nginx -p "$PWD" -c "$PWD/conf" -e run/error.log & pid=$!
		curl -s --retry 20 --retry-connrefused --retry-delay 1 http://localhost/ 
		for i in 1 2 3 4 5; do curl -s -o /dev/null -w '%{http_code} ' http://localhost/; done; echo
		kill -QUIT $pid; wait $pid; echo $?; wc -l <run/access.log`,
		"static\n200 200 200 200 200 \n0\n6\n"},
	// It doesn't want to be root's.
	{"postgres", []string{"/usr/lib/postgresql/*/bin/initdb", "psql", "setpriv"}, `
		mkdir /tmp/pg; cd /tmp/pg
		PATH=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1):$PATH LC_ALL=C; export PATH LC_ALL
		cat >run <<'END'
			set -e
			initdb -D data -A trust -N >log 2>&1 || { cat log; exit 1; }
			pg_ctl -D data -o '-p 5432 -k /tmp' -l log -w start >out 2>&1 || { cat out log; exit 1; }
			psql -h 127.0.0.1 -U "$(id -un)" postgres -Atc 'create table t as select generate_series(1, 100) n'
			psql -h /tmp -U "$(id -un)" postgres -Atc 'select sum(n), now()::date from t'
			pg_ctl -D data -w stop >/dev/null; echo stopped
END
		if [ $(id -u) = 0 ]; then chown -R 65534:65534 /tmp/pg; setpriv --reuid=65534 --regid=65534 --clear-groups sh run; else sh run; fi`,
		"SELECT 100\n5050|2000-01-01\nstopped\n"},
	{"datagrams", []string{"python3"}, `
		python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 53))
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); c.sendto(b"query", ("localhost", 53))
b, a = s.recvfrom(9); s.sendto(b[::-1], a); print(a[0], a[1] >= 32768, c.recvfrom(9))
u = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); u.bind("server")
v = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); v.bind("client"); v.sendto(b"query", "server")
b, a = u.recvfrom(9); u.sendto(b[::-1], a); print(a, v.recvfrom(9))
'`, "127.0.0.1 True (b'yreuq', ('127.0.0.1', 53))\nclient (b'yreuq', 'server')\n"},
	{"names", []string{"getent", "hostname", "ip", "ss"}, `
		getent ahosts localhost | sort | uniq; hostname -f; ip -br addr | tr -s " "; ss -ltnH; getent hosts example.com; echo $?`,
		"127.0.0.1       DGRAM  \n127.0.0.1       RAW    \n127.0.0.1       STREAM \n::1             DGRAM  \n::1             RAW    \n::1             STREAM localhost\nsandtest\n" +
			"lo UNKNOWN 127.0.0.1/8 ::1/128 \n2\n"},
}

// Servers have their ports in each sandbox, many at once.
func TestServers(t *testing.T) {
	sandboxes := 4
	switch {
	case os.Getenv("SANDTEST_LONG") != "":
		sandboxes = 20
	case testing.Short():
		sandboxes = 2
	}
	for _, tt := range servers {
		t.Run(tt.name, func(t *testing.T) {
			for _, tool := range tt.tools {
				if found, _ := filepath.Glob(tool); strings.Contains(tool, "/") && len(found) == 0 {
					t.Skipf("there is no %s", tool)
				} else if _, err := exec.LookPath(tool); err != nil && len(found) == 0 {
					t.Skip(err)
				}
			}
			var wg sync.WaitGroup
			results := make([]*sandtest.Result, sandboxes)
			errs := make([]error, sandboxes)
			for i := range sandboxes {
				wg.Go(func() {
					cmd := exec.Command("/bin/sh", "-c", tt.script)
					cmd.Dir = t.TempDir()
					results[i], errs[i] = sandtest.Execute(cmd, sandtest.Options{Timeout: 2 * time.Minute})
				})
			}
			wg.Wait()
			for i, res := range results {
				if errs[i] != nil {
					t.Fatal(errs[i])
				}
				if got := string(res.Stdout); got != tt.want {
					t.Errorf("sandbox %d (exit status %d, timed out %v): got\n%swant\n%s%s", i, res.ExitCode, res.TimedOut, got, tt.want, res.Stderr)
				}
				if err := res.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A test talks to a server in the sandbox, and many clients do.
func TestPort(t *testing.T) {
	cmd := exec.Command("python3", "-c", `
import http.server, socketserver
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(self.client_address[0].encode())
    def log_message(self, *a): pass
class S(socketserver.ThreadingMixIn, http.server.HTTPServer):
    request_queue_size = 256
S(("", 8080), H).serve_forever()
`)
	if cmd.Err != nil {
		t.Skip(cmd.Err)
	}
	p := sandtest.Start(t, cmd, sandtest.Options{Publish: []uint16{8080}})
	client := &http.Client{Timeout: time.Minute}
	url := "http://" + p.Port(8080)
	var text []byte
	for deadline := time.Now().Add(time.Minute); text == nil && time.Now().Before(deadline); {
		if resp, err := client.Get(url); err == nil {
			text, _ = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
	}
	if string(text) != "127.0.0.1" {
		t.Fatalf("answer %q", text)
	}
	var wg sync.WaitGroup
	errs := make(chan error, 200)
	for range 200 {
		wg.Go(func() {
			resp, err := client.Get(url)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			if err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}

// What is allowed is reached, what isn't isn't.
func TestAllowNet(t *testing.T) {
	outside := outsideAddress(t)
	l, err := net.Listen("tcp", net.JoinHostPort(outside, "0"))
	if err != nil {
		t.Skipf("no address but the loopback interface's to listen at: %v", err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, "outside")
			c.Close()
		}
	}()
	port := l.Addr().(*net.TCPAddr).Port
	const script = `
import socket, sys
try:
    print(socket.create_connection((sys.argv[1], int(sys.argv[2]))).recv(7))
except OSError as e:
    print(e)
`
	for _, tt := range []struct {
		name  string
		allow []string
		want  string
	}{
		{"nothing", nil, "[Errno 101] Network is unreachable\n"},
		{"host", []string{outside}, "b'outside'\n"},
		{"port", []string{fmt.Sprintf("%s:%d", outside, port)}, "b'outside'\n"},
		{"prefix", []string{outside + "/32"}, "b'outside'\n"},
		{"another port", []string{outside + ":1"}, "[Errno 101] Network is unreachable\n"},
		{"another host", []string{"203.0.113.1"}, "[Errno 101] Network is unreachable\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command("python3", "-c", script, outside, fmt.Sprint(port))
			if cmd.Err != nil {
				t.Skip(cmd.Err)
			}
			res := sandtest.Run(t, cmd, sandtest.Options{AllowNet: tt.allow})
			if string(res.Stdout) != tt.want {
				t.Errorf("got %s%swant %s", res.Stdout, res.Stderr, tt.want)
			}
		})
	}
	res := sandtest.Run(t, exec.Command("cat", "/etc/hosts"), sandtest.Options{AllowNet: []string{"localhost:1"}})
	if !strings.Contains(string(res.Stdout), "127.0.0.1\tlocalhost\n") {
		t.Errorf("/etc/hosts holds\n%s", res.Stdout)
	}
}

// outsideAddress is one of this machine's that isn't the loopback interface's.
func outsideAddress(t *testing.T) string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() {
			return ip.IP.String()
		}
	}
	t.Skip("no address but the loopback interface's")
	return ""
}
