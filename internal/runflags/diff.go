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
		if c.Regular() {
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

func fileDiff(c *cow.Change) (string, error) {
	f, err := c.Open()
	if err != nil {
		return "", err
	}
	defer f.Close()
	after, err := readText(f)
	if err != nil || after == nil && c.Size > 0 {
		return "", err
	}
	before, err := c.Before()
	if err != nil {
		return "", err
	}
	var old []byte
	if before != nil {
		defer before.Close()
		st, err := before.Stat()
		if err != nil {
			return "", err
		}
		if old, err = readText(before); err != nil || old == nil && st.Size() > 0 {
			return "", err
		}
	}
	return string(diff.Diff(cow.Quote("a"+c.Path), old, cow.Quote("b"+c.Path), after)), nil
}

// readText returns what a file holds, nil if that isn't text or too long.
func readText(f *os.File) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(f, maxDiff+1))
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
