package report

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A row holds a line of run 1 and the one of the other run that is in its place, or it is
// the heading of the rows that follow.
type row struct {
	Heading     string
	Left, Right cell
}

type cell struct {
	Number int    // of the line, 0 if it isn't known
	Class  string // del or ins for what differs, none where there is no line
	Parts  []part
}

// A part of a line is plain, marked as what differs, or a note that isn't in the file.
type part struct{ Kind, Text string }

const (
	plain  = ""
	marked = "mark"
	note   = "note"
)

// isComparison reports whether a text consists of lines with - and + before them.
func isComparison(text string) bool {
	return strings.HasPrefix(text, "diff ") || strings.HasPrefix(text, "-") || strings.HasPrefix(text, "+")
}

// sideBySide lays a comparison out in at most room rows, and counts those that had none.
func sideBySide(text string, room int) (rows []row, left int) {
	l := layout{room: room}
	header := strings.HasPrefix(text, "diff ")
	for line := range strings.Lines(text) {
		header = header && line[0] != '@'
		if !header {
			l.read(line)
		}
	}
	l.flush()
	return l.rows, l.left
}

// A layout is a comparison that is being laid out. Lines keep their newline, and one
// without is the last of a file that doesn't end in one.
type layout struct {
	rows       []row
	room, left int

	heading     string // of the next row
	numbered    bool
	a, b        int      // the numbers of the next lines
	minus, plus []string // what belongs side by side
	same        bool     // and doesn't differ
	last        byte     // the sign of the line before
}

func (l *layout) read(line string) {
	sign, rest := line[0], line[1:]
	switch sign {
	case '@':
		l.flush()
		l.heading = strings.TrimSpace(line)
		var countA, countB int
		_, err := fmt.Sscanf(line, "@@ -%d,%d +%d,%d @@", &l.a, &countA, &l.b, &countB)
		l.numbered = err == nil
	case '-':
		if len(l.plus) > 0 {
			l.flush()
		}
		l.minus = append(l.minus, rest)
	case '+':
		if l.same {
			l.flush()
		}
		l.plus = append(l.plus, rest)
	case '\\': // it says that the line before has no newline
		if l.last != '+' {
			cutNewline(l.minus)
		}
		if l.last != '-' {
			cutNewline(l.plus)
		}
	default:
		l.flush()
		l.minus, l.plus, l.same = []string{rest}, []string{rest}, true
	}
	l.last = sign
}

func cutNewline(lines []string) {
	if n := len(lines); n > 0 {
		lines[n-1] = strings.TrimSuffix(lines[n-1], "\n")
	}
}

// flush makes rows of what belongs side by side.
func (l *layout) flush() {
	at := func(lines []string, i int) string {
		if i < len(lines) {
			return lines[i]
		}
		return ""
	}
	for i := range max(len(l.minus), len(l.plus)) {
		l.add(at(l.minus, i), at(l.plus, i))
	}
	l.minus, l.plus, l.same = nil, nil, false
}

// add adds a row, if there is room. Where there is no line it is given an empty one.
func (l *layout) add(a, b string) {
	need := 1
	if l.heading != "" {
		need = 2
	}
	if len(l.rows)+need > l.room {
		l.left++
		return
	}
	if l.heading != "" {
		l.rows = append(l.rows, row{Heading: l.heading})
		l.heading = ""
	}
	x, y := visible(strings.TrimSuffix(a, "\n")), visible(strings.TrimSuffix(b, "\n"))
	before, after := 0, 0
	switch {
	case l.same:
		before = len(x)
	case l.numbered && a != "" && b != "":
		before, after = common(x, y)
	}
	l.rows = append(l.rows, row{
		Left:  l.cell("del", a, parts(x, before, after), &l.a),
		Right: l.cell("ins", b, parts(y, before, after), &l.b),
	})
}

func (l *layout) cell(class, line string, parts []part, number *int) cell {
	if line == "" {
		return cell{Class: "none"}
	}
	c := cell{Class: class, Parts: parts}
	if l.same {
		c.Class = ""
	}
	if !strings.HasSuffix(line, "\n") {
		c.Parts = append(c.Parts, part{note, "no newline at the end"})
	}
	if l.numbered {
		c.Number = *number
		*number++
	}
	return c
}

// common returns how many bytes two texts have in common at the beginning and, of the
// rest, at the end. It doesn't divide characters.
func common(a, b string) (before, after int) {
	n := min(len(a), len(b))
	for before < n && a[before] == b[before] {
		before++
	}
	for before > 0 && before < len(a) && !utf8.RuneStart(a[before]) {
		before--
	}
	for after < n-before && a[len(a)-1-after] == b[len(b)-1-after] {
		after++
	}
	for after > 0 && !utf8.RuneStart(a[len(a)-after]) {
		after--
	}
	return before, after
}

// parts marks a line but for so many bytes at its beginning and its end. Of a very long
// one it leaves out what is far from the mark.
func parts(line string, before, after int) (list []part) {
	const longest, nearby = 2000, 200
	long := utf8.RuneCountInString(line) > longest
	add := func(kind, text string, most int, tail bool) {
		if text == "" {
			return
		}
		r := []rune(text)
		left := len(r) - most
		if !long || left <= 0 {
			list = append(list, part{kind, text})
			return
		}
		omitted := part{note, fmt.Sprintf("%d characters left out", left)}
		if tail {
			list = append(list, omitted, part{kind, string(r[left:])})
		} else {
			list = append(list, part{kind, string(r[:most])}, omitted)
		}
	}
	end := len(line) - after
	add(plain, line[:before], nearby, true)
	add(marked, line[before:end], longest-2*nearby, false)
	add(plain, line[end:], nearby, false)
	return list
}

// visible shows characters that a page hides or obeys, but for tabs and newlines.
func visible(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == '\t' || r == '\n':
			b.WriteRune(r)
		case r < ' ':
			b.WriteRune('\u2400' + r) // the picture of a control character
		case unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp):
			fmt.Fprintf(&b, "<U+%04X>", r)
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
