package compare

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// Sections are those of sqlite.org/fileformat.html.

const (
	databaseMagic  = "SQLite format 3\x00"
	databaseHeader = 100
)

// databases compares SQLite databases: what is in them, as SQL, or by page where that can't
// be had or is the same; and the header (1.3).
func databases(a, b []byte, name string, depth int) ([]Difference, bool) {
	x, errA := openDatabase(a)
	y, errB := openDatabase(b)
	if errA != nil || errB != nil {
		return nil, false
	}
	list := dumps(a, b)
	if list == nil {
		list = pages(x, y)
	}
	return append(list, inside("header", differing(x.header(), y.header()))...), true
}

// A database is a file of pages, which are numbered from 1.
type database struct {
	b        []byte
	pageSize int
	other    map[int]string // the pages that aren't of b-trees, as far as that is known
}

var errNoDatabase = errors.New("no SQLite database")

func openDatabase(b []byte) (*database, error) {
	if !bytes.HasPrefix(b, []byte(databaseMagic)) || len(b) < databaseHeader {
		return nil, errNoDatabase
	}
	d := &database{b: b, pageSize: int(binary.BigEndian.Uint16(b[16:])), other: map[int]string{}}
	if d.pageSize == 1 {
		d.pageSize = 65536 // which two bytes don't hold (1.3.2)
	}
	if d.pageSize < 512 || d.pageSize&(d.pageSize-1) != 0 || len(b)%d.pageSize != 0 {
		return nil, errNoDatabase
	}
	d.findFree()
	return d, nil
}

func (d *database) uint32(at int) uint32 { return binary.BigEndian.Uint32(d.b[at:]) }

// headerFields are the fields of the header (1.3), without the magic string.
var headerFields = []struct {
	name     string
	at, size int
}{
	{"page size", 16, 2},
	{"file format write version", 18, 1},
	{"file format read version", 19, 1},
	{"reserved bytes at the end of each page", 20, 1},
	{"maximum embedded payload fraction", 21, 1},
	{"minimum embedded payload fraction", 22, 1},
	{"leaf payload fraction", 23, 1},
	{"file change counter", 24, 4},
	{"size in pages", 28, 4},
	{"first freelist trunk page", 32, 4},
	{"number of freelist pages", 36, 4},
	{"schema cookie", 40, 4},
	{"schema format number", 44, 4},
	{"default page cache size", 48, 4},
	{"largest root b-tree page", 52, 4},
	{"text encoding", 56, 4},
	{"user version", 60, 4},
	{"incremental vacuum mode", 64, 4},
	{"application id", 68, 4},
	{"reserved for expansion", 72, 20},
	{"version-valid-for", 92, 4},
	{"SQLITE_VERSION_NUMBER", 96, 4},
}

func (d *database) header() (list []fact) {
	for _, f := range headerFields {
		text := ""
		switch b := d.b[f.at : f.at+f.size]; {
		case f.name == "page size":
			text = strconv.Itoa(d.pageSize)
		case f.size == 1:
			text = strconv.Itoa(int(b[0]))
		case f.size == 4:
			text = strconv.FormatUint(uint64(d.uint32(f.at)), 10)
		default:
			text = fmt.Sprintf("% x", b)
		}
		list = append(list, fact{f.name, text})
	}
	return list
}

func (d *database) count() int { return len(d.b) / d.pageSize }

// page returns a page, the first without the header.
func (d *database) page(n int) []byte {
	p := d.b[(n-1)*d.pageSize : n*d.pageSize]
	if n == 1 {
		p = p[databaseHeader:]
	}
	return p
}

// findFree finds the pages of the freelist (1.5): trunk pages, each of which names the next
// and a number of leaf pages. No trunk page is gone through twice.
func (d *database) findFree() {
	const trunk, leaf, head = "freelist trunk", "freelist leaf", 8
	for n := d.uint32(32); n > 1 && uint64(n) <= uint64(d.count()) && d.other[int(n)] == ""; {
		d.other[int(n)] = trunk
		p := d.page(int(n))
		leaves := min(int64(binary.BigEndian.Uint32(p[4:])), int64(len(p)-head)/4)
		for i := range leaves {
			l := binary.BigEndian.Uint32(p[head+4*i:])
			if l > 1 && uint64(l) <= uint64(d.count()) && d.other[int(l)] == "" {
				d.other[int(l)] = leaf
			}
		}
		n = binary.BigEndian.Uint32(p)
	}
}

// kind returns what a page is.
func (d *database) kind(n int) string {
	switch {
	case d.other[n] != "":
		return d.other[n]
	case d.isPointerMap(n):
		return "pointer map"
	}
	switch d.page(n)[0] { // 1.6
	case 0x02:
		return "index interior"
	case 0x05:
		return "table interior"
	case 0x0a:
		return "index leaf"
	case 0x0d:
		return "table leaf"
	}
	return "overflow" // 1.7; its first byte is that of a page number
}

// isPointerMap reports whether a page tells of other pages, what their parents are (1.8).
// These are page 2, if the database is one that vacuums itself, and then one after as many
// pages as the one before has entries of five bytes for.
func (d *database) isPointerMap(n int) bool {
	usable := d.pageSize - int(d.b[20])
	return d.uint32(52) != 0 && n >= 2 && (n-2)%(usable/5+1) == 0
}

// pages compares databases by page.
func pages(a, b *database) (list []Difference) {
	if a.pageSize != b.pageSize {
		return inside("pages", []Difference{contents(a.b[databaseHeader:], b.b[databaseHeader:])})
	}
	for n := 1; n <= max(a.count(), b.count()); n++ {
		switch {
		case n > b.count():
			list = append(list, Difference{Where: []string{a.place(n), Missing}, A: "there", B: "missing"})
		case n > a.count():
			list = append(list, Difference{Where: []string{b.place(n), Missing}, A: "missing", B: "there"})
		case !bytes.Equal(a.page(n), b.page(n)):
			list = append(list, page(a, b, n)...)
		}
	}
	return list
}

func (d *database) place(n int) string { return fmt.Sprintf("page %d (%s)", n, d.kind(n)) }

// page compares two pages of the same number.
func page(a, b *database, n int) []Difference {
	d := contents(a.page(n), b.page(n))
	if n == 1 {
		d.Offset += databaseHeader
	}
	if kindA, kindB := a.kind(n), b.kind(n); kindA != kindB {
		return inside(fmt.Sprintf("page %d", n), append(value("type", kindA, kindB), d))
	}
	return inside(a.place(n), []Difference{d})
}

// How long it may take to write a database as SQL, and how much that may be.
var (
	longestDump = 10 * time.Second
	largestDump = 16 << 20
)

// dumps compares what is in databases, as the program sqlite3 writes it: nil where there is
// no such program, where a database is broken, and where it is the same.
func dumps(a, b []byte) []Difference {
	x, errA := dump(a)
	if errA != nil {
		return nil
	}
	y, errB := dump(b)
	if errB != nil || bytes.Equal(x, y) {
		return nil
	}
	return inside("dump", []Difference{contents(x, y)})
}

// dump returns a database as SQL. The program gets a copy in a directory of its own, where
// there are neither a journal nor a write-ahead log, which it would apply to it.
func dump(b []byte) ([]byte, error) {
	program, err := exec.LookPath("sqlite3")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sandtest-compare-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	b = bytes.Clone(b)
	// A database in the mode of write-ahead logs can't be read without writing one. There is
	// none, so that the copy can as well be in the other mode.
	b[18], b[19] = 1, 1
	const name = "copy"
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), longestDump)
	defer cancel()
	var out, complaints limited
	// What the user has it do whenever it starts (.sqliterc) is left out.
	cmd := exec.CommandContext(ctx, program, "-init", os.DevNull, "-batch", "-readonly", name, ".dump")
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = dir, &out, &complaints, time.Second
	if err := cmd.Run(); err != nil {
		return nil, err
	}
	// It goes on after errors, which it notes in comments.
	if len(complaints.data) > 0 || !bytes.HasSuffix(out.data, []byte("\nCOMMIT;\n")) || bytes.Contains(out.data, []byte("\n/****")) {
		return nil, errNoDatabase
	}
	return out.data, nil
}

// limited is a buffer that doesn't grow without end. It has no ReadFrom, which would.
type limited struct{ data []byte }

func (l *limited) Write(b []byte) (int, error) {
	if len(l.data)+len(b) > largestDump {
		return 0, errors.New("too large")
	}
	l.data = append(l.data, b...)
	return len(b), nil
}
