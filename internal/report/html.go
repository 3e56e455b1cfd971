// Package report shows what a check for reproducibility has found as a page of HTML.
package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"sync"

	"github.com/sandtest/go-sandtest/sandtest"
)

//go:embed page.html
var pageText string

// pageTemplate is parsed when a page is made: most commands make none.
var pageTemplate = sync.OnceValues(func() (*template.Template, error) {
	return template.New("page").Funcs(template.FuncMap{"visible": visible}).Parse(pageText)
})

// A Page is what a page tells about.
type Page struct {
	// Command is the program that was checked, with its arguments.
	Command []string
	// Vary are the names of what was varied, none if each run was in the same world.
	Vary []string
	// Report is what was found.
	Report *sandtest.Report
	// Against is what comes of a comparison with what another run has saved, nil if there was
	// none.
	Against *Against
}

// An Against is what comes of a comparison with what was saved, maybe on another machine.
type Against struct {
	File        string   `json:"file"`
	Same        bool     `json:"same"`
	Differences []string `json:"differences,omitempty"` // a line for each output
	Notes       []string `json:"notes,omitempty"`       // in what other ways it was made
}

// String returns it as lines.
func (a *Against) String() string {
	var b strings.Builder
	if a.Same {
		fmt.Fprintf(&b, "the same as in %s\n", a.File)
	} else {
		fmt.Fprintf(&b, "differs from %s:\n", a.File)
	}
	for _, line := range slices.Concat(a.Differences, a.Notes) {
		b.WriteString(line + "\n")
	}
	return b.String()
}

// HTML returns the page, which needs nothing besides itself. The same Page gives the same
// bytes. Only a mistake in the page's template is an error.
func (p Page) HTML() ([]byte, error) {
	verdict, _, _ := strings.Cut(p.Report.String(), "\n")
	page, err := pageTemplate()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = page.Execute(&b, view{
		Command:    quoted(p.Command),
		Verdict:    verdict,
		Same:       p.Report.Reproducible,
		Runs:       p.Report.Runs,
		Variations: p.variations(),
		Outputs:    outputs(p.Report.Differences),
		Against:    p.Against,
	})
	return b.Bytes(), err
}

// A view is what the template shows.
type view struct {
	Command, Verdict string
	Same             bool
	Runs             int
	Variations       []variation
	Outputs          []output
	Against          *Against
}

// A variation is one thing that was varied.
type variation struct {
	Name, Summary string
	Outputs       int // that it makes differ, maybe with others
}

// An output is a file, or something like one, that differs.
type output struct {
	Path   string
	Causes []cause
}

type cause struct {
	ID                       int // among all on the page, from 1
	Variation, Summary, Hint string
	First                    []string // places, a line each
	More                     int      // places besides the first
	Right                    string   // what the run is that run 1 is compared with
	Places                   []place
	Left                     int // places that have no room
}

// A place shows one place that differs.
type place struct {
	Where string
	Text  string // as it is, where there is nothing to be shown side by side
	Rows  []row
	Left  int // rows that have no room
}

// summaries say what each variation means.
func summaries() map[string]string {
	m := map[string]string{sandtest.Race: "differs in the same world, too"}
	for _, v := range sandtest.Variations() {
		m[v[0]] = v[1]
	}
	return m
}

func (p Page) variations() (list []variation) {
	about := summaries()
	for _, name := range p.Vary {
		v := variation{Name: name, Summary: about[name]}
		for _, d := range p.Report.Differences {
			if slices.ContainsFunc(d.Causes, func(c sandtest.Cause) bool {
				return slices.Contains(strings.Split(c.Variation, "+"), name)
			}) {
				v.Outputs++
			}
		}
		list = append(list, v)
	}
	return list
}

func outputs(differences []sandtest.Difference) (list []output) {
	about := summaries()
	n := 0
	for _, d := range differences {
		out := output{Path: d.Path}
		for _, c := range d.Causes {
			n++
			shown := causeOf(c)
			shown.ID, shown.Summary = n, about[c.Variation]
			out.Causes = append(out.Causes, shown)
		}
		list = append(list, out)
	}
	return list
}

// mostLines is how many lines are shown of a file and a cause.
const mostLines = 2000

func causeOf(c sandtest.Cause) cause {
	const first = 5
	shown := cause{Variation: c.Variation, Hint: c.Hint, Right: "another run, with " + c.Variation + " varied"}
	if c.Variation == sandtest.Race {
		shown.Right = "another run, in the same world"
	}
	shown.First = c.Where[:min(first, len(c.Where))]
	shown.More = len(c.Where) - len(shown.First)
	room := mostLines
	for i, where := range c.Where {
		if room == 0 {
			shown.Left = len(c.Where) - i
			break
		}
		room--
		p := place{Where: where}
		if i < len(c.Diffs) {
			if diff := c.Diffs[i]; isComparison(diff) {
				p.Rows, p.Left = sideBySide(diff, room)
				room -= len(p.Rows)
			} else {
				p.Text = diff
			}
		}
		shown.Places = append(shown.Places, p)
	}
	return shown
}

// quoted returns a command as a shell takes it.
func quoted(args []string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-"
	var list []string
	for _, arg := range args {
		if arg == "" || strings.Trim(arg, plain) != "" {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		list = append(list, arg)
	}
	return strings.Join(list, " ")
}
