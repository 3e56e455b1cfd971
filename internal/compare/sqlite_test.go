package compare

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// pythonItself is the interpreter that python3 means, which may be a script that looks for it.
var pythonItself = sync.OnceValues(func() (string, error) {
	python, err := exec.LookPath("python3")
	if err != nil {
		return "", err
	}
	out, err := exec.Command(python, "-I", "-S", "-c", "import sys; print(sys.executable)").Output()
	return strings.TrimSpace(string(out)), err
})

// makeDatabase returns a database that statements make.
func makeDatabase(t *testing.T, statements ...string) []byte {
	python, err := pythonItself()
	if err != nil {
		t.Skip(err)
	}
	file := filepath.Join(t.TempDir(), "db")
	const noModule = 77
	const script = `import sys
try: import sqlite3
except ImportError: sys.exit(77)
db = sqlite3.connect(sys.argv[1], isolation_level=None)
for s in sys.argv[2:]: db.execute(s)
db.close()`
	cmd := exec.Command(python, append([]string{"-c", script, file}, statements...)...)
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil && cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == noModule:
		t.Skip("python3 has no module sqlite3")
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const table = "create table log(at text, what text)"

func row(at string) string { return fmt.Sprintf("insert into log values('%s', 'built')", at) }

// What is in a database is shown as SQL.
func TestDatabaseDump(t *testing.T) {
	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Skip(err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	for _, mode := range []string{"delete", "wal"} {
		t.Run(mode, func(t *testing.T) {
			a := makeDatabase(t, "pragma journal_mode="+mode, table, row("2000-01-01"))
			b := makeDatabase(t, "pragma journal_mode="+mode, table, row("2039-11-23"), "create index i on log(at)")
			before := bytes.Clone(a)
			list := Files(a, b, "f.db")
			if len(list) < 3 || list[0].Kind() != "dump" ||
				!strings.Contains(list[0].Text, "\n-INSERT INTO log VALUES('2000-01-01','built');\n+INSERT INTO log VALUES('2039-11-23','built');\n") {
				t.Fatalf("%v", list)
			}
			got := strings.Join(found(a, b, "f.db"), "\n")
			for _, want := range []string{"header: size in pages: 2, 3", "header: schema cookie: 1, 2"} {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in\n%s", want, got)
				}
			}
			if strings.Contains(got, "page 2") {
				t.Errorf("pages are listed, too:\n%s", got)
			}
			if !bytes.Equal(a, before) {
				t.Error("what is compared is changed")
			}
		})
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
}

// Where what is in databases is the same, the pages that differ are named.
func TestDatabaseOfTheSameContent(t *testing.T) {
	secure := "pragma secure_delete="
	a := makeDatabase(t, secure+"1", table, row("2000-01-01"), row("2000-01-02"), "delete from log where at = '2000-01-02'")
	b := makeDatabase(t, secure+"0", table, row("2000-01-01"), row("2000-01-02"), "delete from log where at = '2000-01-02'")
	list := found(a, b, "f.db")
	if len(list) != 1 || !strings.HasPrefix(list[0], "page 2 (table leaf): ") {
		t.Errorf("%v", list)
	}
}

// Without the program sqlite3 pages are named by what they are.
func TestDatabasePages(t *testing.T) {
	many := "insert into log with recursive n(i) as (select 1 union all select i + 1 from n where i < 400) select 'at', printf('%08d', i) from n"
	index := "create index i on log(what)"
	long := "insert into log values('long', printf('%09000d', 1))"
	vacuum := "pragma auto_vacuum=full"
	size := "pragma page_size=512"
	free := []string{size, table, many, index, long, "drop index i"}
	const change = "update log set what = 'x' || substr(what, 2)"
	for _, tt := range []struct {
		name string
		a, b []string
		want []string // those that are among the places
	}{
		{"a row", []string{table, row("2000-01-01")}, []string{table, row("2039-11-23")}, []string{"page 2 (table leaf): 8 bytes from offset 4083"}},
		{"a table", []string{table}, []string{"create table log(at text, whaT text)"}, []string{"page 1 (table leaf): 1 byte from offset 4089"}},
		{"another page", []string{table}, []string{table, "create table b(c)"}, []string{"page 3 (table leaf): only in one: missing, there", "header: size in pages: 2, 3"}},
		{"page size", []string{table}, []string{size, table}, []string{"pages: ", "header: page size: 4096, 512"}},
		{"versions", []string{table, "pragma user_version=1"}, []string{table, "pragma user_version=2"}, []string{"header: user version: 1, 2"}},
		{"trees", []string{size, table, many, index}, []string{size, table, many, index, change}, []string{"(table leaf): ", "(index leaf): ", "(index interior): "}},
		{"table interior", []string{size, table, many}, []string{size, table, many, many}, []string{"(table interior): "}},
		{"overflow", []string{size, table, long}, []string{size, table, strings.Replace(long, ", 1)", ", -1)", 1)}, []string{"(table leaf): 1 byte"}},
		{"overflow that is longer", []string{size, table, long}, []string{size, table, long, long}, []string{"(overflow): only in one: missing, there"}},
		{"pointer map", []string{size, vacuum, table}, []string{size, vacuum, table, "create table b(c)"}, []string{"page 2 (pointer map): "}},
		{"freelist", free, append(free, "create table b(c)"), []string{"(freelist trunk)", "header: number of freelist pages: "}},
		{"kind of page", []string{table, "create table b(c)"}, []string{table, "create index i on log(at)"}, []string{"page 3: type: table leaf, index leaf"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := makeDatabase(t, tt.a...), makeDatabase(t, tt.b...)
			t.Setenv("PATH", "")
			got := found(a, b, "f.db")
			for _, want := range tt.want {
				if text := strings.Join(got, "\n"); !strings.Contains(text, want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
		})
	}
}

// What a database says about itself isn't believed.
func TestMutilatedDatabase(t *testing.T) {
	whole := makeDatabase(t, "pragma page_size=512", table, row("2000-01-01"), "create table b(c)", "drop table b")
	t.Setenv("PATH", "")
	at := func(offset int, value uint32) []byte {
		b := bytes.Clone(whole)
		binary.BigEndian.PutUint32(b[offset:], value)
		return b
	}
	circle := at(32, 2)
	binary.BigEndian.PutUint32(circle[512:], 2)
	for _, tt := range []struct {
		name string
		b    []byte
		want []string
	}{
		{"cut", whole[:700], []string{fmt.Sprintf("%d bytes from offset 700", len(whole)-700)}},
		{"cut header", whole[:50], []string{fmt.Sprintf("%d bytes from offset 50", len(whole)-50)}},
		{"page size of 0", at(16, 0x00000101), []string{"1 byte from offset 16"}},
		{"page size that is no power of two", at(16, 0x02010101), []string{"1 byte from offset 17"}},
		{"page size of more than there is", at(16, 0x00010101), []string{"2 bytes from offset 16"}},
		{"first freelist page beyond the end", at(32, 1<<31), []string{"header: first freelist trunk page: 3, 2147483648"}},
		{"freelist that never ends", circle, []string{"page 2: type: table leaf, freelist trunk", "page 2: 4 bytes from offset 0", "header: first freelist trunk page: 3, 2"}},
		{"number of leaves", at(512*2+4, 1<<32-1), []string{"page 3 (freelist trunk): 4 bytes from offset 4"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, found(whole, tt.b, "f.db")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A program sqlite3 that fails, complains, goes on for ever or without end, or stops at an
// error isn't believed, and the pages are compared.
func TestDumpFails(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip(err)
	}
	a, b := makeDatabase(t, table, row("2000-01-01")), makeDatabase(t, table, row("2039-11-23"))
	time0, size0 := longestDump, largestDump
	t.Cleanup(func() { longestDump, largestDump = time0, size0 })
	longestDump, largestDump = 300*time.Millisecond, 1000
	const good = `[ -f copy ] || exit; echo "$$"; echo "COMMIT;"`
	for _, tt := range []struct{ name, script, kind string }{
		{"works", good, "dump"},
		{"fails", good + "; exit 1", "page 2 (table leaf)"},
		{"complains", good + "; echo broken >&2", "page 2 (table leaf)"},
		{"stops", `echo "$$"; echo "ROLLBACK; -- due to errors"`, "page 2 (table leaf)"},
		{"notes an error", `echo "$$"; echo "/**** ERROR: (11) database disk image is malformed *****/"; echo "COMMIT;"`, "page 2 (table leaf)"},
		{"takes too long", "exec " + sleep + " 100", "page 2 (table leaf)"},
		{"writes too much", `while echo "$$"; do :; done`, "page 2 (table leaf)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "sqlite3"), []byte("#!"+sh+"\n"+tt.script+"\n"), 0o777); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", dir)
			start := time.Now()
			list := Files(a, b, "f.db")
			if len(list) == 0 || list[0].Kind() != tt.kind {
				t.Errorf("%v", list)
			}
			if took := time.Since(start); took > time.Minute {
				t.Errorf("it takes %v", took)
			}
		})
	}
}
