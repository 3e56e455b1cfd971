package report

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/diff"
	"github.com/sandtest/go-sandtest/sandtest"
	"golang.org/x/net/html"
)

// render returns the page of a report, as text and as a browser reads it.
func render(t *testing.T, p Page) (string, *html.Node) {
	t.Helper()
	text, err := p.HTML()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := html.Parse(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text), doc
}

// elements returns those of a name.
func elements(n *html.Node, name string) (list []*html.Node) {
	for d := range n.Descendants() {
		if d.Type == html.ElementNode && d.Data == name {
			list = append(list, d)
		}
	}
	return list
}

func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// textOf returns what an element says, with its marks in brackets and notes in braces.
func textOf(n *html.Node) string {
	var b strings.Builder
	for c := range n.ChildNodes() {
		switch {
		case c.Type == html.TextNode:
			b.WriteString(c.Data)
		case c.Data == "mark":
			b.WriteString("[" + textOf(c) + "]")
		case attribute(c, "class") == "note":
			b.WriteString("{" + textOf(c) + "}")
		case c.Data == "div" || c.Data == "small":
			b.WriteString("/" + textOf(c))
		default:
			b.WriteString(textOf(c))
		}
	}
	return b.String()
}

// tables returns the rows of all tables of an id or a class, cells between bars.
func tables(doc *html.Node, name string) (list []string) {
	for _, table := range elements(doc, "table") {
		if attribute(table, "id") != name && attribute(table, "class") != name {
			continue
		}
		for _, tr := range elements(table, "tr") {
			var cells []string
			for c := range tr.ChildNodes() {
				cells = append(cells, textOf(c))
			}
			list = append(list, strings.Join(cells, "|"))
		}
	}
	return list
}

func compareTexts(a, b string) string { return string(diff.Diff("a", []byte(a), "b", []byte(b))) }

var differing = Page{
	Command: []string{"sh", "-c", "date >'it'"},
	Vary:    []string{"time", "umask", "cpus"},
	Report: &sandtest.Report{Runs: 7, Outputs: make([]sandtest.Output, 4), Differences: []sandtest.Difference{
		{Path: "out", Causes: []sandtest.Cause{
			{Variation: "time", Where: []string{"mode: -rw-r--r--, -rw-------", "2 bytes from offset 4"}, Diffs: []string{"", compareTexts("one\n2000\n", "one\n2039\n")}, Hint: "no clock"},
			{Variation: "umask+cpus", Where: []string{"1 byte from offset 9"}, Diffs: []string{"-62  |b|\n+42  |B|\n"}},
		}},
		{Path: "exit status", Causes: []sandtest.Cause{
			{Variation: sandtest.Race, Where: []string{"0, 3"}, Diffs: []string{"exit status 3\nbroken\n"}, Hint: "one at a time"},
		}},
	}},
}

// A page tells what was done, what differs, why, and what helps.
func TestHTML(t *testing.T) {
	text, doc := render(t, differing)
	if again, _ := render(t, differing); again != text {
		t.Error("the page isn't the same every time")
	}
	title := "not reproducible: 2 of 4 outputs differ"
	for _, name := range []string{"title", "h1"} {
		if list := elements(doc, name); len(list) != 1 || textOf(list[0]) != title {
			t.Errorf("%s isn't %q", name, title)
		}
	}
	for _, tt := range []struct {
		name string
		want []string
	}{
		{"summary", []string{`command|sh -c 'date >'\''it'\'''`, "runs|7, with those that look for causes", "varied|time, umask, cpus"}},
		{"variations", []string{
			"variation|what it varies|outputs that it makes differ",
			"time|the clock: another year, month, weekday and hour, past 2038|1",
			"umask|the permissions of new files: 027|1", "cpus|how many CPUs there are|1",
		}},
		{"causes", []string{
			"output|variation|where: run 1, another run|what usually helps",
			"out|time/the clock: another year, month, weekday and hour, past 2038|/mode: -rw-r--r--, -rw-------/2 bytes from offset 4|no clock",
			"out|umask+cpus|/1 byte from offset 9|",
			"exit status|race/differs in the same world, too|/0, 3|one at a time",
		}},
		{"sides", []string{
			"run 1|another run, with time varied", "@@ -1,2 +1,2 @@", "1|one|1|one", "2|20[00]|2|20[39]",
			"run 1|another run, with umask+cpus varied", "|[62  |b|]||[42  |B|]",
		}},
	} {
		if diff := cmp.Diff(tt.want, tables(doc, tt.name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	checkAlone(t, doc)
}

// Each cause shows its places, in order.
func TestHTMLDifferences(t *testing.T) {
	_, doc := render(t, differing)
	var got []string
	for n := range doc.Descendants() {
		if slices.Contains([]string{"summary", "h3", "p", "pre"}, n.Data) {
			got = append(got, n.Data+" "+textOf(n))
		}
	}
	want := []string{
		"summary out", "h3 time", "p mode: -rw-r--r--, -rw-------", "p 2 bytes from offset 4", "h3 umask+cpus", "p 1 byte from offset 9",
		"summary exit status", "h3 race", "p 0, 3", "p another run, in the same world:", "pre exit status 3\nbroken\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
}

// checkAlone insists on a page that needs and runs nothing, and whose links lead to what
// is in it.
func checkAlone(t *testing.T, doc *html.Node) {
	t.Helper()
	var ids []string
	for n := range doc.Descendants() {
		if id := attribute(n, "id"); id != "" {
			ids = append(ids, "#"+id)
		}
	}
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode && slices.Contains([]string{"script", "link", "img", "iframe", "object", "base", "form", "svg"}, n.Data) {
			t.Errorf("there is an element %s", n.Data)
		}
		for _, a := range n.Attr {
			if a.Key == "src" || a.Key == "style" || strings.HasPrefix(a.Key, "on") || a.Key == "href" && !slices.Contains(ids, a.Val) {
				t.Errorf("there is %s=%q", a.Key, a.Val)
			}
		}
	}
	for _, style := range elements(doc, "style") {
		if css := textOf(style); strings.Contains(css, "url(") || strings.Contains(css, "@import") {
			t.Errorf("the style needs more:\n%s", css)
		}
	}
	if len(elements(doc, "style")) != 1 {
		t.Error("there isn't one style")
	}
}

// What is the same has no causes, and what was run in one world no variations.
func TestHTMLReproducible(t *testing.T) {
	_, doc := render(t, Page{Command: []string{"true"}, Report: &sandtest.Report{Reproducible: true, Runs: 2, Outputs: make([]sandtest.Output, 3)}})
	want := []string{"command|true", "runs|2", "varied|nothing: each run was in the same world"}
	if diff := cmp.Diff(want, tables(doc, "summary")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if h1 := textOf(elements(doc, "h1")[0]); h1 != "reproducible: 2 runs, 3 outputs the same" || len(elements(doc, "table")) != 1 {
		t.Errorf("%s, %d tables", h1, len(elements(doc, "table")))
	}
	checkAlone(t, doc)
}

// Names and contents can't be anything but text, and hide nothing.
func TestHTMLEscaped(t *testing.T) {
	const evil = `</td></style><script>alert("1")</script>&amp;'`
	_, doc := render(t, Page{Command: []string{"c" + evil}, Vary: []string{"v" + evil}, Report: &sandtest.Report{Runs: 2, Differences: []sandtest.Difference{{
		Path: "p" + evil + "\n\xff",
		Causes: []sandtest.Cause{
			{Variation: "v" + evil, Where: []string{"w" + evil}, Diffs: []string{compareTexts("a"+evil+"\n", "b"+evil+"\r\n")}, Hint: "h" + evil},
			{Variation: "u" + evil, Where: []string{"", "x" + evil + "\u202e"}, Diffs: []string{"-00  |" + evil + "|\n", "t" + evil + "\x1b"}},
		},
	}}}})
	checkAlone(t, doc)
	for name, want := range map[string][]string{
		"summary":    {"command|'c" + strings.ReplaceAll(evil, "'", `'\''`) + "'", "runs|2, with those that look for causes", "varied|v" + evil},
		"variations": {"variation|what it varies|outputs that it makes differ", "v" + evil + "||1"},
		"causes": {
			"output|variation|where: run 1, another run|what usually helps",
			"p" + evil + "\n\\xff|v" + evil + "|/w" + evil + "|h" + evil,
			"p" + evil + "\n\\xff|u" + evil + "|//x" + evil + "<U+202E>|",
		},
		"sides": {
			"run 1|another run, with v" + evil + " varied", "@@ -1,1 +1,1 @@", "1|[a" + evil + "]|1|[b" + evil + "␍]",
			"run 1|another run, with u" + evil + " varied", "|[00  |" + evil + "|]||",
		},
	} {
		if diff := cmp.Diff(want, tables(doc, name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if list := elements(doc, "pre"); len(list) != 1 || textOf(list[0]) != "t"+evil+"␛" {
		t.Errorf("%d texts", len(list))
	}
}

// Of what is long only so much is shown, and the page says how much is not.
func TestHTMLLimits(t *testing.T) {
	lines := func(sign string, n int) string { return strings.Repeat(sign+"\n", n) }
	page := func(c sandtest.Cause) *html.Node {
		c.Variation = "time"
		_, doc := render(t, Page{Report: &sandtest.Report{Differences: []sandtest.Difference{{Path: "f", Causes: []sandtest.Cause{c}}}}})
		return doc
	}
	left := func(doc *html.Node) (list []string) {
		for _, p := range elements(doc, "p") {
			if attribute(p, "class") == "left" {
				list = append(list, textOf(p))
			}
		}
		return list
	}
	const more = 123
	// The place, the heading of the table and that of the lines take a row each.
	full := "diff a b\n--- a\n+++ b\n@@ -1,9 +1,9 @@\n" + lines("-a", mostLines-2) + lines("+b", mostLines-2+more)
	doc := page(sandtest.Cause{Where: []string{"text", "second", "third"}, Diffs: []string{full, compareTexts("1\n", "2\n"), ""}})
	if rows := tables(doc, "sides"); len(rows) != mostLines || rows[mostLines-1] != fmt.Sprintf("%d|[a]|%[1]d|[b]", mostLines-2) {
		t.Errorf("%d rows, the last one is %s", len(rows), rows[len(rows)-1])
	}
	if diff := cmp.Diff([]string{fmt.Sprintf("%d more lines of this comparison are left out.", more), "2 more places are left out."}, left(doc)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	doc = page(sandtest.Cause{Where: slices.Repeat([]string{"mode: a, b"}, mostLines+more), Diffs: make([]string, mostLines+more)})
	if diff := cmp.Diff([]string{fmt.Sprintf("%d more places are left out.", more)}, left(doc)); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}
	if rows := tables(doc, "causes"); !strings.HasSuffix(rows[1], fmt.Sprintf("/mode: a, b/and %d more|", mostLines+more-5)) {
		t.Errorf("the cause: %s", rows[1])
	}
	doc = page(sandtest.Cause{Where: []string{"text"}, Diffs: []string{compareTexts("1\n", "2\n")}})
	if list := left(doc); list != nil {
		t.Errorf("of a short one: %q", list)
	}
}

// Lines stand beside those that they became, and what differs in them is marked.
func TestSideBySide(t *testing.T) {
	x, y := strings.Repeat("x", 3000), strings.Repeat("y", 3000)
	for _, tt := range []struct {
		name, a, b string
		want       []string
	}{
		{"changed", "1\nold text\n3\n", "1\nnew text\n3\n", []string{"@@ -1,3 +1,3 @@", "1  1|1  1", "2 del [old] text|2 ins [new] text", "3  3|3  3"}},
		{"added", "1\n", "1\n2\n", []string{"@@ -1,1 +1,2 @@", "1  1|1  1", "0 none |2 ins [2]"}},
		{"removed", "1\n\n", "1\n", []string{"@@ -1,2 +1,1 @@", "1  1|1  1", "2 del |0 none "}},
		{"more lines", "a\nc\n", "b1\nb2\nb3\n", []string{"@@ -1,2 +1,3 @@", "1 del [a]|1 ins [b1]", "2 del [c]|2 ins [b2]", "0 none |3 ins [b3]"}},
		{"out of nothing", "", "a\n", []string{"@@ -0,0 +1,1 @@", "0 none |1 ins [a]"}},
		{"last newline", "a", "a\n", []string{"@@ -1,1 +1,1 @@", "1 del a{no newline at the end}|1 ins a"}},
		{"no last newline", "1\nb", "2\nb", []string{"@@ -1,2 +1,2 @@", "1 del [1]|1 ins [2]", "2  b{no newline at the end}|2  b{no newline at the end}"}},
		{"signs", "-- a\n", "++ a\n\\ b\n", []string{"@@ -1,1 +1,2 @@", "1 del [--] a|1 ins [++] a", `0 none |2 ins [\ b]`}},
		{"characters", "né\n", "nè\n", []string{"@@ -1,1 +1,1 @@", "1 del n[é]|1 ins n[è]"}},
		{"end of characters", "é\n", "ũ\n", []string{"@@ -1,1 +1,1 @@", "1 del [é]|1 ins [ũ]"}},
		{"repeated", "aa\n", "aaa\n", []string{"@@ -1,1 +1,1 @@", "1 del aa|1 ins aa[a]"}},
		{"two hunks", "a\n1\n2\n3\n4\n5\n6\n7\n8\nb\n", "A\n1\n2\n3\n4\n5\n6\n7\n8\nB\n", []string{
			"@@ -1,4 +1,4 @@", "1 del [a]|1 ins [A]", "2  1|2  1", "3  2|3  2", "4  3|4  3",
			"@@ -7,4 +7,4 @@", "7  6|7  6", "8  7|8  7", "9  8|9  8", "10 del [b]|10 ins [B]",
		}},
		{"long line", x + "1" + x + "\n", x + "2" + x + "\n", []string{"@@ -1,1 +1,1 @@",
			"1 del {2800 characters left out}" + x[:200] + "[1]" + x[:200] + "{2800 characters left out}|1 ins {2800 characters left out}" + x[:200] + "[2]" + x[:200] + "{2800 characters left out}"}},
		{"not so long", x[:1000] + "1\n", x[:1000] + "2\n", []string{"@@ -1,1 +1,1 @@", "1 del " + x[:1000] + "[1]|1 ins " + x[:1000] + "[2]"}},
		{"long change", x + "\n", y + "\n", []string{"@@ -1,1 +1,1 @@",
			"1 del [" + x[:1600] + "]{1400 characters left out}|1 ins [" + y[:1600] + "]{1400 characters left out}"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rows, left := sideBySide(compareTexts(tt.a, tt.b), 100)
			var got []string
			for _, r := range rows {
				if got = append(got, r.Heading); r.Heading == "" {
					got[len(got)-1] = inShort(r.Left) + "|" + inShort(r.Right)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || left != 0 {
				t.Errorf("%d left, (-want +got):\n%s", left, diff)
			}
		})
	}
}

func inShort(c cell) string {
	s := fmt.Sprintf("%d %s ", c.Number, c.Class)
	for _, p := range c.Parts {
		switch p.Kind {
		case marked:
			s += "[" + p.Text + "]"
		case note:
			s += "{" + p.Text + "}"
		default:
			s += p.Text
		}
	}
	return s
}
