package tracee

// Fairness is how many events one thread may come to while another one waits.
const Fairness = fairness
