package compare

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// largest is how many bytes of an archive are opened.
const largest = 256 << 20

func readAll(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, largest+1))
	if err == nil && len(b) > largest {
		err = errors.New("too large")
	}
	return b, err
}

func instant(t time.Time) string {
	if t.IsZero() || t.Unix() == 0 {
		return "none"
	}
	return t.UTC().Format(time.RFC3339)
}

// gzips compares what is compressed, and the header (RFC 1952).
func gzips(a, b []byte, name string, depth int) ([]Difference, bool) {
	open := func(b []byte) (h gzip.Header, data []byte, err error) {
		r, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return h, nil, err
		}
		h = r.Header
		data, err = readAll(r)
		return h, data, err
	}
	x, dataA, errA := open(a)
	y, dataB, errB := open(b)
	if errA != nil || errB != nil {
		return nil, false
	}
	list := inside("gzip header", append(value(Time, instant(x.ModTime), instant(y.ModTime)),
		append(value("name", x.Name, y.Name), value("system", strconv.Itoa(int(x.OS)), strconv.Itoa(int(y.OS)))...)...))
	within := strings.TrimSuffix(name, ".gz")
	if before, ok := strings.CutSuffix(name, ".tgz"); ok {
		within = before + ".tar"
	}
	list = append(list, files(dataA, dataB, within, depth)...)
	if list == nil {
		list = []Difference{{Where: []string{Compression}, A: count(int64(len(a)), "byte"), B: count(int64(len(b)), "byte")}}
	}
	return list, true
}

func tars(a, b []byte, name string, depth int) ([]Difference, bool) {
	open := func(b []byte) (list []member, err error) {
		r := tar.NewReader(bytes.NewReader(b))
		for {
			h, err := r.Next()
			if err == io.EOF {
				return list, nil
			}
			if err != nil {
				return nil, err
			}
			data, err := readAll(r)
			if err != nil {
				return nil, err
			}
			list = append(list, member{name: h.Name, data: data, facts: []fact{
				{Time, instant(h.ModTime)}, {Mode, fmt.Sprintf("%04o", h.Mode)},
				{Owner, fmt.Sprintf("%d:%d %s:%s", h.Uid, h.Gid, h.Uname, h.Gname)},
				{"type", string(rune(h.Typeflag))}, {"target", h.Linkname}, {"format", h.Format.String()},
				{"access and change time", instant(h.AccessTime) + " " + instant(h.ChangeTime)},
			}})
		}
	}
	const magic, at = "ustar", 257
	if len(a) < at+len(magic) || len(b) < at+len(magic) || string(a[at:at+len(magic)]) != magic || string(b[at:at+len(magic)]) != magic {
		return nil, false
	}
	x, errA := open(a)
	y, errB := open(b)
	if errA != nil || errB != nil {
		return nil, false
	}
	return members(x, y, depth), true
}

// zips compares zip archives, and what is one: jar, wheel, docx.
func zips(a, b []byte, name string, depth int) ([]Difference, bool) {
	open := func(b []byte) (list []member, comment string, err error) {
		r, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return nil, "", err
		}
		for _, f := range r.File {
			in, err := f.Open()
			if err != nil {
				return nil, "", err
			}
			data, err := readAll(in)
			in.Close()
			if err != nil {
				return nil, "", err
			}
			list = append(list, member{name: f.Name, data: data, facts: []fact{
				{Time, f.Modified.UTC().Format(time.RFC3339)}, {Mode, f.Mode().String()}, {"method", strconv.Itoa(int(f.Method))},
				{"comment", f.Comment}, {"made by", strconv.Itoa(int(f.CreatorVersion))},
			}})
		}
		return list, r.Comment, nil
	}
	if !bytes.HasPrefix(a, []byte("PK")) || !bytes.HasPrefix(b, []byte("PK")) {
		return nil, false
	}
	x, commentA, errA := open(a)
	y, commentB, errB := open(b)
	if errA != nil || errB != nil {
		return nil, false
	}
	return append(value("comment", commentA, commentB), members(x, y, depth)...), true
}

// ars compares ar archives, such as static libraries and Debian packages (ar(5)).
func ars(a, b []byte, name string, depth int) ([]Difference, bool) {
	x, errA := openAr(a)
	y, errB := openAr(b)
	if errA != nil || errB != nil {
		return nil, false
	}
	return members(x, y, depth), true
}

var errNoAr = errors.New("no ar archive")

// openAr reads the members of an archive with the long names of GNU ar.
func openAr(b []byte) (list []member, err error) {
	const magic, header = "!<arch>\n", 60
	rest, ok := bytes.CutPrefix(b, []byte(magic))
	if !ok {
		return nil, errNoAr
	}
	var long []byte
	for len(rest) >= header {
		h := rest[:header]
		field := func(from, to int) string { return strings.TrimRight(string(h[from:to]), " ") }
		size, err := strconv.Atoi(field(48, 58))
		if err != nil || size < 0 || header+size > len(rest) || string(h[58:60]) != "`\n" {
			return nil, errNoAr
		}
		data := rest[header : header+size]
		rest = rest[min(header+size+size%2, len(rest)):]
		name := field(0, 16)
		switch at, err := strconv.Atoi(strings.TrimPrefix(name, "/")); {
		case name == "//":
			long = data
			continue
		case name == "/" || name == "/SYM64/":
			name = "symbol table"
		case strings.HasPrefix(name, "/") && err == nil && at < len(long):
			name, _, _ = strings.Cut(string(long[at:]), "/\n")
		default:
			name = strings.TrimSuffix(name, "/")
		}
		mtime, _ := strconv.ParseInt(field(16, 28), 10, 64)
		list = append(list, member{name: name, data: data, facts: []fact{
			{Time, instant(time.Unix(mtime, 0))}, {Owner, field(28, 34) + ":" + field(34, 40)}, {Mode, field(40, 48)},
		}})
	}
	return list, nil
}
