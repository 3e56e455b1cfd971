package runflags

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/sandtest"
	"github.com/sandtest/go-sandtest/supervisor"
)

// Prepare finds out before a command runs in a directory of the host whether what Settle is to
// write can be written, without leaving a trace of that. If changes are to be committed, it
// finishes what a commit that was killed has left.
func (f *Flags) Prepare(dir string) error {
	if f.Opts.Clock == det.Host && !f.Opts.Time.IsZero() {
		return errors.New("--time with --clock host: the host's clock tells its own time; --clock running starts where --time says")
	}
	if f.Changes.Commit {
		if err := cow.Recover(cmp.Or(dir, ".")); err != nil {
			return err
		}
	}
	for _, to := range []struct{ flag, file string }{{"trace", f.Trace}, {"json", f.JSON}} {
		if to.file == "" || to.flag == "json" && to.file == "-" {
			continue
		}
		if err := canWrite(to.file); err != nil {
			return fmt.Errorf("--%s: %w: want a file that can be written", to.flag, err)
		}
	}
	for _, to := range []struct{ word, dir string }{{"keep", f.Changes.Keep}, {"snapshot", f.Changes.Snapshot}} {
		if to.dir == "" {
			continue
		}
		if err := isEmpty(to.dir); err != nil {
			return fmt.Errorf("--changes %s=%s: %w: want a directory that is empty, or none", to.word, to.dir, err)
		}
	}
	return nil
}

// isEmpty checks that there is nothing at a path, or an empty directory.
func isEmpty(dir string) error {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(list) > 0 {
		err = fmt.Errorf("it isn't empty, it has %s", list[0].Name())
	}
	return err
}

func canWrite(file string) error {
	_, err := os.Lstat(file)
	isNew := errors.Is(err, fs.ErrNotExist)
	st, err := os.Stat(file)
	if err == nil && !st.Mode().IsRegular() && !st.IsDir() {
		return nil // opening a pipe, and closing it, would be noticed
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	err = f.Close()
	if isNew {
		err = errors.Join(err, os.Remove(file))
	}
	return err
}

// Settle shows what the command changed, does with it what was asked for, and
// writes the result.
func (f *Flags) Settle(res *sandtest.Result, stderr io.Writer) error {
	for i, spec := range f.faults {
		if !slices.ContainsFunc(res.Faults, func(h supervisor.FaultHit) bool { return h.Fault == i }) {
			fmt.Fprintf(stderr, "sandtest: --fault %s has hit no call\n", spec)
		}
	}
	if f.Diff {
		file, ok := stderr.(*os.File)
		if err := ShowDiff(stderr, res, ok && IsTerminal(file)); err != nil {
			return err
		}
	}
	var err error
	switch {
	case f.Changes.Commit && f.Changes.Below != "":
		err = res.CommitBelow(f.Changes.Below)
	case f.Changes.Commit:
		err = res.Commit()
	case f.Changes.Keep != "":
		err = res.Keep(f.Changes.Keep)
	case f.Changes.Snapshot != "":
		err = res.Snapshot(f.Changes.Snapshot)
	}
	if err == nil && f.Trace != "" {
		if err = WriteTrace(f.Trace, res.Trace); err != nil {
			err = fmt.Errorf("write the trace: %w", err)
		}
	}
	if err == nil && f.JSON != "" {
		if err = WriteJSON(f.JSON, res, f.Stdout); err != nil {
			err = fmt.Errorf("write the result: %w", err)
		}
	}
	return err
}

// WriteTrace writes a trace to a file, in the format that its ending asks for.
func WriteTrace(file string, trace supervisor.Trace) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if filepath.Ext(file) == ".json" {
		return trace.WriteJSON(f)
	}
	return trace.WriteText(f)
}

// jsonResult is what --json writes. Its names are an interface.
type jsonResult struct {
	ExitCode   int                        `json:"exit_code"`
	Signal     string                     `json:"signal"` // such as SIGKILL, or empty
	Changes    []jsonChange               `json:"changes"`
	ClockStart time.Time                  `json:"clock_start"`
	ClockEnd   time.Time                  `json:"clock_end"`
	Leaked     []jsonLeaked               `json:"leaked"`
	Deadlock   []supervisor.BlockedThread `json:"deadlock,omitempty"`
	NoMemory   bool                       `json:"out_of_memory,omitempty"`
	Backend    string                     `json:"backend"`
	Stats      supervisor.Stats           `json:"stats"`
}

type jsonLeaked struct {
	Lineage det.Lineage `json:"lineage"`
	Args    []string    `json:"args"`
}

type jsonChange struct {
	Kind   string `json:"kind"` // A, M or D
	Path   string `json:"path"`
	Mode   string `json:"mode"` // as ls shows it
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"` // of a regular file that is there, if it can be read
	Target string `json:"target,omitempty"` // of a symbolic link
	// What of these isn't UTF-8, in base64: a string holds U+FFFD for what it can't hold.
	PathBytes   []byte `json:"path_bytes,omitempty"`
	TargetBytes []byte `json:"target_bytes,omitempty"`
}

// notText returns the bytes of what a JSON string can't hold, and nil for what it can.
func notText(s string) []byte {
	if utf8.ValidString(s) {
		return nil
	}
	return []byte(s)
}

func jsonChanges(res *sandtest.Result) ([]jsonChange, error) {
	list := []jsonChange{}
	for i := range res.Changes {
		c := &res.Changes[i]
		out := jsonChange{Kind: string(rune(c.Kind)), Path: c.Path, Mode: cow.ModeString(c.Mode), Size: c.Size,
			Target: c.Target, PathBytes: notText(c.Path), TargetBytes: notText(c.Target)}
		if c.Regular() {
			var err error
			if out.SHA256, err = c.SHA256(); err != nil && !beyondReach(err) {
				return nil, err
			}
		}
		list = append(list, out)
	}
	return list, nil
}

// beyondReach reports whether an error says that a file of the host can't be read, or no longer.
func beyondReach(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist)
}

// WriteJSON writes a result to a file, or with - to stdout, which is standard output where
// it is nil.
func WriteJSON(file string, res *sandtest.Result, stdout io.Writer) (err error) {
	out := jsonResult{
		ExitCode:   res.ExitCode,
		Signal:     sandtest.SignalName(res.Signal),
		ClockStart: res.ClockStart,
		ClockEnd:   res.Clock,
		Leaked:     []jsonLeaked{},
		Deadlock:   res.Deadlock,
		NoMemory:   res.OutOfMemory,
		Backend:    res.Stats.Backend,
		Stats:      res.Stats,
	}
	if out.Changes, err = jsonChanges(res); err != nil {
		return err
	}
	for _, l := range res.Leaked {
		out.Leaked = append(out.Leaked, jsonLeaked{l.Lineage, l.Args})
	}
	w := stdout
	if w == nil {
		w = os.Stdout
	}
	if file != "-" {
		f, err := os.Create(file)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		w = f
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}
