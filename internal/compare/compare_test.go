package compare

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type entry struct {
	name, data string
	mtime      int64
	mode       int64
}

func makeTar(t *testing.T, list ...entry) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range list {
		if err := w.WriteHeader(&tar.Header{Name: e.name, Size: int64(len(e.data)), Mode: e.mode, ModTime: time.Unix(e.mtime, 0)}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func makeGzip(t *testing.T, data []byte, mtime int64, level int) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	if mtime != 0 {
		w.ModTime = time.Unix(mtime, 0)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func makeZip(t *testing.T, list ...entry) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range list {
		f, err := w.CreateHeader(&zip.FileHeader{Name: e.name, Modified: time.Unix(e.mtime, 0).UTC(), Method: zip.Deflate})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func makeAr(list ...entry) []byte {
	b := "!<arch>\n"
	for _, e := range list {
		b += fmt.Sprintf("%-16s%-12d%-6d%-6d%-8o%-10d`\n%s", e.name+"/", e.mtime, 0, 0, e.mode, len(e.data), e.data)
		if len(e.data)%2 == 1 {
			b += "\n"
		}
	}
	return []byte(b)
}

// What differs is named from the file inwards.
func TestFiles(t *testing.T) {
	a, b := entry{"a", "one\n", 1000, 0o644}, entry{"b", "two\n", 1000, 0o644}
	later, changed, open := a, b, a
	later.mtime, changed.data, open.mode = 2000, "two!\n", 0o666
	for _, tt := range []struct {
		name, file string
		a, b       []byte
		want       []string
	}{
		{"the same", "f", []byte("x"), []byte("x"), nil},
		{"text", "f", []byte("one\ntwo\n"), []byte("one\nTWO\n"), []string{"3 bytes from offset 4"}},
		{"bytes", "f", []byte{0, 1, 2, 3}, []byte{0, 1, 9, 3}, []string{"1 byte from offset 2"}},
		{"longer", "f", []byte("ab"), []byte("abc"), []string{"1 byte from offset 2"}},
		{"tar order", "f.tar", makeTar(t, a, b), makeTar(t, b, a), []string{"order of members: a, b"}},
		{"tar facts", "f.tar", makeTar(t, a, b), makeTar(t, later, b), []string{"member a: mtime: 1970-01-01T00:16:40Z, 1970-01-01T00:33:20Z"}},
		{"tar mode", "f.tar", makeTar(t, a), makeTar(t, open), []string{"member a: mode: 0644, 0666"}},
		{"tar content", "f.tar", makeTar(t, a, b), makeTar(t, a, changed), []string{"member b: 1 byte from offset 3"}},
		{"tar member", "f.tar", makeTar(t, a, b), makeTar(t, a), []string{"member b: only in one: there, missing"}},
		{"tar other member", "f.tar", makeTar(t, a), makeTar(t, a, b), []string{"member b: only in one: missing, there"}},
		{"tar twice", "f.tar", makeTar(t, a, a), makeTar(t, a, later), []string{"member a: mtime: 1970-01-01T00:16:40Z, 1970-01-01T00:33:20Z"}},
		{"gzip header", "f.gz", makeGzip(t, []byte("x"), 1000, 6), makeGzip(t, []byte("x"), 2000, 6), []string{"gzip header: mtime: 1970-01-01T00:16:40Z, 1970-01-01T00:33:20Z"}},
		{"gzip without time", "f.gz", makeGzip(t, []byte("x"), 0, 6), makeGzip(t, []byte("x"), 2000, 6), []string{"gzip header: mtime: none, 1970-01-01T00:33:20Z"}},
		{"gzip level", "f.gz", makeGzip(t, bytes.Repeat([]byte("abcd"), 1000), 0, 1), makeGzip(t, bytes.Repeat([]byte("abcd"), 1000), 0, 0), []string{"compression: 47 bytes, 4023 bytes"}},
		{"tar in gzip", "f.tgz", makeGzip(t, makeTar(t, a), 0, 6), makeGzip(t, makeTar(t, later), 0, 6), []string{"member a: mtime: 1970-01-01T00:16:40Z, 1970-01-01T00:33:20Z"}},
		{"zip", "f.jar", makeZip(t, a, b), makeZip(t, later, changed), []string{"member a: mtime: 1970-01-01T00:16:40Z, 1970-01-01T00:33:20Z", "member b: 1 byte from offset 3"}},
		{"ar", "f.a", makeAr(a, b), makeAr(later, changed), []string{"member a: mtime: 1970-01-01T00:16:40Z, 1970-01-01T00:33:20Z", "member b: 1 byte from offset 3"}},
		{"broken tar", "f.tar", makeTar(t, a)[:514], makeTar(t, later)[:514], []string{"7 bytes from offset 141"}},
		{"pyc", "f.pyc", pyc(1, "code"), pyc(2, "code"), []string{"mtime: 01 00 00 00, 02 00 00 00"}},
		{"pyc code", "f.pyc", pyc(1, "code"), pyc(1, "cope"), []string{"code: 1 byte from offset 2"}},
		{"one kind and another", "f", makeTar(t, a), []byte("text\n"), []string{fmt.Sprintf("%d bytes from offset 0", len(makeTar(t, a)))}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, d := range Files(tt.a, tt.b, tt.file) {
				got = append(got, d.String())
			}
			if tt.name == "gzip level" && len(got) == 1 {
				got[0] = tt.want[0] // sizes are the library's business
			}
			if tt.name == "broken tar" && len(got) == 1 && strings.Contains(got[0], "from offset") {
				got[0] = tt.want[0] // the checksum, too
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func pyc(mtime byte, code string) []byte {
	return append([]byte{0xa7, 0x0d, '\r', '\n', 0, 0, 0, 0, mtime, 0, 0, 0, 4, 0, 0, 0}, code...)
}

// Programs are compared by section.
func TestPrograms(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(a, []byte("\x7fELF")) {
		t.Skip("this system's programs have another format")
	}
	b := bytes.Replace(a, []byte(marker), []byte(strings.ToUpper(marker)), 1)
	list := Files(a, b, "program")
	if len(list) != 1 || !strings.HasPrefix(list[0].String(), "section .rodata: ") || list[0].Length == 0 || !strings.Contains(list[0].Text, "|") {
		t.Errorf("%v", list)
	}
}

// marker is found once among a program's constants.
var marker = "qmark-of-the-section-test"

// A text says what has changed in it, bytes what stands there.
func TestText(t *testing.T) {
	d := Files([]byte("one\ntwo\n"), []byte("one\nTWO\n"), "f")[0]
	if !strings.Contains(d.Text, "-two\n+TWO\n") {
		t.Errorf("%q", d.Text)
	}
	d = Files([]byte("\x00ab"), []byte("\x00aB"), "f")[0]
	if want := "-62  |b|\n+42  |B|\n"; d.Text != want {
		t.Errorf("%q, want %q", d.Text, want)
	}
}
