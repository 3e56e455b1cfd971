package compare

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

// Sections are those of Exif 2.3 (CIPA DC-008-2012), which uses the structure of TIFF 6.0.

var errNoExif = errors.New("no Exif attributes")

// exifs compares Exif attributes tag by tag. Where their values stand isn't compared: all of
// that changes if one of them becomes longer.
func exifs(a, b []byte, name string, depth int) ([]Difference, bool) {
	x, errA := openExif(a)
	y, errB := openExif(b)
	if errA != nil || errB != nil {
		return nil, false
	}
	list := value("byte order", x.order.String(), y.order.String())
	list = append(list, called("tag", members(x.tags, y.tags, depth))...)
	if restA, restB := x.rest(), y.rest(); !bytes.Equal(restA, restB) {
		list = append(list, inside("between the tags", []Difference{contents(restA, restB)})...)
	}
	return list, true
}

// attributes are those of a file.
type attributes struct {
	b     []byte
	order binary.ByteOrder
	tags  []member
	known []bool          // which bytes of b are in tags, or say where those are
	seen  map[uint32]bool // the directories
	left  uint64          // how many bytes of values there can still be
}

// A directory is one of the kinds of image file directories (4.6.2, 4.6.3).
type directory string

const (
	primary   directory = ""
	thumbnail directory = "thumbnail "
	exifIFD   directory = "" // its tags have other numbers than those of the primary image
	gps       directory = "GPS "
	interop   directory = "interoperability "
)

// The tags that say where something else is (4.6.3, 4.6.4).
const (
	tagThumbnail       = 0x0201 // JPEGInterchangeFormat
	tagThumbnailLength = 0x0202 // JPEGInterchangeFormatLength
	tagExif            = 0x8769
	tagGPS             = 0x8825
	tagInterop         = 0xa005
)

var directories = map[uint16]directory{tagExif: exifIFD, tagGPS: gps, tagInterop: interop}

// openExif reads a header (TIFF 6.0, section 2) and the directories that it leads to: that
// of the primary image and, as the next of it, that of the thumbnail.
func openExif(b []byte) (*attributes, error) {
	const header = 8
	if len(b) < header {
		return nil, errNoExif
	}
	e := &attributes{b: b, known: make([]bool, len(b)), seen: map[uint32]bool{}, left: uint64(len(b))}
	switch string(b[:4]) {
	case "II*\x00":
		e.order = binary.LittleEndian
	case "MM\x00*":
		e.order = binary.BigEndian
	default:
		return nil, errNoExif
	}
	e.mark(0, header)
	next, err := e.read(primary, e.order.Uint32(b[4:]))
	for err == nil && next != 0 {
		next, err = e.read(thumbnail, next)
	}
	return e, err
}

// bytes returns some of the bytes, which then are known.
func (e *attributes) bytes(at, size uint64) ([]byte, error) {
	if at > uint64(len(e.b)) || size > uint64(len(e.b))-at {
		return nil, errNoExif
	}
	e.mark(at, size)
	return e.b[at : at+size], nil
}

func (e *attributes) mark(at, size uint64) {
	for i := at; i < at+size; i++ {
		e.known[i] = true
	}
}

// value returns bytes that a tag refers to. Values don't overlap in a file that is well
// formed, so that all of them aren't longer than it: without this limit, thousands of tags
// could refer to the same megabytes.
func (e *attributes) value(at, size uint64) ([]byte, error) {
	if size > e.left {
		return nil, errNoExif
	}
	e.left -= size
	return e.bytes(at, size)
}

// rest returns the bytes that aren't known.
func (e *attributes) rest() (list []byte) {
	for i, c := range e.b {
		if !e.known[i] {
			list = append(list, c)
		}
	}
	return list
}

// read reads a directory: how many entries it has, twelve bytes for each, and where the next
// one is (4.6.2).
func (e *attributes) read(d directory, at uint32) (next uint32, err error) {
	const most, size = 16, 12
	if e.seen[at] || len(e.seen) == most {
		return 0, errNoExif // a circle, or directories that overlap
	}
	e.seen[at] = true
	head, err := e.bytes(uint64(at), 2)
	if err != nil {
		return 0, err
	}
	n := uint64(e.order.Uint16(head))
	list, err := e.bytes(uint64(at)+2, n*size)
	if err != nil {
		return 0, err
	}
	last, err := e.bytes(uint64(at)+2+n*size, 4)
	if err != nil {
		return 0, err
	}
	where := map[uint16]uint32{}
	for ; len(list) > 0; list = list[size:] {
		if err := e.entry(d, list[:size], where); err != nil {
			return 0, err
		}
	}
	return e.order.Uint32(last), e.thumbnail(d, where)
}

// thumbnail adds the image that two tags of a directory describe (4.6.4).
func (e *attributes) thumbnail(d directory, where map[uint16]uint32) error {
	size, ok := where[tagThumbnailLength]
	if !ok {
		return nil
	}
	data, err := e.value(uint64(where[tagThumbnail]), uint64(size))
	e.tags = append(e.tags, member{name: string(d) + "JPEGInterchangeFormat", data: data})
	return err
}

// entry adds what an entry of a directory says. Where says where the thumbnail is.
func (e *attributes) entry(d directory, b []byte, where map[uint16]uint32) error {
	tag, kind, count, short := e.order.Uint16(b), e.order.Uint16(b[2:]), e.order.Uint32(b[4:]), b[8:]
	if len(e.tags) == mostMembers {
		return errNoExif
	}
	if inner, ok := directories[tag]; ok {
		_, err := e.read(inner, e.order.Uint32(short))
		return err
	}
	if tag == tagThumbnail || tag == tagThumbnailLength {
		where[tag] = e.order.Uint32(short)
		return nil
	}
	size := uint64(count) * sizes[kind]
	data := short
	switch {
	case sizes[kind] == 0: // a type of which can't be said how long it is
	case size <= uint64(len(short)):
		data = short[:size]
	default:
		var err error
		if data, err = e.value(uint64(e.order.Uint32(short)), size); err != nil {
			return err
		}
	}
	e.tags = append(e.tags, e.decode(tagName(d, tag), kind, data))
	return nil
}

// The types of values that are decoded (4.6.2).
const (
	typeASCII    = 2
	typeShort    = 3
	typeLong     = 4
	typeRational = 5
)

// sizes are those of one value of each type, in bytes. Exif 2.3 uses 1 to 5, 7, 9 and 10; the
// others are of TIFF 6.0.
var sizes = map[uint16]uint64{1: 1, typeASCII: 1, typeShort: 2, typeLong: 4, typeRational: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}

// decode returns a value: as a text where it is one, or a single number.
func (e *attributes) decode(name string, kind uint16, b []byte) member {
	m := member{name: name, facts: []fact{{"type", strconv.Itoa(int(kind))}}, data: b, opened: unopened}
	number := func(at int) string { return strconv.FormatUint(uint64(e.order.Uint32(b[at:])), 10) }
	text := ""
	switch {
	case kind == typeASCII:
		text = string(bytes.TrimSuffix(b, []byte{0}))
	case kind == typeShort && len(b) == 2:
		text = strconv.Itoa(int(e.order.Uint16(b)))
	case kind == typeLong && len(b) == 4:
		text = number(0)
	case kind == typeRational && len(b) == 8:
		text = number(0) + "/" + number(4)
	default:
		return m
	}
	m.data, m.note = []byte(text), true
	return m
}

func tagName(d directory, tag uint16) string {
	names := tagNames
	if d == gps {
		names = gpsNames
	}
	if name, ok := names[tag]; ok {
		return string(d) + name
	}
	return fmt.Sprintf("%s0x%04x", d, tag)
}

// tagNames has texts, and numbers that often differ (4.6.4, 4.6.5; those of
// OffsetTime are of Exif 2.31).
var tagNames = map[uint16]string{
	0x0100: "ImageWidth", 0x0101: "ImageLength", 0x0103: "Compression", 0x010d: "DocumentName", 0x010e: "ImageDescription",
	0x010f: "Make", 0x0110: "Model", 0x0112: "Orientation", 0x011a: "XResolution", 0x011b: "YResolution",
	0x0128: "ResolutionUnit", 0x0131: "Software", 0x0132: "DateTime", 0x013b: "Artist", 0x013c: "HostComputer",
	0x8298: "Copyright", 0x9000: "ExifVersion", 0x9003: "DateTimeOriginal", 0x9004: "DateTimeDigitized",
	0x9010: "OffsetTime", 0x9011: "OffsetTimeOriginal", 0x9012: "OffsetTimeDigitized",
	0x927c: "MakerNote", 0x9286: "UserComment", 0x9290: "SubSecTime", 0x9291: "SubSecTimeOriginal", 0x9292: "SubSecTimeDigitized",
	0xa001: "ColorSpace", 0xa002: "PixelXDimension", 0xa003: "PixelYDimension", 0xa004: "RelatedSoundFile",
	0xa420: "ImageUniqueID", 0xa430: "CameraOwnerName", 0xa431: "BodySerialNumber",
	0xa433: "LensMake", 0xa434: "LensModel", 0xa435: "LensSerialNumber",
}

// gpsNames has those of GPS attributes that are texts or times (4.6.6).
var gpsNames = map[uint16]string{
	0x01: "GPSLatitudeRef", 0x02: "GPSLatitude", 0x03: "GPSLongitudeRef", 0x04: "GPSLongitude",
	0x07: "GPSTimeStamp", 0x08: "GPSSatellites", 0x12: "GPSMapDatum", 0x1d: "GPSDateStamp",
}
