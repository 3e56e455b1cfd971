// Package compare says how two files differ, as far inside as their formats go:
// archives member by member, programs section by section, texts line by line.
package compare

import (
	"bytes"
	"debug/elf"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"
)

// A Difference is one place in which two files differ.
type Difference struct {
	// Where leads to it, from the file inwards: "member a.txt", "mtime".
	Where []string
	// A and B are what stands there, in short, where that is a value.
	A, B string
	// Offset is the first byte that differs, Length how many bytes there are up to the
	// last one, in the longer of the two. Length is 0 for a value.
	Offset, Length int64
	// Text is a comparison line by line, for texts.
	Text string
}

// String returns the difference as a line, without its text.
func (d Difference) String() string {
	s := strings.Join(d.Where, ": ")
	switch {
	case d.A != "" || d.B != "":
		s = join(s, fmt.Sprintf("%s, %s", d.A, d.B))
	case d.Length > 0:
		s = join(s, fmt.Sprintf("%s from offset %d", count(d.Length, "byte"), d.Offset))
	}
	return s
}

// Kind is the innermost place, which says what sort of difference it is.
func (d Difference) Kind() string {
	if len(d.Where) == 0 {
		return ""
	}
	return d.Where[len(d.Where)-1]
}

func join(s, more string) string {
	if s == "" {
		return more
	}
	return s + ": " + more
}

func count(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.FormatInt(n, 10) + " " + what + "s"
}

// The places that Kind names besides members and sections.
const (
	Time        = "mtime"
	Mode        = "mode"
	Owner       = "owner"
	Order       = "order of members"
	Missing     = "only in one"
	Compression = "compression"
	BuildID     = "build id"
)

// deepest is how many formats within each other are opened.
const deepest = 8

// A format opens what it knows. It reports false for what isn't of its kind.
type format func(a, b []byte, name string, depth int) ([]Difference, bool)

// Files returns how two files differ, whose name helps to tell what they are; nil if
// they are the same.
func Files(a, b []byte, name string) []Difference { return files(a, b, name, 0) }

func files(a, b []byte, name string, depth int) []Difference {
	if bytes.Equal(a, b) {
		return nil
	}
	if depth < deepest {
		for _, f := range []format{gzips, tars, zips, ars, programs, pythons} {
			if list, ok := f(a, b, name, depth+1); ok && len(list) > 0 {
				return list
			}
		}
	}
	return []Difference{contents(a, b)}
}

// inside puts a place before each difference.
func inside(place string, list []Difference) []Difference {
	for i := range list {
		list[i].Where = append([]string{place}, list[i].Where...)
	}
	return list
}

func value(place, a, b string) []Difference {
	if a == b {
		return nil
	}
	return []Difference{{Where: []string{place}, A: a, B: b}}
}

// contents compares bytes, and texts line by line.
func contents(a, b []byte) Difference {
	n := min(len(a), len(b))
	first := 0
	for first < n && a[first] == b[first] {
		first++
	}
	last := 0
	for last < n-first && a[len(a)-1-last] == b[len(b)-1-last] {
		last++
	}
	d := Difference{Offset: int64(first), Length: int64(max(len(a), len(b)) - last - first)}
	const longest = 1 << 20
	if isText(a) && isText(b) && max(len(a), len(b)) <= longest {
		d.Text = string(diff.Diff("a", a, "b", b))
		return d
	}
	d.Text = excerpt("-", a, first, len(a)-last) + excerpt("+", b, first, len(b)-last)
	return d
}

// excerpt shows bytes from one offset to another.
func excerpt(sign string, b []byte, from, to int) string {
	const most = 48
	part := b[min(from, len(b)):max(min(to, from+most, len(b)), min(from, len(b)))]
	text := fmt.Sprintf("%s% x", sign, part)
	printable := bytes.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '.'
		}
		return r
	}, part)
	if to-from > most {
		text += " ..."
	}
	return text + "  |" + string(printable) + "|\n"
}

func isText(b []byte) bool { return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 }

// A member is a file in an archive.
type member struct {
	name   string
	facts  []fact // besides its bytes
	data   []byte
	number int // among those of the same name
}

type fact struct{ place, value string }

// members compares two lists of members, by name.
func members(a, b []member, depth int) (list []Difference) {
	numbered(a)
	numbered(b)
	key := func(m member) string { return m.name + "\x00" + strconv.Itoa(m.number) }
	others := map[string]*member{}
	for i := range b {
		others[key(b[i])] = &b[i]
	}
	var common []string
	for _, m := range a {
		o := others[key(m)]
		place := "member " + m.name
		if o == nil {
			list = append(list, Difference{Where: []string{place, Missing}, A: "there", B: "missing"})
			continue
		}
		common = append(common, key(m))
		var found []Difference
		for i, f := range m.facts {
			if i < len(o.facts) {
				found = append(found, value(f.place, f.value, o.facts[i].value)...)
			}
		}
		found = append(found, files(m.data, o.data, m.name, depth)...)
		list = append(list, inside(place, found)...)
		delete(others, key(m))
	}
	var order []string
	for _, m := range b {
		if others[key(m)] != nil {
			list = append(list, Difference{Where: []string{"member " + m.name, Missing}, A: "missing", B: "there"})
			continue
		}
		order = append(order, key(m))
	}
	if !slices.Equal(common, order) {
		i := 0
		for i < len(common) && i < len(order) && common[i] == order[i] {
			i++
		}
		name := func(s string) string { s, _, _ = strings.Cut(s, "\x00"); return s }
		list = append([]Difference{{Where: []string{Order}, A: name(common[i]), B: name(order[i])}}, list...)
	}
	return list
}

func numbered(list []member) {
	seen := map[string]int{}
	for i := range list {
		list[i].number = seen[list[i].name]
		seen[list[i].name]++
	}
}

// programs compares the sections of ELF files.
func programs(a, b []byte, name string, depth int) ([]Difference, bool) {
	x, err := elf.NewFile(bytes.NewReader(a))
	if err != nil {
		return nil, false
	}
	y, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil, false
	}
	sections := func(f *elf.File) (list []member) {
		for _, s := range f.Sections {
			if s.Type == elf.SHT_NOBITS || s.Type == elf.SHT_NULL {
				continue
			}
			data, err := s.Data()
			if err != nil {
				data = nil
			}
			list = append(list, member{name: s.Name, data: data})
		}
		return list
	}
	list := members(sections(x), sections(y), depth)
	for i := range list {
		where := list[i].Where
		if section, ok := strings.CutPrefix(where[0], "member "); ok {
			where[0] = "section " + section
			if strings.HasSuffix(section, "build-id") || strings.HasSuffix(section, "buildid") {
				list[i].Where = append(where, BuildID)
			}
		}
	}
	return list, true
}

// pythons compares compiled Python modules: a header of 16 bytes (PEP 552), then code.
func pythons(a, b []byte, name string, depth int) ([]Difference, bool) {
	const header = 16
	if !strings.HasSuffix(name, ".pyc") || len(a) < header || len(b) < header || !bytes.Equal(a[2:4], []byte("\r\n")) {
		return nil, false
	}
	list := value("magic number", fmt.Sprintf("% x", a[:4]), fmt.Sprintf("% x", b[:4]))
	if a[4]&1 == 0 {
		list = append(list, value(Time, fmt.Sprintf("% x", a[8:12]), fmt.Sprintf("% x", b[8:12]))...)
	}
	if code := files(a[header:], b[header:], "", deepest); code != nil {
		list = append(list, inside("code", code)...)
	}
	return list, true
}
