package compare

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

// Sections are those of ITU-T T.81, Annex B, unless they name another document.

var errNoJPEG = errors.New("no JPEG image")

// jpegs compares JPEG images segment by segment.
func jpegs(a, b []byte, name string, depth int) ([]Difference, bool) {
	x, afterA, errA := openJPEG(a)
	y, afterB, errB := openJPEG(b)
	if errA != nil || errB != nil {
		return nil, false
	}
	list := called("segment", members(x, y, depth))
	return append(list, inside("after EOI", files(afterA, afterB, "", depth))...), true
}

// The markers that are treated each in their own way (B.1.1.3, table B.1).
const (
	markerTEM  = 0x01
	markerRST0 = 0xd0
	markerRST7 = 0xd7
	markerSOI  = 0xd8
	markerEOI  = 0xd9
	markerSOS  = 0xda
	markerAPP0 = 0xe0
	markerAPPF = 0xef
	markerCOM  = 0xfe
)

// segmentNames has the other markers of table B.1.
var segmentNames = map[byte]string{
	0xc4: "DHT", 0xc8: "JPG", 0xcc: "DAC",
	markerSOS: "SOS", 0xdb: "DQT", 0xdc: "DNL", 0xdd: "DRI", 0xde: "DHP", 0xdf: "EXP",
	markerCOM: "COM", markerTEM: "TEM",
}

func segmentName(marker byte) string {
	name, ok := segmentNames[marker]
	switch {
	case ok:
		return name
	case 0xc0 <= marker && marker <= 0xcf:
		return "SOF" + strconv.Itoa(int(marker-0xc0))
	case markerAPP0 <= marker && marker <= markerAPPF:
		return "APP" + strconv.Itoa(int(marker-markerAPP0))
	}
	return fmt.Sprintf("0x%02x", marker)
}

// openJPEG returns the segments from SOI to EOI, and what comes after them.
func openJPEG(b []byte) (list []member, after []byte, err error) {
	rest, ok := bytes.CutPrefix(b, []byte{0xff, markerSOI})
	if !ok {
		return nil, nil, errNoJPEG
	}
	scans := 0
	for len(list) < mostMembers {
		var marker byte
		if marker, rest, err = cutMarker(rest); err != nil {
			return nil, nil, err
		}
		switch {
		case marker == markerEOI:
			return list, rest, nil
		case marker == markerTEM:
			list = append(list, member{name: segmentName(marker)})
			continue
		case marker <= 0xbf || markerRST0 <= marker && marker <= markerSOI:
			return nil, nil, errNoJPEG // reserved, or not where a segment can begin
		}
		var data []byte
		if data, rest, err = cutSegment(rest); err != nil {
			return nil, nil, err
		}
		list = append(list, segment(marker, data))
		if marker == markerSOS {
			scans++
			data, rest = cutEntropyCoded(rest)
			list = append(list, member{name: scanName(scans), data: data, opened: unopened})
		}
	}
	return nil, nil, errNoJPEG
}

// cutMarker splits a marker off, before which there may be any number of fill bytes
// (B.1.1.2).
func cutMarker(b []byte) (marker byte, rest []byte, err error) {
	i := 0
	for i < len(b) && b[i] == 0xff {
		i++
	}
	if i == 0 || i == len(b) {
		return 0, nil, errNoJPEG
	}
	return b[i], b[i+1:], nil
}

// cutSegment splits the parameters of a marker segment off, whose length counts itself
// (B.1.1.4).
func cutSegment(b []byte) (data, rest []byte, err error) {
	const length = 2
	if len(b) < length {
		return nil, nil, errNoJPEG
	}
	size := int(binary.BigEndian.Uint16(b))
	if size < length || size > len(b) {
		return nil, nil, errNoJPEG
	}
	return b[length:size], b[size:], nil
}

// cutEntropyCoded splits off what follows SOS, up to the next marker. Restart markers belong
// to it, and 0xff followed by 0x00 is no marker (B.1.1.5).
func cutEntropyCoded(b []byte) (data, rest []byte) {
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], 0xff)
		if i < 0 || at+i+1 >= len(b) {
			return b, nil
		}
		at += i
		if next := b[at+1]; next != 0 && (next < markerRST0 || next > markerRST7) {
			return b[:at], b[at:]
		}
		at += 2
	}
}

// scanName tells the scans of a progressive image apart; most images have one.
func scanName(n int) string {
	if n == 1 {
		return "entropy-coded data"
	}
	return "entropy-coded data of scan " + strconv.Itoa(n)
}

// segment returns a marker segment as its marker is decoded.
func segment(marker byte, data []byte) member {
	m := member{name: segmentName(marker), data: data}
	switch {
	case marker == markerCOM: // B.2.4.5
		m.note = isText(data)
	case markerAPP0 <= marker && marker <= markerAPPF: // B.2.4.6
		return application(m)
	}
	return m
}

// application names the segment of an application. Those that many applications share a
// marker with begin with an identifier that a NUL ends.
func application(m member) member {
	id, data, ok := bytes.Cut(m.data, []byte{0})
	if !ok || !isShort(id) {
		return m
	}
	switch m.name += " " + string(id); m.name {
	case "APP0 JFIF":
		m.facts, data = jfif(data)
	case "APP1 Exif":
		if tiff, ok := bytes.CutPrefix(data, []byte{0}); ok { // Exif 2.3, 4.7.2
			data, m.opened = tiff, exifs
		}
	}
	m.data = data
	return m
}

// jfif decodes what follows the identifier of JFIF (ITU-T T.871, 10.1) up to the thumbnail.
func jfif(b []byte) (facts []fact, rest []byte) {
	const size = 9
	if len(b) < size {
		return nil, b
	}
	units := map[byte]string{0: "aspect ratio", 1: "dots per inch", 2: "dots per cm"}
	unit, ok := units[b[2]]
	if !ok {
		unit = fmt.Sprintf("unit %d", b[2])
	}
	return []fact{
		{"version", fmt.Sprintf("%d.%02d", b[0], b[1])},
		{"density", fmt.Sprintf("%d x %d %s", binary.BigEndian.Uint16(b[3:]), binary.BigEndian.Uint16(b[5:]), unit)},
		{"thumbnail", fmt.Sprintf("%d x %d", b[7], b[8])},
	}, b[size:]
}
