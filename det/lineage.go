package det

import "strconv"

// Lineage is the name of a process within its sandbox: "0" for the command,
// and the creator's name plus ".n" for the n-th process (from 1) that a process
// creates. Threads share the name of their process, and execve keeps it.
type Lineage string

// Root is the lineage of the command itself.
const Root Lineage = "0"

// Child returns the name of the n-th process that l creates, counted from 1.
func (l Lineage) Child(n int) Lineage {
	return l + "." + Lineage(strconv.Itoa(n))
}
