package runflags

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/sandtest"
)

// maxDiff is how long a file may be to be compared line by line.
const maxDiff = 4 << 20

// ShowDiff shows the changes: a line for each, and for texts what has changed in
// them.
func ShowDiff(w io.Writer, res *sandtest.Result, colour bool) error {
	for i := range res.Changes {
		c := &res.Changes[i]
		text := c.String() + "\n"
		if c.Regular() || c.Kind == cow.Deleted {
			lines, err := fileDiff(c)
			if err != nil && !beyondReach(err) {
				return err
			}
			text += lines
		}
		if colour {
			text = coloured(text)
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	return nil
}

// fileDiff compares a file with the host's, in a form that patch(1) and git apply take.
func fileDiff(c *cow.Change) (string, error) {
	var after *os.File
	if c.Kind != cow.Deleted {
		f, err := c.Open()
		if err != nil {
			return "", err
		}
		defer f.Close()
		after = f
	}
	before, err := c.Before()
	if err != nil {
		return "", err
	}
	if before != nil {
		defer before.Close()
	}
	oldText, oldName, err := side("a", c.Path, before)
	if err != nil || oldName == "" {
		return "", err
	}
	newText, newName, err := side("b", c.Path, after)
	if err != nil || newName == "" {
		return "", err
	}
	return string(diff.Diff(oldName, oldText, newName, newText)), nil
}

// side returns a file's text, and its name in a header; no name, if it can't be compared
// line by line. The file is nil where there is none.
func side(prefix, path string, f *os.File) (text []byte, name string, err error) {
	if f == nil {
		return nil, "/dev/null", nil
	}
	if text, err = readText(f); err != nil || text == nil {
		return nil, "", err
	}
	return text, headerName(prefix + path), nil
}

// headerName writes a name as it stands after "---": in quotation marks with the escapes
// of C where a line couldn't hold it, and with a tab behind it where a space would be taken
// for its end.
func headerName(name string) string {
	if cow.Quote(name) == name && !strings.ContainsAny(name, `"\`) {
		if strings.Contains(name, " ") {
			return name + "\t"
		}
		return name
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(name) {
		switch c := name[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(&b, "\\%03o", c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// readText returns what a file holds, nil if that isn't text or too long.
func readText(f *os.File) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(f, maxDiff+1)) // never nil
	if err != nil || len(text) > maxDiff || !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return nil, err
	}
	return text, nil
}

// coloured marks lines as git does.
func coloured(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		colour := ""
		switch {
		case strings.HasPrefix(line, "+"):
			colour = "32"
		case strings.HasPrefix(line, "-"):
			colour = "31"
		case strings.HasPrefix(line, "@@"):
			colour = "36"
		case len(line) > 2 && line[1] == ' ' && strings.ContainsRune("AMD", rune(line[0])):
			colour = "1"
		}
		if colour == "" {
			b.WriteString(line)
			continue
		}
		fmt.Fprintf(&b, "\x1b[%sm%s\x1b[m\n", colour, strings.TrimSuffix(line, "\n"))
	}
	return b.String()
}

// IsTerminal reports whether a file is one, as far as a device is.
func IsTerminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == ""
}
