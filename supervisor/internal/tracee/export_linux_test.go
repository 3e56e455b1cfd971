package tracee

// Fairness is how many events one thread may come to while another one waits.
const Fairness = fairness

// StopsAreQuiet reports whether this process is sent no SIGCHLD for a stop.
func StopsAreQuiet() bool {
	var act sigaction
	return sigactionCall(nil, &act) == 0 && act.flags&noChildStop != 0
}
