package compare

import (
	"bytes"
	"cmp"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Sections are those of the PNG Specification (Second Edition), W3C and ISO/IEC 15948.

const pngSignature = "\x89PNG\r\n\x1a\n" // 5.2

// mostMembers is how many parts of a file are told apart, so that one with millions of empty
// ones doesn't take the memory of as many members.
const mostMembers = 1 << 16

var errNoPNG = errors.New("no PNG image")

// pngs compares PNG images chunk by chunk.
func pngs(a, b []byte, name string, depth int) ([]Difference, bool) {
	x, afterA, errA := openPNG(a)
	y, afterB, errB := openPNG(b)
	if errA != nil || errB != nil {
		return nil, false
	}
	list := called("chunk", members(x, y, depth))
	return append(list, inside("after IEND", files(afterA, afterB, "", depth))...), true
}

// A chunk has four bytes each of length and type, its data, and four of a CRC (5.3).
type chunk struct {
	kind        string
	data, whole []byte
}

// cutChunk splits the first chunk off. A wrong CRC makes it none: what was meant can't be
// known, and the bytes say more.
func cutChunk(b []byte) (c chunk, rest []byte, err error) {
	const head, tail = 8, 4
	if len(b) < head+tail {
		return c, nil, errNoPNG
	}
	size := uint64(binary.BigEndian.Uint32(b))
	if size > uint64(len(b)-head-tail) {
		return c, nil, errNoPNG
	}
	end := head + int(size)
	c = chunk{string(b[4:head]), b[head:end], b[:end+tail]}
	letter := func(r rune) bool { return 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' }
	if strings.IndexFunc(c.kind, func(r rune) bool { return !letter(r) }) >= 0 {
		return c, nil, errNoPNG
	}
	if crc32.ChecksumIEEE(b[4:end]) != binary.BigEndian.Uint32(b[end:]) { // 5.5
		return c, nil, errNoPNG
	}
	return c, b[end+tail:], nil
}

// openPNG returns the chunks up to IEND, and what comes after it. All IDAT chunks are one
// member, where the first of them stands: they are parts of one stream (11.2.4), and where it
// is cut says nothing about the image.
func openPNG(b []byte) (list []member, after []byte, err error) {
	rest, ok := bytes.CutPrefix(b, []byte(pngSignature))
	if !ok {
		return nil, nil, errNoPNG
	}
	in := inflater{left: largest}
	var stream, packed []byte
	place := -1
	for len(list) < mostMembers {
		var c chunk
		if c, rest, err = cutChunk(rest); err != nil {
			return nil, nil, err
		}
		switch c.kind {
		case "IDAT":
			if place < 0 {
				place = len(list)
				list = append(list, member{name: c.kind, opened: unopened})
			}
			stream, packed = append(stream, c.data...), append(packed, c.whole...)
			continue
		case "IEND":
			list = append(list, member{name: c.kind, data: c.data})
			if place >= 0 {
				list[place].packed = packed
				list[place].data, err = in.inflate(stream)
			}
			return list, rest, err
		}
		list = append(list, in.member(c))
	}
	return nil, nil, errNoPNG
}

// An inflater unpacks the streams of one file, of which many small ones could each become
// very large.
type inflater struct{ left int64 }

func (in *inflater) inflate(b []byte) ([]byte, error) {
	r, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, in.left+1))
	if int64(len(data)) > in.left {
		err = errors.New("too large")
	}
	in.left = max(in.left-int64(len(data)), 0)
	return data, err
}

// member returns a chunk as its type is decoded. One that is malformed remains bytes.
func (in *inflater) member(c chunk) member {
	m, ok := member{}, false
	switch c.kind {
	case "IHDR":
		m, ok = imageHeader(c.data)
	case "tEXt", "zTXt", "iTXt", "iCCP":
		m, ok = in.keyed(c)
	case "tIME":
		m, ok = modification(c.data)
	case "pHYs":
		m, ok = pixelDimensions(c.data)
	case "eXIf": // of the Third Edition
		m, ok = member{data: c.data, opened: exifs}, true
	}
	if !ok {
		return member{name: c.kind, data: c.data}
	}
	m.name = strings.TrimSuffix(c.kind+" "+m.name, " ")
	return m
}

// imageHeader decodes IHDR (11.2.2).
func imageHeader(b []byte) (m member, ok bool) {
	if len(b) != 13 {
		return m, false
	}
	for i, place := range []string{"width", "height"} {
		m.facts = append(m.facts, fact{place, strconv.FormatUint(uint64(binary.BigEndian.Uint32(b[4*i:])), 10)})
	}
	for i, place := range []string{"bit depth", "colour type", "compression method", "filter method", "interlace method"} {
		m.facts = append(m.facts, fact{place, strconv.Itoa(int(b[8+i]))})
	}
	return m, true
}

// modification decodes tIME (11.3.6.1). Values that no calendar has are shown as they are.
func modification(b []byte) (m member, ok bool) {
	if len(b) != 7 {
		return m, false
	}
	text := fmt.Sprintf("%04d-%02d-%02dT%02d:%02d:%02dZ", binary.BigEndian.Uint16(b), b[2], b[3], b[4], b[5], b[6])
	return member{data: []byte(text), note: true}, true
}

// pixelDimensions decodes pHYs (11.3.5.3).
func pixelDimensions(b []byte) (m member, ok bool) {
	if len(b) != 9 {
		return m, false
	}
	units := map[byte]string{0: "unknown unit", 1: "metre"}
	text := fmt.Sprintf("%d x %d per %s", binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), cmp.Or(units[b[8]], fmt.Sprintf("unit %d", b[8])))
	return member{data: []byte(text), note: true}, true
}

// keyed decodes what begins with a keyword, or for iCCP with the name of a profile (11.3.3.3,
// 11.3.4). The name is the keyword, so that the texts are told apart by it.
func (in *inflater) keyed(c chunk) (m member, ok bool) {
	keyword, b, ok := bytes.Cut(c.data, []byte{0})
	if !ok || !isKeyword(keyword) {
		return m, false
	}
	m.name, m.note = latin1(keyword), true
	switch c.kind {
	case "tEXt":
		m.data = []byte(latin1(b))
		return m, true
	case "iTXt":
		return in.international(m, b)
	}
	if len(b) == 0 || b[0] != 0 {
		return m, false // another compression method
	}
	m.packed = b[1:]
	data, err := in.inflate(m.packed)
	m.data = data
	if c.kind == "zTXt" {
		m.data = []byte(latin1(data))
	} else {
		m.note, m.opened = false, unopened
	}
	return m, err == nil
}

// international decodes iTXt after its keyword (11.3.4.5): whether and how it is compressed,
// a language, the keyword in it, and a text in UTF-8.
func (in *inflater) international(m member, b []byte) (member, bool) {
	if len(b) < 2 {
		return m, false
	}
	compressed, method := b[0], b[1]
	parts := bytes.SplitN(b[2:], []byte{0}, 3)
	if len(parts) < 3 || compressed > 1 || method != 0 {
		return m, false
	}
	for _, s := range parts[:2] {
		if len(s) > 0 && !isShort(s) {
			return m, false
		}
	}
	m.facts = []fact{{"language", string(parts[0])}, {"translated keyword", string(parts[1])}, {"compressed", strconv.Itoa(int(compressed))}}
	m.data = parts[2]
	if compressed == 0 {
		return m, true
	}
	m.packed = parts[2]
	data, err := in.inflate(m.packed)
	m.data = data
	return m, err == nil
}

// isKeyword reports whether a keyword is as it must be (11.3.4.2): up to 79 printable
// characters of Latin-1.
func isKeyword(b []byte) bool {
	printable := func(c byte) bool { return ' ' <= c && c <= '~' || c > 0xa0 }
	return len(b) > 0 && len(b) <= 79 && !slices.ContainsFunc(b, func(c byte) bool { return !printable(c) })
}

// latin1 returns a text in Latin-1, whose bytes are the characters of those numbers.
func latin1(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		s.WriteRune(rune(c))
	}
	return s.String()
}
