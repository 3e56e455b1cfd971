package cow_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// A notebook is a Dcache that can be held against the tree.
type notebook struct {
	tree    *cow.Tree
	who     *cow.Cred
	notes   []note
	last    map[noteKey]uint32 // by name
	answers int                // looked at so far
	opened  int                // of those, by a path of the host
	shut    bool
	closed  map[string]int // by the path: after how many notes
	others  map[[2]uint64]int
}

type noteKey struct {
	dir  uint32
	name string
}

type note struct {
	noteKey
	attr                       cow.Attr
	may                        uint32
	known, isDir, walks, isNot bool
	complete                   bool
	target, host               string
	dev, ino                   uint64 // of a file of the host
	leads                      uint32
}

func newNotebook(t *cow.Tree, who *cow.Cred) *notebook {
	n := &notebook{tree: t, who: who, notes: make([]note, 1), last: map[noteKey]uint32{}, closed: map[string]int{}, others: map[[2]uint64]int{}}
	t.Tell(n, who)
	return n
}

func (n *notebook) add(dir uint32, name string, made note, a *cow.Attr, may uint32) uint32 {
	made.noteKey = noteKey{dir, name}
	if a != nil {
		made.attr, made.may, made.known = *a, may, true
	}
	n.notes = append(n.notes, made)
	at := uint32(len(n.notes) - 1)
	n.last[made.noteKey] = at
	return at
}

func (n *notebook) unlessThere(dir uint32, name string, made note, a *cow.Attr, may uint32) uint32 {
	if at := n.last[noteKey{dir, name}]; at != 0 {
		return at
	}
	return n.add(dir, name, made, a, may)
}

func (n *notebook) Root(_ *cow.Inode, a *cow.Attr, may uint32, host string) uint32 {
	return n.add(0, "", note{isDir: true, walks: true, host: host}, a, may)
}
func (n *notebook) Dir(dir uint32, name string, _ *cow.Inode, a *cow.Attr, may uint32, host string) uint32 {
	return n.add(dir, name, note{isDir: true, walks: true, host: host}, a, may)
}
func (n *notebook) File(dir uint32, name string, a *cow.Attr, may uint32, target, host string, dev, ino uint64) uint32 {
	return n.unlessThere(dir, name, note{target: target, host: host, dev: dev, ino: ino}, a, may)
}
func (n *notebook) Shut()                 { n.shut = true }
func (n *notebook) Other(dev, ino uint64) { n.others[[2]uint64{dev, ino}] = len(n.notes) }
func (n *notebook) Closes(host string)    { n.closed[host] = len(n.notes) }
func (n *notebook) Nothing(dir uint32, name string) {
	if !n.notes[dir].complete {
		n.unlessThere(dir, name, note{isNot: true}, nil, 0)
	}
}
func (n *notebook) Unknown(dir uint32, name string) uint32 {
	return n.unlessThere(dir, name, note{}, nil, 0)
}
func (n *notebook) Leads(link, end uint32) {
	if n.notes[link].target != "" {
		n.notes[link].leads = end
	}
}
func (n *notebook) Complete(dir uint32) { n.notes[dir].complete = true }

func (n *notebook) Ask(dir uint32, name string) {
	if at := n.last[noteKey{dir, name}]; at != 0 {
		n.Forget(at)
	} else if n.notes[dir].complete {
		n.add(dir, name, note{}, nil, 0)
	}
}
func (n *notebook) Touched(dir uint32) { n.notes[dir].known = false }
func (n *notebook) Forget(at uint32) {
	was := n.notes[at]
	n.notes[at] = note{noteKey: was.noteKey}
	if was.isDir || was.target != "" {
		for i := range n.notes {
			n.notes[i].leads = 0
		}
	}
}

// path returns where a note is found, false if it isn't.
func (n *notebook) path(at uint32) (string, bool) {
	switch e := &n.notes[at]; {
	case e.dir == 0:
		return "", at != 0
	case n.last[e.noteKey] != at || !n.notes[e.dir].walks:
		return "", false
	default:
		dir, ok := n.path(e.dir)
		return dir + "/" + e.name, ok
	}
}

// wrong says what it would answer otherwise than the tree.
func (n *notebook) wrong() string {
	who := n.who
	if who == nil {
		who = &cow.Cred{UID: 12345, GID: 12345}
	}
	for at := 1; at < len(n.notes); at++ {
		e := n.notes[at]
		if wrong := n.isOther(at); wrong != "" {
			return wrong
		}
		path, ok := n.path(uint32(at))
		if !ok || !e.known && !e.isNot && !e.walks {
			continue
		}
		n.answers++
		if path == "" {
			path = "/"
		}
		f, err := n.tree.Lookup(&cow.Walk{Cred: who, NoFollow: true}, path)
		if e.isNot {
			if err != unix.ENOENT {
				return fmt.Sprintf("%s isn't there, and the tree says %v", path, err)
			}
			continue
		}
		if err != nil {
			return fmt.Sprintf("%s is there, and the tree says %v", path, err)
		}
		if a, err := f.Stat(); e.known && (err != nil || a != e.attr) {
			return fmt.Sprintf("%s: %+v, and the tree says %+v, %v", path, e.attr, a, err)
		}
		if e.walks && f.Access(who, unix.X_OK) != nil {
			return path + " is to be searched, and isn't"
		}
		if err := f.Access(who, e.may); e.known && err != nil {
			return fmt.Sprintf("%s allows %o, and the tree says %v", path, e.may, err)
		}
		if (e.known || e.walks) && e.host != "" && !n.shut && at >= n.closed[e.host] {
			if wrong := n.opensOther(path, e.host, who); wrong != "" {
				return wrong
			}
		}
		if target, _ := f.Readlink(); e.known && target != e.target {
			return fmt.Sprintf("%s leads to %q, and for the tree to %q", path, e.target, target)
		}
		if e.complete {
			list, err := f.ReadDir()
			if err != nil {
				return fmt.Sprintf("list %s: %v", path, err)
			}
			for _, d := range list[2:] {
				if at := n.last[noteKey{uint32(at), d.Name}]; at == 0 || n.notes[at].isNot {
					return path + " is known, but for " + d.Name
				}
			}
		}
		if e.leads != 0 && n.notes[e.leads].known {
			to, err := n.tree.Lookup(&cow.Walk{Cred: who}, path)
			if err != nil {
				return fmt.Sprintf("%s leads to something, and for the tree: %v", path, err)
			}
			if a, _ := to.Stat(); a != n.notes[e.leads].attr {
				return fmt.Sprintf("%s leads to %+v, and for the tree to %+v", path, n.notes[e.leads].attr, a)
			}
		}
	}
	return ""
}

// isOther says what is wrong if an open file of the host's isn't the tree's that it is said to
// be.
func (n *notebook) isOther(at int) string {
	e := &n.notes[at]
	if !e.known || e.isDir || e.host == "" || e.ino == 0 || at < n.others[[2]uint64{e.dev, e.ino}] {
		return ""
	}
	var theirs unix.Stat_t
	if err := unix.Lstat(e.host, &theirs); err != nil || theirs.Dev != e.dev || theirs.Ino != e.ino {
		return fmt.Sprintf("%s is said to have number %d of device %d, and has %d of %d, %v", e.host, e.ino, e.dev, theirs.Ino, theirs.Dev, err)
	}
	f := n.tree.Descriptor(&theirs)
	if f == nil {
		return e.host + " is no file of the tree"
	}
	if a, err := f.Stat(); err != nil || a != e.attr {
		return fmt.Sprintf("%s when it is open: %+v, and the tree says %+v, %v", e.host, e.attr, a, err)
	}
	return ""
}

// TestToldOpen: what is told of an open file is taken back although its directory, by which it
// was told of, has gone elsewhere.
func TestToldOpen(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "sub"), 0o755), os.WriteFile(filepath.Join(dir, "sub/file"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	l := layer(t, dir, "/")
	n := newNotebook(l.t, l.cred)
	for range 3 {
		if _, err := l.Stat("/sub/file", false); err != nil {
			t.Fatal(err)
		}
	}
	at := slices.IndexFunc(n.notes, func(e note) bool { return e.name == "file" && e.known })
	if at < 0 || n.isOther(at) != "" {
		t.Fatalf("the file wasn't told of: %+v", n.notes)
	}
	if err := l.Rename("/sub", "/moved", 0); err != nil {
		t.Fatal(err)
	}
	if wrong := n.isOther(at); wrong != "" {
		t.Error(wrong)
	}
	if err := l.Link("/moved/file", "/moved/twin", 0); err != nil {
		t.Fatal(err)
	}
	if wrong := n.isOther(at); wrong != "" {
		t.Error(wrong)
	}
}

// TestToldNames: what changes by one name of a file is taken back of all.
func TestToldNames(t *testing.T) {
	dir := t.TempDir()
	file, twin := filepath.Join(dir, "file"), filepath.Join(dir, "sub/twin")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "sub"), 0o755), os.WriteFile(file, []byte("text"), 0o644), os.Link(file, twin)); err != nil {
		t.Fatal(err)
	}
	for what, do := range map[string]func(l layered) error{
		"chmod":    func(l layered) error { return l.Chmod("/sub/twin", 0o600) },
		"unlink":   func(l layered) error { return l.Unlink("/sub/twin") },
		"truncate": func(l layered) error { return l.Truncate("/sub/twin", 1) },
		"link":     func(l layered) error { return l.Link("/sub/twin", "/third", 0) },
		"rename":   func(l layered) error { return l.Rename("/sub/twin", "/third", 0) },
		"replace": func(l layered) error {
			return errors.Join(l.Mkdir("/new", 0o755), l.Link("/file", "/new/f", 0), l.Rename("/new/f", "/sub/twin", 0))
		},
		"rename a directory": func(l layered) error {
			return errors.Join(l.Rename("/sub", "/moved", 0), l.Chmod("/moved/twin", 0o600))
		},
	} {
		l := layer(t, dir, "/")
		n := newNotebook(l.t, l.cred)
		for range 3 {
			for _, path := range []string{"/file", "/sub/twin", "/sub/none"} {
				if _, err := l.Stat(path, false); err != nil && err != unix.ENOENT {
					t.Fatal(path, err)
				}
			}
		}
		told := func(e note) bool { return e.known && !e.isDir }
		for _, name := range []string{"file", "twin"} {
			if !slices.ContainsFunc(n.notes, func(e note) bool { return told(e) && e.name == name }) {
				t.Fatalf("%s wasn't told of: %+v", name, n.notes)
			}
		}
		if err := do(l); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if wrong := n.wrong(); wrong != "" {
			t.Errorf("%s: %s", what, wrong)
		}
		for at := range n.notes {
			if path, ok := n.path(uint32(at)); ok && told(n.notes[at]) {
				t.Errorf("%s: %s is still said to be as it was", what, path)
			}
		}
	}
}

// opensOther says what is wrong if a path of the host opens something else than the tree's.
func (n *notebook) opensOther(path, host string, who *cow.Cred) string {
	n.opened++
	var own, theirs unix.Stat_t
	fd, err := n.tree.Open(&cow.Walk{Cred: who}, path, unix.O_RDONLY, 0)
	if err != nil {
		return fmt.Sprintf("%s may be opened as %s, and the tree says %v", path, host, err)
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &own); err != nil {
		return err.Error()
	}
	if err := unix.Lstat(host, &theirs); err != nil || own.Ino != theirs.Ino || own.Dev != theirs.Dev {
		return fmt.Sprintf("%s may be opened as %s, and is another file for the tree: %v", path, host, err)
	}
	return ""
}

// TestTell: what is told can be answered without the tree. (The random sequences look at
// whether it stays right.)
func TestTell(t *testing.T) {
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	l := layer(t, dir, "/")
	n := newNotebook(l.t, l.cred)
	for _, path := range []string{"/sequences/none", "/sequences/../sequences/none2", "/sequences/none3/more"} {
		if _, err := l.Stat(path, false); err != unix.ENOENT {
			t.Fatal(path, err)
		}
	}
	if wrong := n.wrong(); wrong != "" {
		t.Error(wrong)
	}
	if !slices.ContainsFunc(n.notes, func(e note) bool { return e.name == "sequences" && e.complete }) {
		t.Errorf("not all names of the directory were told: %+v", n.notes)
	}
	if err := l.Mkdir("/sequences/none4", 0o755); err != nil {
		t.Fatal(err)
	}
	if n.opened == 0 {
		t.Error("no file may be opened by its path")
	}
	if at := n.last[noteKey{n.last[noteKey{1, "sequences"}], "none4"}]; at == 0 {
		t.Error("a new name is still said not to be there")
	}
}

// TestToldMissing: a walk that is only to tell what isn't there tells nothing of what is.
func TestToldMissing(t *testing.T) {
	dir := t.TempDir()
	for i := range 20 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("there", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	l := layer(t, dir, "/")
	n := newNotebook(l.t, l.cred)
	var missing int
	for i := range 20 {
		for _, name := range []string{"there", "missing"} {
			w := cow.Walk{Cred: l.cred, ToldMissing: true}
			_, _ = l.t.Lookup(&w, fmt.Sprint("/", name, i))
		}
	}
	for _, e := range n.notes[1:] {
		switch {
		case e.isNot:
			missing++
		case e.name != "":
			t.Errorf("it has told of %q: %+v", e.name, e)
		}
	}
	if missing != 20 {
		t.Errorf("it has told of %d names that aren't there, want 20", missing)
	}
}
