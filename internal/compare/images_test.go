package compare

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// found returns how two files differ, a line for each place.
func found(a, b []byte, name string) (list []string) {
	for _, d := range Files(a, b, name) {
		list = append(list, d.String())
	}
	return list
}

func picture(change bool) image.Image {
	m := image.NewGray(image.Rect(0, 0, 16, 16))
	for i := range m.Pix {
		m.Pix[i] = byte(i)
	}
	if change {
		m.SetGray(3, 2, color.Gray{Y: 255})
	}
	return m
}

func encodedPNG(t testing.TB, m image.Image) []byte {
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.NoCompression}).Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func pngChunk(kind, data string) string {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	b = append(b, kind+data...)
	return string(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:])))
}

func deflated(t testing.TB, data string, level int) string {
	var b bytes.Buffer
	w, err := zlib.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(data)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// pixels are those of makePNG's image: 2 x 2 of grey, each line after its filter type.
const pixels = "\x00\x10\x20\x00\x30\x40"

// makePNG returns an image with more chunks, before IDAT.
func makePNG(t testing.TB, more ...string) []byte {
	return []byte(pngSignature + pngChunk("IHDR", "\x00\x00\x00\x02\x00\x00\x00\x02\x08\x00\x00\x00\x00") +
		strings.Join(more, "") + pngChunk("IDAT", deflated(t, pixels, 9)) + pngChunk("IEND", ""))
}

func TestPNG(t *testing.T) {
	chunks := func(list ...string) []byte { return makePNG(t, list...) }
	one := func(kind, data string) []byte { return chunks(pngChunk(kind, data)) }
	stream, other := deflated(t, pixels, 9), deflated(t, "\x00\x10\x20\x00\x30\x41", 9)
	header := pngChunk("IHDR", "\x00\x00\x00\x02\x00\x00\x00\x02\x08\x00\x00\x00\x00")
	data := func(list ...string) []byte {
		s := pngSignature + header
		for _, d := range list {
			s += pngChunk("IDAT", d)
		}
		return []byte(s + pngChunk("IEND", ""))
	}
	text, longer := strings.Repeat("words ", 100), strings.Repeat("words ", 99)+"WORDS "
	tag := func(date string) string { return string(makeExif(binary.BigEndian, date, "nobody")) }
	for _, tt := range []struct {
		name string
		a, b []byte
		want []string
	}{
		{"pixels", data(stream), data(other), []string{"chunk IDAT: 1 byte from offset 5"}},
		{"encoder's pixels", encodedPNG(t, picture(false)), encodedPNG(t, picture(true)), []string{"chunk IDAT: 1 byte from offset 38"}},
		{"level", data(deflated(t, pixels, 0)), data(stream), []string{"chunk IDAT: compression: "}},
		{"pixels in several chunks", data(stream[:3], stream[3:]), data(other[:7], other[7:]), []string{"chunk IDAT: 1 byte from offset 5"}},
		{"number of chunks", data(stream), data(stream[:3], stream[3:]), []string{"chunk IDAT: compression: "}},
		{"size", data(stream), bytes.Replace(data(stream), []byte(header), []byte(pngChunk("IHDR", "\x00\x00\x00\x02\x00\x00\x00\x02\x08\x03\x00\x00\x01")), 1),
			[]string{"chunk IHDR: colour type: 0, 3", "chunk IHDR: interlace method: 0, 1"}},
		{"tIME", one("tIME", "\x07\xd0\x01\x02\x03\x04\x05"), one("tIME", "\x07\xf7\x0b\x17\x11\x29\x0d"), []string{"chunk tIME: 2000-01-02T03:04:05Z, 2039-11-23T17:41:13Z"}},
		{"tIME of no calendar", one("tIME", "\x07\xd0\x01\x02\x03\x04\x05"), one("tIME", "\x07\xd0\xff\x02\x03\x04\x05"), []string{"chunk tIME: 2000-01-02T03:04:05Z, 2000-255-02T03:04:05Z"}},
		{"malformed tIME", one("tIME", "\x07\xd0\x01\x02\x03\x04\x05"), one("tIME", ""), []string{"chunk tIME: 20 bytes from offset 0"}},
		{"tEXt", one("tEXt", "date:create\x002000-01-01"), one("tEXt", "date:create\x002039-11-23"), []string{"chunk tEXt date:create: 2000-01-01, 2039-11-23"}},
		{"tEXt in Latin-1", one("tEXt", "Author\x00Zo\xeb"), one("tEXt", "Author\x00Zoe"), []string{"chunk tEXt Author: Zoë, Zoe"}},
		{"tEXt twice", chunks(pngChunk("tEXt", "Comment\x00a"), pngChunk("tEXt", "Comment\x00b")), chunks(pngChunk("tEXt", "Comment\x00a"), pngChunk("tEXt", "Comment\x00c")),
			[]string{"chunk tEXt Comment: b, c"}},
		{"tEXt in one", one("tEXt", "Comment\x00a"), chunks(), []string{"chunk tEXt Comment: only in one: there, missing"}},
		{"tEXt without keyword", one("tEXt", "\x00a"), one("tEXt", "\x00b"), []string{"chunk tEXt: 1 byte from offset 1"}},
		{"keyword that isn't printable", one("tEXt", "a\nb\x00a"), one("tEXt", "a\nb\x00b"), []string{"chunk tEXt: 1 byte from offset 4"}},
		{"escapes in a text", one("tEXt", "Comment\x00a\x1b[1m"), one("tEXt", "Comment\x00b\x1b[1m"), []string{"chunk tEXt Comment: 1 byte from offset 0"}},
		{"long text", one("tEXt", "Comment\x00"+text), one("tEXt", "Comment\x00"+longer), []string{"chunk tEXt Comment: 5 bytes from offset 594"}},
		{"zTXt", one("zTXt", "Comment\x00\x00"+deflated(t, "a", 9)), one("zTXt", "Comment\x00\x00"+deflated(t, "b", 9)), []string{"chunk zTXt Comment: a, b"}},
		{"zTXt's level", one("zTXt", "Comment\x00\x00"+deflated(t, text, 9)), one("zTXt", "Comment\x00\x00"+deflated(t, text, 0)), []string{"chunk zTXt Comment: compression: "}},
		{"zTXt that can't be unpacked", one("zTXt", "Comment\x00\x00broken"), one("zTXt", "Comment\x00\x00Broken"), []string{"chunk zTXt: 1 byte from offset 9"}},
		{"iTXt", one("iTXt", "Title\x00\x00\x00de\x00Titel\x00Ä"), one("iTXt", "Title\x00\x00\x00en\x00Titel\x00Ö"), []string{"chunk iTXt Title: language: de, en", "chunk iTXt Title: Ä, Ö"}},
		{"iTXt compressed", one("iTXt", "Title\x00\x01\x00\x00\x00"+deflated(t, "Ä", 9)), one("iTXt", "Title\x00\x01\x00\x00\x00"+deflated(t, "Ö", 9)), []string{"chunk iTXt Title: Ä, Ö"}},
		{"malformed iTXt", one("iTXt", "Title\x00\x00\x00de"), one("iTXt", "Title\x00\x00\x00en"), []string{"chunk iTXt: 2 bytes from offset 8"}},
		{"iCCP", one("iCCP", "icc\x00\x00"+deflated(t, "profile\x00", 9)), one("iCCP", "icc\x00\x00"+deflated(t, "proFile\x00", 9)), []string{"chunk iCCP icc: 1 byte from offset 3"}},
		{"pHYs", one("pHYs", "\x00\x00\x0b\x13\x00\x00\x0b\x13\x01"), one("pHYs", "\x00\x00\x0b\x13\x00\x00\x0b\x13\x00"), []string{"chunk pHYs: 2835 x 2835 per metre, 2835 x 2835 per unknown unit"}},
		{"eXIf", one("eXIf", tag("2000:01:01 00:00:00")), one("eXIf", tag("2039:11:23 17:41:13")), []string{"chunk eXIf: tag DateTime: 2000:01:01 00:00:00, 2039:11:23 17:41:13"}},
		{"another chunk", one("heLp", "\x00a"), one("heLp", "\x00b"), []string{"chunk heLp: 1 byte from offset 1"}},
		{"order", chunks(pngChunk("gAMA", "\x00\x00\xb1\x8f"), pngChunk("tEXt", "Title\x00a")), chunks(pngChunk("tEXt", "Title\x00a"), pngChunk("gAMA", "\x00\x00\xb1\x8f")), []string{"order of members: gAMA, tEXt Title"}},
		{"after the end", append(chunks(), "one"...), append(chunks(), "two"...), []string{"after IEND: 3 bytes from offset 0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := found(tt.a, tt.b, "f.png")
			if want := tt.want[0]; strings.HasSuffix(want, Compression+": ") && len(got) == 1 && strings.HasPrefix(got[0], want) {
				got[0] = want // sizes are the library's business
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	d := Files(one("tEXt", "Comment\x00a\nb\n"), one("tEXt", "Comment\x00a\nc\n"), "f")[0]
	if !strings.Contains(d.Text, "-b\n+c\n") {
		t.Errorf("a text of several lines: %q", d.Text)
	}
}

// A field is an entry of a directory of Exif attributes: with a value, or leading to the
// directory of a number.
type field struct {
	tag, kind uint16
	count     uint32
	value     string
	to        int
}

// makeTIFF returns directories of Exif attributes, of which the first leads to the one that
// is number next, if that isn't 0.
func makeTIFF(order binary.AppendByteOrder, next int, list ...[]field) []byte {
	b, at, places := []byte("MM\x00*"), 8, []int{}
	if order == binary.AppendByteOrder(binary.LittleEndian) {
		b = []byte("II*\x00")
	}
	for _, d := range list {
		places = append(places, at)
		at += 2 + 12*len(d) + 4
	}
	b = order.AppendUint32(b, uint32(places[0]))
	values := ""
	for i, d := range list {
		b = order.AppendUint16(b, uint16(len(d)))
		for _, f := range d {
			b = order.AppendUint32(order.AppendUint16(order.AppendUint16(b, f.tag), f.kind), f.count)
			switch {
			case f.to > 0:
				b = order.AppendUint32(b, uint32(places[f.to]))
			case len(f.value) <= 4 && f.tag != tagThumbnail:
				b = append(b, (f.value + "\x00\x00\x00\x00")[:4]...)
			default:
				b = order.AppendUint32(b, uint32(at+len(values)))
				values += f.value
			}
		}
		if i > 0 || next == 0 {
			b = order.AppendUint32(b, 0)
		} else {
			b = order.AppendUint32(b, uint32(places[next]))
		}
	}
	return append(b, values...)
}

func ascii(tag uint16, text string) field {
	return field{tag: tag, kind: typeASCII, count: uint32(len(text) + 1), value: text + "\x00"}
}

// makeExif returns attributes of a date and, in the directory for Exif, who made the image.
func makeExif(order binary.AppendByteOrder, date, maker string) []byte {
	return makeTIFF(order, 0, []field{ascii(0x0132, date), {tag: tagExif, kind: typeLong, count: 1, to: 1}},
		[]field{ascii(0xa430, maker), {tag: 0x9999, kind: 7, count: 2, value: "ab"}})
}

func TestExif(t *testing.T) {
	const long = "\x00\x00\x00"
	fields := func(list ...field) []byte { return makeTIFF(binary.BigEndian, 0, list) }
	gps := func(date string) []byte {
		return makeTIFF(binary.BigEndian, 0, []field{{tag: tagGPS, kind: typeLong, count: 1, to: 1}}, []field{ascii(0x1d, date)})
	}
	small := func(text string) []byte {
		b := string(makeJPEG(t, jpegSegment(0xfe, text)))
		size := string(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		return makeTIFF(binary.BigEndian, 1, []field{ascii(0x0131, "program")},
			[]field{{tag: tagThumbnail, kind: typeLong, count: 1, value: b}, {tag: tagThumbnailLength, kind: typeLong, count: 1, value: size}, {tag: 0x0103, kind: typeShort, count: 1, value: "\x00\x06"}})
	}
	for _, tt := range []struct {
		name string
		a, b []byte
		want []string
	}{
		{"short number", fields(field{tag: 0x0112, kind: typeShort, count: 1, value: "\x00\x01"}), fields(field{tag: 0x0112, kind: typeShort, count: 1, value: "\x00\x06"}), []string{"tag Orientation: 1, 6"}},
		{"long number", fields(field{tag: 0xa002, kind: typeLong, count: 1, value: long + "\x01"}), fields(field{tag: 0xa002, kind: typeLong, count: 1, value: long + "\x06"}), []string{"tag PixelXDimension: 1, 6"}},
		{"fraction", fields(field{tag: 0x011a, kind: typeRational, count: 1, value: long + "\x48" + long + "\x01"}), fields(field{tag: 0x011a, kind: typeRational, count: 1, value: long + "\x60" + long + "\x01"}), []string{"tag XResolution: 72/1, 96/1"}},
		{"bytes", fields(field{tag: 0x927c, kind: 7, count: 6, value: "\x00abcde"}), fields(field{tag: 0x927c, kind: 7, count: 6, value: "\x00abcDe"}), []string{"tag MakerNote: 1 byte from offset 4"}},
		{"type", fields(field{tag: 0x0112, kind: typeShort, count: 1, value: "\x00\x01"}), fields(field{tag: 0x0112, kind: typeLong, count: 1, value: long + "\x01"}), []string{"tag Orientation: type: 3, 4"}},
		{"unknown type", fields(field{tag: 0x0112, kind: 99, count: 1 << 31, value: "abcd"}), fields(field{tag: 0x0112, kind: 99, count: 1 << 31, value: "abcD"}), []string{"tag Orientation: 1 byte from offset 3"}},
		{"unknown tag", fields(ascii(0xbeef, "x")), fields(ascii(0xbeef, "y")), []string{"tag 0xbeef: x, y"}},
		{"longer text", fields(ascii(0x0131, "program"), ascii(0x0132, "date1")), fields(ascii(0x0131, "program 2"), ascii(0x0132, "date1")), []string{"tag Software: program, program 2"}},
		{"GPS", gps("2000:01:01"), gps("2039:11:23"), []string{"tag GPS GPSDateStamp: 2000:01:01, 2039:11:23"}},
		{"thumbnail", small("one"), small("two"), []string{"tag thumbnail JPEGInterchangeFormat: segment COM: one, two"}},
		{"circle", makeTIFF(binary.BigEndian, 1, []field{ascii(0x0131, "program")}, []field{{tag: tagExif, kind: typeLong, count: 1, to: 1}}),
			makeTIFF(binary.BigEndian, 1, []field{ascii(0x0131, "Program")}, []field{{tag: tagExif, kind: typeLong, count: 1, to: 1}}), []string{"1 byte from offset 44"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := found(makePNG(t, pngChunk("eXIf", string(tt.a))), makePNG(t, pngChunk("eXIf", string(tt.b))), "f.png")
			for i := range tt.want {
				tt.want[i] = "chunk eXIf: " + tt.want[i]
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func encodedJPEG(t testing.TB, m image.Image) []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func jpegSegment(marker byte, data string) string {
	return string(binary.BigEndian.AppendUint16([]byte{0xff, marker}, uint16(len(data)+2))) + data
}

// makeJPEG returns an image with more segments after SOI.
func makeJPEG(t testing.TB, more ...string) []byte {
	b := encodedJPEG(t, picture(false))
	return slices.Concat(b[:2], []byte(strings.Join(more, "")), b[2:])
}

func TestJPEG(t *testing.T) {
	one := func(marker byte, data string) []byte { return makeJPEG(t, jpegSegment(marker, data)) }
	exif := func(order binary.AppendByteOrder, date, maker string) []byte {
		return one(0xe1, "Exif\x00\x00"+string(makeExif(order, date, maker)))
	}
	const date, later = "2000:01:01 00:00:00", "2039:11:23 17:41:13"
	plain := makeJPEG(t)
	table := bytes.Clone(plain)
	i := bytes.Index(table, []byte{0xff, 0xdb})
	table[i+10]++
	end := len(plain) - 2
	for _, tt := range []struct {
		name string
		a, b []byte
		want []string
	}{
		{"comment", one(0xfe, "made at 1"), one(0xfe, "made at 2"), []string{"segment COM: made at 1, made at 2"}},
		{"comment in bytes", one(0xfe, "\xff\x00"), one(0xfe, "\xff\x01"), []string{"segment COM: 1 byte from offset 1"}},
		{"two comments", makeJPEG(t, jpegSegment(0xfe, "a"), jpegSegment(0xfe, "b")), makeJPEG(t, jpegSegment(0xfe, "a"), jpegSegment(0xfe, "c")), []string{"segment COM: b, c"}},
		{"JFIF", one(0xe0, "JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"), one(0xe0, "JFIF\x00\x01\x02\x01\x00\x48\x00\x48\x00\x00"),
			[]string{"segment APP0 JFIF: version: 1.01, 1.02", "segment APP0 JFIF: density: 1 x 1 aspect ratio, 72 x 72 dots per inch"}},
		{"short JFIF", one(0xe0, "JFIF\x00a"), one(0xe0, "JFIF\x00b"), []string{"segment APP0 JFIF: 1 byte from offset 0"}},
		{"Exif date", exif(binary.LittleEndian, date, "nobody"), exif(binary.LittleEndian, later, "nobody"), []string{"segment APP1 Exif: tag DateTime: 2000:01:01 00:00:00, 2039:11:23 17:41:13"}},
		{"Exif owner of another length", exif(binary.BigEndian, date, "nobody"), exif(binary.BigEndian, date, "somebody"), []string{"segment APP1 Exif: tag CameraOwnerName: nobody, somebody"}},
		{"Exif byte order", exif(binary.LittleEndian, date, "nobody"), exif(binary.BigEndian, date, "nobody"),
			[]string{"segment APP1 Exif: byte order: LittleEndian, BigEndian"}},
		{"between Exif tags", one(0xe1, "Exif\x00\x00"+string(makeExif(binary.BigEndian, date, "nobody"))+"a"), one(0xe1, "Exif\x00\x00"+string(makeExif(binary.BigEndian, date, "nobody"))+"b"),
			[]string{"segment APP1 Exif: between the tags: 1 byte from offset 0"}},
		{"broken Exif", one(0xe1, "Exif\x00\x00"+string(makeExif(binary.BigEndian, date, "nobody")[:40])), one(0xe1, "Exif\x00\x00"+string(makeExif(binary.BigEndian, date, "nobody")[:39])),
			[]string{"segment APP1 Exif: 1 byte from offset 39"}},
		{"another application", one(0xe1, "http://ns.adobe.com/xap/1.0/\x00<a/>"), one(0xe1, "http://ns.adobe.com/xap/1.0/\x00<b/>"), []string{"segment APP1 http://ns.adobe.com/xap/1.0/: 1 byte from offset 1"}},
		{"application without identifier", one(0xe5, "\x01a"), one(0xe5, "\x01b"), []string{"segment APP5: 1 byte from offset 1"}},
		{"quantization", plain, table, []string{"segment DQT: 1 byte from offset 6"}},
		{"restart markers", slices.Concat(plain[:end], []byte("\xff\xd0a"), plain[end:]), slices.Concat(plain[:end], []byte("\xff\xd0b"), plain[end:]), []string{"segment entropy-coded data: 1 byte from offset "}},
		{"pixels", plain, encodedJPEG(t, picture(true)), []string{"segment entropy-coded data: "}},
		{"second scan", slices.Concat(plain[:end], []byte(jpegSegment(0xda, "s")+"a"), plain[end:]), slices.Concat(plain[:end], []byte(jpegSegment(0xda, "s")+"b"), plain[end:]),
			[]string{"segment entropy-coded data of scan 2: 1 byte from offset 0"}},
		{"after the end", append(makeJPEG(t), "one"...), append(makeJPEG(t), "two"...), []string{"after EOI: 3 bytes from offset 0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := found(tt.a, tt.b, "f.jpg")
			if want := tt.want[0]; strings.HasSuffix(want, " ") && len(got) == 1 && strings.HasPrefix(got[0], want) {
				got[0] = want // where it is is the library's business
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What is malformed is compared as bytes, whatever is wrong with it.
func TestMutilatedImages(t *testing.T) {
	exif := makeExif(binary.BigEndian, "2000:01:01 00:00:00", "nobody")
	for _, tt := range []struct {
		name  string
		whole []byte
	}{
		{"png", makePNG(t, pngChunk("tEXt", "Comment\x00a"), pngChunk("zTXt", "Comment\x00\x00"+deflated(t, "a", 9)), pngChunk("iTXt", "Title\x00\x00\x00de\x00Titel\x00a"), pngChunk("eXIf", string(exif)))},
		{"jpeg", makeJPEG(t, jpegSegment(0xe0, "JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"), jpegSegment(0xe1, "Exif\x00\x00"+string(exif)), jpegSegment(0xfe, "a"))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := found(tt.whole, append(bytes.Clone(tt.whole), 'x'), "f"); len(got) != 1 || !strings.HasPrefix(got[0], "after ") {
				t.Fatalf("the whole isn't understood: %v", got)
			}
			for n := range tt.whole {
				if got := Files(tt.whole, tt.whole[:n], "f"); len(got) != 1 || got[0].Where != nil || got[0].Offset != int64(n) {
					t.Errorf("cut at %d: %v", n, got)
				}
				for _, bit := range []byte{1, 0x80, 0xff} {
					b := bytes.Clone(tt.whole)
					b[n] ^= bit
					if got := Files(tt.whole, b, "f"); len(got) == 0 {
						t.Errorf("no difference with another byte at %d", n)
					} else if tt.name == "png" && n < len(b) && got[0].Where != nil {
						t.Errorf("a wrong CRC because of the byte at %d: %v", n, got)
					}
				}
			}
		})
	}
}

// Lengths that a file only says it has don't take memory or time.
func TestHugeLengths(t *testing.T) {
	many := strings.Repeat(pngChunk("heLp", ""), mostMembers)
	bomb := deflated(t, strings.Repeat("\x00", 1<<20), 9)
	fields := make([]field, 1000)
	for i := range fields {
		fields[i] = field{tag: uint16(i), kind: 7, count: 1 << 15, value: "\x00\x00\x00\x08"}
	}
	overlapping := makeTIFF(binary.BigEndian, 0, fields)
	for i := range fields { // all of them are the same bytes
		binary.BigEndian.PutUint32(overlapping[10+12*i+8:], 8)
	}
	for _, tt := range []struct {
		name string
		a, b []byte
	}{
		{"chunk", []byte(pngSignature + "\xff\xff\xff\xffIDAT"), []byte(pngSignature + "\xff\xff\xff\xfeIDAT....")},
		{"chunk of 2 GB", []byte(pngSignature + "\x7f\xff\xff\xffIDAT"), []byte(pngSignature + "\x7f\xff\xff\xffIDAT....")},
		{"number of chunks", makePNG(t, many), makePNG(t, many, pngChunk("heLp", ""))},
		{"length of a segment", []byte("\xff\xd8\xff\xe0\xff\xff\xff\xd9"), []byte("\xff\xd8\xff\xe0\xff\xfe\xff\xd9")},
		{"segment that doesn't hold its length", []byte("\xff\xd8\xff\xe0\x00\x01\xff\xd9"), []byte("\xff\xd8\xff\xe0\x00\x00\xff\xd9")},
		{"fill bytes", append([]byte("\xff\xd8"), bytes.Repeat([]byte{0xff}, 1<<16)...), []byte("\xff\xd8\xff")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Files(tt.a, tt.b, "f"); len(got) != 1 || got[0].Where != nil {
				t.Errorf("%v", found(tt.a, tt.b, "f"))
			}
		})
	}
	if _, err := openExif(overlapping); err == nil {
		t.Error("values that are the same bytes a thousand times are read")
	}
	in := inflater{left: 3 << 19}
	if b, err := in.inflate([]byte(bomb)); err != nil || len(b) != 1<<20 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if _, err := in.inflate([]byte(bomb)); err == nil || in.left != 0 {
		t.Errorf("the second one of a file takes it beyond the limit: %v, %d left", err, in.left)
	}
}

// Whatever files are, there is a difference if and only if they differ.
func FuzzFiles(f *testing.F) {
	f.Setenv("PATH", "") // no sqlite3, which would take long
	exif := string(makeExif(binary.LittleEndian, "2000:01:01 00:00:00", "nobody"))
	page := append([]byte(databaseMagic+"\x02\x00\x01\x01\x00\x40\x20\x20"), make([]byte, 1000)...)
	for _, b := range [][]byte{
		makePNG(f, pngChunk("tEXt", "Comment\x00a"), pngChunk("tIME", "\x07\xd0\x01\x02\x03\x04\x05"), pngChunk("eXIf", exif)),
		makeJPEG(f, jpegSegment(0xe1, "Exif\x00\x00"+exif), jpegSegment(0xfe, "a")),
		page,
	} {
		other := bytes.Clone(b)
		other[len(b)/2] ^= 1
		f.Add(b, other, exif, exif[1:])
	}
	f.Fuzz(func(t *testing.T, a, b []byte, exifA, exifB string) {
		check := func(a, b []byte) {
			list := Files(a, b, "f")
			if (len(list) == 0) != bytes.Equal(a, b) {
				t.Errorf("%d differences", len(list))
			}
			for _, d := range list {
				if d.Offset < 0 || d.Length < 0 || d.Offset+d.Length > largest {
					t.Errorf("%v", d)
				}
			}
		}
		check(a, b)
		// Without a CRC that is right few mutations would get further.
		check(makePNG(t, pngChunk("eXIf", exifA), pngChunk("iTXt", exifB)), makePNG(t, pngChunk("eXIf", exifB), pngChunk("iTXt", exifA)))
	})
}
