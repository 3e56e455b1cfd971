//go:build linux

package supervisor

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// While the kernel starts the command, what is needed to arm it is made on another
// thread: the view of the files, the table of calls, the filter, and Landlock's ruleset.
type ahead struct {
	spaces  bool // what the table was made for
	single  bool
	net     bool
	made    chan struct{} // closed when the rest is there
	table   *table
	filter  []byte
	ruleset int // -1 for none
	err     error
}

// makeAhead begins. What is supposed about namespaces is mostly right.
func (s *Sandbox) makeAhead() {
	a := &ahead{made: make(chan struct{}), ruleset: -1}
	user := needsUserNamespace(s.cmd.SysProcAttr)
	switch exhausted := spacesExhausted(user); {
	case s.cfg.Backend == BackendSeccomp:
	case s.cfg.Backend == BackendAuto && exhausted != nil:
		s.withoutSpaces = exhausted
	case s.cfg.Backend == BackendAuto && mustLend():
		s.withoutSpaces = errLendsInNamespaces
	default:
		s.spaces = noNamespacesYet(s)
		s.spaces.single, s.spaces.noNet = user && !mayMapAll(), s.noNetspace(user)
		s.spaces.hasNet = s.spaces.noNet == nil
		a.spaces, a.single, a.net = true, s.spaces.single, s.spaces.hasNet
	}
	s.ahead = a
	go func() {
		growStack()
		defer close(a.made)
		if a.err = s.view.make(); a.err == nil {
			if a.err = s.terminals.show(); a.err != nil {
				a.err = fmt.Errorf("supervisor: show /dev/pts: %w", a.err)
			}
		}
		if a.err != nil {
			return
		}
		if a.table, a.filter, a.err = s.tableAndFilter(); a.err == nil && s.landlockABI > 0 {
			a.ruleset, a.err = s.newRuleset()
		}
	}()
}

func (s *Sandbox) tableAndFilter() (*table, []byte, error) {
	if err := s.chooseNetwork(); err != nil {
		return nil, nil, err
	}
	t, err := newTable(s)
	if err != nil {
		return nil, nil, err
	}
	program, err := filterProgram(t.rules)
	return t, program, err
}

// needsUserNamespace reports whether a command has no privilege to make other namespaces.
func needsUserNamespace(attr *syscall.SysProcAttr) bool {
	if attr != nil && attr.Credential != nil && attr.Credential.Uid != 0 {
		return true
	}
	own, err := capabilitiesOf(0)
	return err != nil || own.effective&(1<<unix.CAP_SYS_ADMIN) == 0
}

// takeAhead waits for what was made, and makes the table anew where it is another than was
// supposed.
func (s *Sandbox) takeAhead() (err error) {
	a := s.ahead
	<-a.made
	if a.err != nil {
		return a.err
	}
	if a.spaces != (s.spaces != nil) || s.spaces != nil && (a.single != s.spaces.knowsOne() || a.net != s.spaces.hasNet) {
		if s.spaces != nil {
			s.spaces.single = s.spaces.knowsOne()
		}
		// Until it is used, a feature holds nothing that would have to be closed.
		if a.table, a.filter, err = s.tableAndFilter(); err != nil {
			return err
		}
	}
	s.table = a.table
	return nil
}

// handOutRuleset answers the command that asks for its ruleset.
func (a *ahead) handOutRuleset() Answer {
	fd := a.ruleset
	a.ruleset = -1
	return InjectFD(fd, true)
}

// close releases what nobody has taken.
func (a *ahead) close() {
	if a == nil {
		return
	}
	<-a.made
	if a.ruleset >= 0 {
		unix.Close(a.ruleset)
	}
}
