package cow_test

import (
	"strconv"
	"testing"

	"github.com/sandtest/go-sandtest/cow"
)

// A name stands in a line as it is, if it can.
func TestQuote(t *testing.T) {
	for _, name := range []string{"", "/work/a b", "/work/a -> b", `/work/"a"`, `/work/a\n`, "/work/ä€", "/work/\ufffd", "/work/-- x --"} {
		if got := cow.Quote(name); got != name {
			t.Errorf("%q becomes %q", name, got)
		}
	}
	for _, name := range []string{"/work/a\nb", "/work/a\xff", "/work/a\x1b[2J", "/work/a ", " a", `"a"`, "/work/a\u00a0"} {
		got := cow.Quote(name)
		if back, err := strconv.Unquote(got); got == name || back != name || err != nil {
			t.Errorf("%q becomes %q, which means %q, %v", name, got, back, err)
		}
	}
	c := cow.Change{Kind: cow.Added, Path: "/a\n", Mode: 0o120777, Target: "b\xff"}
	if got, want := c.String(), `A lrwxrwxrwx "/a\n" -> "b\xff"`; got != want {
		t.Errorf("the change is %s, want %s", got, want)
	}
}
