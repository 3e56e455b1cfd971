// Package compare says how two files differ, as far inside as their formats go:
// archives member by member, programs section by section, images chunk by chunk and
// segment by segment by what they hold, texts line by line.
package compare

import (
	"bytes"
	"cmp"
	"debug/elf"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
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
		for _, f := range []format{gzips, tars, zips, ars, programs, pythons, pngs, jpegs, databases} {
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

// A member is a file in an archive, or what corresponds to one in another format.
type member struct {
	name   string
	facts  []fact // besides its bytes
	data   []byte
	packed []byte // what data was unpacked from, if it was
	note   bool   // data is a text that is shown whole if it is short
	opened format // how data is opened; nil for as any file
	number int    // among those of the same name
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
		list = append(list, inside(place, between(m, *o, depth))...)
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

// between compares two members of the same name.
func between(a, b member, depth int) []Difference {
	list := differing(a.facts, b.facts)
	switch {
	case bytes.Equal(a.data, b.data):
		return append(list, packings(a.packed, b.packed)...)
	case a.note && b.note && isShort(a.data) && isShort(b.data):
		return append(list, Difference{A: string(a.data), B: string(b.data)})
	case a.opened == nil || b.opened == nil:
		return append(list, files(a.data, b.data, a.name, depth)...)
	}
	if depth < deepest {
		if found, ok := a.opened(a.data, b.data, a.name, depth+1); ok && len(found) > 0 {
			return append(list, found...)
		}
	}
	return append(list, contents(a.data, b.data))
}

// unopened is how data is opened that has nothing inside, such as pixels.
func unopened(a, b []byte, name string, depth int) ([]Difference, bool) { return nil, false }

// differing compares facts by their index. One that only one of the lists has, as what was
// malformed in the other, differs from none.
func differing(a, b []fact) (list []Difference) {
	for i := range max(len(a), len(b)) {
		x, y := fact{value: "none"}, fact{value: "none"}
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		list = append(list, value(cmp.Or(x.place, y.place), x.value, y.value)...)
	}
	return list
}

// packings compares two ways in which the same data is packed.
func packings(a, b []byte) []Difference {
	switch {
	case bytes.Equal(a, b):
		return nil
	case len(a) != len(b):
		return value(Compression, count(int64(len(a)), "byte"), count(int64(len(b)), "byte"))
	}
	return inside(Compression, []Difference{contents(a, b)})
}

// isShort reports whether a text fits into a line of a report.
func isShort(b []byte) bool {
	const most = 100
	return len(b) > 0 && len(b) <= most && utf8.Valid(b) && bytes.IndexFunc(b, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// called gives the members of a format the name that they have there: section, chunk.
func called(what string, list []Difference) []Difference {
	for _, d := range list {
		if name, ok := strings.CutPrefix(d.Where[0], "member "); ok {
			d.Where[0] = what + " " + name
		}
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
	list := called("section", members(sections(x), sections(y), depth))
	for i, d := range list {
		if strings.HasSuffix(d.Where[0], "build-id") || strings.HasSuffix(d.Where[0], "buildid") {
			list[i].Where = append(d.Where, BuildID)
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
