package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/sandtest/go-sandtest/internal/report"
	"github.com/sandtest/go-sandtest/sandtest"
)

// A manifest is what a command made, to be compared on another machine.
type manifest struct {
	Version int               `json:"version"`
	Command []string          `json:"command"`
	Options []string          `json:"options,omitempty"` // sorted by name
	Outputs []sandtest.Output `json:"outputs"`           // sorted by path
}

const manifestVersion = 1

// reportFlags have nothing to do with what comes out.
var reportFlags = []string{"save", "against", "json", "html", "runs", "vary", "fix", "dir"}

// given returns the flags among arguments that have to do with what comes out, sorted by
// name. The arguments are known to be right.
func given(flags *flag.FlagSet, args []string) (list []string) {
	for i := 0; i < len(args) && args[i] != "--"; i++ {
		name, value, hasValue := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		f := flags.Lookup(name)
		if f == nil {
			break
		}
		boolean, _ := f.Value.(interface{ IsBoolFlag() bool })
		switch {
		case hasValue:
		case boolean != nil && boolean.IsBoolFlag():
			value = "true"
		default:
			i++
			value = args[i]
		}
		if !slices.Contains(reportFlags, name) {
			list = append(list, "--"+name+"="+value)
		}
	}
	slices.SortStableFunc(list, func(a, b string) int {
		nameA, _, _ := strings.Cut(a, "=")
		nameB, _, _ := strings.Cut(b, "=")
		return strings.Compare(nameA, nameB)
	})
	return list
}

func readManifest(file string) (*manifest, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--against: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("--against: %s: %w", file, err)
	}
	if m.Version != manifestVersion {
		return nil, fmt.Errorf("--against: %s is of version %d, and this sandtest knows version %d: make it anew with --save", file, m.Version, manifestVersion)
	}
	return &m, nil
}

// compare compares what was found with the manifest, nil if there is none.
func (f *reproFlags) compare(m *manifest, args []string, found *sandtest.Report) *report.Against {
	if m == nil {
		return nil
	}
	list := m.compare(found.Outputs)
	a := &report.Against{File: f.against, Same: len(list) == 0, Differences: list}
	if m.Command != nil && !slices.Equal(m.Command, args) {
		a.Notes = append(a.Notes, fmt.Sprintf("the command there was %q", m.Command))
	}
	if !slices.Equal(m.Options, f.options) {
		a.Notes = append(a.Notes, fmt.Sprintf("the options there were %q, and are %q here", m.Options, f.options))
	}
	return a
}

// compare says which outputs differ from those of the manifest.
func (m *manifest) compare(outputs []sandtest.Output) (list []string) {
	say := func(path, format string, args ...any) {
		list = append(list, path+": "+fmt.Sprintf(format, args...))
	}
	here := map[string]sandtest.Output{}
	for _, o := range outputs {
		here[o.Path] = o
	}
	for _, want := range m.Outputs {
		got, ok := here[want.Path]
		delete(here, want.Path)
		switch {
		case !ok:
			say(want.Path, "missing here")
		case got.SHA256 != want.SHA256 || got.Size != want.Size:
			say(want.Path, "sha256 %.12s of %d bytes there, %.12s of %d bytes here", want.SHA256, want.Size, got.SHA256, got.Size)
		case got.Mode != want.Mode:
			say(want.Path, "mode %s there, %s here", want.Mode, got.Mode)
		case got.Target != want.Target || got.Value != want.Value:
			say(want.Path, "%s there, %s here", want.Target+want.Value, got.Target+got.Value)
		}
	}
	for _, o := range outputs {
		if _, ok := here[o.Path]; ok {
			say(o.Path, "only here")
		}
	}
	return list
}
