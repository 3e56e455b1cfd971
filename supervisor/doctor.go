package supervisor

// A Check is one thing that a sandbox needs or uses, as this machine has it.
type Check struct {
	Name string
	// OK says that it is there.
	OK bool
	// Optional says that a sandbox works without it.
	Optional bool
	// Detail says what was found, and without it what is used instead or what to
	// do.
	Detail string
}
