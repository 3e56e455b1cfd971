//go:build linux

package cow

import "fmt"

// KilledCommit begins a commit, and leaves off when so many of its steps are done. It leaves
// the journal behind.
func (t *Tree) KilledCommit(changes Changes, home string, after func(steps int) int) error {
	c := newCommitting(t, home+"/"+stagingName)
	t.mu.Lock()
	defer t.mu.Unlock()
	err := c.check(changes)
	if err == nil && len(c.todo) > 0 {
		err = c.stage()
	}
	if err != nil {
		return err
	}
	for _, s := range c.steps[:after(len(c.steps))] {
		if err := s.run(); err != nil {
			return fmt.Errorf("%s %s: %w", s.Do, s.Path, err)
		}
	}
	return nil
}
